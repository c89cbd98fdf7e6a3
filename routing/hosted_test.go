package routing

import (
	"net/netip"
	"slices"
	"testing"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// TestUnreachableNodesBecomeClients: who finds itself behind a NAT leaves the others'
// routing tables, finds and is found as before, and comes back when that has ended.
func TestUnreachableNodesBecomeClients(t *testing.T) {
	w := newNetwork(t, 5, nil)
	hidden := w.nodes[4]
	id, err := peerOf(hidden.self)
	if err != nil {
		t.Fatal(err)
	}
	inTables := func() (n int) {
		for _, other := range w.nodes[:4] {
			if other.dht.RoutingTable().Find(id) != "" {
				n++
			}
		}
		return n
	}
	eventually(t, "the node is known", func() bool { return inTables() > 0 })
	hidden.Unreachable(true)
	eventually(t, "nobody asks it any more", func() bool { return inTables() == 0 })
	if s := hidden.Status(); s.Mode != "client" {
		t.Errorf("mode %s", s.Mode)
	}
	eventually(t, "its record says so", func() bool {
		rec, ok, _ := w.nodes[1].newest(t.Context(), nodeKey(hidden.self), w.nodes[1].cfg.LookupTimeout)
		return ok && rec.opened.decoded.(record.NodeRecord).Mobile
	})
	found := false
	for c, err := range hidden.ResolveNode(t.Context(), w.nodes[2].self) {
		found = found || err == nil && slices.Equal(c.Locators, w.nodes[2].addresses())
	}
	if !found {
		t.Error("a client finds nobody")
	}
	hidden.Unreachable(false)
	eventually(t, "it is back", func() bool { return inTables() > 0 })
	// Nodes of the network file are where they are said to be.
	w.nodes[1].Unreachable(true)
	if s := w.nodes[1].Status(); s.Mode != "server" {
		t.Errorf("a bootstrap node became a %s", s.Mode)
	}
}

// TestRelaysArePublished: a node without any address of its own is found by its relays,
// and what a NAT made of its address is published, yet not taken for the DHT's.
func TestRelaysArePublished(t *testing.T) {
	w := newNetwork(t, 3, nil)
	node, relay := w.nodes[2], testKey("relay").Node()
	mapped := netip.MustParseAddrPort("203.0.113.7:4242")
	node.Observe(append(node.addresses(), mapped))
	if got := node.dhtAddresses(); !slices.Equal(got, node.addresses()) {
		t.Errorf("DHT addresses %v", got)
	}
	node.ObserveRelays([]identity.NodeID{relay, node.self, relay})
	eventually(t, "relay and mapping are found", func() bool {
		for c, err := range w.nodes[1].ResolveNode(t.Context(), node.self) {
			if err == nil && slices.Equal(c.Relays, []identity.NodeID{relay}) && slices.Contains(c.Locators, mapped) {
				return true
			}
		}
		return false
	})
	// Without an address the last record stays, until there is something new to say.
	node.Observe(nil)
	other := testKey("another relay").Node()
	node.ObserveRelays([]identity.NodeID{other})
	eventually(t, "a node with nothing but a relay is found", func() bool {
		for c, err := range w.nodes[1].ResolveNode(t.Context(), node.self) {
			if err == nil && slices.Equal(c.Relays, []identity.NodeID{other}) && len(c.Locators) == 0 {
				return true
			}
		}
		return false
	})
	if s := node.Status(); !slices.Equal(s.Relays, []identity.NodeID{other}) {
		t.Errorf("status %+v", s)
	}
}
