// Package splice joins two connections: bytes, half-closes and resets of each are
// carried to the other.
//
// # Model
//
// End of file on one side is CloseWrite on the other. Any other error on either side
// resets both (SetLinger(0), then Close), so that an application whose peer crashed
// sees a reset, never a clean end that would make a cut-off file look whole. When
// both directions have ended both connections are closed.
//
// Buffers are large where bytes flow and small or absent where none do: for a TCP or
// unix socket the buffer is taken only once bytes are there; for any other
// connection it grows with what the reads return. All large buffers together stay
// under a bound ([Buffers]).
//
// # What it does not do
//
// It sets no deadline and gives up on no idle connection: that is for the two
// endpoints to say.
package splice

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// Result counts what was carried.
type Result struct {
	// AToB and BToA are bytes.
	AToB, BToA int64
}

// halfCloser is a connection that can end its own direction.
type halfCloser interface{ CloseWrite() error }

// lingerer is a connection that can be reset.
type lingerer interface{ SetLinger(seconds int) error }

// Both joins a and b until both directions have ended, one is reset, or ctx is done,
// and closes both. It returns nil after a clean end of both directions, else the
// first error.
func Both(ctx context.Context, a, b net.Conn, buffers *Buffers) (Result, error) {
	var (
		once  sync.Once
		first error
		res   Result
		wg    sync.WaitGroup
	)
	abort := func(err error) {
		once.Do(func() {
			first = err
			Reset(a)
			Reset(b)
		})
	}
	stop := context.AfterFunc(ctx, func() { abort(context.Cause(ctx)) })
	// Set when a side without half-close was closed to carry an end: its reader fails
	// by our own doing.
	var closedA, closedB atomic.Bool
	direction := func(to, from net.Conn, count *int64, closedTo, closedFrom *atomic.Bool) {
		n, err := transfer(to, from, buffers)
		*count = n
		if err != nil && closedFrom.Load() && ignoreClosed(err) == nil {
			err = nil
		}
		if err == nil {
			if _, ok := to.(halfCloser); !ok {
				closedTo.Store(true)
			}
			err = closeWrite(to)
		}
		if err != nil {
			abort(err)
		}
	}
	wg.Go(func() { direction(b, a, &res.AToB, &closedB, &closedA) })
	direction(a, b, &res.BToA, &closedA, &closedB)
	wg.Wait()
	stop()
	clean := false
	once.Do(func() { clean = true }) // no abort after this
	if clean {
		return res, errors.Join(ignoreClosed(a.Close()), ignoreClosed(b.Close()))
	}
	return res, first
}

// Reset ends a connection so that the peer sees a reset, where the connection can.
func Reset(c net.Conn) {
	if l, ok := c.(lingerer); ok {
		_ = l.SetLinger(0) // on failure the peer sees a plain end, there is no other way
	}
	c.Close()
}

// closeWrite carries the end of one direction. A connection without half-close is
// closed whole: its peer could not learn of the end otherwise.
func closeWrite(c net.Conn) error {
	h, ok := c.(halfCloser)
	if !ok {
		return ignoreClosed(c.Close())
	}
	// ENOTCONN: the peer has reset or closed already; the reading side will tell.
	if err := h.CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) {
		return ignoreClosed(err)
	}
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}
