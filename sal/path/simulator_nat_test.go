package path

import (
	"net/netip"
	"time"
)

// natKind says what a simulated NAT does (RFC 4787).
type natKind uint8

const (
	// natCone maps and filters independently of the remote ("full cone").
	natCone natKind = iota
	// natRestricted maps independently of the remote and lets in only whom something
	// was sent to ("port restricted").
	natRestricted
	// natSymmetric has a mapping for each remote.
	natSymmetric
)

// simNAT is in front of one link.
type simNAT struct {
	sim     *simulator
	host    *simHost
	kind    natKind
	public  netip.Addr
	timeout time.Duration // of what nothing left by
	// maps has one entry per remote if symmetric, else one with the zero key.
	maps map[netip.AddrPort]*simMapping
}

type simMapping struct {
	external netip.AddrPort
	used     time.Time
	opened   map[netip.AddrPort]time.Time // when something last left for each
}

func (h *simHost) newNAT(l *simLink, kind natKind, timeout time.Duration) *simNAT {
	a := l.link.Local.As4()
	a[0] = 77
	return &simNAT{
		sim: h.sim, host: h, kind: kind, public: netip.AddrFrom4(a), timeout: timeout,
		maps: map[netip.AddrPort]*simMapping{},
	}
}

func (n *simNAT) key(remote netip.AddrPort) netip.AddrPort {
	if n.kind == natSymmetric {
		return remote
	}
	return netip.AddrPort{}
}

// peek returns the mapping of what is sent to remote, nil if there is none.
func (n *simNAT) peek(remote netip.AddrPort) *simMapping {
	m := n.maps[n.key(remote)]
	if m == nil || n.sim.now.Sub(m.used) > n.timeout {
		return nil
	}
	return m
}

// out passes something to remote and returns where it seems to come from.
func (n *simNAT) out(remote netip.AddrPort) netip.AddrPort {
	m := n.peek(remote)
	if m == nil {
		n.host.serial++
		m = &simMapping{
			external: netip.AddrPortFrom(n.public, uint16(20000+n.host.serial)),
			opened:   map[netip.AddrPort]time.Time{},
		}
		n.maps[n.key(remote)] = m
		n.host.ever[m.external] = true
	}
	m.used = n.sim.now
	m.opened[remote] = n.sim.now
	return m.external
}

// admits reports whether what source sends to external passes.
func (n *simNAT) admits(external, source netip.AddrPort) bool {
	for _, m := range n.maps {
		if m.external != external || n.sim.now.Sub(m.used) > n.timeout {
			continue
		}
		at, open := m.opened[source]
		return n.kind == natCone || open && n.sim.now.Sub(at) <= n.timeout
	}
	return false
}

// reset forgets all mappings.
func (n *simNAT) reset() { clear(n.maps) }

// has reports whether external is an address of the link now.
func (l *simLink) has(external netip.AddrPort) bool {
	if l.nat == nil {
		return l.external == external
	}
	for _, m := range l.nat.maps {
		if m.external == external && l.nat.sim.now.Sub(m.used) <= l.nat.timeout {
			return true
		}
	}
	return false
}

// admits reports whether what source sends to external gets in.
func (l *simLink) admits(external, source netip.AddrPort) bool {
	if l.nat == nil {
		return l.external == external
	}
	return l.nat.admits(external, source)
}

// leave passes something to remote and returns where it seems to come from.
func (l *simLink) leave(remote netip.AddrPort) netip.AddrPort {
	if l.nat == nil {
		return l.external
	}
	return l.nat.out(remote)
}

// look returns where something to remote seems to come from, without sending it.
func (l *simLink) look(remote netip.AddrPort) netip.AddrPort {
	if l.nat == nil {
		return l.external
	}
	if m := l.nat.peek(remote); m != nil {
		return m.external
	}
	return netip.AddrPort{}
}

// reachableFrom reports whether theory lets l and o reach each other directly when
// both are told of each other's addresses.
func (l *simLink) reachableFrom(o *simLink) bool {
	if l.link.Local.Is4() != o.link.Local.Is4() || l.silent || o.silent {
		return false
	}
	easy := func(l *simLink) bool { return l.nat == nil || l.nat.kind == natCone }
	hard := func(l *simLink) bool { return l.nat != nil && l.nat.kind == natSymmetric }
	return easy(l) || easy(o) || !hard(l) && !hard(o)
}
