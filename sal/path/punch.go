package path

import (
	"slices"
	"time"
)

const (
	// punchFirst and punchMost bound the back-off between rounds.
	punchFirst = 5 * time.Second
	punchMost  = 5 * time.Minute
	// punchSpacing is how long after a probe a round sends the next to the same
	// pair: several reasons for a round often come together, and four packets are
	// all there are.
	punchSpacing = 100 * time.Millisecond
)

// punching opens the NATs between two ends that reach each other only in a
// roundabout way. Each tells the other its addresses over that way; both then probe
// every direct pair not proved at the same time, so that each finds the way the
// other's NAT was opened (RFC 5128 §3.3). A round begins whenever one of them has new
// addresses, and otherwise when the initiator tells its own anew, ever less often:
// the higher sequence is what starts the peer's half.
type punching struct {
	at   time.Time // of the next round
	wait time.Duration
}

// punch begins a round because something is new, and the back-off with it.
func (m *Machine) punch() {
	m.punching = punching{at: m.now.Add(punchFirst), wait: punchFirst}
	m.probeUnproved()
}

// roundabout begins a round, and the back-off, because the path in use had to be
// replaced by one that is not direct: what ended the other may be over soon.
func (m *Machine) roundabout() {
	if m.cfg.Initiator {
		m.ownSeq++
	}
	m.punch()
}

// unproved reports whether p is direct and not known to work now.
func (m *Machine) unproved(p *pair) bool {
	return p != m.current && p.way == wayDirect &&
		(p.validated.IsZero() || m.now.Sub(p.validated) >= claimFreshness || !p.asked.IsZero() && p.attempts >= 2)
}

// probeUnproved probes all direct pairs that are not proved.
func (m *Machine) probeUnproved() {
	for _, p := range m.pairs {
		if !m.unproved(p) {
			continue
		}
		p.attempts, p.peerCost = 0, CostNone // what it was told may be old
		p.due = later(m.now, p.challenged.Add(punchSpacing))
	}
}

// punchAt is when the next round begins without anything being new, zero if never.
func (m *Machine) punchAt() time.Time {
	if !m.cfg.Initiator || !m.sessions || m.mode != steady {
		return time.Time{}
	}
	return m.punching.at
}

// runPunching begins the round that is due, unless there is nothing to gain.
func (m *Machine) runPunching() {
	if at := m.punchAt(); at.IsZero() || at.After(m.now) {
		return
	}
	m.punching.wait = min(2*m.punching.wait, punchMost)
	m.punching.at = m.now.Add(m.punching.wait)
	if m.current.way == wayDirect && !slices.ContainsFunc(m.pairs, func(p *pair) bool {
		return m.unproved(p) && m.cheaper(p, m.current)
	}) {
		return
	}
	m.ownSeq++
	m.current.restart(m.now)
	m.probeUnproved()
}
