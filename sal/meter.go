package sal

import (
	"context"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// SessionInfo describes a session to a Meter.
type SessionInfo struct {
	// Local and Peer are the two nodes.
	Local, Peer identity.NodeID
	// Initiator says that this node dialled.
	Initiator bool
	Service   identity.ServiceID
	Port      uint16
	Protocol  record.Protocol
	// Nonce was drawn by the dialer; it names the session to both sides.
	Nonce [32]byte
	// Exporter are secret bytes known to the two nodes alone, bound to the
	// connection's keys and to the nonce (RFC 5705).
	Exporter [32]byte
	// Opening and Accepting are the opaque extensions of the two messages. They
	// must not be modified.
	Opening, Accepting []byte
	// Start is when the session was accepted, by this node's clock.
	Start time.Time
}

// Meter sees the sessions of a node, at both ends. What it sends to the meter of
// the other end, and how that is paid, is not this package's business. Sessions
// of a node with itself are not metered.
type Meter interface {
	// Opening returns the opaque extension to send with the open of a session, at
	// most MaxExtension bytes. Exporter and Accepting are not set yet.
	Opening(SessionInfo) []byte
	// Accepting returns the opaque extension to send with the acceptance. An error
	// refuses the session, with the status that Incoming.Reject would send.
	Accepting(SessionInfo) ([]byte, error)
	// Begin starts the account of an accepted session. send gives an opaque frame
	// of at most MaxFrame bytes to the other end's Account, unreliably and without
	// order; it never blocks and may be called until Close. An error ends the
	// session.
	Begin(info SessionInfo, send func(frame []byte)) (Account, error)
}

// MaxFrame is the largest opaque frame between two meters.
const MaxFrame = 1200

// Account is one metered session. Its methods are called concurrently.
type Account interface {
	// Take counts n bytes carried, in either direction, and reports whether the
	// session may go on. It must not block.
	Take(n int) bool
	// Wait blocks until the session may go on after Take was false. An error ends
	// the session.
	Wait(ctx context.Context) error
	// Frame delivers a frame of the other end's Account, which it may keep.
	Frame(frame []byte)
	// Close ends the account. It is called once.
	Close()
}
