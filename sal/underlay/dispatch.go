package underlay

import (
	"net"

	"scn.alt/scn/sal/path"
)

// dispatch finds out whose a datagram is. It returns what to hand up to quic-go
// and as whose, or a nil address for what was consumed or dropped. What it
// returns is valid until the next call.
//
//	path message                          → its machine
//	fragment                              → joiner, then as below
//	to be forwarded                       → forwarder, with those behind it
//	relayed                               → what is in it, as from the made-up remote
//	QUIC, connection ID not made here     → stranger (Initial, stateless reset, …)
//	QUIC, long header, ID seen first      → stranger met: it receives where it sends from
//	QUIC, ID of an association            → the association
//	QUIC, short header, ID seen first     → the association proved at that address, else dropped
func (r *receiver) dispatch(b []byte) (data []byte, up *net.UDPAddr, stranger bool) {
	m := &r.s.metrics
	joined := false
	r.mark = r.ecn
	if !isQUIC(b[0]) {
		if b, joined = r.special(b); b == nil {
			return nil, nil, false
		}
	}
	m.received.Add(1)
	cid, ok := destination(b)
	if !ok || !r.s.ids.own(cid) {
		if joined {
			r.s.narrow.add(r.from, r.now)
		}
		return b, strangerAddr(r.from), true
	}
	a := r.find(cid, isLong(b[0]))
	if a == nil {
		// A peer that moved, before its new address is proved. Handed up as from a
		// stranger it would make quic-go move the connection there. QUIC resends.
		m.dropUnknownCID.Add(1)
		return nil, nil, false
	}
	if a.dead.Load() {
		return b, strangerAddr(r.from), true
	}
	if !a.bound.Load() {
		switch {
		case a.client && !a.answeredBy(&r.arrival, joined):
			m.dropUnknownPeer.Add(1)
			return nil, nil, false
		case !a.client && joined:
			r.s.narrow.add(r.from, r.now)
		}
	}
	a.received(len(b), &r.arrival)
	if a.client {
		// A client of quic-go does not look at the address. Should the ID belong to
		// a connection the peer dialled at the same time, and which is not accepted
		// yet, then this is the address it has.
		return b, a.route.Load().up, false
	}
	up = a.up.Load()
	return b, up, !isMadeUp(up)
}

// special takes a datagram that is not QUIC. It returns the QUIC datagram that came
// out of it, if any, and whether that came in fragments.
func (r *receiver) special(b []byte) (data []byte, joined bool) {
	if b[0] == typeFragment {
		if b = r.rejoin(b); b == nil {
			return nil, false
		}
		joined = true
	}
	switch b[0] {
	case typeForward:
		r.forward(b, joined)
		return nil, false
	case typeRelayed:
		if b = r.unwrap(b); b == nil {
			return nil, false
		}
		joined = false
		if b[0] == typeFragment {
			if b = r.rejoin(b); b == nil {
				return nil, false
			}
			joined = true
		}
	}
	switch {
	case isQUIC(b[0]):
		return b, joined
	case b[0] == typePath && !joined:
		r.pathMessage(b)
	default: // FEC is not spoken yet
		r.s.metrics.dropUnknownType.Add(1)
	}
	return nil, false
}

// find returns the association of a connection ID made here.
func (r *receiver) find(cid uint64, long bool) *Association {
	t := r.s.table
	generation := t.generation.Load()
	c := &r.cache[uint8(cid>>24)^uint8(cid>>32)]
	if c.cid == cid && c.generation == generation && c.a != nil {
		return c.a
	}
	a := t.cid(cid)
	switch {
	case a != nil:
	case long:
		a = t.meet(cid, r.s.newStranger(&r.arrival))
	default:
		a = t.attribute(cid, r.from)
	}
	if a != nil {
		*c = cidCache{cid: cid, generation: generation, a: a}
	}
	return a
}

// newStranger is what stands for a connection that quic-go serves, until it is
// accepted.
func (s *Socket) newStranger(at *arrival) *Association {
	a := &Association{s: s, remote: at.from, met: at.now}
	a.up.Store(strangerAddr(at.from))
	a.route.Store(s.newRoute(path.Route{Link: at.link, Remote: at.from}, unknownMTU))
	return a
}

// rejoin takes a fragment and returns the whole datagram, or nil. The ECN bits of
// the datagram replace those of the fragment.
func (r *receiver) rejoin(b []byte) []byte {
	m := &r.s.metrics
	f, err := parseFragment(b)
	if err != nil {
		m.dropMalformed.Add(1)
		return nil
	}
	m.fragmentsReceived.Add(1)
	ecn := r.mark
	whole, wholeECN := r.join.add(f, r.from, r.s.table.known(r.from), ecn, r.now)
	if whole == nil {
		return nil
	}
	if !isQUIC(whole[0]) && (r.unwrapped || whole[0] != typeForward && whole[0] != typeRelayed) {
		m.dropMalformed.Add(1)
		return nil
	}
	m.joined.Add(1)
	r.mark = wholeECN
	if r.mark == 0 {
		r.mark = ecn
	}
	return whole
}

// pathMessage passes a path message on to the engine.
func (r *receiver) pathMessage(b []byte) {
	m := &r.s.metrics
	index, ok := path.Index(b)
	if !ok || len(b) > maxPathData {
		m.dropMalformed.Add(1)
		return
	}
	a := r.s.table.pathIndex(index)
	if a == nil {
		m.dropUnknownPeer.Add(1)
		return
	}
	m.pathReceived.Add(1)
	data := r.s.buffers.Get().(*pathBuffer)
	data.n = copy(data.b[:], b)
	ev := event{kind: eventPath, a: a, data: data, route: path.Route{Link: r.link, Remote: r.from}}
	if !r.s.post(ev) {
		r.s.buffers.Put(data)
	}
}
