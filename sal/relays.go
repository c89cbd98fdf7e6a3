package sal

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/homes"
	"scn.alt/scn/sal/relay"
	"scn.alt/scn/sal/underlay"
)

const (
	// relayHomes is how many home relays a node keeps, relayHomesOfRelay one that is a
	// relay itself.
	relayHomes        = 3
	relayHomesOfRelay = 2
	// maxDemanded bounds the registrations at other nodes' home relays.
	maxDemanded = 8
	// demandFor is how long such a registration stays when it is of no use.
	demandFor = time.Minute
	// unknownFor is how long a relay's word holds that a node is not registered
	// there.
	unknownFor = 10 * time.Second
	// maxUnknown bounds what is remembered of that.
	maxUnknown = 256
	// maxRelayed is how many relayed ways to one peer are tried.
	maxRelayed = 3
	// lookInterval is how often the paths to relays are looked at.
	lookInterval = time.Second
	// renewInterval is about how often a registration is made anew that has no
	// connection, renewRetry the shortest pause between attempts while the relay is
	// silent.
	renewInterval = 20 * time.Minute
	renewRetry    = 5 * time.Second
	// askBootstrap is how often the network file is looked at for relays.
	askBootstrap = 30 * time.Second
)

// relays keeps this node's registrations at relays: at its home relays, which package
// homes chooses, and for a while at those of the peers it has sessions with.
type relays struct {
	node *Node
	wake chan struct{} // cap 1: something may be due earlier

	mu      sync.Mutex // guards below; nothing else of the node is locked under it
	core    *homes.Machine
	where   map[identity.NodeID][]netip.AddrPort // of relays told of, as they were told
	regs    map[identity.NodeID]*registration
	unknown map[unknownPeer]time.Time // until when a relay does not know a node
	homes   []identity.NodeID         // told to others
	busy    inUse
	accused time.Time // when a relay was last blamed for a connection's losses
	random  *rand.Rand
}

// inUse says what this node's sessions use, at one moment.
type inUse struct {
	at     time.Time
	relays map[identity.NodeID]bool // that carry a path
	peers  map[identity.NodeID]bool // with whom there are sessions
	lossy  map[identity.NodeID]bool // relays through which too much is lost
}

// inUse looks at the sessions, at most once a second: there may be thousands.
func (r *relays) inUse(now time.Time) inUse {
	r.mu.Lock()
	busy := r.busy
	r.mu.Unlock()
	if now.Sub(busy.at) < time.Second {
		return busy
	}
	busy = inUse{now, make(map[identity.NodeID]bool), make(map[identity.NodeID]bool), make(map[identity.NodeID]bool)}
	for _, l := range r.node.allLinks() {
		if l.openCount() > 0 {
			busy.peers[l.peer] = true
			if via := l.assoc.Info().Relay; !via.IsZero() {
				busy.relays[via] = true
				stats := l.quic.ConnectionStats()
				if l.loss.look(via, stats.PacketsSent, stats.PacketsLost) {
					busy.lossy[via] = true
				}
			}
		}
	}
	r.mu.Lock()
	r.busy = busy
	r.mu.Unlock()
	return busy
}

type unknownPeer struct {
	relay identity.NodeID
	peer  relay.Prefix
}

// registration is one session with a relay, made or in the making. Its fields are
// guarded by relays.mu but where it says so.
type registration struct {
	relay   identity.NodeID // constant
	timeout time.Duration   // constant: how long making it may take
	cancel  context.CancelFunc
	ready   chan struct{} // closed when it stands or has failed

	anchor *anchor // nil until it stands
	link   *link   // nil before, and once its connection is parked
	since  time.Time
	stale  time.Time // when to register anew although nothing is wrong
	renew  time.Time // not before
	tries  int       // of that, in a row, in vain
	health *homes.Health
	home   bool
	needed time.Time // until when it is needed for others' sake
	peers  map[identity.NodeID]struct{}
	over   bool
	// accused is until when it is taken for lossy whatever its probes say.
	accused time.Time
}

