// Package guest is what a host needs to know, and to set, so that devices of a LAN or
// containers may use the overlay through it.
//
// # Model
//
// A device sends what is for the overlay's address ranges to this host, which is its
// router; the kernel forwards it into the TUN, and package tun asks three questions:
//
//	Networks    is the source of a network behind one of the listed interfaces?
//	Rules       may this device use this service and port? Nobody may what no rule allows.
//	Forwarding  does the kernel forward what comes in by these interfaces?
//
// A Rule reads "SOURCE SERVICE[:PORT]": the source an address, a prefix or "all", the
// service a name, an ID or "all". There are no deny rules; what is not allowed is
// refused.
//
// Forwarding sets net.ipv4.conf.LINK.forwarding of the listed interfaces alone, so that
// a host that is no router does not become one between its other links. What it changed
// stands in a file before it is changed, and [Restore] undoes it from there: at the end,
// by the guardian after kill -9, or at the next start. IPv6 knows no such thing for each
// link on most kernels (net.ipv6.conf.all.forwarding also makes a host deaf to router
// advertisements), so it is left to the operator; [Forwarding.Missing6] says so.
//
// # What it does not do
//
// It forwards nothing itself, writes no firewall rule, and cannot tell apart devices
// whose packets were masqueraded before they reached the TUN: they count as this host.
//
// # Concurrency
//
// All types are safe for concurrent use.
package guest
