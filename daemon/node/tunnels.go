package node

import (
	"context"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal"
	"scn.alt/scn/sal/tunnel"
)

const (
	// maxTunnels is how many relays this node holds tunnels to at once.
	maxTunnels = 2
	// tunnelPatience is how long one that does not come about is tried before
	// another relay is.
	tunnelPatience = 20 * time.Second
	// tunnelLook is how often the state of UDP is looked at, where there are few
	// connections to look at; a relay of thousands looks every two seconds.
	tunnelLook   = 100 * time.Millisecond
	tunnelRarely = 2 * time.Second
	manyPeers    = 256
)

// tunnels holds tunnels over TCP to relays while UDP gets nowhere.
type tunnels struct {
	n *Node

	mu    sync.Mutex // guards below
	state blockage
	open  []*tunnelEnd
	past  tunnel.Metrics // of those closed
}

// tunnelEnd is one tunnel. Its fields but the client's are guarded by tunnels.mu.
type tunnelEnd struct {
	relay   identity.NodeID // constant, as client, cancel and since
	client  *tunnel.Client
	cancel  context.CancelFunc
	since   time.Time
	started bool // it was connected once
	news    bool // it has been connected since it was last looked at
}

// run opens tunnels when they are needed and closes them when they are not, until
// ctx ends.
func (t *tunnels) run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	defer t.closeAll()
	timer := time.NewTimer(tunnelLook)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		timer.Reset(t.step(ctx, &running))
	}
}

// step looks at UDP once and acts. It returns when to look again.
func (t *tunnels) step(ctx context.Context, running *sync.WaitGroup) time.Duration {
	works, used, peers := t.look()
	now := time.Now()
	t.mu.Lock()
	want := t.state.step(now, works, used)
	var news []*tunnelEnd
	up := 0
	for _, e := range t.open {
		if e.news {
			e.news = false
			news = append(news, e)
		}
		if e.client.Up() {
			up++
		}
	}
	var gone []*tunnelEnd
	t.open = slices.DeleteFunc(t.open, func(e *tunnelEnd) bool {
		late := up == 0 && !e.started && now.Sub(e.since) > tunnelPatience
		if want && !late {
			return false
		}
		gone = append(gone, e)
		return true
	})
	room := 0
	if want && up == 0 {
		room = maxTunnels - len(t.open)
	}
	t.mu.Unlock()
	if len(news)+len(gone) > 0 {
		t.tell(news, gone)
	}
	for _, relay := range t.candidates(room) {
		t.start(ctx, running, relay)
	}
	return min(tunnelLook*time.Duration(1+peers/manyPeers), tunnelRarely)
}

// look reports whether UDP carries anything now, whether a tunnel does, and how many
// connections there are.
func (t *tunnels) look() (works, used bool, peers int) {
	ways := t.n.sal.Ways()
	// The DHT speaks UDP too, but takes half a minute to notice that it does not.
	works = ways.Direct > 0 || ways.Lost == 0 && t.n.router.Status().Connected > 0
	return works, ways.Tunnelled > 0, ways.Direct + ways.Relayed + ways.Tunnelled + ways.Lost
}

// candidates picks nodes to which there is no tunnel yet: relays at which this node
// is registered, where it last reached them, and bootstrap nodes.
func (t *tunnels) candidates(most int) []relayServers {
	if most <= 0 || len(t.n.sal.Locators()) == 0 {
		return nil
	}
	file := t.n.Network()
	port := file.Int(RelayTCPPort, tunnel.DefaultPort)
	if port < 1 || port > 65535 {
		port = tunnel.DefaultPort
	}
	var all []network.Peer
	for _, r := range t.n.sal.Relays() {
		all = append(all, network.Peer{Node: r.Node, Addresses: slices.Clone(file.Addresses(r.Node))})
	}
	for _, p := range t.n.sal.Peers() {
		i := slices.IndexFunc(all, func(r network.Peer) bool { return r.Node == p.Node })
		if i >= 0 && p.Relay.IsZero() && !p.Tunnelled && p.Remote.IsValid() {
			all[i].Addresses = append(all[i].Addresses, p.Remote)
		}
	}
	listed := slices.Clone(file.Bootstrap)
	rand.Shuffle(len(listed), func(i, j int) { listed[i], listed[j] = listed[j], listed[i] })
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []relayServers
	for _, p := range append(all, listed...) {
		taken := p.Node == t.n.ID() || slices.ContainsFunc(t.open, func(e *tunnelEnd) bool { return e.relay == p.Node }) ||
			slices.ContainsFunc(out, func(r relayServers) bool { return r.relay == p.Node })
		if !taken && len(p.Addresses) > 0 && len(out) < most {
			out = append(out, relayServers{p.Node, tunnel.ServersOf(p.Addresses, uint16(port))})
		}
	}
	return out
}

