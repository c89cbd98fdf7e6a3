package underlay

import (
	"slices"
	"sync"
	"time"

	"scn.alt/scn/sal/path"
)

// What is sent twice: only what is small, as a keystroke, a command or a voice packet
// is, and never more than a share of the second link that nobody minds. The
// acknowledgements of a download are small too; they use the share up and then go once.
const (
	duplicateSize  = 300
	duplicateEach  = int64(5 * time.Millisecond)
	duplicateBurst = 64
)

// pacer lets one datagram pass each duplicateEach, and duplicateBurst at once.
type pacer struct {
	mu   sync.Mutex // guards below
	next int64      // when the budget is full again
}

func (p *pacer) take(now int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := max(p.next, now) + duplicateEach
	if next-now > duplicateBurst*duplicateEach {
		return false
	}
	p.next = next
	return true
}

// SetDuplicate replaces Config.Duplicate.
func (s *Socket) SetDuplicate(on bool) { s.duplicate.Store(on) }

// writeAgain sends a small datagram over the second link too, if there is one. QUIC at
// the other end drops what comes second.
func (a *Association) writeAgain(b []byte, segment int, ecn byte) {
	if len(b) > duplicateSize || segment > 0 && segment < len(b) || !a.s.duplicate.Load() {
		return
	}
	r := a.second.Load()
	if r == nil || !a.duplicates.take(a.s.now()) {
		return
	}
	a.s.metrics.duplicated.Add(1)
	// That it fails is found out by the machine, which keeps the pair proved.
	a.s.swallowed(a.s.transmit(r, b, 0, ecn))
}

// bySecond reports whether something came by the second route: a copy, which says
// nothing about the route in use.
func (a *Association) bySecond(at *arrival) bool {
	r := a.second.Load()
	return r != nil && r.path.Remote == at.from && r.path.Interface == at.link.Interface
}

// useSecond publishes the route for copies.
func (e *engine) useSecond(a *Association, x path.Use) {
	l := e.s.links.Load()
	if !x.HasSecond || l.metered[x.Second.Interface] {
		a.second.Store(nil)
		return
	}
	if r := a.second.Load(); r == nil || r.path != x.Second {
		a.second.Store(e.s.newRoute(x.Second, unknownMTU))
	}
}

// forgetSecond drops a second route whose link is gone, or may not be used so.
func (e *engine) forgetSecond(a *Association, l *hostLinks) {
	r := a.second.Load()
	if r != nil && (l.metered[r.path.Interface] || !slices.Contains(l.links, r.path.Link)) {
		a.second.Store(nil)
	}
}
