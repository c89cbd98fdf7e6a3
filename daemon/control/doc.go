// Package control is the daemon's control API: the values that cross the unix
// socket, the HTTP handler in front of a Backend, and the typed Client.
//
// # Model
//
// HTTP/1.1 with JSON bodies over a unix socket. Every reading call is a GET,
// every change a POST under /v1/. A failed call answers with a status code and an
// Error, whose Code is stable and decides the command's exit code. One call is no
// JSON: POST /v1/dial upgrades the connection (RFC 9110 §7.8) to the raw bytes of
// a session, with half-close both ways.
//
// Who may connect is decided by the socket's file mode and group; the package
// authenticates nobody. Request bodies are bounded to 1 MiB.
//
// # Concurrency
//
// Client and Handler are safe for concurrent use; the Backend must be too.
package control
