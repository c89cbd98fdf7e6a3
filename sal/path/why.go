package path

// why says in words for people why the route in use is the one in use. They are
// constant: it is asked for at every step.
func (m *Machine) why() string {
	switch {
	case m.mode == dead:
		return "given up: no path for too long"
	case m.mode == searching:
		return "searching: nothing answers"
	case m.current.way == wayDirect:
		return "direct"
	}
	reason := m.whyNotDirect()
	if m.current.way == wayTunnelled {
		return "through TCP: " + reason
	}
	return "relayed: " + reason
}

func (m *Machine) whyNotDirect() string {
	remotes, pairs, trying, proved, held := false, false, false, false, false
	for _, a := range m.told {
		remotes = remotes || m.wayOf(a) == wayDirect
	}
	for _, p := range m.pairs {
		if p.way != wayDirect {
			continue
		}
		pairs = true
		trying = trying || p.attempts < idleTries && !p.due.IsZero()
		if m.now.Sub(p.validated) < claimFreshness {
			proved, held = true, held || m.held(p)
		}
	}
	switch {
	case len(m.links) == 0:
		return "this host has no address"
	case !remotes && !pairs:
		return "the peer told no address"
	case !pairs:
		return "no address of the peer's is of a family we have"
	case held:
		return "the direct path fails again and again, left alone for a while"
	case proved:
		return "a direct address answers, about to change"
	case trying:
		return "no direct address answered yet"
	default:
		return "no direct address answers"
	}
}
