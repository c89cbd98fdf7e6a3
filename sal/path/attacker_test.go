package path

import (
	"net/netip"
	"slices"
	"time"

	"scn.alt/scn/routing/identity"
)

// simAttacker sees everything that is sent, and can send anything from any
// address; it has no keys, and what it sends is in addition to the genuine
// packets. It does not get what is sent to the addresses it feigns: who does, and
// forwards it both ways, is a router like others (RFC 9000 §9.3.3).
type simAttacker struct {
	sim    *simulator
	active bool
	seen   []simCapture
}

type simCapture struct {
	from     *simHost
	remote   netip.AddrPort
	source   netip.AddrPort
	datagram []byte
}

// victim is an address that belongs to neither host.
func victim(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(n)}), 9)
}

// tap sees a message leave, and perhaps overtakes it with a copy from elsewhere.
func (e *simAttacker) tap(from *simHost, source, remote netip.AddrPort, datagram []byte) {
	if !e.active || !IsRelayed(remote) && from.peer().linkAt(remote) == nil {
		return
	}
	s := e.sim
	c := simCapture{from: from, remote: remote, source: source, datagram: datagram}
	if len(e.seen) < 64 {
		e.seen = append(e.seen, c)
	} else {
		e.seen[s.rng.IntN(len(e.seen))] = c
	}
	if s.chance(0.1) {
		e.inject(from.peer(), remote, e.feigned(remote), datagram, false)
	}
}

// inject delivers a datagram to a host as if it came from source. It is genuine if
// it is what the peer sent, from where it sent it: only late, or twice.
func (e *simAttacker) inject(to *simHost, remote, source netip.AddrPort, datagram []byte, genuine bool) {
	if IsRelayed(remote) {
		e.sim.after(0, func() { to.receive(Route{Remote: source}, datagram, genuine) })
		return
	}
	at := to.linkAt(remote)
	if at == nil {
		return
	}
	e.sim.after(0, func() {
		if slices.Contains(to.links, at) && at.admits(remote, source) {
			to.receive(Route{Link: at.link, Remote: source}, datagram, genuine)
		}
	})
}

// feigned is an address to feign as the source of what is sent to remote: a relay can
// name anybody.
func (e *simAttacker) feigned(remote netip.AddrPort) netip.AddrPort {
	n := e.sim.rng.IntN(4)
	if !IsRelayed(remote) {
		return victim(n)
	}
	relay, _ := RelayPrefix(remote)
	var id identity.NodeID
	copy(id[:], relay[:])
	return RelayRemote(id, identity.NodeID{byte(n)})
}

// strike does one hostile thing.
func (e *simAttacker) strike() {
	s := e.sim
	target := s.hosts[s.rng.IntN(2)]
	if s.chance(0.2) && len(target.links) > 0 {
		// A QUIC packet, with a connection ID that was seen, from anywhere.
		source := victim(s.rng.IntN(100))
		size := 40 + s.rng.IntN(1400)
		target.contact(source).credit += 3 * size
		target.step(UnknownAddress{Route: Route{Link: target.links[0].link, Remote: source}, Size: size})
		return
	}
	if len(e.seen) == 0 {
		return
	}
	c := e.seen[s.rng.IntN(len(e.seen))]
	source := e.feigned(c.remote)
	if s.chance(0.3) {
		source = c.source
	}
	forged := slices.Clone(c.datagram)
	to := c.from.peer()
	switch s.rng.IntN(6) {
	case 0, 1: // replay
	case 2: // forge
		forged[s.rng.IntN(len(forged))] ^= 1 << s.rng.IntN(8)
	case 3: // truncate
		forged = forged[:s.rng.IntN(len(forged))]
	case 4: // reflect
		to, source = c.from, c.remote
	case 5: // garbage for the right machine
		for i := headerSize; i < len(forged); i++ {
			forged[i] = byte(s.rng.Uint32())
		}
	}
	genuine := to == c.from.peer() && source == c.source && slices.Equal(forged, c.datagram)
	e.inject(to, c.remote, source, forged, genuine)
}

// rage strikes now and then while active.
func (e *simAttacker) rage() {
	if !e.active {
		return
	}
	e.strike()
	pause := e.sim.between(0, 100*time.Millisecond)
	if e.sim.net.blackout {
		pause *= 10
	}
	e.sim.after(pause, e.rage)
}
