package target

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// maxDatagram is the largest payload of a UDP datagram over IPv4.
const maxDatagram = 65507

// receiveBuffer is what a target's socket may hold: 50 ms of 200 Mb/s, as the kernel
// counts it.
const receiveBuffer = 2 << 20

// relayPackets joins a datagram session and a UDP socket until both have been silent
// for PacketIdle, one fails, or ctx is done, and closes both. A target that answers
// with ICMP port unreachable ends the session with ECONNREFUSED.
func (p *Provider) relayPackets(ctx context.Context, session, up net.Conn) error {
	var (
		once  sync.Once
		first error
		wg    sync.WaitGroup
		last  atomic.Int64 // when a datagram last passed, since start
	)
	start := time.Now()
	done := make(chan struct{})
	end := func(err error) {
		once.Do(func() {
			first = err
			up.Close()
			closeWith(session, err)
			close(done)
		})
	}
	wg.Go(func() { // ended by end
		timer := time.NewTimer(p.cfg.PacketIdle)
		defer timer.Stop()
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				end(context.Cause(ctx))
				return
			case <-timer.C:
			}
			quiet := time.Since(start) - time.Duration(last.Load())
			if quiet >= p.cfg.PacketIdle {
				end(nil)
				return
			}
			timer.Reset(p.cfg.PacketIdle - quiet)
		}
	})
	// What the target's socket says is told as what its dial would be.
	reason := func(c net.Conn, err error) error {
		if c == up {
			return truthful(err)
		}
		return err
	}
	pump := func(dst, src net.Conn, count *atomic.Int64) {
		next := reader(src)
		for {
			b, err := next()
			if errors.Is(err, io.EOF) {
				end(nil)
				return
			}
			if err != nil {
				end(reason(src, err))
				return
			}
			last.Store(int64(time.Since(start)))
			if _, err := dst.Write(b); err != nil && !transient(err) {
				end(reason(dst, err))
				return
			}
			count.Add(int64(len(b)))
		}
	}
	wg.Go(func() { pump(up, session, &p.bytesIn) })
	pump(session, up, &p.bytesOut)
	wg.Wait()
	if errors.Is(first, net.ErrClosed) {
		return nil // the caller hung up
	}
	return first
}

// reader returns how to get a connection's datagrams, each valid until the next. A
// session that has ReadDatagram needs no buffer of ours.
func reader(c net.Conn) func() ([]byte, error) {
	if d, ok := c.(interface{ ReadDatagram() ([]byte, error) }); ok {
		return d.ReadDatagram
	}
	buf := make([]byte, maxDatagram+1)
	return func() ([]byte, error) {
		n, err := c.Read(buf)
		return buf[:n], err
	}
}

// transient reports whether a datagram was merely lost: too long for the way, or no
// room in a queue.
func transient(err error) bool {
	return errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EAGAIN)
}

// closeWith tells the peer why, where the session can.
func closeWith(c net.Conn, err error) {
	if w, ok := c.(interface{ CloseWithError(error) error }); ok && err != nil {
		_ = w.CloseWithError(err)
		return
	}
	c.Close()
}
