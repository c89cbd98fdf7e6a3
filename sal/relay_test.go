package sal

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal/homes"
	"scn.alt/scn/sal/relay"
	"scn.alt/scn/sal/saltest"
)

// needRelays skips a test that needs what the plain carrier has not got.
func needRelays(t testing.TB) {
	t.Helper()
	if !realUnderlay() {
		t.Skip("needs the underlay")
	}
}

// isRelay makes a node a relay.
func isRelay(c *Config) { c.Relay = &RelayConfig{} }

// v4Only and v6Only nodes cannot reach each other, but both a node that listens
// everywhere.
func v4Only(c *Config) { c.Listen = netip.MustParseAddrPort("127.0.0.1:0") }
func v6Only(c *Config) { c.Listen = netip.MustParseAddrPort("[::1]:0") }

// knows makes nodes relays from the start.
func knows(relays ...*Node) func(*Config) {
	return func(c *Config) {
		c.BootstrapRelays = func() (list []record.Candidate) {
			for _, r := range relays {
				list = append(list, candidate(r))
			}
			return list
		}
	}
}

// publishes has the resolver know a node's home relays.
func publishes(r *saltest.Resolver, i int) func(*Config) {
	return func(c *Config) {
		c.RelaysChanged = func(list []identity.NodeID) { r.SetRelays(saltest.Key(i).Node(), list...) }
	}
}

// awaitHomes waits until a node tells others these home relays.
func awaitHomes(t testing.TB, n *Node, want ...*Node) {
	t.Helper()
	eventually(t, "home relays", func() bool {
		homes := n.HomeRelays()
		if len(homes) != len(want) {
			return false
		}
		for _, w := range want {
			found := false
			for _, h := range homes {
				found = found || h == w.ID()
			}
			if !found {
				return false
			}
		}
		return true
	})
}

// TestDialThroughRelay: two nodes that cannot reach each other meet at a relay.
func TestDialThroughRelay(t *testing.T) {
	needRelays(t)
	r := &saltest.Resolver{}
	relayNode := testNode(t, 3, r, isRelay)
	client := testNode(t, 1, r, v4Only, knows(relayNode), publishes(r, 1))
	server := testNode(t, 2, r, v6Only, knows(relayNode), publishes(r, 2))
	awaitHomes(t, client, relayNode)
	awaitHomes(t, server, relayNode)
	service := provide(r, 100, server)
	server.Handle(service, echo)
	begun := time.Now()
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Logf("dialled within %v", time.Since(begun))
	exchange(t, c)
	for _, p := range client.Peers() {
		if p.Node == server.ID() && p.Relay != relayNode.ID() {
			t.Errorf("peer %+v", p)
		}
		if p.Node == relayNode.ID() && (p.Sessions != 0 || !p.Relay.IsZero()) {
			t.Errorf("relay %+v", p)
		}
	}
	if n, _ := relayNode.relay.len(); n != 2 {
		t.Errorf("%d registrations", n)
	}
	if list := client.Relays(); len(list) != 1 || !list[0].Home || list[0].State != "well" || list[0].Node != relayNode.ID() {
		t.Errorf("relays %+v", list)
	}
}

// TestAddressOfAnotherBesideRelay: homes look alike, so a peer's private address may
// be that of another node here, or this node's own. Its answer, which comes first,
// must not end the dial.
func TestAddressOfAnotherBesideRelay(t *testing.T) {
	needRelays(t)
	r := &saltest.Resolver{}
	relayNode := testNode(t, 3, r, isRelay)
	client := testNode(t, 1, r, v4Only, knows(relayNode), publishes(r, 1))
	server := testNode(t, 2, r, v6Only, knows(relayNode), publishes(r, 2))
	other := testNode(t, 4, r, v4Only)
	awaitHomes(t, client, relayNode)
	awaitHomes(t, server, relayNode)
	r.SetNode(server.ID(), other.Locators()[0], client.Locators()[0])
	c, err := client.DialNode(timeoutContext(t, 20*time.Second), server.ID(), 1)
	if !errors.Is(err, ErrRefused) && !errors.Is(err, ErrUnknownService) && err != nil {
		t.Fatalf("the dial ended at another: %v", err)
	}
	if err == nil {
		c.Close()
	}
	found := false
	for _, p := range client.Peers() {
		found = found || p.Node == server.ID() && p.Relay == relayNode.ID()
	}
	if !found {
		t.Errorf("peers %+v", client.Peers())
	}
}

