// Package target is the provider's side of a service: it parses where a service
// really listens, dials that for each incoming session, and joins the two.
//
// # Model
//
//	80=tcp://127.0.0.1:8080      port 80 of the service is this TCP listener
//	tcp://[::1]:22               port 22, the target's own
//	53=udp://10.0.0.2:5353       datagrams, one socket per session
//	80=unix:///run/app.sock      a unix socket; the port must be said
//
// A [Provider] takes the sessions of one service. Each is answered only after its
// target answered, so that a refusal reaches the application as what it is: the
// session is rejected with the error of the target's own dial. Streams carry
// half-close and reset both ways (package splice).
//
// With PROXY protocol v2 the target is told who called: a header ahead of the
// stream's bytes with the caller's virtual IPv6 address where the network is known,
// 0.0.0.0 otherwise, and the caller's node ID, in text form, in the TLV [TLVNode].
//
// # What it does not do
//
// It authorises nobody: that is for the layer that hands the sessions in. It does
// not resolve overlay names. Datagram targets get no PROXY header.
//
// # Concurrency
//
// A Provider may be used by many goroutines; each Handle call owns its session.
package target
