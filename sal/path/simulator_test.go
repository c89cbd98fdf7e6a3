package path

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"scn.alt/scn/routing/identity"
)

// simulator runs two machines, a network and an attacker in virtual time, in one
// goroutine and from one seed. It owns all addresses, so it knows what no machine
// can: which of them are really the peer's.
type simulator struct {
	rng   *rand.Rand
	start time.Time
	now   time.Time
	queue simQueue
	order int
	hosts [2]*simHost
	net   simNetwork
	// relays are nil in worlds without any; only with them links have NATs and costs.
	relays [2]*simRelay
	evil   simAttacker
	fault  error
	trace  func(format string, args ...any)

	traceMessages bool
}

// simNetwork is what the network does to packets, apart from its links.
type simNetwork struct {
	loss, duplicate, reorder float64
	blackout                 bool
	recordsDown              bool // nothing is resolved
	recordsTrue              bool // records know even what NATs did
	costs                    bool // links have costs
	// legMost is how long the way to a relay takes to move, at most.
	legMost time.Duration
}

// simLink is one access link of a host; external is what its address looks like
// from outside.
type simLink struct {
	link     Link
	external netip.AddrPort
	delay    time.Duration
	mtu      int
	silent   bool // carries nothing, without anybody being told
	cost     uint8
	carried  int     // packets, both ways
	nat      *simNAT // nil if external is all there is to say
	// reflexive is how a relay saw it last.
	reflexive netip.AddrPort
}

type simHost struct {
	sim   *simulator
	name  string
	id    identity.NodeID
	m     *Machine
	homes []int // relays
	legs  [2]simLeg
	// peerRelays are the relayed remotes of the peer, as it told.
	peerRelays []netip.AddrPort
	links      []*simLink
	serial     int // of addresses
	record     []netip.AddrPort
	used       Use
	// planned is when the next Tick is in the queue.
	planned time.Time
	dead    bool

	validated map[netip.AddrPort]bool
	ever      map[netip.AddrPort]bool // addresses that were ours
	accepted  map[uint64]bool         // counters of messages the machine took
	contacts  map[netip.AddrPort]*simContact
	moves     int
	probes    int // messages to addresses not proved
	data      struct{ sent, got int }
	resends   int
	resolves  int

	busy         bool
	sent, got    time.Time
	noted        time.Time
	dataInterval time.Duration
	steps        int
	stepsSince   time.Time
	bogus        bool
}

// simContact is the simulator's own account of what a host may send to an address
// that never answered it.
type simContact struct {
	genuine bool // something of the peer came from it
	credit  int  // three times what came from it, in bytes
	sent    int
	first   time.Time
	times   []time.Time
}

type simEvent struct {
	at    time.Duration // since the start
	order int
	run   func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	(*q)[last].run = nil
	*q = (*q)[:last]
	return x
}

const simPort = 7000

// newSimulator makes a world without relays.
func newSimulator(seed uint64, without guards) *simulator { return newWorld(seed, without, false) }

// newWorld makes a world; in one with relays the handshake went through one.
func newWorld(seed uint64, without guards, relays bool) *simulator {
	s := &simulator{
		rng:   rand.New(rand.NewPCG(seed, 0x5c4e)),
		start: time.Unix(1_700_000_000, 0),
		trace: func(string, ...any) {},
	}
	s.now, s.net.legMost = s.start, 500*time.Millisecond
	s.evil.sim = s
	for i, name := range []string{"a", "b"} {
		s.hosts[i] = &simHost{
			sim: s, name: name, validated: map[netip.AddrPort]bool{}, ever: map[netip.AddrPort]bool{},
			accepted: map[uint64]bool{}, contacts: map[netip.AddrPort]*simContact{},
		}
	}
	if relays {
		s.relays[0] = &simRelay{} // so that links get NATs
	}
	for _, h := range s.hosts {
		h.addLink(false)
	}
	if relays {
		s.newRelays()
	}
	var secret [SecretSize]byte
	for i := range secret {
		secret[i] = byte(s.rng.Uint32())
	}
	for i, h := range s.hosts {
		cfg := Config{Initiator: i == 0, Secret: secret[:], Start: s.now, without: without}
		for j := range cfg.Seed {
			cfg.Seed[j] = byte(s.rng.Uint32())
		}
		cfg.First = Route{Link: h.links[0].link, Remote: h.peer().links[0].external}
		cfg.Links, cfg.Costs = h.linkList()
		cfg.Locators = h.locators()
		if relays {
			cfg.First = Route{Remote: RelayRemote(s.relays[0].id, h.peer().id)}
			cfg.Relays = h.homeIDs()
		}
		h.record = cfg.Locators
		h.contact(cfg.First.Remote).genuine = true // the handshake
		m, err := New(cfg)
		if err != nil {
			panic(err)
		}
		h.m = m
	}
	for _, h := range s.hosts {
		h.act()
		h.step(SessionsOpen{Open: true})
		h.scheduleData()
		if relays {
			h.observeNow()
			h.observe()
		}
	}
	return s
}

