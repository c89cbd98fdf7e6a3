package underlay

import (
	"context"
	"time"

	"scn.alt/scn/sal/path"
)

// engine owns the path machines of all associations and their timers. Only its
// goroutine (run) touches it. The data path never waits for it: it reads the
// route the engine published last.
type engine struct {
	s       *Socket
	due     dueHeap
	moving  []*Association // their traffic is told to their machines
	scratch [ringSize]ringSlot
	plain   path.Scratch // of all machines
	clock   suspendClock
	tick    *time.Timer
	ticking bool  // at the pace of busyTick
	nudged  int64 // when neighbours were last asked again
	trimmed int64 // when rings were last trimmed
	outside outsideViews
}

// engineState is the part of an Association that belongs to the engine.
type engineState struct {
	reminded           int64 // when a silent peer got a datagram again
	machine            *path.Machine
	due                int64 // on the socket's clock; 0: none
	heapAt             int   // index in the heap + 1; 0: not in it
	toldSent, toldRecv int64
	toldRelayed        int64
	legChanged         bool  // those who use this relay are to be told
	polled             bool  // in engine.moving
	buriedUntil        int64 // not 0: closed
	deadTold           bool
}

// noteTraffic tells the engine that traffic began to move after a pause.
func (s *Socket) noteTraffic(a *Association) {
	if a.bound.Load() && a.moving.CompareAndSwap(false, true) {
		if !s.post(event{kind: eventTraffic, a: a}) {
			a.moving.Store(false)
		}
	}
}

func (s *Socket) tooBig(r *route, size int) {
	s.metrics.tooBig.Add(1)
	if r.path.Local.IsValid() {
		s.post(event{kind: eventTooBig, route: r.path, size: size + r.header()})
	}
}

// run is the engine's goroutine: one loop over API calls, events of the data
// path, timers, and the clock that tells suspends.
func (e *engine) run(ctx context.Context) {
	defer close(e.s.stopped)
	defer e.s.inbox.close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	e.tick = time.NewTimer(idleTick)
	defer e.tick.Stop()
	e.clock.start()
	for {
		timer.Reset(e.wait())
		select {
		case <-ctx.Done():
			return
		case <-e.s.inbox.wake:
		case ev := <-e.s.events:
			e.handle(ev)
		case <-timer.C:
		case <-e.tick.C:
			e.everyTick()
			e.tick.Reset(e.tickEvery())
		}
		for _, f := range e.s.inbox.take() {
			f(e)
		}
		e.runDue()
		e.tellTraffic()
	}
}

// wait returns how long nothing is due.
func (e *engine) wait() time.Duration {
	d := time.Hour
	if len(e.due) > 0 {
		d = time.Duration(e.due[0].due - e.s.now())
	}
	if len(e.moving) > 0 {
		d = min(d, path.NoteInterval)
	}
	return max(d, 0)
}

func (e *engine) handle(ev event) {
	a := ev.a
	switch ev.kind {
	case eventPath:
		if a.machine != nil {
			e.step(a, path.Received{Route: ev.route, Datagram: ev.data.b[:ev.data.n]})
		}
		e.s.buffers.Put(ev.data)
	case eventUnknown:
		e.step(a, path.UnknownAddress{Route: ev.route, Size: ev.size})
	case eventFailed:
		e.step(a, path.SendFailed{Route: ev.route})
	case eventForward:
		e.forwardHeld(ev)
		e.s.buffers.Put(ev.data)
	case eventTooBig:
		for _, a := range e.machines() {
			if r := a.route.Load(); r != nil && r.path == ev.route {
				e.step(a, path.TooBig{Route: ev.route, Size: ev.size})
			}
		}
	case eventTraffic:
		if a.machine != nil && !a.polled {
			a.polled = true
			e.moving = append(e.moving, a)
			e.tell(a)
		}
	}
}

// The engine looks at the clocks this often, in case the kernel tells nothing of a
// suspend (see wakeup): with peers, whose sessions wait, sooner.
const (
	busyTick = 400 * time.Millisecond
	idleTick = time.Second
)

func (e *engine) tickEvery() time.Duration {
	if e.ticking = e.s.table.len() > 0; e.ticking {
		return busyTick
	}
	return idleTick
}

// everyTick looks for a suspend and forgets what is old.
func (e *engine) everyTick() {
	now := e.s.now()
	e.s.table.expire(now - int64(pendingTime))
	e.reviseOutside()
	e.trimRings(now)
	e.offerMetered()
	e.lookAtClocks()
}

// lookAtClocks handles a suspend as a move: every path is probed, and this host's
// addresses are read anew.
func (e *engine) lookAtClocks() {
	slept := e.clock.slept()
	if slept == 0 {
		return
	}
	e.s.metrics.resumes.Add(1)
	e.s.cfg.Logger.Info("host was suspended", "duration", slept)
	e.s.watch.refresh()
	e.resumed()
	if f := e.s.cfg.Resumed; f != nil {
		e.s.notify(func() { f(slept) })
	}
}

// resumed makes every machine probe its paths.
func (e *engine) resumed() {
	e.outside = outsideViews{}
	e.reviseOutside()
	for _, a := range e.machines() {
		e.step(a, path.Resumed{})
	}
}

