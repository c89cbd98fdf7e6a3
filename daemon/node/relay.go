package node

import "scn.alt/scn/routing/record"

// bootstrapRelays are the nodes of the network file, which may be relays: whoever
// starts a network is.
func (n *Node) bootstrapRelays() []record.Candidate {
	file := n.Network()
	out := make([]record.Candidate, 0, len(file.Bootstrap))
	for _, p := range file.Bootstrap {
		if p.Node != n.ID() {
			out = append(out, record.Candidate{Node: p.Node, Locators: n.tunnels.with(p.Node, p.Addresses), Source: record.FromNetwork})
		}
	}
	return out
}
