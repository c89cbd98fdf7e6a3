package path

import "time"

const (
	// claimFreshness is how recently a pair must have been proved to follow the
	// peer there without a new proof; freshNow is how recently to take that as the
	// proof.
	claimFreshness = time.Minute
	freshNow       = time.Second
	// standbyFreshness is how recently another pair must have been proved to use
	// it at once when the one in use disappears.
	standbyFreshness = time.Minute
	// holdFirst and holdMost bound how long the initiator waits between moves that
	// only make things faster. It doubles with each.
	holdFirst = 5 * time.Second
	holdMost  = 5 * time.Minute
	holdReset = 10 * time.Minute
	// fasterLeast and a quarter is what a faster path must save.
	fasterLeast   = 2 * time.Millisecond
	fasterSamples = 3
	// reboundInterval is how often, at most, messages from another address make
	// us check the path in use.
	reboundInterval = time.Second
)

// agreement is what both ends hold of the path in use. See the package comment.
type agreement struct {
	// current is the pair in use; it may have left the list of pairs when its link
	// went away. movedAt is since when it is in use.
	current    *pair
	movedAt    time.Time
	generation uint32
	// second is the pair for copies of what is sent over current; nil if none.
	second *pair
	// claim is what the peer uses, by its newest message that said so.
	claim struct {
		route      Route
		generation uint32
		counter    uint64
		// settled is set once claim and our own choice were the same: what differs
		// afterwards without a new generation is not the peer's choice.
		settled bool
	}
	// rebound is when the peer's address last changed without its doing.
	rebound time.Time
	// optimistic is set while the path in use was taken without a new proof.
	optimistic bool
	// spare is a path that could take over at once; nil if none.
	spare    *pair
	upgrades upgrades
	// fastMove is when the last move for speed was; hold how long none may follow.
	fastMove time.Time
	hold     time.Duration
}

// agreed reports whether the peer is known to use the same path.
func (m *Machine) agreed() bool {
	return m.claim.route == m.current.route && m.claim.generation == m.generation
}

// unsettled reports whether the peer has yet to hear something of us.
func (m *Machine) unsettled() bool {
	return m.ownSeen < m.ownSeq || m.claim.generation != m.generation ||
		m.claim.route != m.current.route && !m.claim.settled
}

// claimed notes what a message on p says of the path its sender uses.
func (m *Machine) claimed(p *pair, counter uint64, s state) {
	if !s.inUse || counter <= m.claim.counter {
		return
	}
	if s.generation != m.claim.generation {
		m.claim.settled = false
	}
	if m.claim.route != p.route && p != m.current && m.now.Sub(p.challenged) > retryLeast {
		p.restart(m.now)
	}
	m.claim.route, m.claim.generation, m.claim.counter = p.route, s.generation, counter
	switch {
	case m.agreed():
		m.claim.settled = true
	case m.claim.settled && m.claim.generation == m.generation && m.mode == steady &&
		m.now.Sub(m.rebound) > reboundInterval:
		// Same choice, other address: check what we have before believing it.
		m.rebound = m.now
		m.suspect(false)
		p.restart(m.now)
	}
}

// follow goes where the peer went, if that takes precedence and is proved.
func (m *Machine) follow() {
	c := &m.claim
	if c.counter == 0 || m.mode == dead {
		return
	}
	if c.generation < m.generation {
		return
	}
	if c.route == m.current.route && m.find(c.route) == m.current {
		m.generation = c.generation
		c.settled = true
		return
	}
	if c.generation == m.generation {
		if c.settled || m.cfg.Initiator || m.cfg.without.tieBreak {
			return
		}
	}
	p := m.find(c.route)
	if p == nil {
		return
	}
	if m.now.Sub(p.validated) > claimFreshness || p.address == nil || !p.address.isProved(m.now) {
		if p.due.IsZero() {
			p.restart(m.now)
		}
		return
	}
	m.move(p, c.generation, true, false)
	c.settled = true
	if m.now.Sub(p.validated) > freshNow {
		m.suspect(false)
	}
}

