package underlay

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/path"
)

// What goes to tls.ConnectionState.ExportKeyingMaterial, with a nil context, to
// get the secret of Bind.
const (
	ExporterLabel = path.SecretLabel
	SecretSize    = path.SecretSize
)

// Association is one peer as quic-go sees it: one QUIC connection, one made-up
// address, one path machine. Its methods may be called concurrently.
//
//	Dial ──► spraying ──► answered ─┐
//	                                ├─ Bind ──► bound ──► Close ──► buried (30 s)
//	stranger ──► Accepted ──────────┘
type Association struct {
	// Constant once others can find the association.
	s      *Socket
	node   identity.NodeID
	client bool           // we dialled
	serial uint16         // port of addr
	addr   *net.UDPAddr   // made up
	remote netip.AddrPort // of a stranger: where its handshake came from
	met    int64          // of a stranger: when

	// up is what quic-go sees as the source of this peer's packets.
	up    atomic.Pointer[net.UDPAddr]
	route atomic.Pointer[route] // nil until the peer's first answer
	// second is a proved route over another link, nil if there is none.
	second atomic.Pointer[route]
	bound  atomic.Bool
	dead   atomic.Bool // closed by its owner

	// Traffic, on the socket's clock (0: never).
	lastSent, lastReceived   atomic.Int64
	lastRelayed              atomic.Int64 // sent for others, or through a relay
	asked                    atomic.Int64 // the peer last asked for something to be forwarded
	bytesSent, bytesReceived atomic.Uint64
	moving                   atomic.Bool // traffic is being told to the machine
	unknownAt                atomic.Int64
	failedAt                 atomic.Int64
	ring                     ring
	gap                      gapMeter
	duplicates               pacer

	// Published by the engine.
	rtt     atomic.Int64
	lost    atomic.Bool
	why     atomic.Pointer[string]
	moves   atomic.Uint64
	movedAt atomic.Int64

	spray spray

	mu       sync.Mutex // guards all below
	locators []netip.AddrPort
	sessions int
	binding  bool

	// Guarded by table.mu.
	cids    []uint64 // learnt, oldest first
	guessed []uint64 // of a client: those of cids told only by their address
	proved  []netip.AddrPort
	index   uint64
	gone    bool
	rests   bool // it has no connection any more

	engineState
}

// Info describes an association at one moment.
type Info struct {
	// Node is the peer.
	Node identity.NodeID
	// Local and Remote are the ends of the path in use; invalid before one is known.
	Local, Remote netip.AddrPort
	// RTT is the smoothed round trip of the path in use, 0 if not measured.
	RTT time.Duration
	// MTU is the largest IP packet the path carries whole, 0 before one is known.
	MTU int
	// Lost is set while no path is known to work.
	Lost bool
	// Relay is the relay the path in use goes through, zero if it is direct.
	Relay identity.NodeID
	// Tunnelled is set while the path in use goes through a tunnel over TCP.
	Tunnelled bool
	// Why says in a few words why the path in use is no better one.
	Why string
	// Bound is set from Bind on.
	Bound bool
	// Sessions is what SetSessions was told last.
	Sessions int
	// Moves counts changes of path since Bind.
	Moves uint64
	// LastMove is the time of the last one, zero if there was none.
	LastMove time.Time
	// LastGap is the time between the last data before, and the first data after,
	// the last move or the last time a lost path was found again; 0 if nothing
	// came since. Where no data was to be sent it counts that pause too.
	LastGap time.Duration
	// LastAsked is when the peer last asked this relay to forward something, if only to
	// itself.
	LastAsked time.Time
	// LastReceived is when a QUIC packet of this peer came last.
	LastReceived time.Time
	// BytesSent and BytesReceived count QUIC packets; resent ones once.
	BytesSent, BytesReceived uint64
}

// Addr returns the made-up address: what a client dials, and what a server's
// quic.Conn has as RemoteAddr soon after Bind. The caller must not change it.
func (a *Association) Addr() *net.UDPAddr { return a.addr }

// Node returns the peer.
func (a *Association) Node() identity.NodeID { return a.node }

// String describes the association for logs.
func (a *Association) String() string { return a.node.Short() }

// Info returns a snapshot.
func (a *Association) Info() Info {
	a.mu.Lock()
	i := Info{Node: a.node, Sessions: a.sessions}
	a.mu.Unlock()
	i.Bound = a.bound.Load()
	i.Lost = a.lost.Load()
	i.RTT = time.Duration(a.rtt.Load())
	i.Moves = a.moves.Load()
	i.LastMove = a.s.time(a.movedAt.Load())
	i.LastGap = time.Duration(a.gap.last.Load())
	i.LastReceived = a.s.time(a.lastReceived.Load())
	i.LastAsked = a.s.time(a.asked.Load())
	if why := a.why.Load(); why != nil {
		i.Why = *why
	}
	i.BytesSent, i.BytesReceived = a.bytesSent.Load(), a.bytesReceived.Load()
	if r := a.route.Load(); r != nil {
		i.Remote = r.path.Remote
		i.MTU = r.mtu()
		i.Relay = a.s.relayOf(r)
		i.Tunnelled = a.s.tunnelled(r.path.Remote)
		if r.path.Local.IsValid() {
			i.Local = netip.AddrPortFrom(r.path.Local, a.s.port)
		}
	}
	return i
}