// after runs f d later.
func (s *simulator) after(d time.Duration, f func()) {
	s.order++
	heap.Push(&s.queue, simEvent{at: s.now.Sub(s.start) + d, order: s.order, run: f})
}

// run advances virtual time by d, or until something is wrong.
func (s *simulator) run(d time.Duration) {
	until := s.now.Add(d)
	for s.fault == nil && len(s.queue) > 0 && s.queue[0].at <= until.Sub(s.start) {
		ev := heap.Pop(&s.queue).(simEvent)
		s.now = s.start.Add(ev.at)
		ev.run()
	}
	s.now = until
}

func (s *simulator) failf(format string, args ...any) {
	if s.fault == nil {
		s.fault = fmt.Errorf("at %v: %s", s.now.Sub(s.start), fmt.Sprintf(format, args...))
	}
}

func (s *simulator) chance(p float64) bool { return s.rng.Float64() < p }

func (s *simulator) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.rng.Int64N(int64(most-least)+1))
}

// transit carries one datagram from a host's link towards remote.
func (s *simulator) transit(from *simHost, l *simLink, remote netip.AddrPort, size int, deliver func(to *simHost, at *simLink, source netip.AddrPort)) {
	to := from.peer()
	if s.net.blackout || l.silent || size > l.mtu || s.chance(s.net.loss) {
		return
	}
	source := l.leave(remote)
	l.carried++
	copies := 1
	if s.chance(s.net.duplicate) {
		copies = 2
	}
	for range copies {
		delay := l.delay
		if s.chance(s.net.reorder) {
			delay += s.between(0, 50*time.Millisecond)
		}
		at := to.linkAt(remote)
		if at == nil {
			return
		}
		s.after(delay+at.delay, func() {
			if !slices.Contains(to.links, at) || !at.admits(remote, source) || at.silent || s.net.blackout || size > at.mtu {
				return
			}
			at.carried++
			deliver(to, at, source)
		})
	}
}

func (h *simHost) peer() *simHost {
	if h == h.sim.hosts[0] {
		return h.sim.hosts[1]
	}
	return h.sim.hosts[0]
}

func (h *simHost) linkAt(external netip.AddrPort) *simLink {
	for _, l := range h.links {
		if l.has(external) {
			return l
		}
	}
	return nil
}

func (h *simHost) linkOf(link Link) *simLink {
	for _, l := range h.links {
		if l.link == link {
			return l
		}
	}
	return nil
}

func (h *simHost) linkList() (list []Link, costs []uint8) {
	for _, l := range h.links {
		list = append(list, l.link)
		costs = append(costs, l.cost)
	}
	return list, costs
}

// locators are the addresses a host would advertise: those it knows of itself.
func (h *simHost) locators() []netip.AddrPort {
	var list []netip.AddrPort
	for _, l := range h.links {
		list = append(list, netip.AddrPortFrom(l.link.Local, simPort))
		if l.reflexive.IsValid() {
			list = append(list, l.reflexive)
		}
	}
	if h.bogus {
		list = append(list, victim(7))
	}
	return list
}

// addLink gives the host a new address, never used before.
func (h *simHost) addLink(v6 bool) *simLink {
	s := h.sim
	h.serial++
	side := byte(1)
	if h.name == "b" {
		side = 2
	}
	addr := netip.AddrFrom4([4]byte{10, side, byte(h.serial >> 8), byte(h.serial)})
	if v6 {
		addr = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, side, 14: byte(h.serial >> 8), 15: byte(h.serial)})
	}
	l := &simLink{
		link: Link{Local: addr, Interface: h.serial}, external: netip.AddrPortFrom(addr, simPort),
		delay: s.between(100*time.Microsecond, 60*time.Millisecond), mtu: 1500, cost: CostNone,
	}
	switch s.rng.IntN(8) {
	case 0:
		l.mtu = 1280
	case 1:
		if !v6 {
			l.mtu = 1124
		}
	}
	if s.relays[0] == nil {
		if !v6 && s.chance(0.2) {
			h.rebind(l)
		}
	} else {
		if !v6 && s.chance(0.8) {
			timeout := []time.Duration{20 * time.Second, 2 * time.Minute}[s.rng.IntN(2)]
			l.nat = h.newNAT(l, natKind(s.rng.IntN(3)), timeout)
			l.external = netip.AddrPort{}
		}
		if s.net.costs {
			l.cost = []uint8{CostPrefer, CostNone, CostMetered, CostBackup}[s.rng.IntN(4)]
		}
	}
	h.links = append(h.links, l)
	h.ever[l.external] = true
	return l
}

