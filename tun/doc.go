// Package tun is the edge for unmodified applications: a TUN device on which every
// service an application asks for has a virtual address.
//
// # Model
//
// The device owns a pool of IPv4 addresses and an IPv6 prefix of the network
// (package address). DNS hands the virtual addresses out by [Edge.Assign]; what
// applications send to them arrives here:
//
//	application ── connect(vaddr:80) ──► kernel ──► TUN ──► Edge
//	                                                         │ SYN held: Overlay.Dial(service, 80)
//	                                                         │ answered: headers rewritten, back into the TUN
//	listener of ours  ◄── kernel TCP ◄── TUN ◄───────────────┘
//	        │ accepted *net.TCPConn
//	        └── spliced with the overlay's net.Conn, buffers of 128 KiB
//
// TCP is terminated by this host's own kernel: an outage of the overlay never backs
// off the application's TCP, and the device's MTU of 65535 lets each read carry a
// whole 64 KiB segment. Turning a flow means that its packets appear to come from a
// made-up peer, an address and port next to the device's own, so the kernel accepts
// them at our listener; answers are rewritten the other way. Checksums are updated,
// not recomputed (RFC 1624).
//
// UDP is one overlay packet flow per 5-tuple. ICMP echo is answered when the
// overlay's ping returns, so ping shows the true round trip.
//
// # What an application sees
//
//	Overlay.Dial answers          IPv4                            IPv6
//	accepted                      SYN-ACK                         SYN-ACK
//	refused (ECONNREFUSED)        RST: "connection refused"       RST
//	over capacity, draining (EAGAIN)
//	                              RST                             RST
//	not authorised, payment asked (EACCES)
//	                              ICMP 3/13: "no route to host"   ICMPv6 1/1: "permission denied"
//	unreachable, timeout, other   ICMP 3/1: "no route to host"    ICMPv6 1/3: "no route to host"
//
// A first SYN is held until the answer is known; its retransmissions are absorbed. A
// service and port that accepted within the last 30 s is answered at once and dialled
// behind it: should that be refused, the application sees a reset, and the next SYN
// is held again. For UDP the same errors are ICMP errors, port unreachable when
// refused. An address of ours that belongs to no service is host unreachable.
//
// # What it does not do
//
// It forwards nothing: packets from the TUN either belong to a flow or are dropped and
// counted. Packets whose source is no address of this host are dropped, so a neighbour
// that routes to the pool gets no service, unless Config.Guests says otherwise: a device
// it knows has flows of its own, told apart by its address, within bounds of its own,
// each allowed or refused by Guests before anything is dialled. It writes no
// firewall rule, and every address and route it sets hangs on the device, which is
// not persistent: the kernel removes all of it when the process dies, however it
// dies.
//
// # Concurrency
//
// An Edge may be used by many goroutines. Run owns the packet loops; Close ends Run
// and waits for every goroutine.
package tun
