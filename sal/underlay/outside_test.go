package underlay

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/path"
)

func TestOutsideAddresses(t *testing.T) {
	local := netip.MustParseAddr("192.168.1.5")
	const port = 7777
	link := path.Link{Local: local, Interface: 2}
	type word struct {
		at      int // seconds
		node    byte
		from    string
		address string
	}
	const inner, outer, other = "192.168.1.5:7777", "203.0.113.1:40000", "203.0.113.1:40001"
	for _, tc := range []struct {
		name      string
		words     []word
		at        int
		kind      NATKind
		published []string
		told      []string
	}{
		{"nothing", nil, 0, NATUnknown, nil, nil},
		{"no NAT", []word{{0, 1, "198.51.100.1", inner}}, 0, NATNone, nil, nil},
		{"one peer", []word{{0, 1, "198.51.100.1", outer}}, 0, NATUnknown, nil, []string{outer}},
		{"two agree", []word{{0, 1, "198.51.100.1", outer}, {1, 2, "198.51.100.2", outer}}, 1, NATCone, []string{outer}, nil},
		{"one twice", []word{{0, 1, "198.51.100.1", outer}, {1, 1, "198.51.100.2", outer}}, 1, NATUnknown, nil, []string{outer}},
		{"two at one address", []word{{0, 1, "198.51.100.1", outer}, {1, 2, "198.51.100.1", outer}}, 1, NATUnknown, nil, []string{outer}},
		{"two disagree", []word{{0, 1, "198.51.100.1", outer}, {1, 2, "198.51.100.2", other}}, 1, NATSymmetric, nil, nil},
		{"one liar of three", []word{
			{0, 1, "198.51.100.1", outer},
			{1, 3, "198.51.100.3", "192.0.2.66:53"},
			{1, 2, "198.51.100.2", outer},
		}, 1, NATCone, []string{outer}, nil},
		{"first of three to see a new one", []word{
			{0, 1, "198.51.100.1", outer},
			{1, 3, "198.51.100.3", outer},
			{1, 2, "198.51.100.2", outer},
			{9, 2, "198.51.100.2", other},
		}, 9, NATCone, []string{outer}, []string{other}},
		{"a neighbour sees the inside", []word{{0, 1, "192.168.1.9", inner}, {1, 2, "198.51.100.2", outer}, {2, 3, "198.51.100.3", outer}}, 2, NATCone, []string{outer}, nil},
		{"one behind the same carrier's NAT", []word{{0, 1, "100.64.0.9", "100.64.0.5:50000"}, {1, 2, "198.51.100.2", outer}, {2, 3, "198.51.100.3", outer}}, 2, NATCone, []string{outer}, nil},
		{"only behind the carrier's", []word{{0, 1, "100.64.0.9", "100.64.0.5:50000"}}, 0, NATUnknown, nil, []string{"100.64.0.5:50000"}},
		// The first peer sees the new address first; the other was not heard since.
		{"NAT begins anew", []word{
			{0, 1, "198.51.100.1", outer},
			{0, 2, "198.51.100.2", outer},
			{20, 1, "198.51.100.1", other},
		}, 20, NATUnknown, nil, []string{other, outer}},
		{"and is seen by both", []word{
			{0, 1, "198.51.100.1", outer},
			{0, 2, "198.51.100.2", outer},
			{20, 1, "198.51.100.1", other},
			{30, 2, "198.51.100.2", other},
		}, 30, NATCone, []string{other}, nil},
		// Heard again after the other's change: so it is not one mapping.
		{"turns out symmetric", []word{
			{0, 1, "198.51.100.1", outer},
			{0, 2, "198.51.100.2", outer},
			{20, 1, "198.51.100.1", other},
			{30, 2, "198.51.100.2", outer},
		}, 30, NATSymmetric, nil, nil},
		{"long ago", []word{{0, 1, "198.51.100.1", outer}, {1, 2, "198.51.100.2", outer}}, 302, NATUnknown, nil, nil},
		{"nonsense", []word{
			{0, 1, "198.51.100.1", "127.0.0.1:1"},
			{0, 2, "198.51.100.2", "[2001:db8::1]:1"},
			{0, 3, "198.51.100.3", "203.0.113.1:0"},
			{0, 4, "198.51.100.4", "224.0.0.1:9"},
		}, 0, NATUnknown, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var o outsideViews
			clock := func(s int) int64 { return int64(s+1000) * int64(time.Second) }
			for _, w := range tc.words {
				o.add(clock(w.at), link, identity.NodeID{w.node}, netip.MustParseAddr(w.from), netip.MustParseAddrPort(w.address))
			}
			got := o.conclude(clock(tc.at), []path.Link{link}, port)
			text := func(list []netip.AddrPort) (out []string) {
				for _, a := range list {
					out = append(out, a.String())
				}
				return out
			}
			if got.kind != tc.kind || !slices.Equal(text(got.published), tc.published) || !slices.Equal(text(got.told), tc.told) {
				t.Errorf("got %v, published %v, told %v", got.kind, got.published, got.told)
			}
		})
	}
}

func TestOutsideViewsAreBounded(t *testing.T) {
	link := path.Link{Local: netip.MustParseAddr("192.168.1.5"), Interface: 2}
	gone := path.Link{Local: netip.MustParseAddr("192.168.1.6"), Interface: 2}
	var o outsideViews
	for i := range 1000 {
		from := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
		for _, l := range []path.Link{link, gone} {
			o.add(int64(i), l, identity.NodeID{byte(i), byte(i >> 8)}, from, netip.MustParseAddrPort(fmt.Sprintf("203.0.113.1:%d", i+1)))
		}
	}
	if n := len(o.links[link]); n != maxViews || o.links[link][n-1].last != 999 {
		t.Errorf("%d views", n)
	}
	o.keep([]path.Link{link})
	if len(o.links) != 1 {
		t.Errorf("%d links", len(o.links))
	}
}
