package underlay

import (
	"crypto/rand"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"scn.alt/scn/sal/relay"
)

// ErrNoRelay is returned by GrantRelay when this node relays nothing.
var ErrNoRelay = errors.New("underlay: not a relay")

// forwarder is a socket's work as a relay. Forwarding runs on the receiving
// goroutine; it never waits.
type forwarder struct {
	s     *Socket
	table *relay.Table[*Association]
	sieve relay.Sieve
	held  atomic.Int32 // datagrams on their way through the engine
	said  atomic.Int64 // when a stranger was last told that it is one
}

// maxHeld bounds the datagrams that wait until the engine has looked at what came
// before them.
const maxHeld = 64

func newForwarder(s *Socket, limits relay.Limits) (*forwarder, error) {
	table, err := relay.NewTable[*Association](limits)
	if err != nil {
		return nil, err
	}
	key := s.cfg.RelayKey
	if key == [16]byte{} {
		if _, err := rand.Read(key[:]); err != nil {
			return nil, err
		}
	}
	return &forwarder{s: s, table: table, sieve: relay.NewSieve(key)}, nil
}

// GrantRelay lets the peer have datagrams forwarded, and others to it, until
// RevokeRelay or Close. The token is to be told to the peer, and to nobody else. A
// second grant replaces the first.
func (a *Association) GrantRelay() (relay.Token, error) {
	f := a.s.forwarder
	switch {
	case f == nil:
		return relay.Token{}, ErrNoRelay
	case a.dead.Load() || a.s.closed.Load():
		return relay.Token{}, ErrClosed
	case !a.bound.Load():
		return relay.Token{}, ErrUnanswered
	}
	var token relay.Token
	if _, err := rand.Read(token[:]); err != nil {
		return relay.Token{}, err
	}
	token = f.sieve.Mark(token)
	if err := f.table.Register(a.node, token, a); err != nil {
		return relay.Token{}, err
	}
	if a.dead.Load() { // closed meanwhile, perhaps without seeing this
		a.RevokeRelay()
		return relay.Token{}, ErrClosed
	}
	return token, nil
}

// RevokeRelay undoes GrantRelay.
func (a *Association) RevokeRelay() {
	if f := a.s.forwarder; f != nil {
		f.table.Revoke(a.node, a)
	}
}

// senderCache remembers whose the last token was; it holds for what came in one read
// of the kernel.
type senderCache struct {
	token relay.Token
	from  *relay.Registration[*Association]
}

// forward takes a datagram to be forwarded, and with it those behind it in the same
// read that are for the same destination: the kernel coalesces what was sent as one
// batch, and it goes on as one. b is changed.
func (r *receiver) forward(b []byte, joined bool) {
	f := r.s.forwarder
	if f == nil || r.unwrapped {
		r.s.metrics.dropUnknownType.Add(1)
		return
	}
	if len(b) <= relay.HeaderSize {
		r.s.metrics.dropMalformed.Add(1)
		return
	}
	segment, n := len(b), 1
	if !joined {
		b, n = r.run(b)
	}
	token := relay.Token(b[1:])
	c := &r.sender
	if c.from == nil || c.token != token {
		from := f.table.Sender(token, n)
		if from == nil {
			f.sayUnregistered(token, &r.arrival, len(b))
			return
		}
		if !from.Peer.owns(r.from) {
			f.hold(r, from, b, segment)
			return
		}
		c.token, c.from = token, from
	}
	f.forward(c.from, b, segment, n, r.mark, r.now)
}

// run extends b, which is the last datagram next returned, by those that follow it
// and have the same header. It returns how many there are.
func (r *receiver) run(b []byte) (run []byte, n int) {
	header := [relay.HeaderSize]byte(b)
	segment := len(b)
	n = 1
	for n < maxSegments && segment == r.segment && len(r.rest) > relay.HeaderSize {
		size := min(segment, len(r.rest))
		if len(b)+size > maxSegmented || [relay.HeaderSize]byte(r.rest) != header {
			break
		}
		b = b[:len(b)+size] // rest lies behind it
		r.rest = r.rest[size:]
		n++
	}
	return b, n
}

