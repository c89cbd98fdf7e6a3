package routing

import (
	"net/netip"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

func TestReachable(t *testing.T) {
	for text, want := range map[string]bool{
		"192.0.2.1:4000":           true,
		"10.0.0.1:4000":            true,
		"100.64.0.1:4000":          true,
		"[2001:db8::1]:4000":       true,
		"[fd00::1]:4000":           true,
		"[::ffff:192.0.2.1]:4000":  true,
		"192.0.2.1:0":              false,
		"192.0.2.1:65535":          false, // no room for the DHT's port
		"127.0.0.1:4000":           false,
		"[::ffff:127.0.0.1]:4000":  false,
		"[::1]:4000":               false,
		"0.0.0.0:4000":             false,
		"[::]:4000":                false,
		"169.254.1.1:4000":         false,
		"[fe80::1]:4000":           false,
		"[fe80::1%eth0]:4000":      false,
		"224.0.0.1:4000":           false,
		"[ff02::1]:4000":           false,
		"255.255.255.255:4000":     false,
		"198.18.0.5:4000":          false,
		"198.19.255.1:4000":        false,
		"[fd53:434e:1:2::3]:4000":  false,
		"[::ffff:198.18.0.1]:4000": false,
	} {
		if got := Reachable(netip.MustParseAddrPort(text)); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}

func TestBelieves(t *testing.T) {
	r := reach{
		exclude:    func(a netip.Addr) bool { return a == netip.MustParseAddr("10.9.9.9") },
		containers: func() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")} },
	}
	var all []netip.AddrPort
	for _, text := range []string{
		"10.9.9.9:1", "172.17.0.2:1", "127.0.0.1:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1", "[2001:db8::1]:1",
	} {
		all = append(all, netip.MustParseAddrPort(text))
	}
	got := r.filter(all, MaxAddresses)
	if len(got) != 2 || got[0] != all[3] || got[1] != all[5] {
		t.Errorf("believed: %v", got)
	}
	for i := range 20 {
		all = append(all, netip.AddrPortFrom(netip.MustParseAddr("192.0.2.2"), uint16(i+1)))
	}
	if got := r.filter(all, MaxAddresses); len(got) != MaxAddresses {
		t.Errorf("%d addresses are handed on", len(got))
	}
	r.loopback = true
	if !r.believes(netip.MustParseAddrPort("127.0.0.1:1")) || r.believes(netip.MustParseAddrPort("198.18.0.1:1")) {
		t.Error("AllowLoopback allows loopback, and nothing else")
	}
	g := gater{reach: r}
	var offered []ma.Multiaddr
	for _, text := range []string{
		"/ip4/192.0.2.1/udp/4001/quic-v1", "/ip4/198.18.0.1/udp/4001/quic-v1", "/ip4/192.0.2.1/tcp/4001",
		"/ip4/192.0.2.1/udp/4001", "/dns4/example.com/udp/4001/quic-v1", "/ip4/192.0.2.1/udp/1/quic-v1",
	} {
		m, err := ma.NewMultiaddr(text)
		if err != nil {
			t.Fatal(err)
		}
		offered = append(offered, m)
	}
	if got := g.believed(offered); len(got) != 1 || !got[0].Equal(offered[0]) {
		t.Errorf("believed of a peer: %v", got)
	}
}

func TestAddressesRoundTrip(t *testing.T) {
	for _, text := range []string{"192.0.2.1:4000", "[2001:db8::1]:65534", "127.0.0.1:1"} {
		a := netip.MustParseAddrPort(text)
		m := dhtAddrs([]netip.AddrPort{a})
		if len(m) != 1 {
			t.Fatalf("%s has no DHT address", a)
		}
		if got, ok := salAddr(m[0]); !ok || got != a {
			t.Errorf("%s came back from %s as %s", a, m[0], got)
		}
	}
	node := testKey("node").Node()
	p, err := peerOf(node)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := nodeOf(p); !ok || got != node {
		t.Errorf("node %s came back from %s as %s", node, p, got)
	}
	if _, ok := nodeOf("garbage"); ok {
		t.Error("garbage is a node")
	}
}
