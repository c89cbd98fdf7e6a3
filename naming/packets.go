package naming

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"time"

	"scn.alt/scn/naming/message"
)

// maxReaders bounds the goroutines that read one UDP socket.
const maxReaders = 8

// maxQuery is the longest UDP query looked at; a longer one is cut and refused.
const maxQuery = 4096

// readers returns how many goroutines read the socket: a kept answer is given by
// the reader itself.
func readers(c net.PacketConn) int {
	if _, ok := c.(*net.UDPConn); ok {
		return min(runtime.GOMAXPROCS(0), maxReaders)
	}
	return 1
}

// servePackets answers datagrams until the socket is closed.
func (s *Server) servePackets(c net.PacketConn) error {
	if u, ok := c.(*net.UDPConn); ok {
		return s.serveUDP(u)
	}
	buf := make([]byte, maxQuery)
	for {
		n, from, err := c.ReadFrom(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			if !s.pause() {
				return net.ErrClosed
			}
			continue
		}
		s.datagram(buf[:n], nil, make([]byte, 0, 260), func(b []byte) {
			// A client that is gone is no error of ours.
			_, _ = c.WriteTo(b, from)
		})
	}
}

// serveUDP is servePackets for a socket of the system: it looks at where datagrams
// arrive, answers from where they were sent to, and allocates nothing for an answer
// that is kept.
func (s *Server) serveUDP(c *net.UDPConn) error {
	var (
		buf   = make([]byte, maxQuery)
		oob   = make([]byte, 256)
		reply = make([]byte, 0, message.MaxSize)
		key   = make([]byte, 0, 260)
		pin   = make([]byte, 0, 64)
		wild  = c.LocalAddr().(*net.UDPAddr).IP.IsUnspecified()
	)
	for {
		n, oobn, _, from, err := c.ReadMsgUDPAddrPort(buf, oob)
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // an ICMP error of an earlier answer
			if !s.pause() {
				return net.ErrClosed
			}
			continue
		}
		index, to := arrival(oob[:oobn])
		if !s.arrivals.allowed(index) {
			s.stats.elsewhere.Add(1)
			continue
		}
		pin = pin[:0]
		if wild {
			pin = appendSource(pin, to, index)
		}
		s.stats.udp.Add(1)
		query := buf[:n]
		q, err := message.Parse(query)
		b, done := s.refuse(reply[:0], query, q, err)
		if !done {
			b = s.prepared(reply[:0], query, q, key, q.Size)
			done = b != nil
		}
		if done {
			if b != nil {
				_, _, _ = c.WriteMsgUDPAddrPort(b, pin, from)
			}
			continue
		}
		s.serveMiss(c, query, pin, from)
	}
}

// serveMiss answers a query for which no answer is kept, in a goroutine of its own.
func (s *Server) serveMiss(c *net.UDPConn, query, pin []byte, from netip.AddrPort) {
	query = append([]byte(nil), query...)
	pin = append([]byte(nil), pin...)
	if !s.spawn(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeout)
		defer cancel()
		q, _ := message.Parse(query) // parsed before
		if b := s.compose(ctx, query, q, q.Size); b != nil {
			_, _, _ = c.WriteMsgUDPAddrPort(b, pin, from)
		}
	}) {
		s.stats.overload.Add(1)
	}
}

// datagram answers one query from a socket that is not the system's.
func (s *Server) datagram(query, reply, key []byte, write func([]byte)) {
	s.stats.udp.Add(1)
	q, err := message.Parse(query)
	b, done := s.refuse(reply, query, q, err)
	if !done {
		b = s.prepared(reply, query, q, key, q.Size)
		done = b != nil
	}
	if done {
		if b != nil {
			write(b)
		}
		return
	}
	query = append([]byte(nil), query...)
	if !s.spawn(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeout)
		defer cancel()
		q, _ := message.Parse(query) // parsed before
		if b := s.compose(ctx, query, q, q.Size); b != nil {
			write(b)
		}
	}) {
		s.stats.overload.Add(1)
	}
}

// pause waits a little after an error of a socket, so that one that lasts does not
// keep a processor busy. It reports false when the Server is closed.
func (s *Server) pause() bool {
	select {
	case <-s.ctx.Done():
		return false
	case <-time.After(10 * time.Millisecond):
		return true
	}
}
