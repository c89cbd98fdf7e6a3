package path

import (
	"net/netip"
	"time"
)

// keepAliveFloor is the shortest interval between keep-alives that lapsing mappings
// lead to.
const keepAliveFloor = 10 * time.Second

// lapsedTries is how many challenges it takes, when only the last was answered, to
// suspect that the first ones found a NAT closed.
const lapsedTries = 3

// lapsed notes that p fell silent, answered late, or looks different from outside,
// perhaps because a NAT forgot it while nothing passed. If it was quiet for as long as a keep-alive
// lets it be, they go more often from now on, until the links change.
func (m *Machine) lapsed(p *pair) {
	if p.way == wayRelayed || !m.sessions || p.quiet < m.keepAlive*3/4 || p.quiet > m.keepAlive*2 {
		return
	}
	m.keepAlive = max(m.keepAlive*3/5, min(keepAliveFloor, m.cfg.KeepAlive))
}

// quietOn is how long nothing passed on p.
func (m *Machine) quietOn(p *pair) time.Duration {
	last := later(p.challenged, p.heard)
	if p == m.current {
		last = later(last, later(m.lastSent, m.lastReceived))
	}
	return m.now.Sub(last)
}

// seenAs notes how the peer sees what we send on p.
func (m *Machine) seenAs(p *pair, address netip.AddrPort) {
	if p.way != wayDirect || !usableRemote(address) || IsRelayed(address) {
		return
	}
	if p.observed.IsValid() && p.observed != address {
		m.lapsed(p)
	}
	p.observed = address
	m.emit(Observed{Link: p.route.Link, Remote: p.route.Remote, Address: address})
}