// rebind puts a link behind a NAT, or gives it another mapping there.
func (h *simHost) rebind(l *simLink) {
	if l.nat != nil {
		l.nat.reset()
		return
	}
	h.serial++
	a := l.link.Local.As4()
	a[0] = 77
	l.external = netip.AddrPortFrom(netip.AddrFrom4(a), uint16(20000+h.serial))
	h.ever[l.external] = true
}

// announce tells the machine of the host's links, and the world of its record a
// while later.
func (h *simHost) announce() {
	locators := h.locators()
	h.step(Advertised{Locators: locators})
	links, costs := h.linkList()
	h.step(LinksChanged{Links: links, Costs: costs})
	if h.sim.relays[0] != nil {
		h.observeNow()
	}
	h.sim.after(h.sim.between(5*time.Millisecond, 200*time.Millisecond), func() { h.record = h.reachable() })
}

// reachable is what a good record says: addresses as seen from outside.
func (h *simHost) reachable() []netip.AddrPort {
	var list []netip.AddrPort
	for _, l := range h.links {
		external := l.external
		if l.nat != nil {
			external = l.reflexive
		}
		if external.IsValid() {
			list = append(list, external)
		}
	}
	return list
}

// step steps the machine, carries out its actions and plans its next tick.
func (h *simHost) step(ev Event) {
	s := h.sim
	if h.dead || s.fault != nil {
		return
	}
	h.m.Step(s.now, ev)
	if s.now.Sub(h.stepsSince) > time.Second {
		h.steps, h.stepsSince = 0, s.now
	}
	if h.steps++; h.steps > 5000 {
		s.failf("host %s is spinning: %d steps in a second; now %T, deadline in %v, mode %d", h.name, h.steps, ev, h.m.Deadline().Sub(s.now), h.m.mode)
		return
	}
	h.act()
}

func (h *simHost) act() {
	s := h.sim
	for _, a := range h.m.Take() {
		switch a := a.(type) {
		case Send:
			h.checkBudget(a.Route.Remote, len(a.Datagram))
			if s.traceMessages {
				s.traceMessage(h, a)
			}
			h.send(a.Route, a.Datagram)
		case Use:
			s.trace("%v %s use %v mtu %d resend %v gen %d mode %d", s.now.Sub(s.start), h.name, a.Route, a.MTU, a.Resend, h.m.generation, h.m.mode)
			h.used = a
			if a.Resend {
				h.resends++
				h.dataInterval = 0
				s.after(0, h.sendData)
			}
			if !h.peer().ever[a.Route.Remote] {
				s.failf("host %s moved to %s, which never was the peer's", h.name, a.Route.Remote)
			}
			if c := h.contacts[a.Second.Remote]; a.HasSecond && (c == nil || !c.genuine || a.Second == a.Route) {
				s.failf("host %s sends copies over %v", h.name, a.Second)
			}
			if c := h.contacts[a.Route.Remote]; c == nil || !c.genuine {
				s.failf("host %s moved to %s before anything came from there", h.name, a.Route.Remote)
			}
		case Validated:
			if !h.peer().ever[a.Remote] || h.validated[a.Remote] {
				s.failf("host %s validated %s, the peer's: %v, already: %v", h.name, a.Remote, h.peer().ever[a.Remote], h.validated[a.Remote])
			}
			h.validated[a.Remote] = true
			if n := len(h.validated); n > MaxAddresses {
				s.failf("host %s holds %d addresses for the peer's", h.name, n)
			}
		case Forgotten:
			if !h.validated[a.Remote] {
				s.failf("host %s forgot %s, which it did not have", h.name, a.Remote)
			}
			delete(h.validated, a.Remote)
		case Resolve:
			h.resolves++
			if !s.net.recordsDown {
				record := h.peer()
				s.after(s.between(time.Millisecond, 80*time.Millisecond), func() {
					if s.net.recordsTrue {
						record.record = record.reachable()
					}
					h.resolved(record.record)
				})
			}
		case RelaysTold:
			h.toldRelays(a.Relays)
		case Moved:
			h.moves++
			s.trace("%v %s moved %v => %v gap %v", s.now.Sub(s.start), h.name, a.From, a.To, a.Gap)
		case Observed:
			if l := h.linkOf(a.Link); l != nil && !h.ever[a.Address] {
				s.trace("%v %s observed as %s", s.now.Sub(s.start), h.name, a.Address)
			}
		case Dead:
			h.dead = true
		}
	}
	h.plan()
}