// machines returns the associations with a machine.
func (e *engine) machines() []*Association {
	var all []*Association
	e.s.table.each(func(a *Association) {
		if a.machine != nil {
			all = append(all, a)
		}
	})
	return all
}

// linksChanged tells all machines this host's addresses; again means that the
// routes to them may have changed too.
func (e *engine) linksChanged(l *hostLinks, again bool) {
	if again {
		e.outside = outsideViews{} // behind another NAT, maybe, with the same addresses
	}
	e.outside.keep(l.links)
	e.reviseOutside()
	for _, a := range e.machines() {
		e.step(a, path.LinksChanged{Links: l.links, Costs: l.costs})
		e.step(a, path.Advertised{Locators: e.s.advertised()})
		e.forgetSecond(a, l)
		if again {
			e.step(a, path.Resumed{})
		}
	}
}

// tellTraffic tells the machines when data moved last; those whose data stands
// still are told of by the data path when it moves again.
func (e *engine) tellTraffic() {
	if len(e.moving) == 0 {
		return
	}
	now := e.s.now()
	kept := e.moving[:0]
	for _, a := range e.moving {
		if a.machine == nil {
			a.polled = false
			continue
		}
		latest := max(a.toldSent, a.toldRecv, a.toldRelayed)
		if now-latest < int64(path.NoteInterval) {
			kept = append(kept, a)
			continue
		}
		if e.tell(a) {
			kept = append(kept, a)
			continue
		}
		a.moving.Store(false)
		if a.lastSent.Load() != a.toldSent || a.lastReceived.Load() != a.toldRecv || a.lastRelayed.Load() != a.toldRelayed {
			if a.moving.CompareAndSwap(false, true) {
				kept = append(kept, a)
				continue
			}
			// The data path saw the flag down and posted an event that finds polled
			// unset.
		}
		a.polled = false
	}
	clear(e.moving[len(kept):])
	e.moving = kept
}

// tell tells one machine of its traffic and reports whether there was news.
func (e *engine) tell(a *Association) bool {
	sent, recv := max(a.lastSent.Load(), a.toldSent), a.lastReceived.Load()
	sent = max(sent, a.relayedToTell(e.s.now(), recv))
	if sent == a.toldSent && recv == a.toldRecv {
		return false
	}
	a.toldSent, a.toldRecv = sent, recv
	e.step(a, path.Traffic{LastSent: e.s.time(sent), LastReceived: e.s.time(recv)})
	return true
}

// bind starts a machine.
func (e *engine) bind(a *Association, m *path.Machine) {
	if a.buriedUntil != 0 {
		return
	}
	e.unschedule(a)
	a.spray.end()
	a.machine = m
	if !e.ticking {
		e.tick.Reset(e.tickEvery())
	}
	e.s.table.index(a, m.Index())
	a.up.Store(a.addr)
	a.bound.Store(true)
	e.after(a)
	a.mu.Lock()
	open := a.sessions > 0
	a.mu.Unlock()
	if open {
		e.step(a, path.SessionsOpen{Open: true})
	}
	if e.tell(a) && !a.polled && a.moving.CompareAndSwap(false, true) {
		a.polled = true
		e.moving = append(e.moving, a)
	}
}

// buriedTime is how long packets for a closed association are still told from
// others, and go up as from a stranger: QUIC's closing period, generously.
const buriedTime = int64(30 * time.Second)

// bury ends an association.
func (e *engine) bury(a *Association) {
	if a.buriedUntil != 0 {
		return
	}
	a.machine = nil
	a.spray.end()
	a.ring.drop()
	e.s.table.bury(a)
	a.buriedUntil = e.s.now() + buriedTime
	e.schedule(a, a.buriedUntil)
}

// runDue runs what is due.
func (e *engine) runDue() {
	now := e.s.now()
	for len(e.due) > 0 && e.due[0].due <= now {
		a := e.due[0]
		e.unschedule(a)
		switch {
		case a.buriedUntil != 0:
			if a.buriedUntil <= now {
				e.s.table.forget(a)
			} else {
				e.schedule(a, a.buriedUntil)
			}
		case a.machine != nil:
			e.tell(a)
			// Telling may have moved the deadline.
			if d := a.machine.Deadline(); !d.IsZero() && int64(d.Sub(e.s.start)) <= now {
				e.step(a, path.Tick{})
			} else {
				e.after(a)
			}
		default:
			e.sprayNow(a)
		}
	}
}

// offerMetered has the addresses of metered links told while a peer is reached over one
// of them, or none at all; and no longer when those that are reached take cheaper ones.
func (e *engine) offerMetered() {
	needed := e.meteredNeeded(e.s.links.Load())
	if e.s.metered.Swap(needed) == needed {
		return
	}
	e.reviseOutside()
	e.s.announce()
	for _, a := range e.machines() {
		e.step(a, path.Advertised{Locators: e.s.advertised()})
	}
}

// meteredNeeded reports whether some peer is reached over a metered link, or none at all.
// That one of many is lost says little of this host's links.
func (e *engine) meteredNeeded(l *hostLinks) bool {
	if len(l.metered) == 0 {
		return false
	}
	machines, reached := e.machines(), false
	for _, a := range machines {
		if r := a.route.Load(); r != nil && !a.lost.Load() {
			if l.metered[r.path.Interface] {
				return true
			}
			reached = true
		}
	}
	return !reached && len(machines) > 0
}
