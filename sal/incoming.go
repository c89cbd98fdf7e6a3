package sal

import (
	"context"
	"errors"
	"sync"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// Handler serves the sessions of a service. It runs in a goroutine of its own for
// each session. ctx ends when the dialer gives up before the acceptance, when the
// session's connection is lost, or when the session or the node is closed. A
// session it neither accepted nor rejected is refused when it returns; one it
// accepted is its to close.
type Handler func(ctx context.Context, in *Incoming)

// Incoming is a session that a peer wants to open. Accept it only once the target
// has answered, so that a refusal reaches the application truthfully.
type Incoming struct {
	// Peer is the authenticated node that dials.
	Peer     identity.NodeID
	Service  identity.ServiceID
	Port     uint16
	Protocol record.Protocol

	session *session
	ctx     context.Context
	cancel  context.CancelCauseFunc
	stop    func() bool // detaches ctx from the stream

	mu      sync.Mutex // guards below
	decided bool
}

var errDecided = errors.New("sal: the session was accepted or rejected already")

// watch makes the context end when the dialer gives up.
func (in *Incoming) watch() {
	in.ctx, in.cancel = context.WithCancelCause(in.session.ctx)
	in.stop = context.AfterFunc(in.session.str.Context(), func() { in.cancel(ErrAborted) })
}

// Accept accepts a session of protocol TCP.
func (in *Incoming) Accept() (*Conn, error) {
	if in.Protocol != record.TCP {
		return nil, ErrBadRequest
	}
	c := &Conn{session: in.session}
	if err := in.accept(nil); err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptPacket accepts a session of protocol UDP.
func (in *Incoming) AcceptPacket() (*PacketConn, error) {
	if in.Protocol != record.UDP {
		return nil, ErrBadRequest
	}
	c := newPacketConn(in.session)
	if err := in.accept(c); err != nil {
		return nil, err
	}
	c.start()
	return c, nil
}

func (in *Incoming) accept(packets *PacketConn) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.decided {
		return errDecided
	}
	s := in.session
	in.decided = true
	in.stop()
	if in.ctx.Err() != nil {
		s.abort()
		return ErrAborted
	}
	s.info.Start = s.node.cfg.Clock()
	if err := s.meterAccept(); err != nil {
		status := errorStatus(err)
		refuse(s.str, status)
		s.release()
		return err
	}
	if packets != nil {
		packets.attach()
	}
	answer := answerMessage{Status: StatusAccepted, Extension: s.info.Accepting}
	if err := s.writeMessage(answer.Append(make([]byte, 0, answer.Len()))); err != nil {
		s.abort()
		return ErrAborted
	}
	s.accepted.Store(true)
	s.node.counters.accepted.Add(1)
	return nil
}

// meterAccept asks the meter for its extension and starts the account.
func (s *session) meterAccept() error {
	meter := s.node.cfg.Meter
	if meter == nil || s.link == nil {
		return nil
	}
	if err := s.export(); err != nil {
		return err
	}
	extension, err := meter.Accepting(s.info)
	if err != nil {
		return err
	}
	if len(extension) > MaxExtension {
		return errTooLong
	}
	s.info.Accepting = extension
	return s.beginMetering()
}

// Reject refuses the session. The dialer gets the error that corresponds to err:
// what dialing a target returned can be passed on as it is. nil is a plain
// refusal. After Accept or Reject it does nothing.
func (in *Incoming) Reject(err error) { in.reject(errorStatus(err)) }

func (in *Incoming) reject(status Status) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.decided {
		return
	}
	in.decided = true
	if in.stop != nil {
		in.stop()
	}
	in.session.node.counters.rejected.Add(1)
	refuse(in.session.str, status)
	in.session.release()
}

// finish refuses what the handler left undecided.
func (in *Incoming) finish() {
	in.Reject(nil)
}
