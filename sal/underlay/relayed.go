package underlay

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/path"
	"scn.alt/scn/sal/relay"
)

// ErrRelayTaken is returned by UseRelay when another relay's node ID begins alike,
// or gave the same token.
var ErrRelayTaken = errors.New("underlay: relay cannot be told from another")

// relayWay is the association with a relay at which this node is registered.
type relayWay struct {
	a     *Association
	token relay.Token
}

// relayWays are all of them. Readers take no lock.
type relayWays struct {
	mu  sync.Mutex // serializes changes
	set atomic.Pointer[waySet]
}

// waySet is constant.
type waySet struct {
	byRelay map[relayHead]*relayWay
	byToken map[relay.Token]*relayWay
}

// relayHead is how a relayed remote names its relay.
type relayHead = [5]byte

func headOf(node identity.NodeID) relayHead { return relayHead(node[:5]) }

// change replaces the set by a copy that f has changed, unless f fails.
func (w *relayWays) change(f func(*waySet) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := waySet{byRelay: make(map[relayHead]*relayWay), byToken: make(map[relay.Token]*relayWay)}
	if old := w.set.Load(); old != nil {
		maps.Copy(next.byRelay, old.byRelay)
		maps.Copy(next.byToken, old.byToken)
	}
	if err := f(&next); err != nil {
		return err
	}
	w.set.Store(&next)
	return nil
}

func (w *relayWays) add(way *relayWay) error {
	return w.change(func(s *waySet) error {
		head := headOf(way.a.node)
		old := s.byRelay[head]
		if old != nil {
			if old.a.node != way.a.node {
				return ErrRelayTaken
			}
			delete(s.byToken, old.token)
		}
		if s.byToken[way.token] != nil {
			return ErrRelayTaken
		}
		s.byRelay[head], s.byToken[way.token] = way, way
		return nil
	})
}

func (w *relayWays) remove(a *Association) {
	if !w.has(a) {
		return
	}
	_ = w.change(func(s *waySet) error {
		if way := s.byRelay[headOf(a.node)]; way != nil && way.a == a {
			delete(s.byRelay, headOf(a.node))
			delete(s.byToken, way.token)
		}
		return nil
	})
}

// has reports whether a is in use as a relay.
func (w *relayWays) has(a *Association) bool {
	way := w.by(headOf(a.node))
	return way != nil && way.a == a
}

func (w *relayWays) by(head relayHead) *relayWay {
	if s := w.set.Load(); s != nil {
		return s.byRelay[head]
	}
	return nil
}

func (w *relayWays) byToken(token relay.Token) *relayWay {
	if s := w.set.Load(); s != nil {
		return s.byToken[token]
	}
	return nil
}

// UseRelay says that the peer forwards datagrams for this node, which got the token
// from it: path.RelayRemote(peer, anybody) can be sent to from here on, and those
// who were waiting for it are told. A token replaces the one before.
func (a *Association) UseRelay(token relay.Token) error {
	if a.dead.Load() || a.s.closed.Load() {
		return ErrClosed
	}
	if err := a.s.ways.add(&relayWay{a: a, token: token}); err != nil {
		return err
	}
	if a.dead.Load() { // closed meanwhile, perhaps without seeing this
		a.s.ways.remove(a)
		return ErrClosed
	}
	a.s.call(func(e *engine) { e.reachable(a) })
	return nil
}

// DropRelay undoes UseRelay. Connections over the relay look for another path.
func (a *Association) DropRelay() { a.s.ways.remove(a) }

// SetRelays says at which relays this node is registered for good; peers are told.
// At most path.MaxRelays are used.
func (s *Socket) SetRelays(relays []identity.NodeID) {
	relays = slices.Clone(relays)
	s.homes.Store(&relays)
	s.call(func(e *engine) {
		for _, a := range e.machines() {
			e.step(a, path.RelaysAdvertised{Relays: *s.homes.Load()})
		}
	})
}

func (s *Socket) homeRelays() []identity.NodeID {
	if p := s.homes.Load(); p != nil {
		return *p
	}
	return nil
}

// owns reports whether an address is proved to be the peer's.
func (a *Association) owns(remote netip.AddrPort) bool {
	if !a.bound.Load() || a.dead.Load() {
		return false
	}
	if r := a.route.Load(); r != nil && r.path.Remote == remote {
		return true
	}
	return a.s.table.isProved(a, remote)
}

// relayedIn notes that relayed datagrams like inner came over this association, which
// is a sign of life as good as any. Path messages do not count, as they do not
// between neighbours: they are small, and pass where data does not.
func (a *Association) relayedIn(inner []byte, now int64) {
	if inner[0] == typePath {
		return
	}
	a.lastReceived.Store(now)
	if !a.moving.Load() {
		a.s.noteTraffic(a)
	}
}

// relayedOut notes that some went.
func (a *Association) relayedOut(inner []byte, now int64) {
	if inner[0] == typePath {
		return
	}
	a.lastRelayed.Store(now)
	if !a.moving.Load() {
		a.s.noteTraffic(a)
	}
}

// leg returns the route to a relay, or nil if there is none that can be used: a
// relay reached through another is none.
func (w *relayWay) leg() *route {
	if r := w.a.route.Load(); r != nil && !r.relayed && w.a.bound.Load() {
		return r
	}
	return nil
}

