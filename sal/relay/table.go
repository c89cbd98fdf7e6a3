package relay

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"scn.alt/scn/routing/identity"
)

// Errors of Table.Register.
var (
	// ErrFull is returned while Limits.Registrations nodes are registered.
	ErrFull = errors.New("relay: no room for another registration")
	// ErrTaken is returned for a token in use, and for a node whose ID begins like
	// that of another that is registered.
	ErrTaken = errors.New("relay: token or node ID taken")
)

// Verdict is what becomes of datagrams.
type Verdict uint8

// Verdicts of Table.Route.
const (
	// Forward: send them to the registration returned.
	Forward Verdict = iota
	// Unknown: the destination is not registered.
	Unknown
	// OverNode and OverTotal: the sender, or all together, sent too much.
	OverNode
	OverTotal
)

// Table says who may have datagrams forwarded, to whom and how much. P is what the
// caller sends by. It may be used concurrently.
type Table[P comparable] struct {
	// Constant after NewTable.
	limits         Limits
	perNode, total rate

	all bucket

	forwarded, bytes                  atomic.Uint64
	unknown, overNode, overTotal      atomic.Uint64
	strangers, spoofed, busy, noRoute atomic.Uint64
	registered, refused               atomic.Uint64

	mu      sync.RWMutex // guards below
	byToken map[Token]*Registration[P]
	byNode  map[Prefix]*Registration[P]
}

// NewTable makes a table without registrations. The only errors are those of
// limits.Validate.
func NewTable[P comparable](limits Limits) (*Table[P], error) {
	if err := limits.Validate(); err != nil {
		return nil, err
	}
	limits = limits.withDefaults()
	return &Table[P]{
		limits:  limits,
		perNode: newRate(limits.PerNode, burstPerNode),
		total:   newRate(limits.Total, burstTotal),
		byToken: make(map[Token]*Registration[P]),
		byNode:  make(map[Prefix]*Registration[P]),
	}, nil
}

// Limits returns the limits in force.
func (t *Table[P]) Limits() Limits { return t.limits }

// Register lets datagrams be forwarded for and to a node. token must be
// unpredictable. A registration the node had before ends; what it used up of its
// quota stays used.
func (t *Table[P]) Register(node identity.NodeID, token Token, peer P) error {
	r := &Registration[P]{Node: node, Token: token, Peer: peer}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.byNode[r.Prefix()]
	switch {
	case old != nil && old.Node != node, t.byToken[token] != nil:
		t.refused.Add(1)
		return ErrTaken
	case old == nil && len(t.byNode) >= t.limits.Registrations:
		t.refused.Add(1)
		return ErrFull
	}
	if old != nil {
		delete(t.byToken, old.Token)
		r.bucket.full.Store(old.bucket.full.Load())
		r.unknown = old.told()
	}
	t.byNode[r.Prefix()] = r
	t.byToken[token] = r
	t.registered.Add(1)
	return nil
}

// told hands on what the node was told of.
func (r *Registration[P]) told() *unknownList {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unknown
}

// Revoke ends the registration of a node if it is still that of the peer given,
// and reports whether it was.
func (t *Table[P]) Revoke(node identity.NodeID, peer P) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.byNode[Prefix(node[:8])]
	if r == nil || r.Node != node || r.Peer != peer {
		return false
	}
	delete(t.byNode, r.Prefix())
	delete(t.byToken, r.Token)
	return true
}

// Len returns how many nodes are registered.
func (t *Table[P]) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.byNode)
}

// Sender returns the registration a token belongs to, or nil, which is counted as
// so many datagrams of a stranger.
func (t *Table[P]) Sender(token Token, datagrams int) *Registration[P] {
	t.mu.RLock()
	r := t.byToken[token]
	t.mu.RUnlock()
	if r == nil {
		t.strangers.Add(uint64(datagrams))
	}
	return r
}

// Route decides about datagrams of so many bytes, headers included, from a sender
// to one destination, which may be the sender: so it sees whether the relay works. It
// takes all of them or none. now is on any clock that does not run backwards; the
// zero of it must be in the past.
func (t *Table[P]) Route(now time.Duration, from *Registration[P], to Prefix, datagrams, bytes int) (*Registration[P], Verdict) {
	t.mu.RLock()
	dst := t.byNode[to]
	t.mu.RUnlock()
	switch {
	case dst == nil:
		t.unknown.Add(uint64(datagrams))
		return nil, Unknown
	case !from.bucket.take(now, bytes, t.perNode):
		t.overNode.Add(uint64(datagrams))
		return nil, OverNode
	case !t.all.take(now, bytes, t.total):
		t.overTotal.Add(uint64(datagrams))
		return nil, OverTotal
	}
	return dst, Forward
}

// Tell reports whether a sender is to be told that a destination is not
// registered: once in UnknownInterval for each, and of few.
func (t *Table[P]) Tell(now time.Duration, from *Registration[P], to Prefix) bool {
	return from.tell(now, to)
}

// Sent notes that datagrams were forwarded.
func (t *Table[P]) Sent(datagrams, bytes int) {
	t.forwarded.Add(uint64(datagrams))
	t.bytes.Add(uint64(bytes))
}

// Spoofed notes datagrams with a right token from an address not proved to be its
// owner's, Busy those dropped because the socket was full, NoRoute those for a
// node to which no way is known.
func (t *Table[P]) Spoofed(datagrams int) { t.spoofed.Add(uint64(datagrams)) }

// Busy is explained at Spoofed.
func (t *Table[P]) Busy(datagrams int) { t.busy.Add(uint64(datagrams)) }

// NoRoute is explained at Spoofed.
func (t *Table[P]) NoRoute(datagrams int) { t.noRoute.Add(uint64(datagrams)) }
