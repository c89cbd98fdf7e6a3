package sal

import (
	"context"
	"errors"
	"os"
	"sync"
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
	// Nonce was drawn by the dialer, or given to DialAt; it names the session to both sides.
	Nonce [32]byte
	// Exporter are secret bytes known to the two nodes alone, bound to the
	// connection's keys and to the nonce (RFC 5705).
	Exporter [32]byte
	// Opening and Accepting are the opaque extensions of the two messages. They
	// must not be modified.
	Opening, Accepting []byte
	// Start is when the session was accepted, by this node's clock.
	Start time.Time
	// RTT returns the connection's smoothed round trip time, and End ends the session:
	// both ends then get the error that corresponds to err, as after Incoming.Reject.
	// Both are set for Begin only, and may be called at any time.
	RTT func() time.Duration
	End func(err error)
}

// Direction tells the bytes a node sends from those it receives.
type Direction uint8

// The directions.
const (
	Sent Direction = iota
	Received
)

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
	// session: the dialer gets it from Dial, or after DialEarly from the first Read,
	// the other end what Incoming.Reject would make of it. It must not wait.
	Begin(info SessionInfo, send func(frame []byte)) (Account, error)
	// Frame delivers an opaque frame that the meter of a peer gave to Node.SendFrame.
	// It must not wait, and may keep the frame.
	Frame(peer identity.NodeID, frame []byte)
}

// MaxFrame is the largest opaque frame between two meters.
const MaxFrame = 1200

// Account is one metered session. Its methods are called concurrently.
type Account interface {
	// Take counts n bytes that were received or are about to be sent, and reports
	// true; or it counts nothing and reports false, where they may not be carried yet.
	// It must not block.
	Take(d Direction, n int) bool
	// Return uncounts n bytes that were taken and then not sent after all.
	Return(d Direction, n int)
	// Wait blocks until n bytes more may be carried after Take was false. An error
	// other than that of ctx ends the session.
	Wait(ctx context.Context, n int) error
	// Drop tells of a datagram of n bytes that is dropped because Take was false.
	Drop(n int)
	// Frame delivers a frame of the other end's Account, which it may keep.
	Frame(frame []byte)
	// Close ends the account. It is called once.
	Close()
}

// SendFrame gives an opaque frame of at most MaxFrame bytes to the meter of a connected
// peer, unreliably and without order. It never blocks, and reports false when there is
// no connection or no room.
func (n *Node) SendFrame(peer identity.NodeID, frame []byte) bool {
	if len(frame) > MaxFrame {
		return false
	}
	n.mu.Lock()
	var l *link
	if p := n.peers[peer]; p != nil {
		l = p.current()
	}
	n.mu.Unlock()
	return l != nil && l.lane.send(&datagramMessage{Kind: kindMeter, Payload: frame}, &l.frames)
}

// Nonce names the session to both ends; the dialer drew it.
func (s *session) Nonce() [32]byte { return s.info.Nonce }

// meterUnit is how much is carried at once where credit is short.
const meterUnit = 16 << 10

// credit is where one direction of a session waits until it may carry more. Deadlines
// and closing end the wait. The zero value is ready.
type credit struct {
	mu      sync.Mutex // guards below
	by      time.Time
	stopped bool
	again   context.CancelCauseFunc // ends the wait in progress
}

// Why a wait for credit ends without it.
var (
	errWaitAgain = errors.New("sal: the deadline has changed")
	errWaitOver  = errors.New("sal: the peer reads no more")
)

// wait waits until a may carry n bytes more, or either context ends.
func (c *credit) wait(parent, over context.Context, a Account, n int) error {
	for {
		c.mu.Lock()
		if c.stopped {
			c.mu.Unlock()
			return ErrClosed
		}
		ctx, cancel := context.WithCancelCause(parent)
		c.again = cancel
		by := c.by
		c.mu.Unlock()
		undo := context.AfterFunc(over, func() { cancel(errWaitOver) })
		stop := func() {}
		if !by.IsZero() {
			ctx, stop = context.WithDeadlineCause(ctx, by, os.ErrDeadlineExceeded)
		}
		err := a.Wait(ctx, n)
		again := errors.Is(context.Cause(ctx), errWaitAgain)
		stop()
		undo()
		cancel(nil)
		if err == nil || !again {
			return err
		}
	}
}

// setDeadline changes the deadline of a wait in progress, and of later ones.
func (c *credit) setDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by = t
	if c.again != nil {
		c.again(errWaitAgain)
	}
}

// stop ends the wait in progress, and makes later ones fail.
func (c *credit) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	if c.again != nil {
		c.again(errWaitAgain)
	}
}

// take counts up to n bytes and returns how many may be carried now: all of them, or
// where credit is short a piece, for which it waits.
func (s *session) take(d Direction, n int, c *credit) (int, error) {
	a := s.metered(n)
	if a == nil || n == 0 || a.Take(d, n) {
		return n, nil
	}
	n = min(n, meterUnit)
	over := s.ctx
	if d == Sent {
		over = s.str.Context()
	}
	for !a.Take(d, n) {
		if err := c.wait(s.ctx, over, a, n); err != nil {
			return 0, s.unpaid(err)
		}
	}
	return n, nil
}

// takeAll counts n bytes that were received.
func (s *session) takeAll(n int, c *credit) error {
	for n > 0 {
		m, err := s.take(Received, n, c)
		if err != nil {
			return err
		}
		n -= m
	}
	return nil
}

// takeDatagram counts a datagram, or has it dropped.
func (s *session) takeDatagram(d Direction, n int) bool {
	a := s.metered(n)
	if a == nil || n == 0 || a.Take(d, n) {
		return true
	}
	a.Drop(n)
	s.node.counters.unpaidDatagrams.Add(1)
	return false
}

// untake uncounts a datagram that was not sent after all.
func (s *session) untake(n int) {
	if a := s.account.Load(); a != nil && n > 0 {
		a.Return(Sent, n)
	}
}

// metered returns the session's account. Before the answer there is none: what is
// written by then is counted when it begins.
func (s *session) metered(n int) Account {
	a := s.account.Load()
	if a != nil {
		return a.Account
	}
	if s.node.cfg.Meter == nil || s.link == nil || s.accepted.Load() {
		return nil
	}
	s.early.Add(int64(n))
	s.countEarly()
	return nil
}

// countEarly counts what was sent before the account began.
func (s *session) countEarly() {
	if a := s.account.Load(); a != nil {
		if n := s.early.Swap(0); n > 0 {
			a.Take(Sent, int(n))
		}
	}
}

// unpaid ends a session that waited for credit in vain, and says so at both ends.
func (s *session) unpaid(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case s.closed.Load(), errors.Is(err, ErrClosed):
		return ErrClosed
	case errors.Is(err, errWaitOver):
		return streamError(context.Cause(s.str.Context()))
	case s.link != nil && s.link.ctx.Err() != nil:
		return linkError(context.Cause(s.link.ctx), true)
	case s.ctx.Err() != nil:
		return ErrReset
	}
	s.end(err)
	return err
}
