package node

import (
	"context"
	"time"

	"scn.alt/scn/routing/record"
)

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

// natInterval is how often is looked whether this node is behind a NAT. What peers
// see of it is known sooner, but nobody waits for what depends on it.
const natInterval = time.Second

// watchNAT has routing know whether others can reach this node unasked, until ctx
// ends.
func (n *Node) watchNAT(ctx context.Context) error {
	tick := time.NewTicker(natInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			n.router.Unreachable(n.sal.Translated())
		}
	}
}