func newRelays(n *Node) *relays {
	want := relayHomes
	if n.cfg.Relay != nil {
		want = relayHomesOfRelay
	}
	var seed uint64
	for _, b := range n.instance[:8] {
		seed = seed<<8 | uint64(b)
	}
	return &relays{
		node: n, wake: make(chan struct{}, 1),
		core:    homes.New(homes.Config{Want: want, Seed: seed}),
		where:   make(map[identity.NodeID][]netip.AddrPort),
		regs:    make(map[identity.NodeID]*registration),
		unknown: make(map[unknownPeer]time.Time),
		random:  rand.New(rand.NewPCG(seed, 1)),
	}
}

// step gives the core an event and does what it asks for.
func (r *relays) step(event func(m *homes.Machine, now time.Time)) {
	r.mu.Lock()
	event(r.core, time.Now())
	todo := r.takeLocked()
	r.mu.Unlock()
	r.do(todo)
}

// takeLocked turns the core's actions into what must be done without the lock.
func (r *relays) takeLocked() (todo []func()) {
	for actions := r.core.Take(); len(actions) > 0; actions = r.core.Take() {
		for _, action := range actions {
			switch a := action.(type) {
			case homes.Register:
				todo = append(todo, r.registerLocked(a.Relay, true, a.Timeout))
			case homes.Drop:
				todo = append(todo, r.dropLocked(a.Relay))
			case homes.Check:
				now := time.Now()
				for _, g := range r.regs {
					if g.health != nil {
						g.health.Check(now)
					}
				}
			case homes.Homes:
				r.homes = a.Relays
				list := slices.Clone(a.Relays)
				todo = append(todo, func() { r.node.relaysChanged(list) })
			}
		}
	}
	return todo
}

