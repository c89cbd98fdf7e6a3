package sal

import (
	"slices"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/homes"
	"scn.alt/scn/sal/underlay"
)

// RelayInfo describes a relay at which this node is registered, or is about to be.
type RelayInfo struct {
	Node identity.NodeID
	// Home relays are told to others; the rest are those of peers.
	Home bool
	// State is "registering", "well", "silent" or "lossy".
	State string
	// RTT is the round trip through the relay, 0 before one was measured.
	RTT time.Duration
	// Since is when the registration was made.
	Since time.Time
}

// Relays describes this node's registrations at relays, home relays first.
func (n *Node) Relays() []RelayInfo {
	r := n.relays
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]RelayInfo, 0, len(r.regs))
	for id, g := range r.regs {
		info := RelayInfo{Node: id, Home: g.home, State: "registering", Since: g.since}
		if g.health != nil {
			info.State, info.RTT = g.health.Verdict().String(), g.health.RTT()
		}
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b RelayInfo) int {
		if a.Home != b.Home {
			if a.Home {
				return -1
			}
			return 1
		}
		return a.Node.Compare(b.Node)
	})
	return list
}

// HomeRelays returns the relays this node tells others.
func (n *Node) HomeRelays() []identity.NodeID {
	n.relays.mu.Lock()
	defer n.relays.mu.Unlock()
	return slices.Clone(n.relays.homes)
}

// IsRelay reports whether this node is a relay.
func (n *Node) IsRelay() bool { return n.relay != nil }

// NAT says what stands between this node and others, as far as they told.
func (n *Node) NAT() underlay.NATKind { return n.carrier.nat() }

// Translated reports whether a peer sees this node at an address it has not got.
func (n *Node) Translated() bool { return n.carrier.translated() }

// counts counts for Metrics.
func (r *relays) counts() (home, other, ailing int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.regs {
		switch {
		case g.health == nil:
		case g.home && g.health.Verdict() != homes.Well:
			ailing++
		case g.home:
			home++
		default:
			other++
		}
	}
	return home, other, ailing
}