// TestDialOnDemand: a peer without any address of its own, whose relay this node does
// not know, is dialled by registering there first.
func TestDialOnDemand(t *testing.T) {
	needRelays(t)
	r := &saltest.Resolver{}
	mine, theirs := testNode(t, 3, r, isRelay), testNode(t, 4, r, isRelay)
	client := testNode(t, 1, r, v4Only, knows(mine), publishes(r, 1))
	server := testNode(t, 2, r, v6Only, knows(theirs), publishes(r, 2))
	awaitHomes(t, client, mine)
	awaitHomes(t, server, theirs)
	r.SetNode(server.ID()) // nothing but its relay
	service := provide(r, 100, server)
	server.Handle(service, echo)
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c)
	// It stays for the session's sake.
	found := false
	for _, info := range client.Relays() {
		found = found || info.Node == theirs.ID() && info.State == "well"
	}
	if !found {
		t.Errorf("relays %+v", client.Relays())
	}
	c.Close()
}

// TestRelayRefuses: a relay that is full refuses, and one that is none is not asked
// again and again.
func TestRelayRefuses(t *testing.T) {
	needRelays(t)
	r := &saltest.Resolver{}
	full := testNode(t, 3, r, func(c *Config) { c.Relay = &RelayConfig{Limits: relay.Limits{Registrations: 1}} })
	none := testNode(t, 4, r)
	first := testNode(t, 1, r, knows(full))
	awaitHomes(t, first, full)
	second := testNode(t, 2, r, knows(full, none))
	eventually(t, "refusals", func() bool {
		return full.Metrics().Underlay.Relay.Refused > 0 && none.Metrics().Rejected > 0 && len(second.Relays()) == 0
	})
	time.Sleep(1500 * time.Millisecond) // longer than a failure's back-off
	if n := none.Metrics().Rejected; n != 1 {
		t.Errorf("asked %d times", n)
	}
	if homes := second.HomeRelays(); len(homes) != 0 {
		t.Errorf("home relays %v", homes)
	}
	if n, _ := full.relay.len(); n != 1 {
		t.Errorf("%d registrations", n)
	}
}

// TestRelayTellsOfRelays: who knows one relay gets to know the others.
func TestRelayTellsOfRelays(t *testing.T) {
	needRelays(t)
	r := &saltest.Resolver{}
	first := testNode(t, 3, r, isRelay)
	second := testNode(t, 4, r, isRelay, knows(first))
	third := testNode(t, 5, r, isRelay, knows(first))
	awaitHomes(t, second, first, third)
	node := testNode(t, 1, nil, knows(first)) // without a resolver
	awaitHomes(t, node, first, second, third)
}

// TestRelayRestart: a relay that restarts is registered at again, and sessions through
// it go on.
func TestRelayRestart(t *testing.T) {
	needRelays(t)
	r := &saltest.Resolver{}
	relayNode := testNode(t, 3, r, isRelay)
	client := testNode(t, 1, r, v4Only, knows(relayNode), publishes(r, 1))
	server := testNode(t, 2, r, v6Only, knows(relayNode), publishes(r, 2))
	awaitHomes(t, client, relayNode)
	awaitHomes(t, server, relayNode)
	service := provide(r, 100, server)
	server.Handle(service, echo)
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exchange(t, c)
	at := relayNode.carrier.locators()[0]
	if err := relayNode.Close(); err != nil {
		t.Fatal(err)
	}
	testNode(t, 3, r, isRelay, func(c *Config) { c.Listen = netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port()) })
	begun := time.Now()
	exchange(t, c)
	t.Logf("went on within %v", time.Since(begun))
}