// SetLocators replaces the addresses at which the peer may be found, best first.
// At most 8 are used, and 3 of path.RelayRemote beside them. Addresses the peer
// itself told are kept.
func (a *Association) SetLocators(locators []netip.AddrPort) {
	locators = a.s.usableLocators(a.node, locators)
	a.mu.Lock()
	a.locators = locators
	a.mu.Unlock()
	a.s.call(func(e *engine) {
		if a.machine != nil {
			e.step(a, path.RemotesChanged{Remotes: locators})
			return
		}
		a.spray.replace(a.s, locators)
		e.sprayNow(a)
	})
}

// SetSessions tells how many sessions are open. With sessions the association
// keeps NAT mappings alive and looks for a lost path for 15 minutes, without it
// does neither for longer than a minute.
func (a *Association) SetSessions(open int) {
	a.mu.Lock()
	was := a.sessions
	a.sessions = open
	a.mu.Unlock()
	if (was > 0) == (open > 0) {
		return
	}
	a.s.call(func(e *engine) {
		if a.machine == nil {
			return // Bind tells
		}
		a.mu.Lock()
		open := a.sessions > 0
		a.mu.Unlock()
		e.step(a, path.SessionsOpen{Open: open})
	})
}

// write sends a datagram, or several of the size segment, on the path in use.
func (a *Association) write(b []byte, segment int, ecn byte) {
	a.bytesSent.Add(uint64(len(b)))
	a.s.metrics.sent.Add(1)
	a.ring.keep(b, segment, ecn)
	a.lastSent.Store(a.s.now())
	if !a.moving.Load() {
		a.s.noteTraffic(a)
	}
	r := a.route.Load()
	if r == nil {
		a.writeSpray(b, segment, ecn)
		return
	}
	if errno := a.s.transmit(r, b, segment, ecn); errno != 0 {
		a.failed(r, errno)
	}
	a.writeAgain(b, segment, ecn)
}

// failedEvery is how often at most the machine is told of failing sends.
const failedEvery = int64(5 * time.Millisecond)

func (a *Association) failed(r *route, errno unix.Errno) {
	a.s.swallowed(errno)
	if !unusable(errno) || !a.bound.Load() {
		return
	}
	now, last := a.s.now(), a.failedAt.Load()
	if now-last < failedEvery || !a.failedAt.CompareAndSwap(last, now) {
		return
	}
	a.s.post(event{kind: eventFailed, a: a, route: r.path})
}

// unknownEvery is how often at most the machine is told of unknown addresses.
const unknownEvery = int64(5 * time.Millisecond)

// received notes a QUIC packet of this peer. It runs on the receiving goroutine.
func (a *Association) received(n int, at *arrival) {
	a.bytesReceived.Add(uint64(n))
	if a.bySecond(at) {
		return
	}
	a.gap.received(at.now, a.lastReceived.Swap(at.now))
	if !a.moving.Load() {
		a.s.noteTraffic(a)
	}
	r := a.route.Load()
	if r == nil || r.path.Remote == at.from || !a.bound.Load() || a.dead.Load() {
		return
	}
	if a.s.table.isProved(a, at.from) {
		return
	}
	a.fromUnknown(n, at)
}

// fromUnknown has the machine challenge an address from which something came that
// looks like the peer's.
func (a *Association) fromUnknown(n int, at *arrival) {
	if !a.bound.Load() || a.dead.Load() {
		return
	}
	last := a.unknownAt.Load()
	if at.now-last < unknownEvery || !a.unknownAt.CompareAndSwap(last, at.now) {
		return
	}
	a.s.metrics.unknownAddress.Add(1)
	a.s.post(event{kind: eventUnknown, a: a, size: n, route: path.Route{Link: at.link, Remote: at.from}})
}

// gapMeter measures how long data was missing around a move.
type gapMeter struct {
	pause   atomic.Int64 // length of the longest notable pause of late in receiving
	pauseTo atomic.Int64 // when it ended
	open    atomic.Int64 // not 0: when data was last received before the move
	began   atomic.Int64 // when the measuring began
	last    atomic.Int64
}

const (
	notablePause = int64(2 * time.Millisecond)
	// recentPause is how long before a move a pause may have ended that still
	// belongs to it: a peer that moved first is heard before we follow.
	recentPause = int64(time.Second)
)

func (g *gapMeter) received(now, before int64) {
	if d := now - before; before != 0 && d >= notablePause &&
		(d >= g.pause.Load() || now-g.pauseTo.Load() >= recentPause) {
		g.pause.Store(d)
		g.pauseTo.Store(now)
	}
	if from := g.open.Load(); from != 0 && g.open.CompareAndSwap(from, 0) {
		if d := now - from; d > g.last.Load() {
			g.last.Store(d)
		}
	}
}

// begin starts measuring the gap of a move or of a path found again.
func (g *gapMeter) begin(now, lastReceived int64) {
	began := g.began.Swap(now)
	if began != 0 && now-began < int64(time.Millisecond) {
		return // Use and Moved of the same move
	}
	var gap int64
	if to := g.pauseTo.Load(); to != 0 && now-to < recentPause && to > began {
		gap = g.pause.Load()
	}
	g.last.Store(gap)
	g.open.Store(lastReceived)
}
