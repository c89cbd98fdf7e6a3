package underlay

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"scn.alt/scn/sal/path"
)

// step gives a machine an event and does what it asks for.
func (e *engine) step(a *Association, ev path.Event) {
	if a.machine == nil || a.deadTold {
		return
	}
	a.machine.Step(time.Now(), ev)
	e.after(a)
}

// after carries out a machine's actions, and keeps its timer and what is
// published of it.
func (e *engine) after(a *Association) {
	for actions := a.machine.Take(); len(actions) > 0; actions = a.machine.Take() {
		for _, action := range actions {
			e.act(a, action)
		}
	}
	if a.legChanged {
		a.legChanged = false
		e.reachable(a)
		if a.machine == nil {
			return
		}
	}
	info := a.machine.Info()
	a.rtt.Store(int64(info.RTT))
	a.lost.Store(info.Lost)
	if old := a.why.Load(); old == nil || *old != info.Why {
		a.why.Store(&info.Why)
	}
	var due int64
	if d := a.machine.Deadline(); !d.IsZero() && !a.deadTold {
		due = max(1, int64(d.Sub(e.s.start)))
	}
	e.schedule(a, due)
}

func (e *engine) act(a *Association, action path.Action) {
	s := e.s
	switch x := action.(type) {
	case path.Send:
		s.metrics.pathSent.Add(1)
		if !path.IsRelayed(x.Route.Remote) {
			e.nudge(a, x.Route.Remote.Addr())
		}
		e.remind(a, x.Route.Remote)
		r := s.newRoute(x.Route, unknownMTU)
		switch errno := s.sendOnce(r, x.Datagram); {
		case errno == 0:
		case errno == unix.EMSGSIZE:
			a.machine.Step(time.Now(), path.TooBig{Route: x.Route, Size: len(x.Datagram) + r.header()})
		case unusable(errno):
			s.swallowed(errno)
			a.machine.Step(time.Now(), path.SendFailed{Route: x.Route})
		}
	case path.Use:
		e.use(a, x)
	case path.Moved:
		a.moves.Add(1)
		a.movedAt.Store(s.now())
		s.metrics.moves.Add(1)
		a.gap.begin(s.now(), a.lastReceived.Load())
		s.cfg.Logger.Info("path moved", "peer", a.node.Short(),
			"from", x.From.String(), "to", x.To.String(), "lost", x.Gap)
	case path.Validated:
		s.table.prove(a, x.Remote)
	case path.Forgotten:
		s.table.disprove(a, x.Remote)
	case path.Resolve:
		s.metrics.resolves.Add(1)
		if f := s.cfg.Resolve; f != nil {
			s.notify(func() { f(a.node) })
		}
	case path.Observed:
		e.observed(a, x)
		if f := s.cfg.Observed; f != nil && x.Address.Addr() != x.Link.Local {
			s.notify(func() { f(a.node, x.Address) })
		}
	case path.RelaysTold:
		if f := s.cfg.RelaysTold; f != nil {
			s.notify(func() { f(a.node, x.Relays) })
		}
	case path.Dead:
		a.deadTold = true
		a.lost.Store(true)
		s.metrics.dead.Add(1)
		s.cfg.Logger.Info("peer lost", "peer", a.node.Short())
		if f := s.cfg.Dead; f != nil {
			s.notify(func() { f(a) })
		}
	}
}

// use publishes the route data takes from now on.
func (e *engine) use(a *Association, x path.Use) {
	r := e.s.newRoute(x.Route, x.MTU)
	old := a.route.Load()
	if old != nil && old.path == r.path {
		r.noGSO.Store(old.noGSO.Load())
	}
	a.route.Store(r)
	if x.Resend || old == nil || old.path != r.path {
		a.legChanged = true
	}
	e.useSecond(a, x)
	if x.Resend || a.lost.Load() {
		a.gap.begin(e.s.now(), a.lastReceived.Load())
	}
	if !x.Resend {
		return
	}
	n := a.ring.copyTo(&e.scratch)
	for i := range e.scratch[:n] {
		slot := &e.scratch[i]
		e.s.metrics.resent.Add(1)
		if errno := e.s.transmit(r, slot.data[:slot.size], 0, slot.ecn); errno != 0 {
			e.s.swallowed(errno)
			return
		}
	}
}

// remindEvery is how often a silent peer gets a datagram of QUIC's again.
const remindEvery = int64(250 * time.Millisecond)

// remind sends the last datagram again, beside a probe to the very
// address where the peer fell silent. A peer that has restarted knows nothing of path
// messages sealed for its former self, but answers QUIC with a stateless reset (RFC
// 9000 §10.3); QUIC's own timers may have backed off to half a minute by then. To a
// peer that merely was silent it is a duplicate, which QUIC drops.
func (e *engine) remind(a *Association, remote netip.AddrPort) {
	r, now := a.route.Load(), e.s.now()
	if !a.lost.Load() || r == nil || r.path.Remote != remote || now-a.reminded < remindEvery {
		return
	}
	a.reminded = now
	slot := &e.scratch[0]
	if !a.ring.last(slot) {
		return
	}
	// quic-go answers nothing shorter than a reset of its own. What is added makes it a
	// packet that the peer cannot open, if it lives, and drops.
	slot.size = max(slot.size, resetProvoking)
	e.s.metrics.resent.Add(1)
	if errno := e.s.transmit(r, slot.data[:slot.size], 0, slot.ecn); errno != 0 {
		e.s.swallowed(errno)
	}
}

// resetProvoking is the size of a datagram that a stateless reset may answer.
const resetProvoking = 64

// nudge lets a lost path not wait for the kernel's neighbour discovery.
func (e *engine) nudge(a *Association, remote netip.Addr) {
	now := e.s.now()
	if !a.lost.Load() || now-e.nudged < nudgeEvery {
		return
	}
	e.nudged = now
	e.s.watch.nudge(remote, e.s.links.Load())
}
