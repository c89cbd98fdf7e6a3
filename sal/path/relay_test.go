package path

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
)

func TestRelayRemote(t *testing.T) {
	relay, peer := testNode(0x10), testNode(0x80)
	a := RelayRemote(relay, peer)
	if want := netip.MustParseAddrPort("[fd53:5210:1112:1314:8081:8283:8485:8687]:1"); a != want {
		t.Errorf("got %s, want %s", a, want)
	}
	r, p := RelayPrefix(a)
	if !slices.Equal(r[:], relay[:5]) || !slices.Equal(p[:], peer[:8]) {
		t.Errorf("prefixes %x and %x", r, p)
	}
	for text, want := range map[string]bool{
		a.String():           true,
		"[fd53:5200::]:1":    true,
		"[fd53:5200::]:2":    false,
		"[fd53:434e::1]:1":   false, // an association
		"[::ffff:1.2.3.4]:1": false,
		"192.0.2.1:1":        false,
	} {
		if got := IsRelayed(netip.MustParseAddrPort(text)); got != want {
			t.Errorf("IsRelayed(%s) is %v", text, got)
		}
	}
	if IsRelayed(netip.AddrPort{}) {
		t.Error("the zero address stands for a relay")
	}
}

func TestRouteString(t *testing.T) {
	relay := testNode(0x10)
	link := Link{Local: netip.MustParseAddr("10.0.0.1"), Interface: 2}
	for _, tc := range []struct {
		route Route
		want  string
	}{
		{Route{Link: link, Remote: testV4}, "10.0.0.1%2>192.0.2.1:7000"},
		{Route{Remote: testV4}, ">192.0.2.1:7000"},
		{Route{Remote: RelayRemote(relay, testNode(2))}, "relay " + relay.String()[:8]},
	} {
		if got := tc.route.String(); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

// lone is a machine on a relayed route, without a simulator.
func lone(t *testing.T, change func(*Config)) (*Machine, time.Time) {
	t.Helper()
	now := time.Unix(1_700_000_000, 0)
	cfg := Config{
		Initiator: true, Secret: testSecret(), Start: now,
		First: Route{Link: Link{Local: netip.MustParseAddr("10.0.0.1"), Interface: 2}, Remote: RelayRemote(testNode(1), testNode(2))},
		Links: []Link{{Local: netip.MustParseAddr("10.0.0.1"), Interface: 2}},
	}
	if change != nil {
		change(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m, now
}

// TestRelayedPairOutlivesLinks has a relayed remote pair with the zero Link, whatever
// links there are.
func TestRelayedPairOutlivesLinks(t *testing.T) {
	m, now := lone(t, nil)
	want := Route{Remote: RelayRemote(testNode(1), testNode(2))}
	for _, links := range [][]Link{
		{{Local: netip.MustParseAddr("10.0.0.9"), Interface: 3}, {Local: netip.MustParseAddr("2001:db8::1"), Interface: 3}},
		nil,
		{{Local: netip.MustParseAddr("10.0.0.1"), Interface: 2}},
	} {
		m.Step(now, LinksChanged{Links: links})
		if info := m.Info(); info.Route != want || info.Lost || info.MTU != relayedMTU {
			t.Errorf("with links %v: %+v", links, info)
		}
		if n := len(m.pairs); n != 1 {
			t.Errorf("with links %v: %d pairs", links, n)
		}
	}
	if m.Info().Route.headerSize()+1400 > relayedMTU {
		t.Error("a QUIC packet would be cut")
	}
	sent := 0
	for range 50 {
		now = m.Deadline()
		m.Step(now, Tick{})
	}
	for _, a := range m.Take() {
		if s, ok := a.(Send); ok {
			sent++
			if len(s.Datagram) > smallSize {
				t.Errorf("a message of %d bytes: there is no MTU to search for", len(s.Datagram))
			}
			if s.Route != want {
				t.Errorf("sent over %v", s.Route)
			}
		}
	}
	if sent == 0 {
		t.Error("nothing sent")
	}
	m.Step(now, SendFailed{Route: want})
	if !m.Info().Lost {
		t.Error("the relay is gone and nobody noticed")
	}
}

// TestTunnelEnd has a loopback remote stand for a tunnel where there is no loopback
// link, but not because the peer says so.
func TestTunnelEnd(t *testing.T) {
	end := netip.MustParseAddrPort("127.0.0.1:4433")
	m, now := lone(t, func(c *Config) { c.Remotes = []netip.AddrPort{end} })
	if m.find(Route{Remote: end}) == nil {
		t.Fatalf("not paired: %v", m.pairs)
	}
	other := netip.MustParseAddrPort("127.0.0.1:22")
	msg := message{}
	l := locators{sequence: 1, count: 1}
	l.list[0] = other
	msg.addLocators(l)
	m.Step(now, Received{Route: Route{Link: Link{Local: netip.MustParseAddr("127.0.0.1"), Interface: 1}, Remote: end}, Datagram: m.receive.seal(1, msg.append(nil))})
	if m.Metrics().Received != 1 {
		t.Error("a message from the tunnel was not taken")
	}
	for _, p := range m.pairs {
		if p.route.Remote == other {
			t.Errorf("the peer made us probe %v", p.route)
		}
	}
	m.Step(now, LinksChanged{Links: []Link{{Local: netip.MustParseAddr("127.0.0.1"), Interface: 1}}})
	if m.find(Route{Link: Link{Local: netip.MustParseAddr("127.0.0.1"), Interface: 1}, Remote: end}) == nil {
		t.Error("not paired with a loopback link")
	}
}

// TestRelaysAndOthersDoNotCrowd fills both lists.
func TestRelaysAndOthersDoNotCrowd(t *testing.T) {
	m, now := lone(t, nil)
	var remotes []netip.AddrPort
	for i := range 40 {
		remotes = append(remotes, RelayRemote(testNode(byte(i)), testNode(2)))
	}
	for i := range 40 {
		remotes = append(remotes, victim(i))
	}
	m.Step(now, RemotesChanged{Remotes: remotes})
	counts := map[way]int{}
	for _, p := range m.pairs {
		counts[p.way]++
	}
	if counts[wayRelayed] != maxRelayed || counts[wayDirect] != maxRemotes {
		t.Errorf("%v", counts)
	}
	m.Step(now, Advertised{Locators: remotes})
	if len(m.own) != MaxLocators || slices.ContainsFunc(m.own, IsRelayed) {
		t.Errorf("tells %v", m.own)
	}
}

// TestRelaysTold has one end tell its relays, and the other be told once.
func TestRelaysTold(t *testing.T) {
	relays := []identity.NodeID{testNode(1), testNode(1), testNode(2), {}, testNode(3), testNode(4)}
	a, now := lone(t, func(c *Config) { c.Relays = relays })
	b, _ := lone(t, func(c *Config) { c.Initiator = false })
	var told []RelaysTold
	deliver := func() {
		for again := true; again; {
			again = false
			for _, end := range []struct{ from, to *Machine }{{a, b}, {b, a}} {
				for _, action := range end.from.Take() {
					switch x := action.(type) {
					case Send:
						again = true
						now = now.Add(time.Millisecond)
						end.to.Step(now, Received{Route: Route{Remote: x.Route.Remote}, Datagram: x.Datagram})
					case RelaysTold:
						told = append(told, x)
					case Observed:
						t.Errorf("observed as %v through a relay", x.Address)
					}
				}
			}
		}
	}
	deliver()
	want := []identity.NodeID{testNode(1), testNode(2), testNode(3)}
	if len(told) != 1 || !slices.Equal(told[0].Relays, want) {
		t.Fatalf("told %v, want %v", told, want)
	}
	a.Step(now, RelaysAdvertised{Relays: want})
	deliver()
	if len(told) != 1 {
		t.Errorf("told again: %v", told)
	}
	a.Step(now, RelaysAdvertised{Relays: want[:1]})
	deliver()
	if len(told) != 2 || !slices.Equal(told[1].Relays, want[:1]) {
		t.Errorf("told %v", told)
	}
}

// TestReachable probes a relayed pair at once, and sends again what may be lost.
func TestReachable(t *testing.T) {
	m, now := lone(t, nil)
	m.Take()
	now = now.Add(time.Second)
	m.Step(now, Reachable{Remote: m.Info().Route.Remote})
	resent, probed := false, false
	for _, a := range m.Take() {
		switch a := a.(type) {
		case Use:
			resent = resent || a.Resend
		case Send:
			probed = true
		}
	}
	if !resent || !probed {
		t.Errorf("resent: %v, probed: %v", resent, probed)
	}
	m.Step(now, Reachable{Remote: victim(1)})
}