// relayServers are where a relay takes tunnels.
type relayServers struct {
	relay   identity.NodeID
	servers []netip.AddrPort
}

// start opens one tunnel.
func (t *tunnels) start(ctx context.Context, running *sync.WaitGroup, to relayServers) {
	ctx, cancel := context.WithCancel(ctx)
	e := &tunnelEnd{relay: to.relay, cancel: cancel, since: time.Now()}
	client, err := tunnel.Open(tunnel.ClientConfig{
		Servers: to.servers, Node: loopbackOf(t.n.cfg.Listen), Logger: t.n.log.With("layer", "tunnel", "peer", to.relay.Short()),
		Connected: func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			e.news = true
		},
	})
	if err != nil {
		cancel()
		t.n.log.Warn("no socket for a tunnel", "err", err)
		return
	}
	e.client = client
	t.mu.Lock()
	t.open = append(t.open, e)
	t.mu.Unlock()
	t.n.log.Info("nothing answers by UDP: trying a tunnel over TCP", "peer", to.relay.Short())
	running.Go(func() {
		_ = client.Run(ctx) // nil
		_ = client.Close()
	})
}

// tell gives sal the tunnels that stand now.
func (t *tunnels) tell(news, gone []*tunnelEnd) {
	var first []identity.NodeID
	again := false
	t.mu.Lock()
	for _, e := range news {
		if !e.started {
			e.started = true
			first = append(first, e.relay)
			continue
		}
		again = true
	}
	ends := make([]netip.AddrPort, 0, len(t.open))
	for _, e := range t.open {
		if e.started {
			ends = append(ends, e.client.Local())
		}
	}
	for _, e := range gone {
		t.past = t.past.Add(e.client.Metrics())
	}
	t.mu.Unlock()
	t.n.sal.SetTunnels(ends)
	for _, e := range gone {
		e.cancel()
		first = append(first, e.relay)
	}
	for _, relay := range first {
		t.n.sal.Relocate(relay)
	}
	if again {
		t.n.sal.Kick() // what was on its way when the connection ended is lost
	}
}

func (t *tunnels) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.open {
		e.cancel()
	}
	t.open = nil
}

// moved has the tunnels made anew whose connection is from an address this host has
// no more.
func (t *tunnels) moved(locators []netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state.changed(time.Now())
	for _, e := range t.open {
		from := e.client.From()
		if !slices.ContainsFunc(locators, func(l netip.AddrPort) bool { return l.Addr().Unmap() == from }) {
			e.client.Kick()
		}
	}
}

// kick has all tunnels made anew.
func (t *tunnels) kick() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state.changed(time.Now())
	for _, e := range t.open {
		e.client.Kick()
	}
}

// with puts the tunnel to a node behind its other locators.
func (t *tunnels) with(node identity.NodeID, locators []netip.AddrPort) []netip.AddrPort {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.open {
		if e.relay == node && e.started {
			// sal tries eight: the tunnel must be among them.
			return append(slices.Clone(locators[:min(len(locators), 7)]), e.client.Local())
		}
	}
	return locators
}

// resolver is the router, with tunnels among what it finds.
type resolver struct {
	sal.Resolver
	tunnels *tunnels
}

// Resolve implements sal.Resolver.
func (r resolver) Resolve(ctx context.Context, service identity.ServiceID) iter.Seq2[[]record.Candidate, error] {
	return func(yield func([]record.Candidate, error) bool) {
		for candidates, err := range r.Resolver.Resolve(ctx, service) {
			candidates = slices.Clone(candidates)
			for i := range candidates {
				candidates[i].Locators = r.tunnels.with(candidates[i].Node, candidates[i].Locators)
			}
			if !yield(candidates, err) {
				return
			}
		}
	}
}

// ResolveNode implements sal.Resolver.
func (r resolver) ResolveNode(ctx context.Context, node identity.NodeID) iter.Seq2[record.Candidate, error] {
	return func(yield func(record.Candidate, error) bool) {
		for c, err := range r.Resolver.ResolveNode(ctx, node) {
			if err == nil {
				c.Locators = r.tunnels.with(node, c.Locators)
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// loopbackOf is where this host's own programs reach a UDP port that listens at an
// address.
func loopbackOf(listen netip.AddrPort) netip.AddrPort {
	if listen.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), listen.Port())
	}
	return netip.AddrPortFrom(listen.Addr().Unmap(), listen.Port())
}
