package sal

import (
	"errors"
	"sync"
	"time"

	"scn.alt/scn/routing/identity"
)

const (
	// declinedFor is how long a provider that took no session of a service is tried
	// after its others: asking it first would cost each dial a round trip. It is
	// short, for nobody tells when the provider takes sessions again.
	declinedFor = 10 * time.Second
	// maxDeclined bounds how many such pairs are remembered.
	maxDeclined = 1024
)

// declinedTable remembers which providers declined a service a moment ago because
// they drain it, cannot reach its target or have no room: all of it may pass, and
// says nothing of their other services.
type declinedTable struct {
	mu    sync.Mutex // guards below
	until map[declinedKey]time.Time
}

type declinedKey struct {
	service identity.ServiceID
	node    identity.NodeID
}

// note takes the outcome of a session's dial at one provider.
func (t *declinedTable) note(service identity.ServiceID, node identity.NodeID, err error, now time.Time) {
	if !errors.Is(err, ErrDraining) && !errors.Is(err, ErrTargetUnreachable) && !errors.Is(err, ErrOverCapacity) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.until) >= maxDeclined {
		for k, until := range t.until {
			if now.After(until) {
				delete(t.until, k)
			}
		}
		if len(t.until) >= maxDeclined {
			return
		}
	}
	if t.until == nil {
		t.until = make(map[declinedKey]time.Time)
	}
	t.until[declinedKey{service, node}] = now.Add(declinedFor)
}

// mark makes the providers that declined a moment ago come last.
func (t *declinedTable) mark(service identity.ServiceID, options []option, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.until) == 0 {
		return
	}
	for i := range options {
		if now.Before(t.until[declinedKey{service, options[i].Node}]) {
			options[i].suspect = true
		}
	}
}
