package path

import "time"

// PairInfo is what a machine knows of one pair of addresses.
type PairInfo struct {
	Route Route
	// RTT is the smoothed round trip, 0 if not measured yet.
	RTT time.Duration
	// Current is set for the pair in use, or last used.
	Current bool
	// Proved is set while the pair answered recently enough to carry data at once.
	Proved bool
	// Asked is set when the pair was challenged at all.
	Asked bool
}

// Pairs returns a snapshot of every pair the machine knows.
func (m *Machine) Pairs() []PairInfo {
	out := make([]PairInfo, 0, len(m.pairs)+1)
	found := false
	for _, p := range m.pairs {
		found = found || p == m.current
		out = append(out, m.pairInfo(p))
	}
	if !found {
		out = append(out, m.pairInfo(m.current))
	}
	return out
}

func (m *Machine) pairInfo(p *pair) PairInfo {
	return PairInfo{
		Route: p.route, RTT: p.rtt.smooth, Current: p == m.current, Asked: !p.challenged.IsZero(),
		Proved: p.address != nil && p.address.isProved(m.now) && !p.validated.IsZero() &&
			m.now.Sub(p.validated) < standbyFreshness && p.attempts < idleTries,
	}
}
