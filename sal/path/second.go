package path

import "time"

// secondFreshness is how recently another path must have been proved to be trusted
// with copies: keep-alives renew it in half of that.
const secondFreshness = time.Minute

// use is the action for the path in use.
func (m *Machine) use(resend bool) Use {
	u := Use{Route: m.current.route, MTU: m.current.mtuNow(), Resend: resend}
	if m.second != nil {
		u.Second, u.HasSecond = m.second.route, true
	}
	return u
}

// reviseSpares finds what could take over at once, and tells the shell when another
// path became the one for copies.
func (m *Machine) reviseSpares() {
	if m.mode != steady {
		return // while a path is looked for, both stay as they were
	}
	m.spare = m.standby(m.now.Add(-standbyFreshness), true)
	if best := m.bestSecond(); best != m.second {
		m.second = best
		m.emit(m.use(false))
	}
}

// bestSecond returns the best direct pair over another link than the one in use, nil
// if none works.
func (m *Machine) bestSecond() *pair {
	var best *pair
	for _, p := range m.pairs {
		if p == m.current || p.way != wayDirect || !apart(p.route, m.current.route) ||
			p.validated.IsZero() || m.now.Sub(p.validated) > secondFreshness || p.failed.After(p.validated) ||
			!p.asked.IsZero() && m.now.Sub(p.asked) > keepAliveLeast ||
			p.address == nil || !p.address.isProved(m.now) || m.metered(p) {
			continue
		}
		// The one there is stays while it is as cheap, so that round trips that
		// wander change nothing.
		if best == nil || m.cost(p) < m.cost(best) ||
			m.cost(p) == m.cost(best) && best != m.second && (p == m.second || p.rtt.least < best.rtt.least) {
			best = p
		}
	}
	return best
}

// apart reports whether two routes are likely not to fail together: they leave by
// other interfaces, or arrive at other addresses of one family, which the peer then
// has on two links.
func apart(a, b Route) bool {
	if a.Interface != b.Interface {
		return true
	}
	return a.Remote.Addr() != b.Remote.Addr() && a.Remote.Addr().Is4() == b.Remote.Addr().Is4() ||
		a.Interface == 0 && a.Local != b.Local
}
