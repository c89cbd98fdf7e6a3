package path

import (
	"net/netip"
	"time"
)

const (
	// smallSize bounds what may be sent to an address not proved.
	smallSize = 256
	// smallCount small packets per smallWindow may go to an address from which
	// nothing came.
	smallCount  = 4
	smallWindow = 5 * time.Second
	// creditFactor times what came from an address may go to it.
	creditFactor = 3
	// maxCredit bounds how much is saved up; nothing of ours needs more.
	maxCredit = 8 << 10
	// proofLifetime is how long a proof of an address lasts. Keep-alives renew it;
	// afterwards the address may be somebody else's.
	proofLifetime = 2 * time.Minute
	// maxAddresses bounds the table, maxStrangers those in it that only packets we
	// cannot authenticate have named.
	maxAddresses = 64
	maxStrangers = 16
)

// address is what is known of one remote address, whatever link it is reached by.
type address struct {
	remote netip.AddrPort
	// proved is when an echo last came from it; zero if never.
	proved time.Time
	// announced is set between Validated and Forgotten.
	announced bool
	// stranger is set while no authentic message named or came from it.
	stranger bool
	// credit is how many bytes may be sent because of what came.
	credit int
	// small are the times of the last small packets sent without credit.
	small [smallCount]time.Time
	// touched is when something last came from it or went to it unproved.
	touched time.Time
}

func (a *address) isProved(now time.Time) bool {
	return !a.proved.IsZero() && now.Sub(a.proved) < proofLifetime
}

// received notes that n bytes came from it.
func (a *address) received(now time.Time, n int) {
	a.touched = now
	a.credit = min(a.credit+creditFactor*n, maxCredit)
}

// spend reports whether n bytes may be sent to it now, and if so counts them.
func (a *address) spend(now time.Time, n int) bool {
	if a.isProved(now) {
		return true
	}
	if n > smallSize {
		return false
	}
	if n <= a.credit {
		a.credit -= n
		a.touched = now
		return true
	}
	oldest := a.oldestSmall()
	if t := a.small[oldest]; !t.IsZero() && now.Sub(t) < smallWindow {
		return false
	}
	a.small[oldest] = now
	a.touched = now
	return true
}

// freeAt returns when the next small packet may go to it.
func (a *address) freeAt() time.Time { return a.small[a.oldestSmall()].Add(smallWindow) }

func (a *address) oldestSmall() int {
	oldest := 0
	for i, t := range a.small {
		if t.Before(a.small[oldest]) {
			oldest = i
		}
	}
	return oldest
}

// addressTable is bounded: an entry is evicted only when its budget is full again,
// so that evicting forgets nothing that matters.
type addressTable struct {
	entries []*address
}

func (t *addressTable) get(remote netip.AddrPort) *address {
	for _, a := range t.entries {
		if a.remote == remote {
			return a
		}
	}
	return nil
}

// add returns the entry of remote, made if there is room; nil if there is none.
// It may have evicted another.
func (t *addressTable) add(now time.Time, remote netip.AddrPort, stranger bool) (entry, evicted *address) {
	if a := t.get(remote); a != nil {
		a.stranger = a.stranger && stranger
		return a, nil
	}
	strangers := 0
	var victim *address
	index := -1
	for i, a := range t.entries {
		if a.stranger {
			strangers++
		}
		if a.isProved(now) || now.Sub(a.touched) < smallWindow || a.announced {
			continue
		}
		if victim == nil || a.stranger && !victim.stranger || a.stranger == victim.stranger && a.touched.Before(victim.touched) {
			victim, index = a, i
		}
	}
	full := len(t.entries) >= maxAddresses || stranger && strangers >= maxStrangers
	if full && (victim == nil || stranger && strangers >= maxStrangers && !victim.stranger) {
		return nil, nil
	}
	a := &address{remote: remote, stranger: stranger}
	if full {
		t.entries[index] = a
		return a, victim
	}
	t.entries = append(t.entries, a)
	return a, nil
}
