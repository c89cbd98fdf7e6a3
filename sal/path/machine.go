package path

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"scn.alt/scn/routing/identity"
)

// Bounds of the tables.
const (
	maxLinks    = 8
	maxRemotes  = 20
	maxImplicit = 16
	maxKnown    = 4
	// implicitLifetime is how long a pair nobody told us of is tried.
	implicitLifetime = 10 * time.Second
)

// Machine is one end of an association; see the package comment. It must not be
// used by two goroutines at once.
type Machine struct {
	// Constant after New.
	cfg           Config
	send, receive direction
	nonces        *rand.ChaCha8

	now     time.Time
	actions []Action
	metrics Metrics
	counter uint64 // of the last message sent
	sweepAt time.Time
	window  replayWindow

	links      []Link
	costs      []uint8           // of links
	loopback   bool              // a loopback address is among links
	told       []netip.AddrPort  // remotes, by the peer itself
	toldRelays []identity.NodeID // the peer's
	resolved   []netip.AddrPort  // remotes, by a record
	known      []netip.AddrPort  // remotes that were proved and are in no list
	toldSeq    uint32
	own        []netip.AddrPort // our locators
	ownRelays  []identity.NodeID
	ownSeq     uint32
	ownSeen    uint32 // what the peer has of them

	addresses addressTable
	pairs     []*pair

	agreement
	liveness

	// So that dropping garbage allocates nothing.
	scratch *Scratch
}

// Info is a snapshot of the data path.
type Info struct {
	// Route is the route in use, or last used.
	Route Route
	// RTT is the smoothed round trip of the route, 0 if not measured yet.
	RTT time.Duration
	// MTU is the largest IP packet known to pass.
	MTU int
	// Lost is set while no path is known to work.
	Lost bool
	// Why says in a few words why this route and no better one.
	Why string
}

// Metrics counts what a machine did.
type Metrics struct {
	// Moves counts changes of the data path, Searches how often it was lost.
	Moves, Searches uint64
	// Sent and Received count path messages, the latter only authentic ones.
	Sent, Received uint64
	// Malformed, Forged and Replayed count what was dropped: not a message for
	// this machine, not sealed by the peer, or seen before.
	Malformed, Forged, Replayed uint64
	// Withheld counts messages not sent because an address is not proved.
	Withheld uint64
}

// New starts a machine on the route the handshake went over. It yields actions
// at once. The only errors are those of cfg.Validate.
func New(cfg Config) (*Machine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	send, receive, err := directions(cfg.Secret, cfg.Initiator)
	if err != nil {
		return nil, err
	}
	m := &Machine{
		send: send, receive: receive,
		nonces:  rand.NewChaCha8(cfg.Seed),
		scratch: cfg.Scratch,
		now:     cfg.Start,
	}
	first := cfg.First.normal()
	m.setLinks(cfg.Links, cfg.Costs)
	if len(m.links) == 0 && !IsRelayed(first.Remote) {
		m.setLinks([]Link{first.Link}, nil)
	}
	if first = m.localize(first); m.wayOf(first.Remote) == wayDirect && !slices.Contains(m.links, first.Link) {
		m.setLinks(append([]Link{first.Link}, m.links...), append([]uint8{CostNone}, m.costs...))
	}
	m.resolved = normalRemotes(cfg.Remotes)
	m.known = []netip.AddrPort{first.Remote}
	m.setLocators(cfg.Locators)
	m.setRelays(cfg.Relays)
	cfg.Secret, cfg.Links, cfg.Costs, cfg.Locators, cfg.Relays, cfg.Remotes, cfg.First = nil, nil, nil, nil, nil, nil, first
	m.cfg = cfg
	m.keepAlive = cfg.KeepAlive
	m.movedAt = m.now
	m.punching = punching{at: m.now.Add(punchFirst), wait: punchFirst}
	m.rebuild(nil)
	m.current = m.find(first)
	m.prove(m.current)
	m.current.validated = m.now
	m.emit(m.use(false))
	m.current.restart(m.now)
	for _, p := range m.pairs {
		p.due = m.now
	}
	m.run()
	return m, nil
}

