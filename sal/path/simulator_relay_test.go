package path

import (
	"net/netip"
	"slices"
	"time"

	"scn.alt/scn/routing/identity"
)

// simRelay forwards between hosts registered with it.
type simRelay struct {
	id    identity.NodeID
	index int
	alive bool
	delay time.Duration
	loss  float64
	// registered are the hosts it knows.
	registered [2]bool
}

// simLeg is a host's association with one relay: it has a path of its own, which
// moves when the link it takes goes away.
type simLeg struct {
	link   *simLink
	moving bool
}

func (s *simulator) newRelays() {
	for i := range s.relays {
		r := &simRelay{index: i, alive: true, delay: s.between(time.Millisecond, 30*time.Millisecond)}
		for j := range r.id {
			r.id[j] = byte(s.rng.Uint32())
		}
		s.relays[i] = r
	}
	for i, h := range s.hosts {
		for j := range h.id {
			h.id[j] = byte(s.rng.Uint32())
		}
		for _, r := range s.relays {
			h.ever[RelayRemote(r.id, h.id)] = true
		}
		h.homes = [][]int{{0}, {0, 1}, {1, 0}}[s.rng.IntN(3)]
		s.relays[0].registered[i] = true
		for _, j := range h.homes {
			s.relays[j].registered[i] = true
		}
		for j := range h.legs {
			h.legs[j].link = h.links[0]
		}
	}
}

func (h *simHost) index() int {
	if h == h.sim.hosts[0] {
		return 0
	}
	return 1
}

func (h *simHost) homeIDs() []identity.NodeID {
	var ids []identity.NodeID
	for _, i := range h.homes {
		ids = append(ids, h.sim.relays[i].id)
	}
	return ids
}

// relayOf returns the relay an address stands for, if it is the way to the peer.
func (h *simHost) relayOf(remote netip.AddrPort) *simRelay {
	for _, r := range h.sim.relays {
		if r != nil && RelayRemote(r.id, h.peer().id) == remote {
			return r
		}
	}
	return nil
}

// usable reports whether packets leave and come by l now.
func (h *simHost) usable(l *simLink) bool {
	return l != nil && !l.silent && !h.sim.net.blackout && slices.Contains(h.links, l)
}

// legUp reports whether the host reaches relay r, and sees to it that it will.
func (h *simHost) legUp(r *simRelay) bool {
	if !r.alive || !r.registered[h.index()] {
		return false
	}
	leg := &h.legs[r.index]
	if h.usable(leg.link) {
		return true
	}
	h.moveLeg(r)
	return false
}

// moveLeg finds another path to r after a while.
func (h *simHost) moveLeg(r *simRelay) {
	leg := &h.legs[r.index]
	if leg.moving {
		return
	}
	leg.moving = true
	s := h.sim
	s.after(s.between(5*time.Millisecond, max(s.net.legMost, 5*time.Millisecond)), func() {
		leg.moving = false
		for _, l := range h.links {
			if h.usable(l) {
				leg.link = l
				h.step(Reachable{Remote: RelayRemote(r.id, h.peer().id)})
				return
			}
		}
		h.moveLeg(r)
	})
}

// relayTransit carries one datagram through a relay.
func (s *simulator) relayTransit(from *simHost, r *simRelay, deliver func(to *simHost, source netip.AddrPort)) {
	to := from.peer()
	if !from.legUp(r) || s.chance(s.net.loss) || s.chance(r.loss) {
		return
	}
	copies := 1
	if s.chance(s.net.duplicate) {
		copies = 2
	}
	source := RelayRemote(r.id, from.id)
	for range copies {
		delay := from.legs[r.index].link.delay + r.delay
		if s.chance(s.net.reorder) {
			delay += s.between(0, 50*time.Millisecond)
		}
		if at := to.legs[r.index].link; at != nil {
			delay += at.delay
		}
		s.after(delay, func() {
			if to.legUp(r) {
				deliver(to, source)
			}
		})
	}
}

// fail kills a relay for a while. Hosts that have it as home notice, and take another
// one; when it is back they register again.
func (s *simulator) failRelay(r *simRelay, length time.Duration) {
	if !r.alive {
		return
	}
	r.alive = false
	r.registered = [2]bool{}
	for _, h := range s.hosts {
		s.after(s.between(2*time.Second, 5*time.Second), h.rehome)
	}
	s.after(length, func() {
		r.alive = true
		for _, h := range s.hosts {
			s.after(s.between(100*time.Millisecond, 2*time.Second), func() { h.register(r) })
		}
	})
}

// rehome takes the relays that work as home relays.
func (h *simHost) rehome() {
	var alive []int
	for i, r := range h.sim.relays {
		if r.alive {
			alive = append(alive, i)
		}
	}
	if len(alive) == 0 {
		return
	}
	h.homes = alive
	for _, i := range alive {
		h.register(h.sim.relays[i])
	}
	h.step(RelaysAdvertised{Relays: h.homeIDs()})
}

func (h *simHost) register(r *simRelay) {
	if !r.alive || r.registered[h.index()] {
		return
	}
	r.registered[h.index()] = true
	if h.legUp(r) {
		h.step(Reachable{Remote: RelayRemote(r.id, h.peer().id)})
	}
}

// toldRelays registers where the peer is at home.
func (h *simHost) toldRelays(ids []identity.NodeID) {
	s := h.sim
	s.after(s.between(5*time.Millisecond, 200*time.Millisecond), func() {
		h.peerRelays = nil
		for _, r := range s.relays {
			if r == nil || !slices.Contains(ids, r.id) {
				continue
			}
			h.register(r)
			h.peerRelays = append(h.peerRelays, RelayRemote(r.id, h.peer().id))
		}
		h.resolved(h.peer().record)
	})
}

// resolved tells the machine what is known of the peer's addresses.
func (h *simHost) resolved(record []netip.AddrPort) {
	h.step(RemotesChanged{Remotes: slices.Concat(h.peerRelays, record)})
}

// observe has a host keep its NAT mappings towards a relay alive on every link, and
// learn from the relay's answers how it looks from outside. What depends on who asks
// is not told.
func (h *simHost) observe() {
	s := h.sim
	s.after(s.between(9*time.Second, 11*time.Second), h.observe)
	h.observeNow()
}

func (h *simHost) observeNow() {
	s := h.sim
	for _, l := range h.links {
		if l.nat == nil || !h.usable(l) || l.nat.kind == natSymmetric {
			continue
		}
		external := l.nat.out(relayAddress)
		s.after(2*l.delay+10*time.Millisecond, func() {
			if h.usable(l) && l.reflexive != external && !s.noRelayAlive() {
				l.reflexive = external
				h.step(Advertised{Locators: h.locators()})
				h.record = h.reachable()
			}
		})
	}
}

func (s *simulator) noRelayAlive() bool {
	return !slices.ContainsFunc(s.relays[:], func(r *simRelay) bool { return r.alive })
}

// relayAddress is where the relays are, for NATs.
var relayAddress = netip.MustParseAddrPort("198.51.100.1:7000")

// cheapest returns the least cost of a direct path that theory allows, false if there
// is none.
func (s *simulator) cheapest() (cost int, ok bool) {
	for _, l := range s.hosts[0].links {
		for _, o := range s.hosts[1].links {
			if !l.reachableFrom(o) {
				continue
			}
			if c := int(l.cost) + int(o.cost); !ok || c < cost {
				cost, ok = c, true
			}
		}
	}
	return cost, ok
}
