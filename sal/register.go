package sal

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal/homes"
	"scn.alt/scn/sal/relay"
)

// noRelayRetry is when a node that turned out to be no relay is asked again.
const noRelayRetry = 10 * time.Minute

var (
	errNotDirect = errors.New("sal: the relay itself is reached through a relay only")
	errDropped   = errors.New("sal: registration not needed any more")
	errSilent    = errors.New("sal: the relay answers no registration")
)

// relayRefusal is the answer of a relay that does not want this node, or of a node
// that is no relay.
type relayRefusal struct {
	reason string
	after  time.Duration
}

func (e *relayRefusal) Error() string { return "sal: relay: " + e.reason }

// register makes one registration.
func (r *relays) register(ctx context.Context, g *registration, where []netip.AddrPort) (*Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, g.timeout, errSilent)
	defer cancel()
	service := identity.ServiceOf(g.relay)
	s, err := r.node.dialAt(ctx, record.Candidate{Node: g.relay, Locators: where}, &request{service: service, port: RelayPort, protocol: record.TCP})
	switch {
	case err == nil:
	case errors.Is(err, ErrRefused), errors.Is(err, ErrUnknownService), errors.Is(err, ErrNotAuthorized), errors.Is(err, ErrNotAdmitted):
		return nil, &relayRefusal{err.Error(), noRelayRetry}
	default:
		return nil, err
	}
	c := &Conn{session: s}
	c.link.noteRegistration(s, false)
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(aLongTimeAgo) })
	token, err := r.ask(c)
	if !stop() && err == nil || err == nil && c.link.assoc.Info().Relay != (identity.NodeID{}) {
		err = errNotDirect
	}
	if err == nil {
		err = r.stand(g, c.link, token)
	}
	if err != nil {
		_ = c.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return c, nil
}

// ask asks for a registration on a session with the relay.
func (r *relays) ask(c *Conn) (relay.Token, error) {
	m := relayMessage{Kind: relayRegister, Version: relayVersion1}
	if r.node.cfg.Relay != nil {
		m.Flags |= flagRelay
	}
	if _, err := c.Write(m.Append(nil)); err != nil {
		return relay.Token{}, err
	}
	m, err := readRelayMessage(c, maxRelayBody)
	switch {
	case err != nil:
		return relay.Token{}, err
	case m.Kind == relayRefused:
		return relay.Token{}, &relayRefusal{m.Reason.String(), m.After}
	case m.Kind != relayRegistered || m.Version != relayVersion1:
		return relay.Token{}, fmt.Errorf("%w: unexpected answer of a relay", errVersion)
	}
	return m.Token, nil
}

// stand makes a registration that was granted one that is used, instead of the one
// there was, if any.
func (r *relays) stand(g *registration, l *link, token relay.Token) error {
	now := time.Now()
	rtt := l.quic.ConnectionStats().SmoothedRTT
	r.mu.Lock()
	old := r.regs[g.relay]
	if g.over || old == nil {
		r.mu.Unlock()
		return errDropped
	}
	if err := l.assoc.UseRelay(token); err != nil {
		r.mu.Unlock()
		return err
	}
	l.anchor.hold()
	g.anchor, g.link, g.since, g.health = l.anchor, l, now, homes.NewHealth(now, rtt)
	g.stale = now.Add(homes.Spread(renewInterval, r.random))
	close(g.ready)
	var todo []func()
	if old == g {
		if g.home {
			r.core.Registered(now, g.relay, rtt)
		}
	} else {
		g.home, g.needed, g.peers = old.home, old.needed, old.peers
		r.regs[g.relay] = g
		r.forgetLocked(old)
		todo = append(todo, old.cancel)
	}
	todo = append(todo, r.takeLocked()...)
	r.mu.Unlock()
	r.node.cfg.Logger.Debug("registered", "peer", g.relay.Short(), "rtt", rtt)
	r.do(todo)
	r.node.relayChanged(g.relay)
	return nil
}

// listen handles what the relay says until the registration ends.
func (r *relays) listen(ctx context.Context, c *Conn) error {
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(aLongTimeAgo) })()
	for {
		m, err := readRelayMessage(c, maxRelayBody)
		switch {
		case ctx.Err() != nil:
			return errDropped
		case err != nil:
			return err
		}
		if m.Kind == relayRelays {
			for _, t := range m.Relays {
				r.know(t.Node, t.Addresses, homes.FromRelay)
			}
		}
	}
}

// noteUnknown notes that a relay does not know a node, and so is no way to it.
func (r *relays) noteUnknown(id identity.NodeID, peer relay.Prefix) {
	r.mu.Lock()
	if len(r.unknown) < maxUnknown {
		r.unknown[unknownPeer{id, peer}] = time.Now().Add(unknownFor)
	}
	r.mu.Unlock()
	r.node.relayUnknowing(peer)
}

// demand has this node register at relays of a peer, for the sake of the sessions with
// it. It returns what tells when each is ready.
func (r *relays) demand(peer identity.NodeID, at []identity.NodeID) (ready []<-chan struct{}) {
	now := time.Now()
	var todo []func()
	r.mu.Lock()
	for _, id := range at {
		if id == r.node.id || id == peer {
			continue
		}
		g := r.regs[id]
		if g == nil {
			if r.demandedLocked() >= maxDemanded {
				continue
			}
			todo = append(todo, r.registerLocked(id, false, homes.Patience(0)))
			g = r.regs[id]
		}
		g.needed = now.Add(demandFor)
		if len(g.peers) < maxUnknown {
			g.peers[peer] = struct{}{}
		}
		ready = append(ready, g.ready)
	}
	r.mu.Unlock()
	r.do(todo)
	return ready
}

func (r *relays) demandedLocked() (n int) {
	for _, g := range r.regs {
		if !g.home {
			n++
		}
	}
	return n
}

// wanted reports whether this node is registered at another, or about to be: what is
// to relay must itself be reached directly.
func (r *relays) wanted(id identity.NodeID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.regs[id] != nil
}

// ways returns the relays of a list by which a peer can be reached now, or else, if
// guess is set, the home relays, where it may be registered too.
func (r *relays) ways(peer identity.NodeID, list []identity.NodeID, guess bool) (out []identity.NodeID) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.regs[peer] != nil {
		return nil
	}
	usable := func(id identity.NodeID) bool {
		g := r.regs[id]
		if g == nil || g.anchor == nil || g.over || id == peer {
			return false
		}
		return !now.Before(r.unknown[unknownPeer{id, relay.Prefix(peer[:8])}])
	}
	for _, id := range list {
		if len(out) < maxRelayed && usable(id) {
			out = append(out, id)
		}
	}
	if len(out) == 0 && guess {
		for _, id := range r.homes {
			if len(out) < maxRelayed && usable(id) {
				out = append(out, id)
			}
		}
	}
	return out
}
