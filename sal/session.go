package sal

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// stream is what a session is carried on: a *quic.Stream, or one end of a pipe
// when both ends are this node.
type stream interface {
	io.ReadWriteCloser // Close ends the sending direction only.
	Peek([]byte) (int, error)
	CancelRead(quic.StreamErrorCode)
	CancelWrite(quic.StreamErrorCode)
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	// Context ends with the sending direction.
	Context() context.Context
}

// lane carries the datagrams of packet sessions and the frames of meters.
type lane interface {
	// register routes the datagrams of flow to s, those included that came a
	// little too early.
	register(flow FlowID, s *session)
	unregister(flow FlowID)
	// send queues one message of a flow; it copies the payload. It never blocks, and
	// reports false when there is no room for it.
	send(m *datagramMessage, of *flowQueue) bool
	// room returns how many bytes fit into one datagram.
	room() int
}

// session is what Conn and PacketConn have in common.
type session struct {
	node *Node
	link *link // nil when the peer is this node
	str  stream
	lane lane
	flow FlowID
	info SessionInfo
	win  window

	ctx      context.Context // ends with the session
	cancel   context.CancelFunc
	account  atomic.Pointer[meterAccount]
	early    atomic.Int64             // bytes written before there was an account
	deliver  func(m *datagramMessage) // of a packet session
	queued   flowQueue                // the lane's
	closed   atomic.Bool
	ended    atomic.Pointer[error] // what this node ended it for
	released sync.Once

	answerMu sync.Mutex // guards below
	answer   answerReader
	answered error
	accepted atomic.Bool // the answer was an acceptance; written under answerMu

	registration bool // at a relay; guarded by link.mu
}

type meterAccount struct{ Account }

// opErr wraps an error as net.TCPConn does. io.EOF stays bare.
func (s *session) opErr(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: "scn", Source: s.localAddr(), Addr: s.remoteAddr(), Err: err}
}

func (s *session) localAddr() net.Addr {
	if s.info.Initiator {
		return Addr{Node: s.info.Local}
	}
	return Addr{Node: s.info.Local, Service: s.info.Service, Port: s.info.Port}
}

func (s *session) remoteAddr() net.Addr {
	if s.info.Initiator {
		return Addr{Node: s.info.Peer, Service: s.info.Service, Port: s.info.Port}
	}
	return Addr{Node: s.info.Peer}
}

// await returns once the provider has answered: nil if it accepted. The stream's
// read deadline interrupts it.
func (s *session) await() error {
	if s.accepted.Load() {
		return nil
	}
	s.answerMu.Lock()
	defer s.answerMu.Unlock()
	if s.accepted.Load() {
		return nil
	}
	if s.answered != nil {
		return s.answered
	}
	m, err := s.answer.read(s.str)
	if err != nil {
		err = s.answerError(err)
		if !isDeadline(err) {
			s.answered = err
		}
		return err
	}
	if err := statusError(m.Status); err != nil {
		s.answered = err
		s.str.CancelWrite(codeCancelled)
		return err
	}
	s.info.Accepting = m.Extension
	s.info.Start = s.node.cfg.Clock()
	if err := s.beginMetering(); err != nil {
		s.answered = err
		code := errorCode(err)
		s.str.CancelRead(code)
		s.str.CancelWrite(code)
		return err
	}
	s.answer = answerReader{}
	s.accepted.Store(true)
	return nil
}

// answerError translates what came instead of an answer.
func (s *session) answerError(err error) error {
	for _, bad := range [...]error{io.ErrUnexpectedEOF, errVersion, errTruncated, errTooLong} {
		if errors.Is(err, bad) {
			return ErrBadRequest
		}
	}
	return streamError(err)
}

// beginMetering starts the account, if there is a meter.
func (s *session) beginMetering() error {
	meter := s.node.cfg.Meter
	if meter == nil || s.link == nil {
		return nil
	}
	if err := s.export(); err != nil {
		return err
	}
	info := s.info
	info.RTT, info.End = s.link.roundTrip, s.End
	account, err := meter.Begin(info, s.sendFrame)
	if err != nil {
		return err
	}
	s.account.Store(&meterAccount{account})
	s.countEarly()
	s.lane.register(s.flow, s)
	return nil
}

// export fills in the exporter bytes: those of the connection, hashed with the nonce.
func (s *session) export() error {
	if s.info.Exporter != [32]byte{} {
		return nil
	}
	secret, err := s.link.exporter()
	if err != nil {
		return err
	}
	var b [2 * 32]byte
	copy(b[:], secret[:])
	copy(b[32:], s.info.Nonce[:])
	s.info.Exporter = sha256.Sum256(b[:])
	return nil
}

func (s *session) sendFrame(frame []byte) {
	if len(frame) > MaxFrame || s.closed.Load() {
		return
	}
	s.lane.send(&datagramMessage{Kind: kindFrame, Flow: s.flow, Payload: frame}, &s.queued)
}

// receive handles one datagram of the session's flow.
func (s *session) receive(m *datagramMessage) {
	switch m.Kind {
	case kindFrame:
		if a := s.account.Load(); a != nil {
			a.Frame(m.Payload)
		}
	default:
		if s.deliver != nil {
			s.deliver(m)
		}
	}
}

// abort ends a session that this node does not want after all.
func (s *session) abort() {
	s.closed.Store(true)
	s.str.CancelWrite(codeCancelled)
	s.str.CancelRead(codeCancelled)
	s.release()
}

// release gives back what the session holds of the node. The stream is ended by
// the caller.
func (s *session) release() {
	s.released.Do(func() {
		s.cancel()
		if s.lane != nil && (s.deliver != nil || s.account.Load() != nil) {
			s.lane.unregister(s.flow)
		}
		if a := s.account.Load(); a != nil {
			a.Close()
		}
		s.win.close()
		if s.link != nil {
			s.link.removeSession(s)
		} else {
			s.node.loops.remove(s)
		}
	})
}
