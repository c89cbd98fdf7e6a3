package tun

import (
	"context"
	"net"
	"time"

	"scn.alt/scn/routing/identity"
)

// Overlay is what the edge needs of the layers below. Errors are told apart by
// errors.Is: syscall.ECONNREFUSED, syscall.EACCES, syscall.EAGAIN,
// syscall.EHOSTUNREACH, syscall.ENETUNREACH, os.ErrDeadlineExceeded and
// context.DeadlineExceeded; everything else counts as unreachable.
//
// A Conn that has CloseWrite() error carries half-closes, one that has
// SetLinger(int) error carries resets (as net.TCPConn: SetLinger(0), then Close), and
// a read or write that fails with syscall.ECONNRESET is a reset by the peer.
type Overlay interface {
	// Dial opens a stream to a port of a service and returns once the provider
	// accepted it.
	Dial(ctx context.Context, service identity.ServiceID, port uint16) (net.Conn, error)
	// DialPacket opens a packet flow: each Write is one datagram of at most 65507
	// bytes, each Read returns one. A flow that has ReadDatagram() ([]byte, error) is
	// read by that instead, which saves a buffer of 64 KiB for each flow. One that has
	// TryWrite([]byte) error, which sends or drops and never waits, is written to by
	// that from the packet loop, which saves a queue.
	DialPacket(ctx context.Context, service identity.ServiceID, port uint16) (net.Conn, error)
	// Ping measures one round trip to the provider that sessions would use.
	Ping(ctx context.Context, service identity.ServiceID) (time.Duration, error)
}

// EarlyDialer is an Overlay that can return a stream before the provider's answer,
// so that the application's first bytes travel with the open request. It is used for
// a port that accepted a moment ago. A refusal shows as the error of Dial on the
// first Read or Write that meets it. ctx bounds the call only, not the answer.
type EarlyDialer interface {
	DialEarly(ctx context.Context, service identity.ServiceID, port uint16) (net.Conn, error)
}
