package sal

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"

	"github.com/quic-go/quic-go"
)

// failure is an error of this package that also answers errors.Is for the errors
// of the standard library it corresponds to, so that callers need not import sal
// to tell a refusal from a timeout.
type failure struct {
	text string
	is   []error
}

func (f *failure) Error() string        { return f.text }
func (f *failure) Is(target error) bool { return slices.Contains(f.is, target) }
func (f *failure) Timeout() bool        { return slices.Contains(f.is, os.ErrDeadlineExceeded) }
func (f *failure) Temporary() bool      { return f.Timeout() }

// The errors of dialing and of sessions. Test with errors.Is, either against
// these or against the errors of the standard library they name.
var (
	// ErrClosed is returned after Close of the node, listener or session; it is
	// net.ErrClosed.
	ErrClosed error = &failure{"sal: closed", []error{net.ErrClosed}}
	// ErrRefused means nothing listens on the port, or the target refused; it is
	// syscall.ECONNREFUSED.
	ErrRefused error = &failure{"sal: connection refused", []error{syscall.ECONNREFUSED}}
	// ErrUnknownService means the node does not provide the service; it is
	// syscall.EHOSTUNREACH.
	ErrUnknownService error = &failure{"sal: the node does not provide this service", []error{syscall.EHOSTUNREACH}}
	// ErrNotAuthorized means the service is not for this node; it is syscall.EACCES.
	ErrNotAuthorized error = &failure{"sal: not authorised", []error{syscall.EACCES, os.ErrPermission}}
	// ErrPayment means the provider asks for payment before it lets this node in; it is
	// syscall.EACCES.
	ErrPayment error = &failure{"sal: the provider asks for payment", []error{syscall.EACCES, os.ErrPermission}}
	// ErrNotAdmitted means the peer refuses this node altogether; it is
	// syscall.EACCES.
	ErrNotAdmitted error = &failure{"sal: not admitted by the peer", []error{syscall.EACCES, os.ErrPermission}}
	// ErrOverCapacity means a memory budget is used up; it is syscall.EAGAIN.
	ErrOverCapacity error = &failure{"sal: over capacity", []error{syscall.EAGAIN}}
	// ErrDraining means the provider is shutting down or drains the service; it is syscall.EAGAIN.
	ErrDraining error = &failure{"sal: the provider is shutting down, or drains the service", []error{syscall.EAGAIN}}
	// ErrTargetUnreachable means the provider cannot reach its target; it is
	// syscall.EHOSTUNREACH.
	ErrTargetUnreachable error = &failure{"sal: the provider cannot reach its target", []error{syscall.EHOSTUNREACH}}
	// ErrTargetTimeout means the provider's target did not answer; it is
	// syscall.ETIMEDOUT and os.ErrDeadlineExceeded.
	ErrTargetTimeout error = &failure{"sal: the provider's target timed out", []error{syscall.ETIMEDOUT, os.ErrDeadlineExceeded}}
	// ErrBadRequest means the peer did not understand the open; it is
	// syscall.EPROTONOSUPPORT.
	ErrBadRequest error = &failure{"sal: the peer does not speak this version or protocol", []error{syscall.EPROTONOSUPPORT}}
	// ErrNoProvider means resolution found nobody who provides the service; it is
	// syscall.EHOSTUNREACH.
	ErrNoProvider error = &failure{"sal: no provider found", []error{syscall.EHOSTUNREACH}}
	// ErrUnreachable means no address of the node answered; it is
	// syscall.EHOSTUNREACH.
	ErrUnreachable error = &failure{"sal: node unreachable", []error{syscall.EHOSTUNREACH}}
	// ErrNetwork means the node belongs to another network; it is
	// syscall.EHOSTUNREACH.
	ErrNetwork error = &failure{"sal: the node belongs to another network", []error{syscall.EHOSTUNREACH}}
	// ErrIdentity means the node at the address is not the one dialled; it is
	// syscall.EHOSTUNREACH.
	ErrIdentity error = &failure{"sal: the node at this address has another key", []error{syscall.EHOSTUNREACH}}
	// ErrReset means the peer reset the session; it is syscall.ECONNRESET.
	ErrReset error = &failure{"sal: session reset by peer", []error{syscall.ECONNRESET}}
	// ErrLost means the connection to the peer is gone, because it restarted, was
	// shut down, or was unreachable for too long; it is syscall.ECONNRESET.
	ErrLost error = &failure{"sal: connection to the peer lost", []error{syscall.ECONNRESET}}
	// ErrBrokenPipe is returned by Write after CloseWrite, and after the peer
	// closed the session; it is syscall.EPIPE.
	ErrBrokenPipe error = &failure{"sal: broken pipe", []error{syscall.EPIPE}}
	// ErrTooLarge is returned for a datagram above MaxDatagram; it is
	// syscall.EMSGSIZE.
	ErrTooLarge error = &failure{"sal: datagram too large", []error{syscall.EMSGSIZE}}
	// ErrFull is returned by PacketConn.TryWrite for a datagram that was dropped because
	// its queue is full; it is syscall.ENOBUFS.
	ErrFull error = &failure{"sal: send queue full", []error{syscall.ENOBUFS}}
	// ErrInUse is returned by Listen and Handle where something already serves; it
	// is syscall.EADDRINUSE.
	ErrInUse error = &failure{"sal: service and port already in use", []error{syscall.EADDRINUSE}}
	// ErrAborted is returned by Incoming.Accept after the dialer gave up; it is
	// syscall.ECONNABORTED.
	ErrAborted error = &failure{"sal: the dialer gave up", []error{syscall.ECONNABORTED}}
)

