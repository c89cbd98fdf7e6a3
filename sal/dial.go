package sal

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// maxAttempts is how many providers one dial tries.
const maxAttempts = 16

// Dial opens a stream session to a port of a service, at the best of its
// providers that accepts it.
func (n *Node) Dial(ctx context.Context, service identity.ServiceID, port uint16) (*Conn, error) {
	return n.dialStream(ctx, service, port, false)
}

// DialEarly is Dial without waiting for the provider's answer, once a connection
// to a provider stands: what is written goes out at once, and a refusal comes
// from the first Read or a later Write, as the error Dial would have returned.
// It waits for the answer nonetheless when there are several providers, or the one
// there is was not heard from just now: what was written to a provider that is gone
// would be lost with it. Conn.Accepted waits for the answer.
func (n *Node) DialEarly(ctx context.Context, service identity.ServiceID, port uint16) (*Conn, error) {
	return n.dialStream(ctx, service, port, true)
}

func (n *Node) dialStream(ctx context.Context, service identity.ServiceID, port uint16, early bool) (*Conn, error) {
	s, err := n.dialSession(ctx, &request{service: service, port: port, protocol: record.TCP}, early)
	if err != nil {
		return nil, opError("dial", Addr{Service: service, Port: port}, err)
	}
	return &Conn{session: s}, nil
}

// DialPacket opens a packet session to a port of a service.
func (n *Node) DialPacket(ctx context.Context, service identity.ServiceID, port uint16) (*PacketConn, error) {
	return n.dialPackets(ctx, service, port, false)
}

// DialPacketEarly is to DialPacket as DialEarly is to Dial. A refusal comes from
// a Read or a later Write.
func (n *Node) DialPacketEarly(ctx context.Context, service identity.ServiceID, port uint16) (*PacketConn, error) {
	return n.dialPackets(ctx, service, port, true)
}

func (n *Node) dialPackets(ctx context.Context, service identity.ServiceID, port uint16, early bool) (*PacketConn, error) {
	s, err := n.dialSession(ctx, &request{service: service, port: port, protocol: record.UDP}, early)
	if err != nil {
		return nil, opError("dial", Addr{Service: service, Port: port}, err)
	}
	c := newPacketConn(s)
	c.attach()
	c.start()
	return c, nil
}

// DialNode opens a stream session to a port of the service that every node
// provides under its own key, at that very node.
func (n *Node) DialNode(ctx context.Context, node identity.NodeID, port uint16) (*Conn, error) {
	service := identity.ServiceOf(node)
	r := &request{service: service, port: port, protocol: record.TCP}
	var s *session
	var err error
	if node == n.id {
		s, err = n.openLoop(ctx, r, false)
	} else {
		s, err = n.dialAt(ctx, record.Candidate{Node: node}, r)
	}
	if err != nil {
		return nil, opError("dial", Addr{Node: node, Service: service, Port: port}, err)
	}
	return &Conn{session: s}, nil
}

// DialAt opens a stream session to a port of a service at that very provider, and asks
// no Policy. The nonce names the session to both meters, in place of one drawn here:
// it must look random to everybody else, and never be used again. Where it is zero one
// is drawn. The provider sees a session like any other.
func (n *Node) DialAt(ctx context.Context, c record.Candidate, service identity.ServiceID, port uint16, nonce [32]byte) (*Conn, error) {
	r := &request{service: service, port: port, protocol: record.TCP, nonce: nonce}
	var s *session
	var err error
	if c.Node == n.id {
		s, err = n.openLoop(ctx, r, false)
	} else {
		s, err = n.dialAt(ctx, c, r)
	}
	if err != nil {
		return nil, opError("dial", Addr{Node: c.Node, Service: service, Port: port}, err)
	}
	return &Conn{session: s}, nil
}

// dialAt opens a session at one node.
func (n *Node) dialAt(ctx context.Context, c record.Candidate, r *request) (s *session, err error) {
	err = n.attempt(ctx, c, func(ctx context.Context, l *link) error {
		s, err = l.open(ctx, r, false)
		return err
	})
	return s, err
}