// do runs what takeLocked returned, and wakes the loop.
func (r *relays) do(todo []func()) {
	for _, f := range todo {
		if f != nil {
			f()
		}
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// registerLocked begins a registration, or takes over one that there is.
func (r *relays) registerLocked(id identity.NodeID, home bool, timeout time.Duration) func() {
	if g := r.regs[id]; g != nil {
		if !home {
			return nil
		}
		g.home = true
		if g.anchor != nil {
			r.core.Registered(time.Now(), id, g.health.RTT())
		}
		return nil
	}
	g, start := r.beginLocked(id, timeout)
	g.home = home
	r.regs[id] = g
	return start
}

// beginLocked returns a registration and what makes it.
func (r *relays) beginLocked(id identity.NodeID, timeout time.Duration) (*registration, func()) {
	ctx, cancel := context.WithCancel(r.node.ctx)
	g := &registration{relay: id, timeout: timeout, cancel: cancel, ready: make(chan struct{}), peers: make(map[identity.NodeID]struct{})}
	where := slices.Clone(r.where[id])
	return g, func() {
		if !r.node.spawn(func() { r.run(ctx, g, where) }) {
			cancel()
		}
	}
}

// dropLocked ends a registration as a home; it stays while it is needed otherwise.
func (r *relays) dropLocked(id identity.NodeID) func() {
	g := r.regs[id]
	if g == nil {
		return nil
	}
	g.home = false
	if g.anchor != nil && time.Now().Before(g.needed) && g.health.Verdict() == homes.Well {
		return nil
	}
	return r.endLocked(g)
}

// endLocked ends a registration. It returns what is left to do.
func (r *relays) endLocked(g *registration) func() {
	r.forgetLocked(g)
	return func() {
		g.cancel()
		r.node.relayChanged(g.relay)
	}
}

// forgetLocked takes a registration off the list, so that nothing is sent by it.
func (r *relays) forgetLocked(g *registration) {
	if r.regs[g.relay] == g {
		delete(r.regs, g.relay)
	}
	if g.over {
		return
	}
	g.over = true
	if g.anchor == nil {
		close(g.ready)
		return
	}
	if now := r.regs[g.relay]; now == nil || now.anchor == nil || now.anchor.assoc != g.anchor.assoc {
		g.anchor.assoc.DropRelay()
	}
	g.anchor.release()
}

// run makes one registration and keeps it until it ends, or its connection is parked.
func (r *relays) run(ctx context.Context, g *registration, where []netip.AddrPort) {
	c, err := r.register(ctx, g, where)
	if err == nil {
		err = r.listen(ctx, c)
		if errors.Is(err, ErrLost) {
			<-c.link.ctx.Done() // the session learns of it first
		}
		parked := c.link.parked() && r.park(g)
		_ = c.Close()
		if parked {
			return
		}
	}
	g.cancel()
	r.node.cfg.Logger.Debug("registration ended", "peer", g.relay.Short(), "err", err)
	r.mu.Lock()
	r.lostLocked(g, err)
	todo := r.takeLocked()
	r.mu.Unlock()
	r.do(todo)
	r.node.relayChanged(g.relay)
}

// park keeps a registration although its session has ended.
func (r *relays) park(g *registration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	g.link = nil
	return !g.over
}

// lostLocked handles the end of a registration that this node did not want to end.
func (r *relays) lostLocked(g *registration, err error) {
	now := r.regs[g.relay]
	r.forgetLocked(g)
	var refused *relayRefusal
	switch {
	case now != nil && now != g: // it was to take the place of one that stands
		now.tries++
	case now == nil || !g.home:
	case errors.As(err, &refused):
		r.core.Refused(time.Now(), g.relay, refused.after)
	default:
		r.core.Failed(time.Now(), g.relay)
	}
}

// renewLocked makes a registration anew that has no connection any more: to be told of
// other relays, and because the relay may have forgotten it.
func (r *relays) renewLocked(now time.Time, g *registration) func() {
	if g.link != nil || now.Before(g.renew) {
		return nil
	}
	g.renew = now.Add(homes.Spread(min(renewRetry<<min(g.tries, 6), renewInterval), r.random))
	_, start := r.beginLocked(g.relay, homes.Patience(g.tries))
	return start
}

// heardWord is called by the carrier when a relay says something.
func (r *relays) heardWord(id identity.NodeID, word underlay.RelayWord, about relay.Prefix) {
	switch word {
	case underlay.RelayUnknownNode:
		r.noteUnknown(id, about)
	case underlay.RelayUnregistered:
		r.mu.Lock()
		var todo []func()
		if g := r.regs[id]; g != nil && g.anchor != nil && g.link == nil {
			todo = append(todo, r.endLocked(g))
			if g.home {
				r.core.Failed(time.Now(), id)
			}
			todo = append(todo, r.takeLocked()...)
		}
		r.mu.Unlock()
		r.do(todo)
	}
}

// dead is called when no path to a relay was found for too long.
func (r *relays) dead(a association) {
	r.mu.Lock()
	var todo []func()
	for id, g := range r.regs {
		if g.anchor != nil && g.anchor.assoc == a && g.link == nil {
			todo = append(todo, r.endLocked(g))
			if g.home {
				r.core.Failed(time.Now(), id)
			}
		}
	}
	todo = append(todo, r.takeLocked()...)
	r.mu.Unlock()
	r.do(todo)
}

// loop does what is due until the node is closed.
func (r *relays) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var asked time.Time
	for {
		select {
		case <-r.node.ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
		if f := r.node.cfg.BootstrapRelays; f != nil && time.Since(asked) >= askBootstrap {
			asked = time.Now()
			for _, c := range f() {
				r.know(c.Node, c.Locators, homes.FromNetwork)
			}
		}
		due := r.tick()
		if next := asked.Add(askBootstrap); due.IsZero() || next.Before(due) {
			due = next
		}
		timer.Reset(max(time.Until(due), time.Millisecond))
	}
}

// tick does what is due and returns when something is again.
func (r *relays) tick() (due time.Time) {
	at := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	busy := r.inUse(time.Now())
	type probe struct {
		assoc   association
		serials []uint64
	}
	var probes []probe
	var todo []func()
	now := time.Now()
	r.mu.Lock()
	if d := r.core.Deadline(); !d.IsZero() && !now.Before(d) {
		r.core.Tick(now)
	}
	for id, g := range r.regs {
		if g.health == nil {
			continue
		}
		if g.link != nil && g.link.isRetired() {
			todo = append(todo, g.cancel) // both dialled: the other connection is kept
			continue
		}
		g.health.Busy(now, busy.relays[id])
		if g.anchor.assoc.Info().Lost {
			g.health.Check(now)
		}
		at(now.Add(lookInterval))
		if serials := g.health.Tick(now); len(serials) > 0 {
			probes = append(probes, probe{g.anchor.assoc, serials})
		}
		at(g.health.Deadline())
		if verdict := g.health.Verdict(); verdict == homes.Silent || !now.Before(g.stale) {
			todo = append(todo, r.renewLocked(now, g))
		}
		if g.home {
			r.core.Ails(now, id, r.verdictLocked(now, g))
			continue
		}
		for peer := range g.peers {
			if busy.peers[peer] {
				g.needed = now.Add(demandFor)
			} else if !now.Before(g.needed) {
				delete(g.peers, peer)
			}
		}
		if !now.Before(g.needed) || g.health.Verdict() == homes.Silent {
			todo = append(todo, r.endLocked(g))
			continue
		}
		at(g.needed)
	}
	for k, until := range r.unknown {
		if now.After(until) {
			delete(r.unknown, k)
		}
	}
	todo = append(todo, r.takeLocked()...)
	at(r.core.Deadline())
	r.mu.Unlock()
	for _, p := range probes {
		for _, serial := range p.serials {
			p.assoc.ProbeRelay(serial)
		}
	}
	for _, f := range todo {
		if f != nil {
			f()
		}
	}
	return due
}

// echoed is called by the carrier when a probe came back.
func (r *relays) echoed(id identity.NodeID, serial uint64) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.regs[id]
	if g == nil || g.health == nil {
		return
	}
	if rtt, ok := g.health.Back(now, serial); ok && g.home {
		r.core.Heard(now, id, rtt)
		r.core.Ails(now, id, r.verdictLocked(now, g))
	}
	if !g.health.Deadline().After(now) {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// know tells of a relay and where it may be.
func (r *relays) know(id identity.NodeID, where []netip.AddrPort, source homes.Source) {
	if id == r.node.id || r.node.cfg.Admit(id) != nil {
		return
	}
	r.step(func(m *homes.Machine, now time.Time) {
		if len(where) > 0 && (r.where[id] != nil || len(r.where) < homes.MaxKnown) {
			r.where[id] = slices.Clone(where[:min(len(where), maxToldAddresses)])
		}
		m.Know(now, id, source)
	})
}

// registered returns the relays at which this node is registered.
func (r *relays) registered() map[identity.NodeID]*anchor {
	r.mu.Lock()
	defer r.mu.Unlock()
	up := make(map[identity.NodeID]*anchor, len(r.regs))
	for id, g := range r.regs {
		if g.anchor != nil && !g.over {
			up[id] = g.anchor
		}
	}
	return up
}

// anchorOf returns the association with a relay at which this node is registered.
func (r *relays) anchorOf(id identity.NodeID) *anchor {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.regs[id]; g != nil && !g.over {
		return g.anchor
	}
	return nil
}

// parked describes the paths to relays at which this node is registered without a
// connection. One that is silent counts as lost: its own path is not looked at then.
func (r *relays) parked() (list []underlay.Info) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.regs {
		if g.anchor != nil && g.link == nil && !g.over {
			info := g.anchor.assoc.Info()
			info.Lost = info.Lost || g.health.Verdict() == homes.Silent
			list = append(list, info)
		}
	}
	return list
}

// moved notes that this host changed its network.
func (r *relays) moved() { r.step((*homes.Machine).Moved) }
