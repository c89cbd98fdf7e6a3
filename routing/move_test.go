package routing

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	p2p "github.com/libp2p/go-libp2p/core/network"

	"scn.alt/scn/routing/record"
)

func TestMove(t *testing.T) {
	w := newNetwork(t, 6, func(_ int, cfg *Config) {
		cfg.Listen = netip.AddrPortFrom(netip.IPv4Unspecified(), cfg.Listen.Port())
	})
	mover, reader := w.nodes[3], w.nodes[4]
	at := func(ip string) []netip.AddrPort {
		return []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(ip), mover.cfg.Listen.Port())}
	}
	mover.Observe(at("127.0.0.2"))
	find := func(ip string) bool {
		for c, err := range reader.ResolveNode(t.Context(), mover.self) {
			if err == nil && slices.Equal(c.Locators, at(ip)) {
				return true
			}
		}
		return false
	}
	eventually(t, "the first address is found", func() bool { return find("127.0.0.2") })
	before := mover.Status().Sequence
	start := time.Now()
	mover.Observe(at("127.0.0.3"))
	eventually(t, "the new address is found", func() bool { return find("127.0.0.3") })
	t.Logf("new address found elsewhere after %v", time.Since(start))
	if s := mover.Status(); s.Sequence <= before {
		t.Errorf("sequence %d after %d", s.Sequence, before)
	}
	id, err := peerOf(mover.self)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "libp2p peers learn the new address", func() bool {
		for _, m := range reader.host.Peerstore().Addrs(id) {
			if a, ok := salAddr(m); ok && a.Addr() == netip.MustParseAddr("127.0.0.3") {
				return true
			}
		}
		return false
	})
	if m := mover.Metrics(); m.Moves == 0 {
		t.Errorf("moves %d", m.Moves)
	}
}

func TestConnectionsOfVanishedAddressEnd(t *testing.T) {
	w := newNetwork(t, 5, func(_ int, cfg *Config) {
		cfg.Listen = netip.AddrPortFrom(netip.IPv4Unspecified(), cfg.Listen.Port())
	})
	mover := w.nodes[2]
	// Towards loopback the kernel's source is 127.0.0.1, whatever is published.
	at := func(ip string) []netip.AddrPort {
		return []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(ip), mover.cfg.Listen.Port())}
	}
	if _, err := mover.PublishNode(t.Context(), at("127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	old := mover.host.Network().Conns()
	if len(old) == 0 {
		t.Fatal("no connection")
	}
	mover.Observe(at("127.0.0.9"))
	eventually(t, "old connections are closed", func() bool {
		return !slices.ContainsFunc(old, func(c p2p.Conn) bool { return !c.IsClosed() })
	})
	eventually(t, "and new ones made", func() bool { return len(mover.connected()) > 0 })
}

func TestRejoin(t *testing.T) {
	w := newNetwork(t, 5, nil)
	node := w.nodes[4]
	for _, c := range node.host.Network().Conns() {
		_ = c.Close()
	}
	for _, p := range node.dht.RoutingTable().ListPeers() {
		node.dht.RoutingTable().RemovePeer(p)
	}
	node.kickRejoin()
	eventually(t, "the node is back", func() bool { s := node.Status(); return s.Connected > 0 && s.Peers > 0 })
}

func TestRecentPeersReplaceBootstrap(t *testing.T) {
	dir := t.TempDir()
	w := newNetwork(t, 5, func(i int, cfg *Config) {
		if i == 4 {
			cfg.StateDir = dir
		}
	})
	node := w.nodes[4]
	eventually(t, "other than bootstrap peers are known", func() bool { return node.Status().Peers >= 4 })
	node.stop()
	w.nodes[0].stop()
	w.nodes[1].stop()
	again := w.add(node.cfg)
	eventually(t, "the node comes in without its bootstrap nodes", func() bool { return again.Status().Peers > 0 })
}

// The network goes away under a node and comes back with another address.
func TestNoAddressForAWhile(t *testing.T) {
	w := newNetwork(t, 4, nil)
	node, reader := w.nodes[3], w.nodes[1]
	node.Observe(nil)
	eventually(t, "the old connections end", func() bool { return len(node.Status().Addresses) == 0 })
	if _, err := node.PublishNode(t.Context(), nil); !errors.Is(err, ErrNoAddress) {
		t.Errorf("publish without an address: %v", err)
	}
	for c, err := range node.ResolveNode(t.Context(), node.self) {
		if !errors.Is(err, ErrNoAddress) {
			t.Errorf("resolve oneself without an address: %v, %v", c, err)
		}
	}
	back := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.8"), node.cfg.Listen.Port())
	node.Observe([]netip.AddrPort{back})
	eventually(t, "it is found at the new address", func() bool {
		for c, err := range reader.ResolveNode(t.Context(), node.self) {
			if err == nil && slices.Equal(c.Locators, []netip.AddrPort{back}) {
				return true
			}
		}
		return false
	})
}

// After Kick, connections to peers that died without a word are closed long before
// QUIC would give them up, and those to living ones are not.
func TestKick(t *testing.T) {
	w := newNetwork(t, 4, nil)
	node, dead := w.nodes[2], w.nodes[3]
	dead.silent.Store(true)
	node.Kick()
	id, err := peerOf(dead.self)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the dead peer's connection is closed", func() bool {
		return len(node.host.Network().ConnsToPeer(id)) == 0
	})
	if n := len(node.connected()); n != 2 {
		t.Errorf("connected to %d of 2 living peers", n)
	}
}

// A record put here is news for whoever found it before, without another lookup.
func TestStoredRecordsAreHeard(t *testing.T) {
	w := newNetwork(t, 4, nil)
	owner, reader := w.nodes[2], w.nodes[3]
	reader.learn(nodeKey(owner.self), sealNode(t, owner.cfg.Key, 1, time.Now().Add(time.Minute)))
	moved := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.5"), owner.cfg.Listen.Port())
	// The move itself closes the owner's connections; on a busy host the first put may
	// come to nothing, which the owner is told.
	eventually(t, "the record is stored", func() bool {
		_, err := owner.PublishNode(t.Context(), []netip.AddrPort{moved})
		return err == nil
	})
	eventually(t, "the reader knows of the move", func() bool {
		c := reader.candidate(record.Grant{Node: owner.self})
		return slices.Equal(c.Locators, []netip.AddrPort{moved})
	})
}
