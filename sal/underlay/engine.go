package underlay

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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
	clock   suspendClock
}

// engineState is the part of an Association that belongs to the engine.
type engineState struct {
	machine            *path.Machine
	due                int64 // on the socket's clock; 0: none
	heapAt             int   // index in the heap + 1; 0: not in it
	toldSent, toldRecv int64
	polled             bool  // in engine.moving
	buriedUntil        int64 // not 0: closed
	deadTold           bool
}

type eventKind uint8

const (
	eventPath    eventKind = iota // a path message came
	eventUnknown                  // a QUIC packet came from an unknown address
	eventFailed                   // a send failed
	eventTooBig                   // EMSGSIZE
	eventTraffic                  // traffic began to move
)

// event comes from the data path; it is dropped when the engine is behind.
type event struct {
	kind  eventKind
	a     *Association
	route path.Route
	size  int
	data  *pathBuffer
}

const (
	eventQueue  = 1024
	maxPathData = 2048
)

type pathBuffer struct {
	n int
	b [maxPathData]byte
}

// inbox carries calls of the API to the engine; they are never dropped.
type inbox struct {
	mu     sync.Mutex // guards all below
	calls  []func(*engine)
	closed bool
	wake   chan struct{}
}

func (s *Socket) post(ev event) bool {
	select {
	case s.events <- ev:
		return true
	default:
		s.metrics.dropEvents.Add(1)
		return false
	}
}

// call runs f on the engine's goroutine, soon. It reports whether it will.
func (s *Socket) call(f func(*engine)) bool {
	s.inbox.mu.Lock()
	if s.inbox.closed {
		s.inbox.mu.Unlock()
		return false
	}
	s.inbox.calls = append(s.inbox.calls, f)
	s.inbox.mu.Unlock()
	select {
	case s.inbox.wake <- struct{}{}:
	default:
	}
	return true
}

// callWait runs f on the engine's goroutine and waits until it has run.
func (s *Socket) callWait(f func(*engine)) error {
	done := make(chan struct{})
	if !s.call(func(e *engine) { f(e); close(done) }) {
		return ErrClosed
	}
	select {
	case <-done:
		return nil
	case <-s.stopped:
		return ErrClosed
	}
}

func (b *inbox) take() []func(*engine) {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.calls
	b.calls = nil
	return calls
}

func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls, b.closed = nil, true
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
	second := time.NewTicker(time.Second)
	defer second.Stop()
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
		case <-second.C:
			e.everySecond()
		}
		for _, f := range e.s.inbox.take() {
			f(e)
		}
		e.runDue()
		e.tellTraffic(false)
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

// everySecond looks for a suspend and forgets what is old.
func (e *engine) everySecond() {
	now := e.s.now()
	e.s.table.expire(now - int64(pendingTime))
	if slept := e.clock.slept(); slept > 0 {
		e.s.metrics.resumes.Add(1)
		e.s.cfg.Logger.Info("host was suspended", "duration", slept)
		e.s.watch.refresh()
		e.resumed()
	}
}

// resumed makes every machine probe its paths.
func (e *engine) resumed() {
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
	for _, a := range e.machines() {
		e.step(a, path.LinksChanged{Links: l.links})
		e.step(a, path.Advertised{Locators: e.s.Locators()})
		if again {
			e.step(a, path.Resumed{})
		}
	}
}

// tellTraffic tells the machines when data moved last; those whose data stands
// still are told of by the data path when it moves again.
func (e *engine) tellTraffic(force bool) {
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
		latest := max(a.toldSent, a.toldRecv)
		if !force && now-latest < int64(path.NoteInterval) {
			kept = append(kept, a)
			continue
		}
		if e.tell(a) {
			kept = append(kept, a)
			continue
		}
		a.moving.Store(false)
		if a.lastSent.Load() != a.toldSent || a.lastReceived.Load() != a.toldRecv {
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
	sent, recv := a.lastSent.Load(), a.lastReceived.Load()
	if sent == a.toldSent && recv == a.toldRecv {
		return false
	}
	a.toldSent, a.toldRecv = sent, recv
	e.step(a, path.Traffic{LastSent: e.s.time(sent), LastReceived: e.s.time(recv)})
	return true
}

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
	info := a.machine.Info()
	a.rtt.Store(int64(info.RTT))
	a.lost.Store(info.Lost)
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
		if f := s.cfg.Observed; f != nil && x.Address.Addr() != x.Link.Local {
			s.notify(func() { f(a.node, x.Address) })
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
	if old := a.route.Load(); old != nil && old.path == r.path {
		r.noGSO.Store(old.noGSO.Load())
	}
	a.route.Store(r)
	if !x.Resend {
		return
	}
	a.gap.begin(e.s.now(), a.lastReceived.Load())
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

// bind starts a machine.
func (e *engine) bind(a *Association, m *path.Machine) {
	if a.buriedUntil != 0 {
		return
	}
	e.unschedule(a)
	a.spray.end()
	a.machine = m
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

// sprayNow takes the next stagger of a handshake at once.
func (e *engine) sprayNow(a *Association) {
	if a.machine != nil || a.buriedUntil != 0 || a.route.Load() != nil {
		return
	}
	to, more := a.spray.advance(e.s)
	n := 0
	if len(to) > 0 {
		n = a.ring.copyTo(&e.scratch)
	}
	failed := false
	for _, r := range to {
		for i := range e.scratch[:n] {
			slot := &e.scratch[i]
			e.s.metrics.sprayed.Add(1)
			if errno := e.s.transmit(r, slot.data[:slot.size], 0, slot.ecn); errno != 0 {
				e.s.swallowed(errno)
				failed = true
				break
			}
		}
	}
	if !more {
		return
	}
	next := int64(stagger)
	if failed && len(to) == 1 {
		next = int64(time.Millisecond)
	}
	e.schedule(a, e.s.now()+next)
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

func (e *engine) schedule(a *Association, due int64) {
	switch {
	case due == 0:
		e.unschedule(a)
	case a.heapAt == 0:
		a.due = due
		heap.Push(&e.due, a)
	case a.due != due:
		a.due = due
		heap.Fix(&e.due, a.heapAt-1)
	}
}

func (e *engine) unschedule(a *Association) {
	if a.heapAt != 0 {
		heap.Remove(&e.due, a.heapAt-1)
	}
}

// dueHeap orders associations by their timers.
type dueHeap []*Association

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapAt, h[j].heapAt = i+1, j+1
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	a := x.(*Association)
	*h = append(*h, a)
	a.heapAt = len(*h)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	a := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	a.heapAt = 0
	return a
}
