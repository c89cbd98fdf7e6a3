package path

import "time"

const (
	// burstInterval is how soon after a burst of challenges another may begin.
	burstInterval = 250 * time.Millisecond
	// lossMemory is how long after a loss data that goes unanswered is taken to be
	// lost, though the path answers: it is sent again, at most maxReminders times in a
	// row. QUIC itself waits twice as long each time.
	lossMemory   = 10 * time.Second
	maxReminders = 6
	// silenceLeast is how long data must go unanswered at least.
	silenceLeast = 250 * time.Millisecond
	// silenceSpare is the same while another path could take over.
	silenceSpare = 100 * time.Millisecond
	// checkLeast is how long a checked path has at least to answer, checkUnknown
	// how long when its round trip is not known.
	checkLeast   = 60 * time.Millisecond
	checkUnknown = 250 * time.Millisecond
	// checkGrace is added to the time a standby has to answer.
	checkGrace = 20 * time.Millisecond
	// keepAliveLeast is how long a keep-alive's answer may take at least: nobody
	// waits for it.
	keepAliveLeast = time.Second
	// resolveLeast and resolveMost bound the back-off of Resolve, which begins with
	// two round trips of the path that was lost, at most resolveFirst.
	resolveLeast = 50 * time.Millisecond
	resolveFirst = 100 * time.Millisecond
	resolveMost  = 15 * time.Second
)

// mode is where the machine is in the diagram of the package comment.
type mode uint8

const (
	steady mode = iota
	checking
	searching
	dead
)

// liveness is what is known of whether the path in use works.
type liveness struct {
	mode     mode
	sessions bool

	// keepAlive is how often what is quiet is challenged.
	keepAlive time.Duration
	punching  punching

	// lastSent and lastReceived are of QUIC datagrams, awaiting is when the first
	// went that nothing has come after; zero if none.
	lastSent, lastReceived, awaiting time.Time
	// unanswered counts the silences in a row that small messages survived.
	unanswered int
	// lossyAt is when a challenge last had to be repeated before it was answered.
	lossyAt time.Time
	// mtuChecked is when the path MTU was last proved anew.
	mtuChecked time.Time

	// suspected is when the current doubt began, checkBy when it is resolved.
	suspected, checkBy time.Time
	// readyAt is when what could take over is probed if the doubt is not gone by then.
	// overdue is set when the path in use did not answer in time and the others are
	// waited for a little longer.
	readyAt time.Time
	overdue bool
	// unhurried is set while a keep-alive is all that waits for the answer.
	unhurried bool
	// lostAt is when the path was lost, or presumably so; zero in steady.
	lostAt    time.Time
	lastBurst time.Time
	// resolveAt is when to ask for a record next, resolveWait how long after that.
	resolveAt   time.Time
	resolveWait time.Duration
}

// validated notes that p just answered.
func (m *Machine) validated(p *pair) {
	p.validated = m.now
	if p.attempts >= lapsedTries {
		m.lapsed(p)
	}
	if p.attempts > 1 {
		m.lossyAt = m.now
	}
	p.attempts = 0
	p.due, p.asked = time.Time{}, time.Time{}
	m.prove(p)
	if p == m.current {
		m.restored()
	} else {
		m.follow()
	}
	if p != m.current {
		switch {
		case m.mode == searching || m.mode == checking && m.optimistic:
			m.choose(p, true)
		case m.mode == checking && m.overdue:
			m.lastChance()
		default:
			m.better(p)
		}
	}
	if p == m.current {
		p.beginMTU(m.now)
		if m.unsettled() && p.due.IsZero() {
			p.due = m.now.Add(m.patience(p))
		}
		return
	}
	if wait := m.patience(p); wait > 0 && p.due.IsZero() {
		p.due = m.now.Add(wait)
	}
}

// restored notes that the path in use answered.
func (m *Machine) restored() {
	was := m.mode
	m.unhurried = false
	m.vindicated()
	m.mode = steady
	m.awaiting = time.Time{}
	m.optimistic = false
	if was == searching {
		m.lostAt = time.Time{}
		m.emit(m.use(true))
		m.current.mtu.check(m.now)
		m.current.restart(m.now) // says that it is in use again
		if m.current.way != wayDirect {
			m.roundabout()
		}
		return
	}
	m.lostAt = time.Time{}
	if was == checking && m.unanswered > 0 && m.unanswered <= maxReminders && m.now.Sub(m.lossyAt) < lossMemory {
		m.emit(m.use(true))
		m.awaiting = m.now
	}
}

