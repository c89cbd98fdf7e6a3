// Package relay is the core of forwarding datagrams between nodes that cannot
// reach each other: what stands on the wire, who may have what forwarded, how
// much of it, and to whom.
//
// # Model
//
// A node registers with a relay over an authenticated session and is given a
// [Token]. From then on it may wrap a datagram for another node and send it to
// the relay, which finds the other among its registrations, rewrites the header
// where it is and sends the datagram on at once:
//
//	A ── 0x04, A's token, to B ──► relay ── 0x05, B's token, from A ──► B
//
// The relay keeps nothing per pair of nodes and nothing of a datagram. What it
// forwards is sealed end to end: it can neither read nor forge it.
//
// The package is pure: no clock, no socket, no goroutine. sal/underlay receives
// and sends; it makes sure that the token came from an address proved to be its
// owner's, which is what keeps others from using it.
//
// # Wire format
//
//	 0      1              8                     16
//	┌──────┬──────────────┬─────────────────────┬──────────────┐
//	│ type │ token        │ head of a NodeID    │ datagram     │
//	└──────┴──────────────┴─────────────────────┴──────────────┘
//
// Type 0x04 asks for forwarding and names the destination, 0x05 is forwarded and
// names the source. The token is the one of the node at the other end of this
// leg, the same in both directions. The datagram is what would have been the UDP
// payload; it is never wrapped twice. A field is added by taking another type.
//
// Nobody as the source means that the relay itself speaks; what it says is defined where
// it is sent, in sal/underlay. A node may be its own destination: so it sees whether the
// relay works.
//
// # Bounds
//
// Registrations are bounded in number. Each may have [Limits.PerNode] bytes a
// second forwarded, all together [Limits.Total], with short bursts above that;
// what exceeds it is dropped and counted, never queued. A sender is told of a
// destination that is not registered once a minute, and of at most
// [MaxUnknown] of them in that time.
//
// # Concurrency
//
// A [Table] may be used by any number of goroutines; a lookup takes a read lock,
// the rest of forwarding atomic operations only.
package relay
