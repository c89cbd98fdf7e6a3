package path

import "time"

const (
	// trustFirst and trustMost bound how long a cheaper path is left alone after it
	// failed while a dearer one worked. It doubles with each failure, and begins anew
	// when a cheaper path held for trustEarned.
	trustFirst  = time.Second
	trustMost   = 2 * time.Minute
	trustEarned = time.Minute
	// demoteWithin is how soon after a loss another path must work for the lost one to
	// be blamed, and not the network.
	demoteWithin = time.Second
)

// upgrades says when the initiator may leave a working path for a cheaper one. It
// does so at once, since the other stays proved and takes over when the new one
// fails; but what fails again and again is taken less and less often.
type upgrades struct {
	// at is when the last upgrade was; zero if the path in use is not one.
	at time.Time
	// notBefore is when the next may be, wait how long it was held back.
	notBefore time.Time
	wait      time.Duration
	// blamed is when a cheaper path was lost that may be at fault, zero if none; failed
	// is that path.
	blamed time.Time
	failed Route
}

// cheaper reports whether p costs less than q.
func (m *Machine) cheaper(p, q *pair) bool {
	a, b := m.cost(p), m.cost(q)
	return a < b || a == b && p.way < q.way
}

// upgrade leaves the path in use for p, which was just proved and costs less.
func (m *Machine) upgrade(p *pair) {
	if m.held(p) {
		p.due = m.upgrades.notBefore
		if most := m.now.Add(m.keepAlive); p.due.After(most) {
			p.due = most
		}
		return
	}
	m.choose(p, false)
	m.upgrades.at = m.now
}

// held reports whether p is left alone for now: it, or what differs from it in a port
// that a NAT gave, failed.
func (m *Machine) held(p *pair) bool {
	u := &m.upgrades
	return m.now.Before(u.notBefore) && p.route.Link == u.failed.Link && p.route.Remote.Addr() == u.failed.Remote.Addr()
}

// replaced notes that the path in use was left for p because it was lost, here or by
// the peer.
func (m *Machine) replaced(from, p *pair) {
	held := time.Duration(0)
	if !m.upgrades.at.IsZero() {
		held = m.now.Sub(m.upgrades.at)
	}
	m.upgrades.at = time.Time{}
	if held >= trustEarned {
		m.upgrades.wait = 0
	}
	m.upgrades.blamed = time.Time{}
	if m.find(from.route) == from && m.cheaper(from, p) {
		m.upgrades.failed = from.route
		m.upgrades.blamed = m.lostAt
		if m.lostAt.IsZero() {
			m.upgrades.blamed = m.now
		}
	}
}

// vindicated notes that the path in use works. If it soon after a cheaper one was
// lost, it was that one's fault.
func (m *Machine) vindicated() {
	u := &m.upgrades
	if u.blamed.IsZero() {
		return
	}
	if m.now.Sub(u.blamed) < demoteWithin {
		u.wait = min(max(2*u.wait, trustFirst), trustMost)
		u.notBefore = m.now.Add(u.wait)
	}
	u.blamed = time.Time{}
}

// unspare probes the metered pairs that cost less than the path in use, which is new.
func (m *Machine) unspare() {
	for _, p := range m.pairs {
		if p != m.current && p.due.IsZero() && m.metered(p) && !m.cheaper(m.current, p) {
			p.restart(m.now)
		}
	}
}

// spared reports whether p is not to be probed: it is metered, and something cheaper
// works.
func (m *Machine) spared(p *pair) bool {
	return p != m.current && m.mode != searching && m.metered(p) && m.cheaper(m.current, p)
}