// plan makes sure that the machine is ticked at its deadline: an event already
// waiting for an earlier time plans anew when it fires.
func (h *simHost) plan() {
	s := h.sim
	at := h.m.Deadline()
	if at.IsZero() || h.dead || !h.planned.IsZero() && !h.planned.After(at) && h.planned.After(s.now) {
		return
	}
	if at.Before(s.now) {
		at = s.now
	}
	h.planned = at
	s.after(at.Sub(s.now), func() {
		if h.planned != at {
			return
		}
		h.planned = time.Time{}
		if due := h.m.Deadline(); due.IsZero() || due.After(s.now) {
			h.plan()
			return
		}
		h.note()
		h.step(Tick{})
	})
}

// send puts a path message on the wire.
func (h *simHost) send(r Route, datagram []byte) {
	s := h.sim
	if relay := h.relayOf(r.Remote); relay != nil {
		if r.Link != (Link{}) {
			s.failf("host %s sends over %v", h.name, r)
		}
		s.evil.tap(h, RelayRemote(relay.id, h.id), r.Remote, datagram)
		s.relayTransit(h, relay, func(to *simHost, source netip.AddrPort) {
			to.receive(Route{Remote: source}, datagram, true)
		})
		return
	}
	l := h.linkOf(r.Link)
	if l == nil {
		s.after(0, func() { h.step(SendFailed{Route: r}) })
		return
	}
	s.evil.tap(h, l.look(r.Remote), r.Remote, datagram)
	s.transit(h, l, r.Remote, len(datagram)+r.headerSize(), func(to *simHost, at *simLink, source netip.AddrPort) {
		to.receive(Route{Link: at.link, Remote: source}, datagram, true)
	})
}

// receive hands a path message to the machine and checks what it makes of it.
// genuine says that it came as the peer sent it.
func (h *simHost) receive(r Route, datagram []byte, genuine bool) {
	s := h.sim
	if h.dead {
		return
	}
	before := h.m.Metrics().Received
	var counter uint64
	if len(datagram) >= headerSize {
		counter = binary.BigEndian.Uint64(datagram[9:])
	}
	c := h.contact(r.Remote)
	// What comes counts before the step, which may answer; undone if the machine
	// refuses the message.
	credit, was := c.credit, c.genuine
	c.credit += 3 * len(datagram)
	c.genuine = c.genuine || genuine
	h.step(Received{Route: r, Datagram: datagram})
	if h.m.Metrics().Received == before {
		c.credit, c.genuine = min(c.credit, credit), was || genuine
		return
	}
	if h.accepted[counter] {
		s.failf("host %s accepted a replay of message %d from %s", h.name, counter, r.Remote)
	}
	h.accepted[counter] = true
}

func (h *simHost) contact(remote netip.AddrPort) *simContact {
	c := h.contacts[remote]
	if c == nil {
		c = &simContact{}
		h.contacts[remote] = c
	}
	return c
}

// checkBudget keeps the simulator's own account of packets to strangers: small
// ones only, four in 5 s if nothing came, and in sum no more than that and three
// times what came. (When which packet was paid by what cannot be known here, so
// the sum is what can be checked without repeating the machine's bookkeeping.)
func (h *simHost) checkBudget(remote netip.AddrPort, size int) {
	s := h.sim
	c := h.contact(remote)
	if c.genuine {
		return
	}
	h.probes++
	if size > 256 {
		s.failf("host %s sent %d bytes to %s, which is not proved", h.name, size, remote)
	}
	if c.first.IsZero() {
		c.first = s.now
	}
	c.sent += size
	windows := 1 + int(s.now.Sub(c.first)/(5*time.Second))
	if most := c.credit + windows*4*256; c.sent > most {
		s.failf("host %s sent %d bytes to %s, more than %d", h.name, c.sent, remote, most)
	}
	c.times = append(c.times, s.now)
	if n := len(c.times); c.credit == 0 && n > 4 && s.now.Sub(c.times[n-5]) < 5*time.Second {
		s.failf("host %s sent 5 packets within 5 s to %s, from which nothing came", h.name, remote)
	}
}

// note tells the machine when data last moved.
func (h *simHost) note() {
	h.noted = h.sim.now
	h.step(Traffic{LastSent: h.sent, LastReceived: h.got})
}

