package path

import "time"

const (
	// echoLifetime is how long a challenge may be answered.
	echoLifetime = 3 * time.Second
	// maxOutstanding challenges of a pair are remembered.
	maxOutstanding = 8
)

// outstanding are the challenges of a pair that may still be answered, oldest
// first.
type outstanding struct {
	count int
	list  [maxOutstanding]struct {
		nonce uint64
		at    time.Time
	}
}

// add notes a challenge. When there is no room, the older ones are thinned out: of
// the two closest in time the later goes. So there is always one about as old as
// the round trip, whatever that is; forgetting the oldest, or the newest, would
// never recognize an echo when challenges go faster than eight per round trip.
func (o *outstanding) add(now time.Time, nonce uint64) {
	for o.count > 0 && now.Sub(o.list[0].at) > echoLifetime {
		o.remove(0)
	}
	if o.count == len(o.list) {
		victim := 1
		for i := 2; i < o.count-2; i++ {
			if o.list[i].at.Sub(o.list[i-1].at) < o.list[victim].at.Sub(o.list[victim-1].at) {
				victim = i
			}
		}
		o.remove(victim)
	}
	o.list[o.count].nonce, o.list[o.count].at = nonce, now
	o.count++
}

func (o *outstanding) remove(i int) {
	copy(o.list[i:o.count], o.list[i+1:o.count])
	o.count--
}

// answered reports when the challenge with nonce went. Each counts once.
func (o *outstanding) answered(now time.Time, nonce uint64) (sent time.Time, ok bool) {
	for i := range o.count {
		if o.list[i].nonce != nonce {
			continue
		}
		sent = o.list[i].at
		o.remove(i)
		return sent, now.Sub(sent) <= echoLifetime
	}
	return time.Time{}, false
}
