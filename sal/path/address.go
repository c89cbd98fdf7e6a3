package path

import (
	"net/netip"
	"slices"
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
	// maxStrangers bounds the addresses that only packets we cannot authenticate have
	// named.
	maxStrangers = 16
)

// MaxAddresses bounds the addresses a machine knows of, and so those it says are
// [Validated] and not yet [Forgotten].
const MaxAddresses = 64

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

// addressTable is bounded. An entry not proved is evicted only when its budget is
// full again, so that evicting forgets nothing that matters; a proved one, the
// oldest first, only for an address that something authentic named: a peer that
// moves often leaves many behind, and where it is now counts more.
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
// It may have evicted another, but not the one in use.
func (t *addressTable) add(now time.Time, remote netip.AddrPort, stranger bool, inUse *address) (entry, evicted *address) {
	if a := t.get(remote); a != nil {
		a.stranger = a.stranger && stranger
		return a, nil
	}
	strangers := 0
	var victim, oldest *address
	for _, a := range t.entries {
		if a.stranger {
			strangers++
		}
		switch {
		case a == inUse:
		case a.isProved(now) || a.announced:
			if oldest == nil || a.proved.Before(oldest.proved) {
				oldest = a
			}
		case now.Sub(a.touched) < smallWindow:
		case victim == nil || a.stranger && !victim.stranger || a.stranger == victim.stranger && a.touched.Before(victim.touched):
			victim = a
		}
	}
	a := &address{remote: remote, stranger: stranger}
	switch {
	case stranger && strangers >= maxStrangers:
		if victim == nil || !victim.stranger {
			return nil, nil
		}
	case len(t.entries) < MaxAddresses:
		t.entries = append(t.entries, a)
		return a, nil
	case victim == nil && !stranger:
		victim = oldest
	}
	if victim == nil {
		return nil, nil
	}
	t.entries[slices.Index(t.entries, victim)] = a
	return a, victim
}
