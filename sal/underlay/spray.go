package underlay

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/sal/path"
)

// spray sends the datagrams of a handshake to several addresses of a peer until
// one answers, in the manner of Happy Eyeballs (RFC 8305): the best at once, and
// beside it the best relay, one more each stagger. QUIC sees one address and takes the first answer for the
// peer's; that the others may be somebody else's is found out by the handshake.
//
// When no address answers, the datagrams are sent cut as well, in case the path
// does not carry them whole, and then from every local address.
type spray struct {
	mu     sync.Mutex       // guards all below; never held across a send
	tried  []netip.AddrPort // who may answer
	routes []*route         // one per locator
	cut    []*route         // the same, with a cautious limit
	others []*route         // the same, from each local address
	active int              // of routes: the first ones
	step   int              // staggers since the first datagram; 0: none sent yet
	ended  bool
}

const (
	maxSpray   = 8 // direct addresses
	maxSprayed = maxSpray + path.MaxRelays
	stagger    = 50 * time.Millisecond // RFC 8305 allows no less than 10 ms
	cutAfter   = 3                     // staggers after the last address without an answer
	otherAfter = 8
	sprayEnd   = 60 // staggers after which only QUIC's own timers send
)

func (p *spray) replace(s *Socket, locators []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	// Addresses already tried stay tried: an answer may be on its way.
	for _, l := range locators {
		if len(p.routes) >= maxSprayed ||
			slices.ContainsFunc(p.routes, func(r *route) bool { return r.path.Remote == l }) {
			continue
		}
		link, ok := s.firstLink(l)
		if !ok {
			continue
		}
		p.tried = append(p.tried, l)
		at := len(p.routes)
		switch relayed := slices.ContainsFunc(p.routes, isRelayed); {
		case path.IsRelayed(l) && !relayed: // the first relay comes next, or second
			at = max(p.active, min(1, len(p.routes)))
		case !path.IsRelayed(l) && relayed && p.active == 0 && isRelayed(p.routes[0]):
			at = 0
		}
		p.routes = slices.Insert(p.routes, at, s.newRoute(path.Route{Link: link, Remote: l}, unknownMTU))
		cut := s.newRoute(path.Route{Link: link, Remote: l}, unknownMTU)
		if !cut.relayed {
			cut.limit.Store(min(cut.limit.Load(), cut.cautious()))
		}
		p.cut = slices.Insert(p.cut, at, cut)
	}
}

func isRelayed(r *route) bool { return r.relayed }

// routeTo returns the route to an address datagrams have been sent to, or nil.
func (p *spray) routeTo(remote netip.AddrPort) *route {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	for _, r := range p.routes[:p.active] {
		if r.path.Remote == remote {
			return r
		}
	}
	return nil
}

// targets returns the routes a datagram goes to now, and whether it is the first.
func (p *spray) targets() (whole, cut []*route, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil, nil, false
	}
	if p.active == 0 {
		p.active = min(1, len(p.routes))
		if len(p.routes) > 1 && p.routes[0].relayed != p.routes[1].relayed {
			p.active = 2 // the best, and beside it the best relay
		}
		first = p.active > 0
	}
	whole = slices.Clone(p.routes[:p.active])
	if p.step >= p.active+cutAfter {
		cut = slices.Concat(p.cut[:p.active], p.others)
	}
	return whole, cut, first
}

// advance goes one stagger on and returns the routes to which what was sent so
// far goes now, and whether there will be another stagger.
func (p *spray) advance(s *Socket) (to []*route, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || p.active == 0 {
		return nil, false
	}
	p.step++
	switch {
	case p.active < len(p.routes):
		to = p.routes[p.active : p.active+1]
		p.active++
		p.step = p.active - 1
	case p.step == p.active+cutAfter:
		to = p.cut[:p.active]
	case p.step == p.active+otherAfter:
		for _, link := range s.links.Load().links {
			for _, r := range p.routes {
				if r.relayed || link.Local.Is4() != r.v4 || link.Local.IsLoopback() != r.path.Remote.Addr().IsLoopback() {
					continue
				}
				other := s.newRoute(path.Route{Link: link, Remote: r.path.Remote}, unknownMTU)
				other.limit.Store(min(other.limit.Load(), other.cautious()))
				p.others = append(p.others, other)
			}
		}
		to = p.others
	}
	return slices.Clone(to), p.step < sprayEnd
}

// answered stops the spraying if an address is one that was asked, and reports
// whether cut datagrams had been sent.
func (p *spray) answered(from netip.AddrPort) (wasCut, asked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.tried, from) {
		return false, false
	}
	wasCut = p.active > 0 && p.step >= p.active+cutAfter
	p.endLocked()
	return wasCut, true
}

// end stops the spraying.
func (p *spray) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked()
}

func (p *spray) endLocked() {
	p.ended = true
	p.routes, p.cut, p.others = nil, nil, nil
}

// writeSpray sends a datagram of the handshake, before any answer.
func (a *Association) writeSpray(b []byte, segment int, ecn byte) {
	a.learnOwn(b)
	whole, cut, first := a.spray.targets()
	failed := 0
	for _, r := range whole {
		if errno := a.s.transmit(r, b, segment, ecn); errno != 0 {
			a.s.swallowed(errno)
			failed++
		}
	}
	for _, r := range cut {
		a.s.swallowed(a.s.transmit(r, b, segment, ecn))
	}
	if first {
		a.s.call(func(e *engine) {
			if failed > 0 { // no way there from here: no reason to wait
				e.sprayNow(a)
				return
			}
			e.schedule(a, a.s.now()+int64(stagger))
		})
	}
}

// learnOwn learns the connection ID the peer will answer to, from the long
// header quic-go wrote.
func (a *Association) learnOwn(b []byte) {
	if cid, ok := source(b); ok && a.s.ids.own(cid) && a.s.table.cid(cid) != a {
		a.s.table.learn(cid, a)
	}
}

// answeredBy notes the first answer to a dial: the address it came from is the
// peer's from here on. It runs on the receiving goroutine, and reports whether
// packets from there are wanted.
func (a *Association) answeredBy(at *arrival, joined bool) bool {
	if r := a.route.Load(); r != nil {
		return r.path.Remote == at.from
	}
	wasCut, asked := a.spray.answered(at.from)
	if !asked {
		return false
	}
	r := a.s.newRoute(path.Route{Link: at.link, Remote: at.from}, unknownMTU)
	if joined || wasCut {
		r.limit.Store(min(r.limit.Load(), r.cautious()))
	}
	if !a.route.CompareAndSwap(nil, r) {
		return a.route.Load().path.Remote == at.from
	}
	a.s.table.prove(a, at.from)
	return true
}

// sprayAgain sends what was sent so far to an address once more: the way there works
// only now.
func (e *engine) sprayAgain(a *Association, remote netip.AddrPort) {
	if a.machine != nil || a.buriedUntil != 0 || a.route.Load() != nil {
		return
	}
	r := a.spray.routeTo(remote)
	if r == nil {
		return
	}
	n := a.ring.copyTo(&e.scratch)
	for i := range e.scratch[:n] {
		slot := &e.scratch[i]
		e.s.metrics.sprayed.Add(1)
		if errno := e.s.transmit(r, slot.data[:slot.size], 0, slot.ecn); errno != 0 {
			e.s.swallowed(errno)
			return
		}
	}
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