// forward sends n datagrams of one sender to one destination on, or drops them.
func (f *forwarder) forward(from *relay.Registration[*Association], b []byte, segment, n int, ecn byte, now int64) {
	h, inner, err := relay.Parse(b)
	for at := segment; at < len(b) && err == nil; at += segment {
		_, _, err = relay.Parse(b[at:])
	}
	if err != nil {
		f.s.metrics.dropMalformed.Add(uint64(n))
		return
	}
	from.Peer.relayedIn(inner, now)
	from.Peer.asked.Store(now)
	to, verdict := f.table.Route(time.Duration(now), from, h.Node, n, len(b))
	switch verdict {
	case relay.Forward:
	case relay.Unknown:
		f.tellUnknown(from, h.Node, now)
		return
	default:
		return
	}
	leg := to.Peer.route.Load()
	if leg == nil || leg.relayed {
		f.table.NoRoute(n)
		return
	}
	if lose := f.s.cfg.LoseRelayed; lose != nil && lose(segment) {
		return
	}
	header := relay.Header{Type: relay.TypeRelayed, Token: to.Token, Node: from.Prefix()}
	for at := 0; at < len(b); at += segment {
		header.Put(b[at:])
	}
	to.Peer.relayedOut(inner, now)
	switch errno := f.s.transmitNow(leg, b, segment, ecn); errno {
	case 0:
		f.table.Sent(n, len(b))
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		f.table.Busy(n)
	default:
		f.table.NoRoute(n)
		to.Peer.failed(leg, errno)
	}
}

// tellUnknown tells a sender of a destination that is not registered.
func (f *forwarder) tellUnknown(from *relay.Registration[*Association], to relay.Prefix, now int64) {
	if !f.table.Tell(time.Duration(now), from, to) {
		return
	}
	if back := from.Peer.route.Load(); back != nil && !back.relayed {
		f.say(back, from.Token, RelayUnknownNode, to)
	}
	if tell := f.s.cfg.RelayUnknown; tell != nil {
		f.s.notify(func() { tell(from.Node, to) })
	}
}

// hold takes datagrams with a right token from an address that is not proved to be
// its owner's. A node that moved proves its new address by a path message and sends
// right behind it, so they take the way path messages take, and are looked at again
// when those before them were. What exceeds the bound is dropped.
func (f *forwarder) hold(r *receiver, from *relay.Registration[*Association], b []byte, segment int) {
	for ; len(b) > 0; b = b[min(segment, len(b)):] {
		if f.held.Add(1) > maxHeld || min(segment, len(b)) > maxPathData {
			f.held.Add(-1)
			f.table.Spoofed(1)
			continue
		}
		data := f.s.buffers.Get().(*pathBuffer)
		data.n = copy(data.b[:], b[:min(segment, len(b))])
		ev := event{kind: eventForward, a: from.Peer, data: data, ecn: r.mark}
		ev.route.Remote = r.from
		if !f.s.post(ev) {
			f.held.Add(-1)
			f.s.buffers.Put(data)
			f.table.Spoofed(1)
		}
	}
	from.Peer.fromUnknown(segment, &r.arrival)
}

// forwardHeld looks at a held datagram again.
func (e *engine) forwardHeld(ev event) {
	f := e.s.forwarder
	defer f.held.Add(-1)
	b := ev.data.b[:ev.data.n]
	from := f.table.Sender(relay.Token(b[1:]), 1)
	if from == nil {
		return
	}
	if from.Peer != ev.a || !ev.a.owns(ev.route.Remote) {
		f.table.Spoofed(1)
		return
	}
	now := e.s.now()
	f.forward(from, b, len(b), 1, ev.ecn, now)
}
