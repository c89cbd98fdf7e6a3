package path

import "time"

const (
	// retryLeast is the first wait of a search's back-off.
	retryLeast = 10 * time.Millisecond
	// askBack is how long ago a pair behind a NAT must have been proved for a question
	// of the peer to be answered with another.
	askBack = time.Second
	// retryUnproved is the same towards an address whose budget is four packets;
	// it grows fourfold: 0, 40, 200, 840 ms.
	retryUnproved = 40 * time.Millisecond
	// urgentCap and searchCap bound the back-off: of checking, and of a search,
	// where it is an eighth of its age in between.
	urgentCap = 250 * time.Millisecond
	searchCap = time.Second
	// measureInterval is how soon after an echo a path is measured again while it
	// has few samples.
	measureInterval = 100 * time.Millisecond
	// idleTries is how often a path not in use is tried before it is left for
	// later, retryMost the longest wait then.
	idleTries = 4
	retryMost = 5 * time.Minute
	// returnLeast is the first wait for a link that worked while the path in use goes
	// over a dearer one: what is metered costs as long as the link before is not found
	// to work again. It grows to an eighth of its silence.
	returnLeast = 2 * time.Second
)

// patience is how long after a challenge on p the next goes, 0 if none is due.
func (m *Machine) patience(p *pair) time.Duration {
	n := p.attempts
	proved := p.address != nil && p.address.isProved(m.now)
	wanted := m.claim.route == p.route && m.claim.generation >= m.generation && p != m.current
	ready := m.mode == checking && m.overdue && m.now.Sub(p.validated) < standbyFreshness
	if m.mode == searching || wanted || ready || p == m.current && (m.mode == checking || m.unsettled()) {
		base, limit := retryLeast, urgentCap
		if !proved {
			return max(backOff(retryUnproved, 2*n-1, smallWindow), retryUnproved)
		}
		if m.mode == searching {
			limit = min(max(m.now.Sub(m.lostAt)/8, urgentCap), searchCap)
		} else if rtt := p.rtt.smooth; rtt != 0 {
			base = max(base, rtt+rtt/4)
			if m.mode == checking && m.spare != nil {
				// One lost packet must not decide.
				base = max(retryLeast, rtt/4)
			}
		}
		if p == m.current && m.mode == steady {
			limit = max(time.Second, 2*base)
		}
		return max(base, backOff(base, n, limit))
	}
	if p == m.current {
		return 0 // the keep-alive timer sees to it
	}
	if m.spared(p) {
		return 0
	}
	switch {
	case n == 0 && p.rtt.samples < fasterSamples:
		return measureInterval
	case n == 0 && m.sessions:
		return m.keepAlive
	case n == 0:
		return 0
	case m.sessions && n >= idleTries-1 && p.way == m.current.way && !p.validated.IsZero() && m.cheaper(p, m.current):
		return min(max(m.now.Sub(p.lastSign())/8, min(returnLeast, m.keepAlive)), retryMost)
	case n < idleTries:
		return backOff(measureInterval, 2*n, m.keepAlive)
	case m.sessions:
		return min(max(backOff(m.keepAlive, n-idleTries+1, retryMost), m.keepAlive), retryMost)
	default:
		return 0
	}
}

// backOff is base doubled n-1 times, at most limit.
func backOff(base time.Duration, n int, limit time.Duration) time.Duration {
	d := base
	for i := 1; i < n && d < limit; i++ {
		d *= 2
	}
	return min(d, limit)
}
