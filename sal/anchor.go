package sal

import (
	"sync"

	"scn.alt/scn/routing/identity"
)

// anchor keeps an association for whoever needs it: its connection, and registrations
// at relays made on it, which outlive the connection. A relay has a connection with
// each of thousands of nodes just long enough to register it; what stays is the
// association, a tenth of the memory.
type anchor struct {
	assoc association     // constant
	peer  identity.NodeID // constant

	mu   sync.Mutex // guards below
	refs int
	bare bool // the connection has ended
}

func newAnchor(assoc association, peer identity.NodeID) *anchor {
	return &anchor{assoc: assoc, peer: peer, refs: 1}
}

// hold keeps the association until release.
func (a *anchor) hold() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refs++
}

// release gives it up; with the last one it is closed.
func (a *anchor) release() {
	a.mu.Lock()
	a.refs--
	last := a.refs == 0
	a.mu.Unlock()
	if last {
		_ = a.assoc.Close()
	}
}

// unlink notes that the connection has ended, which held the association.
func (a *anchor) unlink() {
	a.mu.Lock()
	a.bare = true
	if a.refs > 1 {
		a.assoc.Rest()
		a.assoc.SetSessions(1) // or the path would not be kept
	}
	a.mu.Unlock()
	a.release()
}

// setSessions tells the association how many sessions the connection has.
func (a *anchor) setSessions(open int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.bare {
		a.assoc.SetSessions(open)
	}
}