// choose leaves the path in use for p by our own decision.
func (m *Machine) choose(p *pair, resend bool) {
	if m.claim.route == p.route && m.claim.generation > m.generation {
		m.move(p, m.claim.generation, resend, true)
		m.claim.settled = true
		return
	}
	m.move(p, max(m.generation, m.claim.generation)+1, resend, true)
}

// move makes p the path in use, by our own decision or following the peer.
func (m *Machine) move(p *pair, generation uint32, resend, ours bool) {
	if generation < m.generation { // 2^32 moves
		generation = m.generation
	}
	from := m.current
	m.generation = generation
	m.claim.settled = false
	if p != from {
		m.metrics.Moves++
		var gap time.Duration
		if !m.lostAt.IsZero() {
			gap = m.now.Sub(m.lostAt)
		}
		m.current = p
		m.second, m.spare = nil, nil
		m.movedAt = m.now
		if !m.lostAt.IsZero() || !ours {
			m.replaced(from, p)
		}
		m.emit(Moved{From: from.route, To: p.route, Gap: gap})
		from.due = time.Time{}
		if m.find(from.route) == from {
			from.due = m.now.Add(measureInterval)
		}
		m.unspare()
		if p.way > from.way || p.way != wayDirect && !m.lostAt.IsZero() {
			m.roundabout()
		}
	}
	m.mode, m.unhurried = steady, false
	m.lostAt = time.Time{}
	m.optimistic = false
	m.awaiting = time.Time{}
	if m.now.Sub(p.mtu.proved) > mtuCheckInterval {
		p.mtu = mtuSearch{} // rather cut for a round trip than lose what is too large
	}
	m.emit(m.use(resend))
	p.beginMTU(m.now)
	p.asked = time.Time{}
	p.restart(m.now) // tells the peer
}

// better leaves the path in use for p, just measured, if that is cheaper, or as
// cheap and clearly faster. Only the initiator does, and for speed not often, so
// that nothing flaps.
func (m *Machine) better(p *pair) {
	if !m.cfg.Initiator || m.mode != steady || p == m.current {
		return
	}
	if !m.agreed() {
		if m.cheaper(p, m.current) {
			// Ask again once the peer is likely to have followed.
			p.due = m.now.Add(min(max(m.now.Sub(m.movedAt)/4, measureInterval), m.keepAlive))
		}
		return
	}
	if m.cheaper(p, m.current) {
		m.upgrade(p)
		return
	}
	if m.cheaper(m.current, p) {
		return
	}
	a, b := &p.rtt, &m.current.rtt
	if b.total == 0 || a.least+a.least/4+fasterLeast >= b.least {
		return
	}
	switch {
	case a.samples < fasterSamples:
		p.due = m.now.Add(measureInterval)
		return
	case b.samples < fasterSamples || m.now.Sub(b.measured) > time.Minute:
		if m.current.due.IsZero() {
			m.current.restart(m.now)
		}
		p.due = m.now.Add(measureInterval)
		return
	case !m.fastMove.IsZero() && m.now.Sub(m.fastMove) < m.hold:
		return
	}
	if m.fastMove.IsZero() || m.now.Sub(m.fastMove) > holdReset {
		m.hold = holdFirst
	} else {
		m.hold = min(2*m.hold, holdMost)
	}
	m.fastMove = m.now
	m.choose(p, false)
}

// standby returns the best other pair proved since, nil if there is none: the
// cheapest, of these the fastest. With elsewhere it must not share the link of the
// path in use.
func (m *Machine) standby(since time.Time, elsewhere bool) *pair {
	var best *pair
	for _, p := range m.pairs {
		if p == m.current || p.validated.IsZero() || p.validated.Before(since) ||
			m.now.Sub(p.failed) < time.Second && p.failed.After(p.validated) ||
			p.address == nil || !p.address.isProved(m.now) ||
			elsewhere && p.shares(m.current) {
			continue
		}
		if best == nil || m.cheaper(p, best) || !m.cheaper(best, p) && p.rtt.least < best.rtt.least {
			best = p
		}
	}
	return best
}
