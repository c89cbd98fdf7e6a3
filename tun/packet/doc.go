// Package packet reads, rewrites and makes IP packets: the pure half of the edge.
//
// # Model
//
// [Parse] looks at one IPv4 or IPv6 packet and says where its transport header is. A
// [Turn] gives a TCP packet other addresses and ports in place, with its checksums
// updated by the difference (RFC 1624 equation 3), so that 64 KiB cost as much as 40
// bytes. Builders append resets (RFC 9293 §3.5.2), ICMP and ICMPv6 errors (RFC 792,
// 1812, 4443), echo replies and UDP datagrams. A [Reassembler] rejoins fragments
// (RFC 791 §3.2, RFC 8200 §4.5, and 5722: overlaps are thrown away).
//
// # What it does not do
//
// No I/O, no clock, no goroutine. It does not verify transport checksums: its input
// comes from this host's own kernel, and what a Turn changes stays as right or wrong
// as it was. IPv6 extension headers other than the fragment header are refused.
//
// # Concurrency
//
// Functions may be called concurrently; a Reassembler belongs to one goroutine.
package packet
