// Package path decides over which pair of addresses the packets of one
// association travel, and survives both ends changing theirs.
//
// # Model
//
// An association is one QUIC connection between two nodes; below it, unseen by
// QUIC, a [Machine] at each end knows its own addresses ([Link]), the peer's
// (remotes), and every pair of the two of one family ([Route]). The ends prove
// pairs to each other with sealed path messages, agree on one of them, and
// replace it when it fails or when a cheaper or clearly faster one is found.
//
// The machine is sans-IO: it has no clock, no socket, no goroutine and no
// global randomness. A shell (sal/underlay) feeds it events and carries out the
// actions it yields:
//
//	m, err := path.New(cfg)
//	for _, a := range m.Take() { … }        // New yields actions already
//	m.Step(now, path.Received{Route: r, Datagram: b})
//	for _, a := range m.Take() { … }        // after every Step
//	timer.Reset(m.Deadline() - now)          // zero: nothing is due
//	… timer fires: m.Step(now, path.Tick{})
//
// What the shell owes the machine:
//
//   - [Received] for each datagram whose first byte is [Type] and whose [Index]
//     is this machine's. The datagram may be reused after Step returns.
//   - [Traffic] with the times of the last QUIC datagram sent and received: when
//     the first one moves after a pause and then at most every [NoteInterval]
//     while they move, and always just before a [Tick]. This is what silence is
//     told from.
//   - [UnknownAddress] for a QUIC packet that names the association by a
//     connection ID but came from an address that is not [Validated].
//   - [Advertised] with the addresses to tell the peer and then [LinksChanged] with
//     the whole list of usable local ones and their costs, in this order, so that
//     the first messages of a move carry what is new; [RelaysAdvertised] with our
//     relays; [RemotesChanged] with a record's addresses when [Resolve] was answered
//     or [RelaysTold] was heeded; [Reachable] when the way to a relayed remote works
//     again; [Resumed] after suspend or whenever the network may have changed;
//     [SendFailed] and [TooBig] from the socket, [SendFailed] for data too.
//
// What the shell does with actions is written at each of them.
//
// A way through a relay is one more remote ([RelayRemote]). It pairs with the zero
// [Link] alone, since the association with the relay sees to the link, and outlives
// all links; so does the local end of a tunnel through TCP, which is a loopback
// remote on a host without a loopback link. Both have a fixed MTU: what carries
// them cuts what is too large.
//
// # States
//
//	         silence, unanswered keep-alive           no echo in time
//	steady ─────────────────────────────► checking ────────────────────► searching
//	  ▲ ▲                                    │                            │  │
//	  │ └──────────── echo ──────────────────┘     link gone, send failed │  │
//	  └───────────────── first path validated (Use, Resend) ──────────────┘  │
//	                                      15 min without any path ──► dead ◄─┘
//
// Checking challenges the path in use, searching challenges all pairs at once,
// again after 10, 20, 40 … ms and, when that does not help, asks for the peer's
// newest record ([Resolve]) with bounded back-off. Anything authentic from the
// peer begins the back-off anew. A standby path proved within a minute is used at
// once when the link in use goes away, and has to answer then. While one stands by,
// silence is noticed after 100 ms instead of 250; half way through the check it is
// challenged too, and the first to answer takes over.
//
// # Costs
//
// Every link has a cost, which each end tells the other by two bits of its messages;
// the way adds to it: nothing if direct, more if relayed, most through TCP. Of the
// paths that work the cheapest is used, among equals the fastest. The initiator goes
// to a cheaper one as soon as it is proved; nothing is lost, since the dearer one
// works on and stays proved as a standby. A path that fails again and again while
// another works is left alone for 1 s, 2 s, 4 s … 2 min. Metered links are not even
// probed while something cheaper works.
//
// # NATs
//
// Two ends that reach each other through a relay tell each other their addresses by
// path messages over it; both then probe all pairs not proved together, so that each
// NAT has been opened from inside when the other's probe arrives. A probe that comes
// from a port nobody told of (a NAT that maps by destination) is answered there. A
// round begins whenever either has new addresses or links, and after a loss;
// otherwise every 5, 10, 20 s … 5 min while the path in use could be cheaper, and
// only with sessions open. Keep-alives go every 25 s; where mappings turn out to
// lapse in between, every 15 or 10.
//
// # Agreement
//
// Each message says whether its sender uses the path it came by, and since which
// generation. Who leaves a broken path raises the generation; only the initiator
// leaves a working one for a better one. The higher generation is followed, once
// this end has proved the path for itself; with equal generations chosen at once
// the initiator's path wins. A message from another address without a new
// generation is a NAT that changed its mind, or somebody forwarding our packets:
// the old path is checked first, and left only if it is dead (RFC 9000 §9.3.3).
//
// # Hostile world
//
// Messages are sealed with keys per direction and counted; a window refuses
// replays. A path is used only after an echo of an unpredictable nonce came back
// over it (RFC 9000 §8.2), so spoofed and replayed addresses move nothing.
// Towards an address not yet proved, a relayed one too, go at most three times the
// bytes that came
// from it plus four small packets per five seconds; padded probes go over proved
// paths only. Tables are bounded, entries young enough to matter for a budget
// are never evicted by new ones.
//
// # Wire format
//
//	 0      1                9               17                     n-16      n
//	┌──────┬────────────────┬────────────────┬──────────────────────┬─────────┐
//	│ 0x01 │ receiver index │ counter        │ sealed: state, frames│ tag     │
//	└──────┴────────────────┴────────────────┴──────────────────────┴─────────┘
//	state  = flags (1) ‖ generation (4) ‖ highest locator sequence seen (4)
//	flags  = 0x01: the sender uses this path; 0x06: its link costs as usual, is
//	         preferred, metered, a backup
//	frame  = kind (1) ‖ length (2) ‖ body
//
// ChaCha20-Poly1305, nonce = 4 zero bytes ‖ counter, the first 17 bytes as
// additional data; integers are big endian. Keys and indexes come by HKDF-SHA256
// from [SecretSize] bytes of the TLS exporter under [SecretLabel]. A frame of an
// unknown kind is skipped; a known kind must have its exact length, and frames
// must fill the message exactly, or the whole message is dropped.
//
//	0x00 padding    any bytes
//	0x01 challenge  nonce (8)
//	0x02 echo       nonce (8) ‖ where the challenge came from (18)
//	0x03 locators   sequence (4) ‖ { kind (1) ‖ length (1) ‖ value } …
//	0x04 probe      nonce (8) ‖ IP packet size (2); the datagram is that large
//	0x05 probe echo nonce (8) ‖ IP packet size (2)
//
// An address is 16 bytes (IPv4 as ::ffff:a.b.c.d) and a port; zero where there is
// none to tell. Locator kind 0x01 is such an address, 0x02 the node ID (32) of a
// relay at which the sender can be reached; other kinds are skipped.
//
// # What it does not do
//
// It does not carry data, cut datagrams, resolve records, or learn which
// interfaces exist. A Machine must not be used by two goroutines at once.
package path