// Step tells the machine what happened. Time must not run backwards; if it does,
// the latest time seen counts.
func (m *Machine) Step(now time.Time, ev Event) {
	if now.After(m.now) {
		m.now = now
	}
	if m.mode == dead {
		return
	}
	m.sweep()
	switch ev := ev.(type) {
	case Received:
		m.onReceived(ev.Route, ev.Datagram)
	case UnknownAddress:
		m.onUnknownAddress(ev.Route, ev.Size)
	case Traffic:
		m.onTraffic(ev.LastSent, ev.LastReceived)
	case LinksChanged:
		m.onLinksChanged(ev.Links, ev.Costs)
	case Advertised:
		m.onAdvertised(ev.Locators)
	case RelaysAdvertised:
		m.onRelaysAdvertised(ev.Relays)
	case Reachable:
		m.onReachable(ev.Remote)
	case RemotesChanged:
		m.onRemotesChanged(ev.Remotes)
	case SessionsOpen:
		m.onSessionsOpen(ev.Open)
	case Resumed:
		m.onResumed()
	case SendFailed:
		m.onSendFailed(ev.Route)
	case TooBig:
		m.onTooBig(ev.Route, ev.Size)
	case Tick:
	}
	m.run()
}

// Take returns the actions not yet taken, which then belong to the caller.
func (m *Machine) Take() []Action {
	a := m.actions
	m.actions = nil
	return a
}

// Index returns the receiver index the peer's messages to this machine bear.
func (m *Machine) Index() uint64 { return m.receive.index }

// Info returns a snapshot of the data path.
func (m *Machine) Info() Info {
	return Info{
		Route: m.current.route, RTT: m.current.rtt.smooth, MTU: m.current.mtuNow(),
		Lost: m.mode == searching || m.mode == dead, Why: m.why(),
	}
}

// Metrics returns a snapshot of the counters.
func (m *Machine) Metrics() Metrics { return m.metrics }

func (m *Machine) emit(a Action) { m.actions = append(m.actions, a) }

// run sends what is due and fires the timers that have come.
func (m *Machine) run() {
	m.runTimers()
	if m.mode == dead {
		return
	}
	m.follow()
	m.runPunching()
	// The path in use first, so that the address budget serves it first.
	m.runPair(m.current)
	for _, p := range m.pairs {
		if p != m.current {
			m.runPair(p)
		}
	}
	m.runMTU()
	m.reviseSpares()
}

func (m *Machine) runPair(p *pair) {
	if p.due.IsZero() || p.due.After(m.now) || m.find(p.route) != p {
		return
	}
	if m.spared(p) {
		p.due = time.Time{}
		return
	}
	m.challenge(p)
}

// challenge sends a challenge on p and plans the next.
func (m *Machine) challenge(p *pair) {
	var msg message
	msg.addChallenge(challenge{nonce: m.nonces.Uint64()})
	if !m.transmit(p, &msg) {
		p.due = m.now.Add(smallWindow)
		if p.address != nil {
			p.due = p.address.freeAt()
		}
		// A slot that frees now is not free: the message was too large for it.
		p.due = later(p.due, m.now.Add(retryLeast))
		return
	}
	if wait := m.patience(p); wait > 0 {
		p.due = m.now.Add(wait)
	} else {
		p.due = time.Time{}
	}
}

