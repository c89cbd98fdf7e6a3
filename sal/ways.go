package sal

import (
	"net/netip"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/underlay"
)

// Ways counts connections by how the peer is reached at this moment.
type Ways struct {
	// Direct ones go from host to host, Relayed ones through a relay, Tunnelled ones
	// through TCP.
	Direct, Relayed, Tunnelled int
	// Lost ones have no path that works.
	Lost int
}

// Ways says how this node's peers are reached.
func (n *Node) Ways() Ways {
	var w Ways
	for _, l := range n.allLinks() {
		w.add(l.assoc.Info())
	}
	for _, g := range n.relays.parked() {
		w.add(g)
	}
	return w
}

func (w *Ways) add(info underlay.Info) {
	switch {
	case info.Lost:
		w.Lost++
	case info.Tunnelled:
		w.Tunnelled++
	case !info.Relay.IsZero():
		w.Relayed++
	default:
		w.Direct++
	}
}

// SetTunnels gives the whole list of addresses on loopback at which tunnels over TCP
// begin. The resolver may then name them as locators of the nodes they lead to.
func (n *Node) SetTunnels(ends []netip.AddrPort) {
	if c, ok := n.carrier.(interface{ setTunnels([]netip.AddrPort) }); ok {
		c.setTunnels(ends)
	}
	n.relays.moved() // what could not be reached may be now
}

// SetMapped gives the whole list of outside addresses at which a router says that it
// lets packets in to this node. They are told and published: whoever hears of one
// probes it before use.
func (n *Node) SetMapped(addresses []netip.AddrPort) {
	if c, ok := n.carrier.(interface{ setMapped([]netip.AddrPort) }); ok {
		c.setMapped(addresses)
	}
}

func (c underlayCarrier) setMapped(addresses []netip.AddrPort) { c.socket.SetMapped(addresses) }
func (c underlayCarrier) setTunnels(ends []netip.AddrPort)     { c.socket.SetTunnels(ends) }

// Relocate asks the resolver where a node is now, and tells the connections with it,
// and one being made. It returns at once.
func (n *Node) Relocate(node identity.NodeID) { n.resolvePeer(node) }
