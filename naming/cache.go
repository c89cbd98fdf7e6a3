package naming

import (
	"sync"
	"sync/atomic"
	"time"

	"scn.alt/scn/naming/message"
)

// answers keeps responses in wire form by question. Reading allocates nothing.
type answers struct {
	size int

	mu      sync.RWMutex // guards below
	entries map[string]*prepared
}

// prepared is a response ready but for its ID, flags, case and OPT record.
type prepared struct {
	// constant once stored
	response   []byte
	ede        message.Error
	generation uint64
	fresh      int64 // Unix nanoseconds until which it is given as it is
	stale      int64 // and until which it is given while being made anew

	renewing atomic.Bool
}

// appendKey appends the key of a question of class IN.
func appendKey(b []byte, q message.Query) []byte {
	b = message.AppendLower(b, q.Name)
	return append(b, byte(q.Type>>8), byte(q.Type))
}

// get returns the answer to give now, or nil. renew says that the caller has to
// make it anew; only one caller is told.
func (a *answers) get(key []byte, generation uint64, now time.Time) (p *prepared, renew bool) {
	a.mu.RLock()
	p = a.entries[string(key)]
	a.mu.RUnlock()
	if p == nil || p.generation != generation {
		return nil, false
	}
	at := now.UnixNano()
	switch {
	case at < p.fresh:
		return p, false
	case at < p.stale:
		return p, p.renewing.CompareAndSwap(false, true)
	}
	return nil, false
}

func (a *answers) put(key []byte, p *prepared) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.entries[string(key)] == nil && len(a.entries) >= a.size {
		// Of a few the map yields first, the one soonest to be of no use goes.
		var victim string
		var when int64
		seen := 0
		for k, e := range a.entries {
			if seen == 0 || e.stale < when {
				victim, when = k, e.stale
			}
			if seen++; seen == 8 {
				break
			}
		}
		delete(a.entries, victim)
	}
	a.entries[string(key)] = p
}

// drop forgets the answer to a question: it is no longer ours to answer.
func (a *answers) drop(key []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.entries, string(key))
}

func (a *answers) len() int {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.entries)
}
