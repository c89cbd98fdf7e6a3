package wire

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// headerSize is the Ethernet header, which an MTU does not count.
const headerSize = 14

// Counters are what became of the frames pushed into a line.
type Counters struct {
	Pushed     uint64 // frames that entered
	Delivered  uint64 // frames that left, duplicates included
	Lost       uint64 // by chance, or in a blackout
	Overflowed uint64 // no room in the queue
	TooBig     uint64 // larger than the MTU
	Duplicated uint64 // extra copies made
	Reordered  uint64 // held back
}

// Line is one direction of a wire: a pure state machine. It is not safe for
// concurrent use; time must not run backwards between calls.
type Line struct {
	random     *rand.Rand
	conditions Conditions
	held       frames
	sequence   uint64
	last       time.Time // when the newest frame in order leaves
	free       time.Time // when the rate limiter has sent what it holds
	counters   Counters
}

// NewLine returns a line whose random choices follow from seed.
func NewLine(seed uint64, c Conditions) (*Line, error) {
	l := &Line{random: rand.New(rand.NewPCG(seed, 0x5343_4e5f_7769_7265))}
	return l, l.Set(c)
}

// Set changes the conditions for the frames pushed from now on. A blackout also
// loses the frames on their way.
func (l *Line) Set(c Conditions) error {
	if err := c.Validate(); err != nil {
		return err
	}
	l.conditions = c.withDefaults()
	if c.Blackout {
		l.counters.Lost += uint64(len(l.held))
		clear(l.held)
		l.held = l.held[:0]
		l.free, l.last = time.Time{}, time.Time{}
	}
	return nil
}

// Push hands a frame to the line, which keeps the slice until it is delivered.
func (l *Line) Push(now time.Time, frame []byte) {
	c := l.conditions
	l.counters.Pushed++
	// Always the same number of draws, so that one frame's fate never depends
	// on another's. See the package comment.
	lost := l.random.Float64() < c.Loss
	twice := l.random.Float64() < c.Duplicate
	late := l.random.Float64() < c.Reorder
	jitter := time.Duration(l.random.Float64() * float64(c.Jitter))

	if c.Blackout || lost {
		l.counters.Lost++
		return
	}
	if c.MTU > 0 && len(frame) > c.MTU+headerSize {
		l.counters.TooBig++
		return
	}
	sent, ok := l.transmit(now, len(frame))
	if !ok || len(l.held) >= maxHeld {
		l.counters.Overflowed++
		return
	}
	due := sent.Add(c.Delay + jitter)
	if late {
		l.counters.Reordered++
		l.hold(due.Add(c.ReorderBy), frame)
	} else {
		if due.Before(l.last) {
			due = l.last // jitter alone keeps the order
		}
		l.last = due
		l.hold(due, frame)
	}
	if twice && len(l.held) < maxHeld {
		l.counters.Duplicated++
		l.hold(due, append([]byte(nil), frame...))
	}
}

// transmit returns when the last bit of a frame has left a rate-limited line.
func (l *Line) transmit(now time.Time, size int) (time.Time, bool) {
	rate := l.conditions.Rate
	if rate == 0 {
		return now, true
	}
	if l.free.Before(now) {
		l.free = now
	}
	waiting := int64(l.free.Sub(now).Seconds() * float64(rate) / 8)
	if waiting+int64(size) > int64(l.conditions.Queue) {
		return time.Time{}, false
	}
	l.free = l.free.Add(time.Duration(float64(size) * 8 / float64(rate) * float64(time.Second)))
	return l.free, true
}

func (l *Line) hold(due time.Time, frame []byte) {
	l.sequence++
	heap.Push(&l.held, held{due: due, sequence: l.sequence, frame: frame})
}

// Next returns when the next frame is due, and false when none is on its way.
func (l *Line) Next() (time.Time, bool) {
	if len(l.held) == 0 {
		return time.Time{}, false
	}
	return l.held[0].due, true
}

// Pop returns the next frame that is due at now, in order, or nil.
func (l *Line) Pop(now time.Time) []byte {
	if len(l.held) == 0 || l.held[0].due.After(now) {
		return nil
	}
	l.counters.Delivered++
	return heap.Pop(&l.held).(held).frame
}

// Counters returns what became of the frames so far.
func (l *Line) Counters() Counters { return l.counters }

// held is a frame on its way.
type held struct {
	due      time.Time
	sequence uint64 // breaks ties in the order of pushing
	frame    []byte
}

// frames is a heap of frames, the next due on top.
type frames []held

func (f frames) Len() int { return len(f) }

func (f frames) Less(i, j int) bool {
	if f[i].due.Equal(f[j].due) {
		return f[i].sequence < f[j].sequence
	}
	return f[i].due.Before(f[j].due)
}

func (f frames) Swap(i, j int) { f[i], f[j] = f[j], f[i] }

// Push implements heap.Interface.
func (f *frames) Push(x any) { *f = append(*f, x.(held)) }

// Pop implements heap.Interface.
func (f *frames) Pop() any {
	last := len(*f) - 1
	x := (*f)[last]
	(*f)[last] = held{}
	*f = (*f)[:last]
	return x
}
