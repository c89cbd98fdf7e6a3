package underlay

import (
	"encoding/binary"

	"scn.alt/scn/sal/path"
	"scn.alt/scn/sal/relay"
)

// probeSize is the size of a probe within its header: that of a small path message,
// which to the relay it looks like.
const probeSize = 48

// ProbeRelay sends a datagram to this node itself through the peer, a relay at which
// it is registered. Config.RelayEcho is told when it comes back. The relay forwards it
// as it does any other, so it tells what becomes of those.
func (a *Association) ProbeRelay(serial uint64) {
	var b [probeSize]byte
	b[0] = typePath
	binary.BigEndian.PutUint64(b[1:], 0) // no machine has this index
	binary.BigEndian.PutUint64(b[9:], serial)
	r := a.s.newRoute(path.Route{Remote: path.RelayRemote(a.node, a.s.cfg.Node)}, unknownMTU)
	a.s.swallowed(a.s.transmit(r, b[:], 0, 0))
}

// echoed takes what this node sent to itself through a relay.
func (r *receiver) echoed(way *relayWay, inner []byte) {
	if len(inner) != probeSize || inner[0] != typePath {
		r.s.metrics.dropMalformed.Add(1)
		return
	}
	if f := r.s.cfg.RelayEcho; f != nil {
		serial := binary.BigEndian.Uint64(inner[9:])
		r.tell(func() { f(way.a.node, serial) })
	}
}

// isSelf reports whether a relayed datagram is this node's own.
func (s *Socket) isSelf(source relay.Prefix) bool {
	return !s.cfg.Node.IsZero() && source == relay.Prefix(s.cfg.Node[:8])
}