// suspect doubts the path in use: it is challenged, and with all every other pair
// too.
func (m *Machine) suspect(all bool) {
	if m.mode == searching {
		if all {
			m.burst()
		}
		return
	}
	if m.mode == steady || m.unhurried {
		m.suspected, m.readyAt, m.overdue, m.unhurried = m.now, time.Time{}, false, false
		m.mode = checking
		m.checkBy = m.now.Add(m.checkTime())
	}
	m.current.restart(m.now)
	if all {
		m.burst()
	}
}

// checkTime is how long the path in use has to answer.
func (m *Machine) checkTime() time.Duration {
	if rtt := m.current.rtt.smooth; rtt != 0 {
		return max(2*rtt, checkLeast)
	}
	return checkUnknown
}

// lose gives the path in use up. With standbys it is replaced at once by a path
// that worked a short while ago, otherwise only by one that answered since the
// doubt began: the peer itself may be what is silent.
func (m *Machine) lose(standbys bool) {
	if m.mode == steady {
		m.suspected = m.now
	}
	if m.lostAt.IsZero() {
		m.lostAt = m.now
		m.metrics.Searches++
	}
	recently := m.now.Add(-standbyFreshness)
	var standby *pair
	switch {
	case m.mode == searching:
		standby = m.standby(m.suspected, false)
	case standbys:
		standby = m.standby(recently, false)
	default:
		standby = m.standby(m.suspected, false)
		m.lapsed(m.current)
	}
	m.mode, m.unhurried = searching, false
	m.resolveWait = min(max(2*m.current.rtt.least, resolveLeast), resolveFirst)
	m.resolveAt = m.now.Add(m.resolveWait)
	if standby == nil {
		m.burst()
		return
	}
	lostAt, proved := m.lostAt, !standby.validated.Before(m.suspected) && !standbys
	m.choose(standby, true)
	if !proved {
		// It may be just as dead: it has to answer, and who answers first wins.
		m.mode = checking
		m.optimistic = true
		m.lostAt = lostAt
		m.suspected = m.now
		m.checkBy = m.now.Add(m.checkTime())
		m.burst()
	}
}

// readyStandbys challenges what worked a short while ago, so that the best of what
// still does is known when the path in use is given up.
func (m *Machine) readyStandbys() {
	recently := m.now.Add(-standbyFreshness)
	for _, p := range m.pairs {
		if p != m.current && p.validated.After(recently) {
			p.restart(m.now)
		}
	}
}

// lastChance gives the path in use one more round trip when another answered late: if
// the peer was busy, both answer now.
func (m *Machine) lastChance() {
	if by := m.now.Add(m.current.rtt.smooth + checkGrace); by.Before(m.checkBy) {
		m.checkBy = by
		m.current.restart(m.now)
	}
}

// expect reports whether the answer of something that could take over is still to be
// waited for.
func (m *Machine) expect() bool {
	if m.overdue || m.optimistic || m.spare == nil || m.standby(m.suspected, false) != nil {
		return false
	}
	m.readyAt = time.Time{}
	if m.spare.challenged.Before(m.suspected) {
		m.readyStandbys()
	}
	// If nothing answers it may be the peer that is busy: no hurry then.
	by := later(m.spare.challenged.Add(m.spare.rtt.smooth*3/2+checkGrace),
		m.suspected.Add(silenceLeast-silenceSpare+m.checkTime()))
	if !by.After(m.now) {
		return false
	}
	m.overdue = true
	m.checkBy = by
	return true
}

// burst challenges every pair at once.
func (m *Machine) burst() {
	m.lastBurst = m.now
	for _, p := range m.pairs {
		p.restart(m.now)
	}
}

// heardAuthentic begins a search anew: the peer is out there.
func (m *Machine) heardAuthentic() {
	if m.mode == searching && m.now.Sub(m.lastBurst) >= burstInterval {
		m.burst()
	}
}

func (m *Machine) onTraffic(sent, received time.Time) {
	m.lastSent = later(m.lastSent, sent)
	if received.After(m.lastReceived) {
		m.lastReceived = received
		m.unanswered = 0
	}
	if m.mode == steady && m.lastSent.Sub(m.mtuChecked) >= mtuCheckInterval {
		// What comes back may be small while what we send is too large to pass.
		m.mtuChecked = m.now
		m.current.mtu.check(m.now)
	}
	heard := later(m.lastReceived, m.current.validated)
	if !m.awaiting.IsZero() && !m.awaiting.After(heard) {
		m.awaiting = time.Time{}
	}
	if m.awaiting.IsZero() && m.lastSent.After(heard) {
		m.awaiting = m.lastSent
	}
}

// silence is how long nothing may come before the path in use is doubted. It is
// less while another stands by: a wrong guess costs little then. The peer
// acknowledges within 25 ms.
func (m *Machine) silence() time.Duration {
	if m.spare != nil {
		return max(2*m.current.rtt.smooth+25*time.Millisecond, silenceSpare)
	}
	return max(3*m.current.rtt.smooth, silenceLeast)
}

