package sal

import (
	"sync"
	"time"

	"scn.alt/scn/routing/identity"
)

const (
	// loneFor is how long the one provider that a resolution found is taken for the
	// only one. Records change no faster.
	loneFor = time.Second
	// maxLone bounds how many services are remembered; others are resolved each time.
	maxLone = 1024
)

// loneTable remembers, for a moment, which services have but one provider, so that a
// burst of sessions need not ask the resolver for each.
type loneTable struct {
	mu        sync.Mutex // guards below
	providers map[identity.ServiceID]loneProvider
}

type loneProvider struct {
	node  identity.NodeID
	until time.Time
}

// found notes that a resolution begun at the given time found node alone.
func (t *loneTable) found(service identity.ServiceID, node identity.NodeID, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.providers[service]; !ok && len(t.providers) >= maxLone {
		for s, p := range t.providers {
			if at.After(p.until) {
				delete(t.providers, s)
			}
		}
		if len(t.providers) >= maxLone {
			return
		}
	}
	if t.providers == nil {
		t.providers = make(map[identity.ServiceID]loneProvider)
	}
	t.providers[service] = loneProvider{node, at.Add(loneFor)}
}

// lone returns the provider of a service that was just resolved, if there was only one.
func (t *loneTable) lone(service identity.ServiceID, now time.Time) (identity.NodeID, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.providers[service]
	return p.node, ok && now.Before(p.until)
}

// openAgain opens a session early on a running connection to the only provider of a
// service, if it was just resolved and heard from. Nothing else is tried.
func (n *Node) openAgain(r *request) *session {
	node, ok := n.lone.lone(r.service, time.Now())
	if !ok {
		return nil
	}
	n.mu.Lock()
	var l *link
	if p := n.peers[node]; p != nil && !n.closed {
		l = p.current()
	}
	n.mu.Unlock()
	if l == nil || !l.hot() {
		return nil
	}
	s, err := l.open(n.ctx, r, true)
	if err != nil {
		return nil
	}
	return s
}