// transmitRelayed is transmit for a route through a relay: each datagram is wrapped
// and goes to the relay on the path its association uses now, in batches where the
// device can segment, cut where that path is narrow. Failure is told to the machine
// of that association too.
func (s *Socket) transmitRelayed(r *route, b []byte, segment int, ecn byte) unix.Errno {
	way := s.ways.by(r.relay)
	if way == nil {
		return unix.EHOSTUNREACH
	}
	leg := way.leg()
	if leg == nil {
		return unix.EHOSTUNREACH
	}
	if segment <= 0 || segment > len(b) {
		segment = len(b)
	}
	o := s.pool.Get().(*outgoing)
	defer s.pool.Put(o)
	relay.Header{Type: relay.TypeForward, Token: way.token, Node: r.peer}.Put(o.wrapper[:])
	way.a.relayedOut(b, s.now())
	size := relay.HeaderSize + segment
	for batch := max(1, min(maxSegments, maxSegmented/size)) * segment; len(b) > 0; b = b[min(batch, len(b)):] {
		part := b[:min(batch, len(b))]
		s.metrics.relayedSent.Add(uint64((len(part) + segment - 1) / segment))
		if errno := s.sendWrapped(o, leg, part, segment, ecn); errno != 0 {
			way.a.failed(leg, errno)
			return errno
		}
	}
	return 0
}

// sendWrapped sends one batch. The header is gathered before each datagram, not
// copied, unless the leg needs more than one plain send.
func (s *Socket) sendWrapped(o *outgoing, leg *route, b []byte, segment int, ecn byte) unix.Errno {
	size := relay.HeaderSize + segment
	if size <= int(leg.limit.Load()) && (segment >= len(b) || !leg.noGSO.Load()) {
		n := 0
		for rest := b; len(rest) > 0; rest = rest[min(segment, len(rest)):] {
			n = o.gather(n, o.wrapper[:])
			n = o.gather(n, rest[:min(segment, len(rest))])
		}
		gso := size
		if segment >= len(b) {
			gso = 0
		}
		switch errno := s.send(o, leg, 0, n, gso, ecn); errno {
		case unix.EMSGSIZE, unix.EIO, unix.EINVAL: // transmitWith knows what to do
		default:
			return errno
		}
	}
	w := s.wrapped.Get().(*wrapBuffer)
	defer s.wrapped.Put(w)
	all := w[:0]
	for ; len(b) > 0; b = b[min(segment, len(b)):] {
		all = append(all, o.wrapper[:]...)
		all = append(all, b[:min(segment, len(b))]...)
	}
	return s.transmitWith(o, leg, all, size, ecn)
}

// wrapBuffer holds one batch of wrapped datagrams.
type wrapBuffer [maxSegmented + maxJoined]byte

// unwrapCache remembers the last header that was found right; it holds for what
// came in one read of the kernel.
type unwrapCache struct {
	header [relay.HeaderSize]byte // zero: none
	way    *relayWay
	from   netip.AddrPort
}

// unwrap takes a datagram that a relay forwarded and returns what is in it, which is
// from then on treated as if it had come from path.RelayRemote of the relay and the
// source, or nil.
func (r *receiver) unwrap(b []byte) []byte {
	m := &r.s.metrics
	h, inner, err := relay.Parse(b)
	if err != nil || r.unwrapped {
		m.dropMalformed.Add(1)
		return nil
	}
	c := &r.relayed
	if c.header != [relay.HeaderSize]byte(b) {
		way := r.s.ways.byToken(h.Token)
		if way == nil {
			m.dropRelayStranger.Add(1)
			return nil
		}
		if !way.a.owns(r.from) {
			m.dropRelaySpoofed.Add(1)
			way.a.fromUnknown(len(b), &r.arrival)
			return nil
		}
		switch {
		case h.Node == relay.Prefix{}:
			r.heardWord(way, inner)
			return nil
		case r.s.isSelf(h.Node):
			r.echoed(way, inner)
			return nil
		}
		var source identity.NodeID
		copy(source[:], h.Node[:])
		*c = unwrapCache{header: [relay.HeaderSize]byte(b), way: way, from: path.RelayRemote(way.a.node, source)}
	}
	c.way.a.relayedIn(inner, r.now)
	m.relayedReceived.Add(1)
	r.outer, r.unwrapped = path.Route{Link: r.link, Remote: r.from}, true
	r.from, r.link = c.from, path.Link{}
	return inner
}

// rewrap goes back to the datagrams of the read that unwrap left.
func (r *receiver) rewrap() {
	if r.unwrapped {
		r.from, r.link, r.unwrapped = r.outer.Remote, r.outer.Link, false
	}
}

// reachable tells everybody whose peer may be reached through a relay that the way
// to the relay is new.
func (e *engine) reachable(through *Association) {
	way := e.s.ways.by(headOf(through.node))
	if way == nil || way.a != through || way.leg() == nil {
		return // reached through a relay itself, it is no way; or two would tell each other for ever
	}
	var all []*Association
	e.s.table.each(func(a *Association) {
		if a != through && a.buriedUntil == 0 {
			all = append(all, a)
		}
	})
	for _, a := range all {
		remote := path.RelayRemote(through.node, a.node)
		if a.machine != nil {
			e.step(a, path.Reachable{Remote: remote})
		} else {
			e.sprayAgain(a, remote)
		}
	}
}

// relayedAskEvery is how often relayed datagrams that nothing was heard after make
// the path machine ask whether the leg works. The relay's answers come only when
// the other node has something to say: one that merely listens is not silence.
const relayedAskEvery = int64(1e9)

// relayedToTell returns the time of the last relayed datagram that went, as one the
// peer owes an answer to, or 0: what went since the last was told is held back for
// a while if nothing was heard after that.
func (a *Association) relayedToTell(now, heard int64) int64 {
	out := a.lastRelayed.Load()
	if out == a.toldRelayed || heard < a.toldRelayed && now-a.toldRelayed < relayedAskEvery {
		return 0
	}
	a.toldRelayed = out
	return out
}
