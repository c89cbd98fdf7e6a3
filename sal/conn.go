package sal

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// Conn is a session that carries a byte stream. It is a net.Conn with the
// half-close and linger methods of net.TCPConn, and goes on when either side
// changes its address.
//
// Besides io.EOF and errors for which Timeout is true, its methods return errors
// for which errors.Is holds with ErrReset (the peer reset the session),
// ErrBrokenPipe (the peer reads no more), ErrLost (the peer is gone), net.ErrClosed
// (closed on this side), with the error a provider ended the session for (EndServed:
// ErrNotAuthorized, ErrDraining) and, on the first use of what DialEarly returned, any
// error of Dial.
type Conn struct {
	*session

	readClosed  atomic.Bool
	writeClosed atomic.Bool
	reset       atomic.Bool // SetLinger(0)
	writing     sync.Mutex  // held by Write, and while the sending direction is ended
	deadlines   sync.Mutex  // serialises write deadlines with the end of writing
	// readCredit and writeCredit are where a direction waits that is not paid for.
	readCredit, writeCredit credit
}

var (
	_ net.Conn      = (*Conn)(nil)
	_ io.ReaderFrom = (*Conn)(nil)
	_ io.WriterTo   = (*Conn)(nil)
)

var aLongTimeAgo = time.Unix(1, 0)

func isDeadline(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// Read implements io.Reader. What a meter does not let through it holds back, and an
// error of the meter's ends the session.
func (c *Conn) Read(p []byte) (int, error) {
	if !c.accepted.Load() {
		if err := c.await(); err != nil {
			return 0, c.opErr("read", c.readError(err))
		}
	}
	c.win.waiting.Store(true)
	n, err := c.str.Read(p)
	c.win.waiting.Store(false)
	if n > 0 {
		c.win.add(n)
		if unpaid := c.takeAll(n, &c.readCredit); unpaid != nil {
			return 0, c.opErr("read", c.readError(unpaid))
		}
	}
	if err != nil {
		err = c.opErr("read", c.readError(streamError(err)))
	}
	return n, err
}

// readError puts what this side did before what the stream says.
func (c *Conn) readError(err error) error {
	switch {
	case err == nil:
		return nil
	case c.closed.Load():
		return ErrClosed
	case c.reason() != nil:
		return c.reason()
	case errors.Is(err, io.EOF), isDeadline(err):
		return err
	case c.readClosed.Load():
		return io.EOF
	case errors.Is(err, ErrBrokenPipe):
		return ErrReset
	}
	return err
}

// Write implements io.Writer. It returns when the last bytes are about to be
// sent, not when they have arrived.
func (c *Conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.write(p)
}

func (c *Conn) write(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, c.opErr("write", ErrClosed)
	}
	for sent := 0; ; {
		n, err := c.take(Sent, len(p)-sent, &c.writeCredit)
		if err != nil {
			return sent, c.opErr("write", c.writeError(err))
		}
		m, err := c.str.Write(p[sent : sent+n])
		sent += m
		if err != nil {
			return sent, c.opErr("write", c.writeError(streamError(err)))
		}
		if sent == len(p) {
			return sent, nil
		}
	}
}

func (c *Conn) writeError(err error) error {
	switch {
	case err == nil:
		return nil
	case c.closed.Load():
		return ErrClosed
	case c.writeClosed.Load():
		return ErrBrokenPipe
	}
	return err
}

// Accepted waits until the provider has accepted the session, and returns what
// Dial would have returned. It matters only after DialEarly.
func (c *Conn) Accepted(ctx context.Context) error {
	if c.accepted.Load() {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = c.str.SetReadDeadline(aLongTimeAgo) })
	err := c.await()
	if !stop() {
		_ = c.str.SetReadDeadline(time.Time{})
	}
	if err != nil && ctx.Err() != nil && isDeadline(err) {
		err = ctx.Err()
	}
	return c.opErr("dial", c.readError(err))
}

// Close ends the session. What was written before is still delivered, unless
// SetLinger(0) was called. It never blocks on the peer.
func (c *Conn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return nil
	}
	if c.reset.Load() {
		c.str.CancelWrite(codeReset)
		c.str.CancelRead(codeReset)
	} else {
		c.endWriting()
		c.str.CancelRead(codeClosed)
	}
	c.release()
	return nil
}

// endWriting interrupts a Write in progress and ends the sending direction.
func (c *Conn) endWriting() {
	c.deadlines.Lock()
	c.writeClosed.Store(true)
	_ = c.str.SetWriteDeadline(aLongTimeAgo)
	c.writeCredit.stop()
	c.deadlines.Unlock()
	c.writing.Lock()
	_ = c.str.Close()
	c.writing.Unlock()
}

// CloseWrite ends the sending direction: the peer reads io.EOF after all that was
// written.
func (c *Conn) CloseWrite() error {
	if c.closed.Load() {
		return c.opErr("close", ErrClosed)
	}
	if !c.writeClosed.Load() {
		c.endWriting()
	}
	return nil
}

// CloseRead ends the receiving direction: Read returns io.EOF, and the peer's
// Write fails.
func (c *Conn) CloseRead() error {
	if c.closed.Load() {
		return c.opErr("close", ErrClosed)
	}
	if c.readClosed.CompareAndSwap(false, true) {
		c.readCredit.stop()
		c.str.CancelRead(codeClosed)
	}
	return nil
}

// SetLinger tells what Close does, as net.TCPConn.SetLinger: with 0 it discards
// what was not delivered yet and resets the session, otherwise it delivers.
func (c *Conn) SetLinger(sec int) error {
	if c.closed.Load() {
		return c.opErr("set", ErrClosed)
	}
	c.reset.Store(sec == 0)
	return nil
}

// LocalAddr returns this end, an Addr.
func (c *Conn) LocalAddr() net.Addr { return c.localAddr() }

// RemoteAddr returns the peer's end, an Addr: it tells the peer's node ID.
func (c *Conn) RemoteAddr() net.Addr { return c.remoteAddr() }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.closed.Load() {
		return c.opErr("set", ErrClosed)
	}
	c.readCredit.setDeadline(t)
	return c.str.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	if c.closed.Load() {
		return c.opErr("set", ErrClosed)
	}
	if c.writeClosed.Load() {
		return nil
	}
	c.writeCredit.setDeadline(t)
	return c.str.SetWriteDeadline(t)
}

var _ stream = (*quic.Stream)(nil)