// transmit completes msg with the state and with locators the peer has not
// confirmed, and sends it on p if the address's budget allows.
func (m *Machine) transmit(p *pair, msg *message) bool {
	msg.state = state{inUse: p == m.current && m.mode != searching, generation: m.generation, seen: m.toldSeq}
	if p.way == wayDirect {
		msg.state.class = classOf(m.linkCost(p.route.Link))
	}
	if p.address == nil {
		p.address = m.addAddress(p.route.Remote, false)
	}
	if p.address == nil && !m.cfg.without.budget {
		m.metrics.Withheld++
		return false
	}
	if m.ownSeen < m.ownSeq && !msg.pad {
		bare := *msg
		msg.addLocators(m.ownLocators())
		proved := p.address != nil && p.address.isProved(m.now)
		if n := msg.datagramSize(); !proved && (n > smallSize || p.address != nil && n > p.address.credit && bare.datagramSize() <= p.address.credit) {
			*msg = bare
		}
	}
	if !m.cfg.without.budget && !p.address.spend(m.now, msg.datagramSize()) {
		m.metrics.Withheld++
		return false
	}
	if msg.contains(kindChallenge) {
		p.remember(m.now, msg.challenge.nonce, m.quietOn(p))
	}
	m.counter++
	m.metrics.Sent++
	m.emit(Send{Route: p.route, Datagram: m.send.seal(m.counter, msg.append(m.scratch.plain[:0]))})
	return true
}

func (m *Machine) ownLocators() locators {
	l := locators{sequence: m.ownSeq}
	l.count = copy(l.list[:], m.own)
	l.relayCount = copy(l.relayList[:], m.ownRelays)
	return l
}

// find returns the pair of a normal route.
func (m *Machine) find(r Route) *pair {
	for _, p := range m.pairs {
		if p.route == r {
			return p
		}
	}
	return nil
}

// runMTU advances the search for the path MTU of the path in use.
func (m *Machine) runMTU() {
	p := m.current
	if m.mode != steady || p.mtu.due.IsZero() || p.mtu.due.After(m.now) || p.address == nil || !p.address.isProved(m.now) {
		return
	}
	shrunk := p.mtu.round(m.now, p.route.Remote.Addr().Is4(), p.rtt.smooth, func(size int) uint64 {
		var msg message
		msg.addProbe(probe{nonce: m.nonces.Uint64(), size: uint16(size)})
		msg.padTo(size - p.route.headerSize())
		m.transmit(p, &msg)
		return msg.probe.nonce
	})
	if shrunk {
		m.emit(m.use(true))
	}
}

// sweep forgets addresses whose proof has lapsed, and pairs in no list that never
// answered or that nothing came by for as long as a proof lasts.
func (m *Machine) sweep() {
	if m.now.Before(m.sweepAt) {
		return
	}
	m.sweepAt = m.now.Add(time.Second)
	m.pairs = slices.DeleteFunc(m.pairs, func(p *pair) bool {
		life := proofLifetime
		if p.validated.IsZero() {
			life = implicitLifetime
		}
		return p.implicit && p != m.current && m.now.Sub(p.lastSign()) > life
	})
	for _, a := range m.addresses.entries {
		if a.announced && !a.isProved(m.now) && a.remote != m.current.route.Remote {
			a.announced = false
			m.emit(Forgotten{Remote: a.remote})
		}
	}
}

// prove notes that the peer answers at p's address.
func (m *Machine) prove(p *pair) {
	if p.address == nil {
		p.address = m.addAddress(p.route.Remote, false)
	}
	if p.address == nil {
		return
	}
	p.address.proved = m.now
	if !p.address.announced {
		p.address.announced = true
		m.emit(Validated{Remote: p.route.Remote})
	}
	m.keepKnown(p.route.Remote)
}

// keepKnown remembers a proved remote, so that it is tried from new links too. What
// is direct and what is not do not crowd one another out.
func (m *Machine) keepKnown(remote netip.AddrPort) {
	if len(m.known) > 0 && m.known[0] == remote {
		return
	}
	m.known = slices.DeleteFunc(m.known, func(a netip.AddrPort) bool { return a == remote })
	m.known = slices.Insert(m.known, 0, remote)
	var counts [2]int
	m.known = slices.DeleteFunc(m.known, func(a netip.AddrPort) bool {
		n := &counts[0]
		if IsRelayed(a) {
			n = &counts[1]
		}
		*n++
		return *n > maxKnown
	})
}

// header reports whether b bears our index and enough bytes, and its counter.
func (m *Machine) header(b []byte) (counter uint64, ok bool) {
	index, ok := Index(b)
	if !ok || index != m.receive.index || len(b) > maxDatagram {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[9:]), true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// earliest returns the earlier of two times of which zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
