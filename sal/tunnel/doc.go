// Package tunnel carries UDP datagrams inside TLS over TCP, for a network that
// lets no UDP out. It is the last resort: TCP delivers in order and repeats what
// was lost, which costs what QUIC above it would rather decide by itself.
//
// The server belongs to a relay. It takes WebSockets over HTTPS, one datagram to a
// binary message, and gives each a loopback UDP socket of its own, connected to
// the node's UDP port. The client belongs to the node that has no UDP. It holds
// one UDP socket on loopback, whose address stands for the relay: what the node
// sends there comes out at the relay's UDP port, as from a host 127.0.0.1:y, and
// the answers come back the same way.
//
//	node ── UDP ── 127.0.0.1:x ═══ TLS, WebSocket ═══ 127.0.0.1:y ── UDP ── relay
//
// So nothing above knows of it but by the addresses. Nothing is trusted either:
// the certificate is made by the server for itself and checked by nobody, because
// TLS is here to look like TLS and to pass where only TLS passes. Who is at the
// other end, and that nobody reads along, is settled by the QUIC inside. A tunnel
// is therefore as open as the relay's UDP port is, and bounded like it: in number,
// by source, in size of messages and in time.
//
// A datagram that cannot be written at once waits in a short queue; beyond that it
// is dropped, as a router would. The TCP connection survives no change of address:
// Client.Kick makes another one.
//
// It does not look for proxies by itself, decide when a tunnel is needed, or tell
// anybody of it.
package tunnel
