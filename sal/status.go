package sal

import (
	"fmt"

	"github.com/quic-go/quic-go"
)

// Status is a provider's answer to a session open, as it travels.
//
// Rules for adding one: append only, never reuse a number. An unknown status is
// read as a refusal.
type Status uint8

// The answers of a provider.
const (
	// StatusAccepted means the session is open.
	StatusAccepted Status = 0
	// StatusRefused means nothing listens on the port, or the target refused.
	StatusRefused Status = 1
	// StatusUnknownService means the node does not provide the service.
	StatusUnknownService Status = 2
	// StatusNotAuthorized means the service is not for this peer.
	StatusNotAuthorized Status = 3
	// StatusOverCapacity means the node has no memory left for another session.
	StatusOverCapacity Status = 4
	// StatusDraining means the node is shutting down.
	StatusDraining Status = 5
	// StatusUnreachable means the provider found no route to its target.
	StatusUnreachable Status = 6
	// StatusTimeout means the provider's target did not answer in time.
	StatusTimeout Status = 7
	// StatusBadRequest means the open message was malformed or of an unknown
	// version or protocol.
	StatusBadRequest Status = 8
	// StatusPayment means the provider asks for payment first.
	StatusPayment Status = 9
)

var statusNames = [...]string{
	StatusAccepted: "accepted", StatusRefused: "refused", StatusUnknownService: "unknown service",
	StatusNotAuthorized: "not authorised", StatusOverCapacity: "over capacity", StatusDraining: "draining",
	StatusUnreachable: "target unreachable", StatusTimeout: "target timed out", StatusBadRequest: "bad request",
	StatusPayment: "payment asked",
}

// String returns the status in words.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// Codes of RESET_STREAM and STOP_SENDING (RFC 9000 §20.2). Append only. A refused
// open resets with codeStatus plus its Status.
const (
	// codeClosed means the side that sent it closed the session and reads no more.
	codeClosed quic.StreamErrorCode = 0
	// codeReset is the RST of the application or of its TCP.
	codeReset quic.StreamErrorCode = 1
	// codeCancelled means the dialer gave up, or another provider was faster.
	codeCancelled quic.StreamErrorCode = 2
	// codeStatus is the first of the codes that carry a Status.
	codeStatus quic.StreamErrorCode = 0x100
)

// Codes of CONNECTION_CLOSE (RFC 9000 §20.2). Append only.
const (
	// closeShutdown means the node is going away.
	closeShutdown quic.ApplicationErrorCode = 0
	// closeIdle means no session was open for a while.
	closeIdle quic.ApplicationErrorCode = 1
	// closeRetired means another connection of the same two nodes took over.
	closeRetired quic.ApplicationErrorCode = 2
	// closeNotAdmitted means the node may not speak to this one.
	closeNotAdmitted quic.ApplicationErrorCode = 3
	// closeRestarted means the peer has restarted since this connection was made.
	closeRestarted quic.ApplicationErrorCode = 4
	// closeDead means no path was found for too long.
	closeDead quic.ApplicationErrorCode = 5
	// closeProtocol means the peer broke the protocol.
	closeProtocol quic.ApplicationErrorCode = 6
	// closeOverCapacity means the node has too many connections.
	closeOverCapacity quic.ApplicationErrorCode = 7
	// closeParked means that nothing but a registration at a relay needs the
	// connection, and that needs only its association.
	closeParked quic.ApplicationErrorCode = 8
)