// dialSession opens a session at the best provider.
func (n *Node) dialSession(ctx context.Context, r *request, early bool) (*session, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	n.counters.dials.Add(1)
	var local error
	if n.services.provides(r.service) {
		s, err := n.openLoop(ctx, r, early)
		if err == nil || ctx.Err() != nil {
			return s, err
		}
		local = err
	}
	if early && local == nil {
		if s := n.openAgain(r); s != nil {
			return s, nil
		}
	}
	begun := time.Now()
	var winner *session
	var alone atomic.Bool
	err := n.raceNoting(ctx, r.service, &alone, func(ctx context.Context, l *link, won func() bool) error {
		// What is sent early cannot be sent to another provider, nor again: only to the
		// one there is, and only if it was just heard from.
		s, err := l.open(ctx, r, early && alone.Load() && l.hot())
		if err != nil {
			return err
		}
		if !won() {
			s.abort()
			return context.Canceled
		}
		winner = s
		return nil
	})
	if err == nil {
		if alone.Load() {
			n.lone.found(r.service, winner.link.peer, begun)
		}
		return winner, nil
	}
	if local != nil && severity(local) < severity(err) {
		err = local
	}
	return nil, err
}

// attempt runs try on a connection to one node, and once more on a new one if the
// connection turns out to have ended meanwhile.
func (n *Node) attempt(ctx context.Context, c record.Candidate, try func(context.Context, *link) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, n.cfg.OpenTimeout, ErrTargetTimeout)
	defer cancel()
	for again := range 3 {
		l, err := n.connect(ctx, c)
		if err != nil {
			return err
		}
		start, before := time.Now(), l.quic.ConnectionStats().PacketsReceived
		err = try(ctx, l)
		switch {
		case errors.Is(err, errLinkGone) && again < 2:
			n.awaitDrop(ctx, l)
			continue
		case errors.Is(err, errLinkGone):
			return ErrUnreachable
		case err != nil && ctx.Err() != nil:
			// Outrun or timed out. A peer that sent nothing at all meanwhile is not
			// merely slow to decide.
			stats := l.quic.ConnectionStats()
			if stats.PacketsReceived == before && time.Since(start) > max(n.cfg.Stagger*9/10, 3*stats.SmoothedRTT) {
				n.suspectPeer(c.Node)
			}
		}
		return err
	}
	return ErrUnreachable
}

// awaitDrop waits until an ended link is not offered any more.
func (n *Node) awaitDrop(ctx context.Context, l *link) {
	select {
	case <-l.ctx.Done():
	case <-ctx.Done():
	}
}

// tryFunc tries something on a connection to one provider. Before it reports
// success it must have called won, and must give back what it got if that is
// false: another provider was faster.
type tryFunc func(ctx context.Context, l *link, won func() bool) error

// racer is one dial over several providers (RFC 8305): the best first, the next
// after a stagger or at once when one fails, the first to accept wins.
type racer struct {
	node    *Node
	service identity.ServiceID
	try     tryFunc
	alone   *atomic.Bool
	options []option // not tried yet
	tried   []identity.NodeID
	running int
	final   bool // resolution has ended
	results chan error
	decided atomic.Bool
	worst   error // the most telling failure so far
}

// race resolves a service and runs try at its providers until one succeeds.
func (n *Node) race(ctx context.Context, service identity.ServiceID, try tryFunc) error {
	return n.raceNoting(ctx, service, new(atomic.Bool), try)
}

// raceNoting is race, and notes in alone whether there is but one provider.
func (n *Node) raceNoting(ctx context.Context, service identity.ServiceID, alone *atomic.Bool, try tryFunc) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &racer{node: n, service: service, alone: alone, try: try, results: make(chan error, maxAttempts), worst: ErrNoProvider}
	answers := n.resolve(ctx, service, r)
	stagger := time.NewTimer(time.Hour)
	defer stagger.Stop()
	for {
		if r.running == 0 && r.start(ctx) {
			stagger.Reset(n.cfg.Stagger)
		}
		if r.running == 0 && r.final {
			return r.worst
		}
		select {
		case a, ok := <-answers:
			if !ok {
				answers, r.final = nil, true
				break
			}
			r.merge(a)
		case err := <-r.results:
			r.running--
			if err == nil {
				return nil
			}
			r.failed(err)
			if r.start(ctx) {
				stagger.Reset(n.cfg.Stagger)
			}
		case <-stagger.C:
			if r.start(ctx) {
				stagger.Reset(n.cfg.Stagger)
			}
		case <-ctx.Done():
			if r.decided.CompareAndSwap(false, true) {
				return context.Cause(ctx)
			}
			for <-r.results != nil { // the winner is about to report
			}
			return nil
		}
	}
}

