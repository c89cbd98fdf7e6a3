// Package reach builds a small Internet of NATs, firewalls and carriers, and
// measures in it who reaches whom, how, and how soon: real daemons, real TUN
// devices, unmodified programs.
//
// # Model
//
//	               internet (a router that filters nothing)
//	 core ───────────┤├────────── uplink (a wire with a delay) ── Place
//	founder, second     one per place                             │
//	(public relays)                                            NATs, LAN, hosts
//
// A [World] is the Internet with its public nodes, a [Place] is where a host can
// be plugged in: a [Kind] of access, with its NATs. All homes have the same
// private addresses, as homes do. [Direct] says of two kinds whether theory allows
// a direct way between them, and why.
//
// # Measures
//
// [World.Table] is who reaches whom. [BothMove] is the silence when both ends of
// a session move at once, [Ride] what a train does to sessions, [Figures] what a
// relay costs and bears. Each returns what it saw; tests assert what must hold on
// any machine, the command benchreach prints the rest.
//
// # What it does not do
//
// It looks into no daemon: what it knows of one it has from its status, from DNS
// and from packets.
package reach
