// Package sal is the service access layer: it dials and serves sessions by
// service ID, between nodes that may change their addresses meanwhile.
//
// # Model
//
//	application ── Conn / PacketConn ──► session ──► link: one QUIC connection per pair of nodes
//	                                                   │
//	                                                   ▼ sees one made-up address per peer
//	                                                 sal/underlay: one UDP socket, any path
//
// A session is one bidirectional QUIC stream. The dialer's first bytes on it are
// an open message, the provider's an answer; then the stream is the session's
// (Conn), or the session's datagrams are exchanged for as long as the stream is
// open (PacketConn). Sessions between the same two nodes share a connection, yet
// not a fate: connection-level flow control is out of reach, so that a reader who
// stops holds up only himself, and one memory budget bounds what all may hold.
//
// Nodes authenticate one another by TLS 1.3 with certificates made from their
// keys: the node dialled must have the key that is its ID. The network is part of
// the ALPN, so nodes of different networks refuse one another in the handshake.
//
// # Dialing
//
// Who provides a service, and where, the Resolver says. Providers are tried as in
// RFC 8305: the best first, the next after a stagger or at once when one fails,
// the first that *accepts* the session wins. A provider accepts only after its
// target has answered, so that a refusal is truthful, and a provider whose target
// is down is passed over. Within one priority the weights decide (RFC 2782).
//
// # Connections
//
// Of two connections between the same two nodes both keep the one dialled by the
// lower node ID; the other takes no new sessions and closes when its last one has
// ended. A connection without sessions closes after IdleTimeout. A peer that
// restarted is noticed by its stateless reset (the key of which derives from its
// node key), or by the new instance number in the hello of its next connection.
//
// # Relays
//
// A relay (Config.Relay) takes registrations at RelayPort of its own service. The
// session of a registration tells the token that goes before each datagram to be
// forwarded, and other relays (relayMessage). When nothing else needs its connection the
// relay parks it: QUIC ends, the association stays, and with it the registration, until
// either side gives it up, the node falls silent or no path is left.
//
// Every node keeps home relays, which package homes chooses and watches, and tells them
// to its peers and by RelaysChanged. Where both ends of a dial are not registered at one
// relay, the dialling node registers at one of the other's, for as long as there are
// sessions with it and a minute more. A way through a relay is one more address of the
// peer (path.RelayRemote); sessions begin on what answers first.
//
// # Wire
//
// QUIC version 1 (RFC 9000) with datagrams (RFC 9221). Each side opens one
// unidirectional stream, which begins with a hello (helloMessage); each session is
// a bidirectional stream that begins with openMessage and answerMessage; datagrams
// begin as datagramMessage says. Layouts and the rules for extending them stand at
// these types.
//
// # Errors
//
// Every error answers errors.Is for the standard library's error of the same
// meaning: a refusal is syscall.ECONNREFUSED, and so on; see the sentinels.
//
// # What it does not do
//
// It does not resolve (Resolver), decide who may do what (Authorizer, Config.Admit)
// or charge for traffic (Meter): it carries opaque bytes for them. It knows
// neither names nor virtual addresses.
//
// # Concurrency
//
// Every method may be called concurrently. Close of a Node waits for every
// goroutine it started.
package sal
