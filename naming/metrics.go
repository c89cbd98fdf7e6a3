package naming

import "sync/atomic"

// counters are the Server's, raised without a lock.
type counters struct {
	udp, tcp, hits, overlay, forwarded                      atomic.Uint64
	malformed, refused, elsewhere, overload                 atomic.Uint64
	nxdomain, servfail, loops, connections, connectionsFull atomic.Uint64
}

// Metrics are counters since Open.
type Metrics struct {
	// UDP and TCP queries arrived where queries may arrive.
	UDP, TCP uint64
	// Hits were answered from answers kept, Overlay by making one, Forwarded by the
	// host's servers.
	Hits, Overlay, Forwarded uint64
	// Malformed, Refused (wrong class, opcode, type, version; malformed ones with a
	// header too), NXDomain, ServFail and Loops are how queries ended badly.
	Malformed, Refused, NXDomain, ServFail, Loops uint64
	// Elsewhere packets and connections arrived on an interface that is not served;
	// Overload queries were dropped with MaxQueries under way.
	Elsewhere, Overload uint64
	// Connections were accepted over TCP, ConnectionsFull closed with MaxConns open.
	Connections, ConnectionsFull uint64
	// Cached answers, and Services looked up, are as of now.
	Cached, Services int
}

// Metrics returns a snapshot.
func (s *Server) Metrics() Metrics {
	c := &s.stats
	services, _, _ := s.services.Stats()
	return Metrics{
		UDP: c.udp.Load(), TCP: c.tcp.Load(), Hits: c.hits.Load(), Overlay: c.overlay.Load(), Forwarded: c.forwarded.Load(),
		Malformed: c.malformed.Load(), Refused: c.refused.Load(), NXDomain: c.nxdomain.Load(),
		ServFail: c.servfail.Load(), Loops: c.loops.Load(), Elsewhere: c.elsewhere.Load(), Overload: c.overload.Load(),
		Connections: c.connections.Load(), ConnectionsFull: c.connectionsFull.Load(),
		Cached: s.answers.len(), Services: services,
	}
}