// TestHomeRelayDies: a home relay that falls silent is replaced, and a session through
// it lives on through another.
func TestHomeRelayDies(t *testing.T) {
	needRelays(t)
	r := &saltest.Resolver{}
	dying := testNode(t, 3, r, isRelay)
	others := []*Node{testNode(t, 4, r, isRelay), testNode(t, 5, r, isRelay), testNode(t, 6, r, isRelay)}
	all := append([]*Node{dying}, others...)
	client := testNode(t, 1, r, v4Only, knows(dying), publishes(r, 1))
	server := testNode(t, 2, r, v6Only, knows(dying), publishes(r, 2))
	awaitHomes(t, client, dying)
	awaitHomes(t, server, dying)
	service := provide(r, 100, server)
	server.Handle(service, echo)
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exchange(t, c)
	for _, n := range []*Node{client, server} {
		for _, o := range all {
			n.relays.know(o.ID(), o.Locators(), 1)
		}
		eventually(t, "three home relays", func() bool { return len(n.HomeRelays()) == 3 })
	}
	// Without a word: nothing is closed at the peers.
	_ = dying.carrier.close()
	begun := time.Now()
	exchange(t, c)
	t.Logf("session went on within %v", time.Since(begun))
	for _, n := range []*Node{client, server} {
		awaitHomes(t, n, others...)
	}
	took := time.Since(begun)
	t.Logf("replaced within %v", took)
	if took > 8*time.Second { // 5 s, and what a busy machine adds
		t.Errorf("replaced within %v", took)
	}
	exchange(t, c)
}

// TestNoRelayKnown: a node that nobody can help stays quiet and works.
func TestNoRelayKnown(t *testing.T) {
	needRelays(t)
	client, _, service := testPair(t)
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exchange(t, c)
	if list := client.Relays(); len(list) != 0 {
		t.Errorf("relays %+v", list)
	}
	_, err = client.DialNode(timeoutContext(t, 20*time.Second), saltest.Key(77).Node(), 1)
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

// parksSoon makes a relay park connections at once.
func parksSoon(c *Config) { c.parkAfter = 50 * time.Millisecond }

// awaitParked waits until a relay has so many registrations, all without a connection.
func awaitParked(t testing.TB, n *Node, want int) {
	t.Helper()
	eventually(t, "parked registrations", func() bool {
		registered, parked := n.relay.len()
		return registered == want && parked == want && openLinks(n) == 0
	})
}

// parkedWorld is two nodes with a session, both registered at a relay without a
// connection, and unable to reach each other directly.
type parkedWorld struct {
	resolver              *saltest.Resolver
	relay, client, server *Node
	conn                  *Conn
}

func newParked(t *testing.T) parkedWorld {
	t.Helper()
	r := &saltest.Resolver{}
	w := parkedWorld{
		resolver: r,
		relay:    testNode(t, 3, r, isRelay, parksSoon),
	}
	w.client = testNode(t, 1, r, v4Only, knows(w.relay), publishes(r, 1))
	w.server = testNode(t, 2, r, v6Only, knows(w.relay), publishes(r, 2))
	awaitHomes(t, w.client, w.relay)
	awaitHomes(t, w.server, w.relay)
	awaitParked(t, w.relay, 2)
	service := provide(r, 100, w.server)
	w.server.Handle(service, echo)
	c, err := w.client.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	exchange(t, c)
	w.conn = c
	return w
}

// TestParkedRegistration: a registration outlives its connection. Dials go through it,
// sessions with the relay itself work, and its end is noticed on either side.
func TestParkedRegistration(t *testing.T) {
	needRelays(t)
	w := newParked(t)
	r, relayNode, client, server, c := w.resolver, w.relay, w.client, w.server, w.conn
	if p := client.Peers(); len(p) != 1 || p[0].Relay != relayNode.ID() {
		t.Errorf("peers %+v", p)
	}
	if w := server.Ways(); w.Direct != 1 || w.Relayed != 1 || w.Lost != 0 {
		t.Errorf("ways %+v", w)
	}
	// With the relay itself another connection is made, and goes again.
	mine := provide(r, 101, relayNode)
	relayNode.Handle(mine, echo)
	d, err := client.Dial(timeoutContext(t, 20*time.Second), mine, 80)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, d)
	exchange(t, c)
	d.Close()
	exchange(t, c)
	// Probes go on coming back.
	if list := client.Relays(); len(list) != 1 || list[0].State != "well" || list[0].RTT <= 0 {
		t.Errorf("relays %+v", list)
	}
}

// TestParkedRelayRestarts: a relay that forgot its registrations says so, and is
// registered at again.
func TestParkedRelayRestarts(t *testing.T) {
	needRelays(t)
	w := newParked(t)
	r, relayNode, c := w.resolver, w.relay, w.conn
	at := relayNode.carrier.locators()[0]
	if err := relayNode.Close(); err != nil {
		t.Fatal(err)
	}
	again := testNode(t, 3, r, isRelay, parksSoon, func(c *Config) { c.Listen = netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port()) })
	begun := time.Now()
	exchange(t, c)
	t.Logf("went on within %v", time.Since(begun))
	awaitParked(t, again, 2)
	exchange(t, c)
}