// resolution is one answer of the resolver.
type resolution struct {
	candidates []record.Candidate
	err        error
}

// resolve asks the resolver; the channel is closed when no better answer comes.
func (n *Node) resolve(ctx context.Context, service identity.ServiceID, r *racer) <-chan resolution {
	answers := make(chan resolution)
	if n.cfg.Resolver == nil {
		close(answers)
		return answers
	}
	running := n.spawn(func() {
		defer close(answers)
		for c, err := range n.cfg.Resolver.Resolve(ctx, service) {
			select {
			case answers <- resolution{c, err}:
			case <-ctx.Done():
				return
			}
		}
	})
	if !running {
		r.worst = ErrClosed
		close(answers)
	}
	return answers
}

// merge takes a better answer: it replaces what is not tried yet, and tells those
// that are being tried of new addresses.
func (r *racer) merge(a resolution) {
	if a.err != nil {
		if errors.Is(r.worst, ErrNoProvider) {
			r.worst = &resolveError{a.err}
		}
		return
	}
	r.options = r.options[:0]
	for _, c := range a.candidates {
		switch {
		case c.Node == r.node.id:
		case slices.Contains(r.tried, c.Node):
			r.node.betterCandidate(c)
		default:
			r.options = append(r.options, option{Candidate: c})
		}
	}
}

// failed notes why one provider was of no use: the most telling failure is what the
// caller of the dial hears.
func (r *racer) failed(err error) {
	if severity(err) < severity(r.worst) || errors.Is(r.worst, ErrNoProvider) {
		r.worst = err
	}
}

// start tries the next provider, if there is one.
func (r *racer) start(ctx context.Context) bool {
	if len(r.tried) >= maxAttempts {
		return false
	}
	r.node.describe(r.options)
	r.node.declined.mark(r.service, r.options, time.Now())
	r.consult()
	i := pick(r.options, r.final, rand.Int64N)
	if i < 0 {
		return false
	}
	c := r.options[i].Candidate
	r.alone.Store(len(r.tried) == 0 && len(r.options) == 1)
	r.options = slices.Delete(r.options, i, i+1)
	if !r.node.spawn(func() { r.results <- r.run(ctx, c) }) {
		r.worst = ErrClosed
		return false
	}
	r.tried = append(r.tried, c.Node)
	r.running++
	return true
}

// run tries one provider.
func (r *racer) run(ctx context.Context, c record.Candidate) error {
	err := r.node.attempt(ctx, c, func(ctx context.Context, l *link) error {
		return r.try(ctx, l, func() bool { return r.decided.CompareAndSwap(false, true) })
	})
	if err == nil {
		r.node.trustPeer(c.Node)
	}
	r.node.declined.note(r.service, c.Node, err, time.Now())
	return err
}

// describe fills in what this node knows of the options.
func (n *Node) describe(options []option) {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range options {
		o := &options[i]
		o.reachable = len(o.Locators) > 0 || len(o.Relays) > 0
		p := n.peers[o.Node]
		if p == nil {
			continue
		}
		o.suspect, o.rtt = now.Before(p.suspect), p.rtt
		if l := p.current(); l != nil {
			o.reachable, o.rtt = true, l.quic.ConnectionStats().SmoothedRTT
		}
	}
}

// betterCandidate passes new addresses and relays on to a handshake in progress.
func (n *Node) betterCandidate(c record.Candidate) {
	if len(c.Locators) == 0 && len(c.Relays) == 0 {
		return
	}
	n.mu.Lock()
	p := n.peers[c.Node]
	dialling := p != nil && p.dial != nil && p.dial.assoc != nil
	n.mu.Unlock()
	if dialling {
		n.notePeer(c)
		n.pushRemotes(c.Node)
	}
}

// resolveError is a resolution that failed: nobody is known who provides the
// service.
type resolveError struct{ err error }

func (e *resolveError) Error() string { return "sal: resolve: " + e.err.Error() }
func (e *resolveError) Unwrap() error { return e.err }

// Is makes it ErrNoProvider, and so syscall.EHOSTUNREACH.
func (e *resolveError) Is(target error) bool {
	return target == ErrNoProvider || errors.Is(ErrNoProvider, target)
}
