package sal

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// pingRepeat is after how long a lost ping is sent again.
const pingRepeat = 500 * time.Millisecond

// pingTable holds the pings that wait for their answer.
type pingTable struct {
	mu      sync.Mutex // guards below
	waiting map[uint64]waitingPing
}

type waitingPing struct {
	peer identity.NodeID
	sent time.Time
	done chan<- pong // cap 1
}

type pong struct {
	status Status
	rtt    time.Duration
}

// add notes a ping about to be sent and returns its token.
func (t *pingTable) add(peer identity.NodeID, done chan<- pong) uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	token := binary.BigEndian.Uint64(b[:])
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting == nil {
		t.waiting = make(map[uint64]waitingPing)
	}
	t.waiting[token] = waitingPing{peer, time.Now(), done}
	return token
}

func (t *pingTable) remove(tokens []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, token := range tokens {
		delete(t.waiting, token)
	}
}

// answer takes a pong of peer.
func (t *pingTable) answer(peer identity.NodeID, token uint64, status Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w, ok := t.waiting[token]
	if !ok || w.peer != peer {
		return
	}
	delete(t.waiting, token)
	select {
	case w.done <- pong{status, time.Since(w.sent)}:
	default:
	}
}

// Ping measures the round trip to a provider of a service, without opening a
// session, and says which node answered. Providers are tried as in Dial.
func (n *Node) Ping(ctx context.Context, service identity.ServiceID) (time.Duration, identity.NodeID, error) {
	if n.services.provides(service) {
		return 0, n.id, nil
	}
	var (
		rtt  time.Duration
		peer identity.NodeID
	)
	err := n.race(ctx, service, func(ctx context.Context, l *link, won func() bool) error {
		d, err := l.ping(ctx, service)
		if err == nil && won() {
			rtt, peer = d, l.peer
		}
		return err
	})
	if err != nil {
		return 0, identity.NodeID{}, opError("ping", Addr{Service: service}, err)
	}
	return rtt, peer, nil
}

// PingAt measures the round trip to one node, which answers for the service. Unlike
// Ping it asks that very node, and no Policy.
func (n *Node) PingAt(ctx context.Context, c record.Candidate, service identity.ServiceID) (rtt time.Duration, err error) {
	if c.Node == n.id {
		return 0, nil
	}
	err = n.attempt(ctx, c, func(ctx context.Context, l *link) error {
		rtt, err = l.ping(ctx, service)
		return err
	})
	if err != nil {
		return 0, opError("ping", Addr{Node: c.Node, Service: service}, err)
	}
	return rtt, nil
}

// ping pings the node on the other end, which answers for the service.
func (l *link) ping(ctx context.Context, service identity.ServiceID) (time.Duration, error) {
	done := make(chan pong, 1)
	var tokens []uint64
	defer func() { l.node.pings.remove(tokens) }()
	repeat := time.NewTicker(pingRepeat)
	defer repeat.Stop()
	for {
		token := l.node.pings.add(l.peer, done)
		tokens = append(tokens, token)
		l.lane.send(&datagramMessage{Kind: kindPing, Token: token, Service: service}, &l.pings)
		select {
		case p := <-done:
			return p.rtt, statusError(p.status)
		case <-repeat.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-l.ctx.Done():
			return 0, l.lostError(context.Cause(l.ctx))
		}
	}
}

// answerPing answers a ping of the peer.
func (l *link) answerPing(m *datagramMessage) {
	status := StatusAccepted
	switch {
	case l.node.ctx.Err() != nil:
		status = StatusDraining
	case !l.node.services.provides(m.Service) && m.Service != identity.ServiceOf(l.node.id):
		status = StatusUnknownService
	case l.node.cfg.Authorizer != nil && m.Service != identity.ServiceOf(l.node.id):
		// A ping is for no port; who may open nothing learns nothing.
		if l.node.cfg.Authorizer(l.peer, m.Service, 0, record.TCP) != nil {
			status = StatusNotAuthorized
		}
	}
	l.lane.send(&datagramMessage{Kind: kindPong, Token: m.Token, Status: status}, &l.pings)
}