// TestParkedNodeVanishes: a relay forgets a node that fell silent.
func TestParkedNodeVanishes(t *testing.T) {
	needRelays(t)
	relayNode := testNode(t, 3, nil, isRelay, parksSoon)
	client := testNode(t, 1, nil, knows(relayNode))
	awaitHomes(t, client, relayNode)
	awaitParked(t, relayNode, 1)
	_ = client.carrier.close()
	relayNode.relay.sweep(time.Now())
	if n, _ := relayNode.relay.len(); n != 1 {
		t.Fatal("swept at once")
	}
	eventually(t, "the node's silence", func() bool {
		relayNode.relay.mu.Lock()
		defer relayNode.relay.mu.Unlock()
		return relayNode.relay.served[client.ID()].anchor.assoc.Info().LastAsked.Before(time.Now().Add(-100 * time.Millisecond))
	})
	relayNode.relay.sweep(time.Now().Add(goneAfter))
	if n, _ := relayNode.relay.len(); n != 0 {
		t.Error("not swept")
	}
}

// TestHomeRelayDropsHalf: a relay that loses much of what it forwards is given up, and
// a session through it goes on through another. One loses half of everything, the
// other treats probes well and loses half of what sessions send.
func TestHomeRelayDropsHalf(t *testing.T) {
	needRelays(t)
	const large = 500 // bytes; probes are smaller
	for _, c := range []struct {
		name  string
		spare int // datagrams up to this size are not lost
	}{{"of everything", 0}, {"of what sessions send", large}} {
		t.Run(c.name, func(t *testing.T) {
			var broken atomic.Bool
			lossy := func(size int) bool { return broken.Load() && size > c.spare && rand.IntN(2) == 0 }
			leaveLossyRelay(t, lossy, &broken)
		})
	}
}

// leaveLossyRelay has a session run through a relay that begins to lose datagrams.
func leaveLossyRelay(t *testing.T, lose func(size int) bool, broken *atomic.Bool) {
	r := &saltest.Resolver{}
	lossy := testNode(t, 3, r, isRelay, func(c *Config) { c.loseRelayed = lose })
	good := []*Node{testNode(t, 4, r, isRelay), testNode(t, 5, r, isRelay)}
	client := testNode(t, 1, r, v4Only, knows(lossy), publishes(r, 1))
	server := testNode(t, 2, r, v6Only, knows(lossy), publishes(r, 2))
	awaitHomes(t, client, lossy)
	awaitHomes(t, server, lossy)
	service := provide(r, 100, server)
	var got atomic.Int64
	server.Handle(service, func(_ context.Context, in *Incoming) {
		c, err := in.AcceptPacket()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 2000)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			got.Add(1)
		}
	})
	c, err := client.DialPacket(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	packet := make([]byte, 1000)
	second := func() float64 {
		before, sent := got.Load(), 0
		for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			_, _ = c.Write(packet)
			sent++
		}
		time.Sleep(50 * time.Millisecond)
		return float64(got.Load()-before) / float64(sent)
	}
	second()
	via := func() identity.NodeID {
		for _, p := range client.Peers() {
			if p.Node == server.ID() {
				return p.Relay
			}
		}
		return identity.NodeID{}
	}
	if via() != lossy.ID() {
		t.Fatalf("the session goes through %s, not through the only relay", via().Short())
	}
	broken.Store(true)
	for _, n := range []*Node{client, server} {
		for _, g := range good {
			n.relays.know(g.ID(), g.Locators(), homes.FromRelay)
		}
	}
	begun := time.Now()
	arrived := second()
	first := arrived
	// Losing half by chance, a second may look well: what counts is who forwards.
	for (arrived < 0.95 || via() == lossy.ID()) && time.Since(begun) < 10*time.Second {
		arrived = second()
	}
	t.Logf("in the first second %.2f arrived, %.2f after %v", first, arrived, time.Since(begun))
	if arrived < 0.95 || via() == lossy.ID() {
		t.Errorf("%.2f arrive, by way of the lossy relay: %t", arrived, via() == lossy.ID())
	}
}
