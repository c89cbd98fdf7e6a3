package path

import (
	"net/netip"
	"time"

	"scn.alt/scn/routing/identity"
)

// A way to the peer through a relay is one more remote address here, made up from
// who relays and who is reached: fd53:52 (3 bytes) ‖ relay (5) ‖ peer (8), port 1.
// It is a pure function, so that nothing needs to be kept to recognize a stranger,
// and never leaves the process: a peer tells its relays by their node IDs.

const (
	// MaxRelays is how many relays are told to a peer and believed of one.
	MaxRelays = 3
	// maxRelayed relayed remotes are tried beside maxRemotes others.
	maxRelayed = 2 * MaxRelays

	relayedPort = 1
	// relayedMTU is the size of IP packets on a pair that is not made of IP packets
	// of ours: what carries it cuts what is too large. QUIC packets of 1400 bytes
	// pass whole.
	relayedMTU = 1500
)

// RelayRemote returns the address that stands for peer as reached through relay.
func RelayRemote(relay, peer identity.NodeID) netip.AddrPort {
	b := [16]byte{0xfd, 0x53, 0x52}
	copy(b[3:8], relay[:])
	copy(b[8:], peer[:])
	return netip.AddrPortFrom(netip.AddrFrom16(b), relayedPort)
}

// IsRelayed reports whether a stands for a peer as reached through a relay.
func IsRelayed(a netip.AddrPort) bool {
	if a.Port() != relayedPort || !a.Addr().Is6() {
		return false
	}
	b := a.Addr().As16()
	return b[0] == 0xfd && b[1] == 0x53 && b[2] == 0x52
}

// RelayPrefix returns how the node IDs of the relay and the peer that a stands for
// begin. It means nothing unless [IsRelayed].
func RelayPrefix(a netip.AddrPort) (relay [5]byte, peer [8]byte) {
	b := a.Addr().As16()
	return [5]byte(b[3:8]), [8]byte(b[8:])
}

// way is what carries a pair.
type way uint8

const (
	wayDirect way = iota
	wayRelayed
	// wayTunnelled pairs lead to a local end of a tunnel through TCP.
	wayTunnelled
)

// cost is what the way adds to the costs of its links: more than any link's.
func (w way) cost() int {
	switch w {
	case wayRelayed:
		return 64
	case wayTunnelled:
		return 128
	default:
		return 0
	}
}

// wayOf returns what carries packets to remote. Whatever is not direct pairs with
// the zero Link alone, and does not vanish with links: the association with the
// relay, and the kernel, see to the link.
func (m *Machine) wayOf(remote netip.AddrPort) way {
	switch {
	case IsRelayed(remote):
		return wayRelayed
	case remote.Addr().IsLoopback() && !m.loopback:
		return wayTunnelled
	default:
		return wayDirect
	}
}

// linksTo returns the links that can be paired with remote.
func (m *Machine) linksTo(remote netip.AddrPort) []Link {
	if m.wayOf(remote) != wayDirect {
		return []Link{{}}
	}
	var out []Link
	for _, l := range m.links {
		if pairs(l, remote) {
			out = append(out, l)
		}
	}
	return out
}

// onReachable probes the pairs of a remote whose way works again. What was sent
// there in between is lost.
func (m *Machine) onReachable(remote netip.AddrPort) {
	remote = normalAddrPort(remote)
	for _, p := range m.pairs {
		if p.route.Remote != remote {
			continue
		}
		p.failed = time.Time{}
		p.restart(m.now)
		if p == m.current && m.mode != searching {
			m.emit(m.use(true))
		}
	}
}