func (m *Machine) onSessionsOpen(open bool) {
	if open == m.sessions {
		return
	}
	m.sessions = open
	if !open || m.mode != steady {
		return
	}
	if m.now.Sub(m.current.validated) >= m.keepAlive {
		m.current.restart(m.now)
	}
	for _, p := range m.pairs {
		if p != m.current && p.due.IsZero() {
			p.restart(m.now)
		}
	}
}

func (m *Machine) onResumed() {
	if m.mode == searching {
		m.burst()
		return
	}
	m.suspect(true)
}

func (m *Machine) onSendFailed(r Route) {
	p := m.find(m.localize(r))
	if p == nil {
		return
	}
	p.failed = m.now
	if p == m.current && m.mode != searching {
		m.lose(true)
	}
}

func (m *Machine) onTooBig(r Route, size int) {
	p := m.find(m.localize(r))
	if p == nil || p.way != wayDirect || size <= floor4 {
		return
	}
	before := p.mtuNow()
	p.mtu.tooBig(m.now, size)
	if p == m.current && p.mtuNow() < before {
		m.emit(m.use(true))
	}
}

// keepAliveAt is when the path in use must be challenged next, zero if never.
func (m *Machine) keepAliveAt() time.Time {
	if !m.sessions || m.mode != steady {
		return time.Time{}
	}
	return later(m.current.challenged, m.current.validated).Add(m.keepAlive)
}

// ignoredAt is when challenges on the path in use, sent for whatever reason, have
// gone unanswered for too long, zero if none is waited for.
func (m *Machine) ignoredAt() time.Time {
	if m.mode != steady || m.current.asked.IsZero() {
		return time.Time{}
	}
	return m.current.asked.Add(max(2*m.checkTime(), keepAliveLeast))
}

// deathAt is when the search ends.
func (m *Machine) deathAt() time.Time {
	if m.sessions {
		return m.lostAt.Add(m.cfg.DeathTimeout)
	}
	return m.lostAt.Add(m.cfg.IdleTimeout)
}

// runTimers fires what has come due, apart from challenges and MTU probes.
func (m *Machine) runTimers() {
	due := func(t time.Time) bool { return !t.IsZero() && !t.After(m.now) }
	if (m.mode == steady || m.unhurried) && !m.awaiting.IsZero() && due(m.awaiting.Add(m.silence())) {
		m.awaiting = time.Time{}
		m.unanswered++
		if m.unanswered > 1 || m.now.Sub(m.mtuChecked) > mtuCheckInterval/2 {
			m.mtuChecked = m.now
			m.current.mtu.check(m.now)
		}
		m.suspect(false)
		if m.mode == checking {
			m.readyAt = m.now.Add(m.checkBy.Sub(m.now) / 2)
		}
	}
	if due(m.ignoredAt()) {
		m.suspect(false)
	}
	if due(m.keepAliveAt()) {
		m.suspect(false)
		m.checkBy = m.now.Add(max(m.checkTime(), keepAliveLeast))
		m.unhurried = true
	}
	if m.mode == checking && due(m.readyAt) {
		m.readyAt = time.Time{}
		m.readyStandbys()
	}
	if m.mode == checking && due(m.checkBy) {
		if !m.expect() {
			m.lose(false)
		}
	}
	if m.mode == searching {
		if due(m.deathAt()) {
			m.mode = dead
			m.emit(Dead{})
			return
		}
		if due(m.resolveAt) {
			if len(m.links) > 0 {
				m.emit(Resolve{})
			}
			m.resolveWait = min(2*m.resolveWait, resolveMost)
			m.resolveAt = m.now.Add(m.resolveWait)
		}
	}
}

// Deadline returns when the next Tick is due, or the zero time if none is.
func (m *Machine) Deadline() time.Time {
	var t time.Time
	switch m.mode {
	case dead:
		return t
	case steady:
		t = earliest(earliest(m.keepAliveAt(), m.ignoredAt()), m.punchAt())
		if !m.awaiting.IsZero() {
			t = earliest(t, m.awaiting.Add(m.silence()))
		}
		if m.current.address != nil && m.current.address.isProved(m.now) {
			t = earliest(t, m.current.mtu.due)
		}
	case checking:
		t = earliest(m.checkBy, m.readyAt)
		if m.unhurried && !m.awaiting.IsZero() {
			t = earliest(t, m.awaiting.Add(m.silence()))
		}
	case searching:
		t = earliest(m.deathAt(), m.resolveAt)
	}
	for _, p := range m.pairs {
		t = earliest(t, p.due)
	}
	return t
}
