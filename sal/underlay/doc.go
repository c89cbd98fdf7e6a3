// Package underlay is the UDP socket below QUIC that hides moves.
//
// # Model
//
// quic-go is given a Socket as its packet connection. Above it, every peer has
// one made-up address for as long as its connection lives; below it, packets
// travel over whichever pair of real addresses sal/path has proved, and that may
// change at any time at either end.
//
//	quic-go ── made-up address ──► Association ── route (atomic) ──► one UDP port
//	                                   ▲                                  │
//	          engine: path.Machine of each, timers ◄── path messages ─────┤
//	          watcher: netlink addresses, links, default routes           │
//	quic-go ◄── made-up address ── connection ID or proved address ◄──────┘
//
// The data path reads an atomic pointer per association and takes no lock that
// two flows share. One goroutine, the engine, owns all path machines.
//
// # Made-up addresses
//
// A peer without an association, a stranger, appears under its real address in
// 16-byte form: injective, without state, so QUIC's Retry tokens hold. A client
// dials the made-up address of its association from the start, and the socket
// sends the handshake to several real addresses (see spray). On the accepting
// side the connection begins under the stranger's address; once Bind was called
// its packets come from the made-up one, and quic-go's own migration (RFC 9000
// §9) takes the connection there in one round trip. After that neither end's
// QUIC sees an address change again.
//
// # Whose packet
//
// QUIC packets are told apart by destination connection ID. The socket makes all
// of them (ConnectionIDGenerator) with a keyed check, so an ID made by this
// process is recognised. Which connection it was made for is learnt: from the
// long headers quic-go writes, from handshake packets of strangers, and from
// short headers that come from an address proved to be an association's. A short
// header with an ID of this process that nobody is known to own, from an unknown
// address, is dropped: handed up, it would make quic-go move the connection. An
// ID of another process is handed up, so that a restarted node answers with a
// stateless reset.
//
// # Links
//
// Each interface has a policy, which is a cost to sal/path. What is off is not used,
// and what comes by it is dropped, since the answer would leave by it. What is metered
// is not told to anybody while another link leads to the world. As long as links differ
// in cost, a handshake's first datagrams are pinned too. With Config.Duplicate small
// datagrams also go by the second route the machine names.
//
// # Wire
//
// One UDP port carries QUIC and, told by their first byte (both top bits zero),
//
//	0x01  path message   see sal/path
//	0x02  fragment       see fragment
//	0x03  reserved: forward error correction
//	0x04  datagram to be forwarded by a relay   see sal/relay
//	0x05  datagram forwarded by a relay
//
// Fragments carry what a path does not carry whole: QUIC's packet size is fixed,
// the path's is not.
//
// # Relays
//
// A peer that cannot be reached directly is reached at path.RelayRemote(relay, peer),
// an address as good as any for sal/path and QUIC. What is sent there is wrapped and
// travels on the path that the association with the relay uses at that moment, cut
// where that is narrow; so it follows the relay's and this node's moves. What a relay
// forwarded is unwrapped and looked at again, as if it had come from that address:
//
//	A ── 0x04 ── association A–relay ──► relay ── 0x05 ── association relay–B ──► B
//
// The relay (Config.Relay) takes 0x04 only from the proved addresses of a peer that
// it granted forwarding, and a node 0x05 only from those of a relay it uses. A batch
// of segments is forwarded as one, in the buffer it came in. Nobody waits: what does
// not fit into the socket is dropped. What strangers ask to be forwarded is dropped by
// the kernel, before it takes a place in the socket's buffer (see relay.Sieve).
//
// Relayed datagrams are life of the association that carries them, but none is owed
// an answer: they make the machine ask at most once a second.
//
// # Errors
//
// No error of the network reaches quic-go, for which it would be the end of the
// connection: it is counted, and the path machine is told. Segmentation that a
// device refuses (EIO) is done here, for as long as the path uses that device.
//
// # What it does not do
//
// It does not authenticate peers (the QUIC handshake above does), choose paths
// (sal/path does), resolve locators, choose relays or register with them. It needs
// Linux.
package underlay