// statusError returns the error of an answer, nil if it is an acceptance.
func statusError(s Status) error {
	switch s {
	case StatusAccepted:
		return nil
	case StatusUnknownService:
		return ErrUnknownService
	case StatusNotAuthorized:
		return ErrNotAuthorized
	case StatusOverCapacity:
		return ErrOverCapacity
	case StatusDraining:
		return ErrDraining
	case StatusUnreachable:
		return ErrTargetUnreachable
	case StatusTimeout:
		return ErrTargetTimeout
	case StatusBadRequest:
		return ErrBadRequest
	case StatusPayment:
		return ErrPayment
	case StatusRefused:
		return ErrRefused
	}
	return ErrRefused
}

// errorStatus returns the status that tells a dialer of err, which a handler gave
// to Reject. Most errors of dialing a target map to their counterpart; what is
// not known is a refusal.
func errorStatus(err error) Status {
	if status, ok := knownStatus(err); ok {
		return status
	}
	return StatusRefused
}

// errorCode returns the code that tells the peer of an accepted session of err.
// What is not known is a reset.
func errorCode(err error) quic.StreamErrorCode {
	if status, ok := knownStatus(err); ok {
		return codeStatus + quic.StreamErrorCode(status)
	}
	return codeReset
}

// knownStatus returns the status that says the same as err, if one does.
func knownStatus(err error) (Status, bool) {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return StatusRefused, true
	case errors.Is(err, ErrUnknownService):
		return StatusUnknownService, true
	case errors.Is(err, ErrDraining):
		return StatusDraining, true
	case errors.Is(err, ErrPayment):
		return StatusPayment, true
	case errors.Is(err, syscall.EACCES), errors.Is(err, os.ErrPermission):
		return StatusNotAuthorized, true
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return StatusOverCapacity, true
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTDOWN):
		return StatusUnreachable, true
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return StatusTimeout, true
	case errors.Is(err, ErrBadRequest):
		return StatusBadRequest, true
	}
	return StatusRefused, false
}

// severity orders the failures of several providers: the one that says most
// about the service itself is what the caller of Dial hears.
func severity(err error) int {
	for i, e := range [...]error{
		ErrRefused, ErrPayment, ErrNotAuthorized, ErrOverCapacity, ErrTargetTimeout, ErrTargetUnreachable,
		ErrDraining, ErrNotAdmitted, ErrBadRequest, ErrUnknownService, ErrNetwork, ErrIdentity, ErrUnreachable,
	} {
		if errors.Is(err, e) {
			return i
		}
	}
	return 100
}

// linkError translates the end of a QUIC connection. established says whether
// the handshake had been completed.
func linkError(err error, established bool) error {
	var (
		app       *quic.ApplicationError
		transport *quic.TransportError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &app):
		if !app.Remote {
			if app.ErrorCode == closeShutdown {
				return ErrClosed
			}
			return ErrLost
		}
		switch app.ErrorCode {
		case closeNotAdmitted:
			return ErrNotAdmitted
		case closeOverCapacity:
			return ErrOverCapacity
		}
		return ErrLost
	case errors.As(err, &transport) && !established:
		var identity *identityError
		switch {
		case errors.As(err, &identity):
			return ErrIdentity
		case transport.ErrorCode.IsCryptoError() && tls.AlertError(transport.ErrorCode&0xff) == alertNoApplicationProtocol:
			return ErrNetwork
		case transport.ErrorCode == quic.ConnectionRefused:
			return ErrOverCapacity
		}
		return ErrUnreachable
	case errors.Is(err, quic.ErrTransportClosed):
		return ErrClosed
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	if established {
		return ErrLost
	}
	return ErrUnreachable
}

// alertNoApplicationProtocol is the TLS alert of an ALPN mismatch (RFC 7301 §3.2).
const alertNoApplicationProtocol tls.AlertError = 120

// streamError translates an error of reading or writing a session's stream.
// It does not know what this side did; Conn looks at that first.
func streamError(err error) error {
	var stream *quic.StreamError
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return err
	case errors.As(err, &stream):
		switch {
		case stream.ErrorCode >= codeStatus && stream.ErrorCode <= codeStatus+0xff:
			if e := statusError(Status(stream.ErrorCode - codeStatus)); e != nil {
				return e
			}
			return ErrReset
		case stream.ErrorCode == codeClosed:
			return ErrBrokenPipe
		}
		return ErrReset
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.Is(err, quic.ErrStreamClosed):
		return ErrBrokenPipe
	}
	return linkError(err, true)
}
