package underlay

import (
	"time"

	"scn.alt/scn/sal/path"
	"scn.alt/scn/sal/relay"
)

// RelayWord is what a relay says to one of its nodes beside what it forwards.
type RelayWord byte

// The words of a relay. Append only; one that is not known is dropped.
const (
	// RelayUnknownNode: what was sent to a node went nowhere, it is not registered.
	RelayUnknownNode RelayWord = 1
	// RelayUnregistered: this node itself is not registered, or not any more.
	RelayUnregistered RelayWord = 2
)

// A word travels as a relayed datagram whose source is nobody:
//
//	header (16), source zero ‖ 0x06 ‖ word (1) ‖ head of a NodeID (8), zero if none
//
// It has the right token and comes from the relay's proved address, as all that is
// relayed. It needs no session: a registration may outlive the connection it was made
// on.
const (
	typeWord = 0x06
	wordSize = relay.HeaderSize + 2 + 8
)

// wordEvery is how often at most strangers are told that they are not registered.
const wordEvery = int64(10 * time.Millisecond)

// say sends a word to a node by a route.
func (f *forwarder) say(to *route, token relay.Token, word RelayWord, about relay.Prefix) {
	var b [wordSize]byte
	relay.Header{Type: relay.TypeRelayed, Token: token}.Put(b[:])
	b[relay.HeaderSize], b[relay.HeaderSize+1] = typeWord, byte(word)
	copy(b[relay.HeaderSize+2:], about[:])
	f.s.swallowed(f.s.transmitNow(to, b[:], 0, 0))
}

// sayUnregistered tells whoever uses a token that it is none here: this relay has
// restarted, or the registration has ended. The answer is smaller than the question,
// and there are few of them.
func (f *forwarder) sayUnregistered(token relay.Token, at *arrival, size int) {
	last := f.said.Load()
	if size < wordSize || at.now-last < wordEvery || !f.said.CompareAndSwap(last, at.now) {
		return
	}
	f.say(f.s.newRoute(path.Route{Link: at.link, Remote: at.from}, unknownMTU), token, RelayUnregistered, relay.Prefix{})
}

// heardWord takes what a relay says to this node.
func (r *receiver) heardWord(way *relayWay, inner []byte) {
	if len(inner) != wordSize-relay.HeaderSize || inner[0] != typeWord {
		r.s.metrics.dropMalformed.Add(1)
		return
	}
	word, about := RelayWord(inner[1]), relay.Prefix(inner[2:])
	if f := r.s.cfg.RelayWord; f != nil {
		r.tell(func() { f(way.a.node, word, about) })
	}
}

// maxTold bounds what waits to be told of relays' words and echoes.
const maxTold = 256

// tell has a callback called, unless too many wait.
func (r *receiver) tell(f func()) {
	if r.s.told.Add(1) > maxTold {
		r.s.told.Add(-1)
		return
	}
	r.s.notify(func() {
		r.s.told.Add(-1)
		f()
	})
}

// Rest says that the QUIC connection of the association has ended while the
// association stays: what was kept for it is given back.
func (a *Association) Rest() {
	a.ring.drop()
	a.s.table.rest(a)
}
