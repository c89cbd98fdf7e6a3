package naming

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"scn.alt/scn/naming/message"
)

const (
	// idleTimeout closes a connection that asks nothing (RFC 7766 §6.2.3).
	idleTimeout = 10 * time.Second
	// writeTimeout closes a connection that does not take its answers.
	writeTimeout = 5 * time.Second
	// maxPipelined bounds the queries of one connection under way (RFC 7766 §6.2.1.1).
	maxPipelined = 32
)

// serveStreams accepts connections until the listener is closed.
func (s *Server) serveStreams(l net.Listener) error {
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Out of descriptors, or a connection that ended before it began.
			if !s.pause() {
				return net.ErrClosed
			}
			continue
		}
		if !s.arrivals.allowedStream(c) {
			s.stats.elsewhere.Add(1)
			reset(c)
			continue
		}
		s.mu.Lock()
		switch {
		case s.closed:
			c.Close()
		case !s.conns.TryAcquire(1):
			s.stats.connectionsFull.Add(1)
			reset(c)
		default:
			s.stats.connections.Add(1)
			s.wg.Go(func() { // ends with the connection, which ends with s.ctx
				defer s.conns.Release(1)
				s.serveStream(c)
			})
		}
		s.mu.Unlock()
	}
}

// serveStream answers the queries of a connection, several at a time and each as
// soon as it is ready (RFC 7766 §7).
func (s *Server) serveStream(c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(s.ctx, func() { c.Close() })()
	ctx, cancel := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	var mu sync.Mutex // one answer at a time
	write := func(b []byte) {
		framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(b)), uint16(len(b)))
		mu.Lock()
		defer mu.Unlock()
		_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := c.Write(append(framed, b...)); err != nil {
			c.Close() // what follows would be out of step
		}
	}
	pipelined := semaphore.NewWeighted(maxPipelined)
	r := bufio.NewReader(c)
	for {
		_ = c.SetReadDeadline(time.Now().Add(idleTimeout))
		var length [2]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			break
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(r, query); err != nil {
			return
		}
		s.stats.tcp.Add(1)
		q, err := message.Parse(query)
		b, done := s.refuse(nil, query, q, err)
		if done && b == nil {
			return // not DNS: nothing behind it will be in step
		}
		if !done {
			b = s.prepared(nil, query, q, make([]byte, 0, 260), message.MaxSize)
		}
		if b != nil {
			write(b)
			continue
		}
		if err := pipelined.Acquire(ctx, 1); err != nil {
			return
		}
		wg.Go(func() { // bounded by the query's timeout
			defer pipelined.Release(1)
			if err := s.queries.Acquire(ctx, 1); err != nil {
				return
			}
			defer s.queries.Release(1)
			ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
			defer cancel()
			if b := s.compose(ctx, query, q, message.MaxSize); b != nil {
				write(b)
			}
		})
	}
	// The client may have closed its side and still wait for answers.
	wg.Wait()
}

// reset closes a connection without leaving it in TIME_WAIT.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	c.Close()
}