func (h *simHost) noteSoon() {
	if h.sim.now.Sub(h.noted) >= NoteInterval {
		h.note()
	}
}

// scheduleData models QUIC: a packet every 80 ms while busy, less and less often
// while nothing comes back.
func (h *simHost) scheduleData() {
	if h.dataInterval = min(max(h.dataInterval*5/4, 80*time.Millisecond), 5*time.Second); !h.busy {
		h.dataInterval = time.Second
	}
	h.sim.after(h.dataInterval, func() {
		if h.busy {
			h.sendData()
		}
		h.scheduleData()
	})
}

func (h *simHost) sendData() {
	s := h.sim
	r := h.used.Route
	l := h.linkOf(r.Link)
	h.sent = s.now
	h.data.sent++
	if relay := h.relayOf(r.Remote); relay != nil {
		s.relayTransit(h, relay, func(to *simHost, source netip.AddrPort) {
			to.receiveData(Route{Remote: source})
		})
	} else if l == nil {
		h.step(SendFailed{Route: r})
	} else {
		size := min(1400+r.headerSize(), h.used.MTU)
		s.transit(h, l, r.Remote, size, func(to *simHost, at *simLink, source netip.AddrPort) {
			to.receiveData(Route{Link: at.link, Remote: source})
		})
	}
	h.noteSoon()
}

func (h *simHost) receiveData(r Route) {
	h.got = h.sim.now
	h.data.got++
	h.dataInterval = 0
	if !h.validated[r.Remote] {
		h.contact(r.Remote).credit += 3 * 1400
		h.contact(r.Remote).genuine = true
		h.step(UnknownAddress{Route: r, Size: 1400})
	}
	h.noteSoon()
}

// mirrored reports whether both ends use the same path and it works, for data too
// if that is asked for.
func (s *simulator) mirrored(data bool) (bool, string) {
	a, b := s.hosts[0], s.hosts[1]
	for _, h := range s.hosts {
		info := h.m.Info()
		if h.dead || info.Lost {
			return false, fmt.Sprintf("%s has no path", h.name)
		}
		if info.Route != h.used.Route || info.MTU != h.used.MTU {
			return false, fmt.Sprintf("%s says %v (MTU %d) and uses %v (MTU %d)", h.name, info.Route, info.MTU, h.used.Route, h.used.MTU)
		}
		if relay := h.relayOf(info.Route.Remote); relay != nil {
			if !h.legUp(relay) || !h.peer().legUp(relay) {
				return false, fmt.Sprintf("%s uses a relay that does not work: %v", h.name, info.Route)
			}
			continue
		}
		l := h.linkOf(info.Route.Link)
		if l == nil || l.silent {
			return false, fmt.Sprintf("%s uses a link that does not work: %v", h.name, info.Route)
		}
		at := h.peer().linkAt(info.Route.Remote)
		if at == nil || at.silent || !at.admits(info.Route.Remote, l.look(info.Route.Remote)) {
			return false, fmt.Sprintf("%s sends where the peer is not: %v", h.name, info.Route)
		}
		if data && info.MTU > min(l.mtu, at.mtu) {
			return false, fmt.Sprintf("%s uses MTU %d on a path of %d", h.name, info.MTU, min(l.mtu, at.mtu))
		}
	}
	if a.seenAs() != b.used.Route.Remote || b.seenAs() != a.used.Route.Remote {
		return false, fmt.Sprintf("a uses %v generation %d, b uses %v generation %d",
			a.used.Route, a.m.generation, b.used.Route, b.m.generation)
	}
	return true, ""
}

// seenAs is where the data of h seems to come from.
func (h *simHost) seenAs() netip.AddrPort {
	r := h.used.Route
	if relay := h.relayOf(r.Remote); relay != nil {
		return RelayRemote(relay.id, h.id)
	}
	if l := h.linkOf(r.Link); l != nil {
		return l.look(r.Remote)
	}
	return netip.AddrPort{}
}

// traceMessage logs a message that is sent, opened.
func (s *simulator) traceMessage(h *simHost, a Send) {
	counter := binary.BigEndian.Uint64(a.Datagram[9:])
	plain, err := h.peer().m.receive.open(nil, counter, a.Datagram, new([12]byte))
	if err != nil {
		return
	}
	msg, _ := parseMessage(plain)
	s.trace("%v %s sends %d over %v: use %v gen %d has %06b (%d bytes)",
		s.now.Sub(s.start), h.name, counter, a.Route, msg.state.inUse, msg.state.generation, msg.has, len(a.Datagram))
}
