// Package overlay runs networks of real scn daemons on the hosts of a netns lab,
// through the command's own contract, and measures what their users would feel.
//
// A [Network] is founded on one host and joined from others; a [Node] is a
// directory and, while it is up, a daemon. An [Echo] measures silences: a UDP
// echo every 2 ms through the TUN device, as a call or a game would use it.
//
// What it does not do: it looks into no daemon. What it knows it has from the
// command's output, from DNS and from packets, as any user has.
package overlay
