// Package daemon is one node as a running system: the node itself
// (daemon/node), the TUN edge, the local DNS server and the operating system's
// resolver, the control socket, metrics and the log, started and stopped in order.
//
// # Model
//
// Run reads and validates everything first — settings, keys, network file, the
// host — and touches the system only when all of it is right; Check stops at that
// line. Services run in one group; the first that fails stops all. Resources are
// closed in reverse order of their opening. A guardian process puts the host's DNS
// back even when the daemon is killed; the TUN device and everything attached to
// it vanish with the daemon's file descriptor.
//
// # What it does not do
//
// It decides nothing about sessions, records or names: those are the layers', and
// wiring.go joins them. It runs in the foreground; systemd does the rest.
package daemon
