package sal

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Bounds of what one packet session holds for its reader.
const (
	packetQueue = 1024
	packetBytes = 1 << 20
)

// partHead is the most that the head of a part takes.
const partHead = 1 + 8 + 8 + 2

// PacketConn is a session that carries datagrams of up to MaxDatagram bytes, kept
// whole, possibly lost or reordered, as over UDP. It is connected: both a net.Conn
// and a net.PacketConn whose only peer is RemoteAddr. It ends when either side
// closes it: the other then reads io.EOF, or what CloseWithError said.
//
// Write does not wait for the network: what exceeds the queue is dropped, as a
// busy network does. With a write deadline it waits for room until then.
type PacketConn struct {
	*session

	wake  chan struct{} // cap 1: something for a reader
	done  chan struct{} // closed when the session has ended
	retry chan struct{} // cap 1: the write deadline changed

	mu       sync.Mutex // guards below
	number   uint64     // of the next datagram that is cut
	queue    datagramRing
	assembly reassembler
	dropped  uint64
	ended    error // what Read returns once the queue is empty
	readBy   time.Time
	writeBy  time.Time
}

var (
	_ net.Conn       = (*PacketConn)(nil)
	_ net.PacketConn = (*PacketConn)(nil)
)

// newPacketConn makes a session a packet session. attach and start follow.
func newPacketConn(s *session) *PacketConn {
	return &PacketConn{
		session: s, wake: make(chan struct{}, 1), done: make(chan struct{}), retry: make(chan struct{}, 1),
	}
}

// attach routes the flow's datagrams to c.
func (c *PacketConn) attach() {
	c.deliver = c.receiveDatagram
	c.queued.owner = c.session
	c.lane.register(c.flow, c.session)
}

// start watches the stream, whose end is the session's end.
func (c *PacketConn) start() {
	wg := &c.node.wg
	if c.link != nil {
		wg = &c.link.wg
	}
	wg.Go(func() {
		if err := c.await(); err != nil {
			c.end(err)
			return
		}
		var b [16]byte
		for {
			if _, err := c.str.Read(b[:]); err != nil && !isDeadline(err) {
				c.end(streamError(err))
				return
			}
		}
	})
}

// end makes reads return err after what is queued.
func (c *PacketConn) end(err error) {
	if errors.Is(err, ErrBrokenPipe) {
		err = io.EOF
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = err
		close(c.done)
	}
}

// receiveDatagram takes one message of the flow; it keeps the payload.
func (c *PacketConn) receiveDatagram(m *datagramMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	payload := m.Payload
	if m.Kind == kindPart {
		if payload = c.assembly.add(time.Now(), m.Number, m.Index, m.Count, m.Payload); payload == nil {
			return
		}
	}
	if c.ended != nil || !c.queue.push(payload) {
		c.dropped++
		return
	}
	c.wakeReader()
}

func (c *PacketConn) wakeReader() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// ReadDatagram returns the next datagram, which is the caller's: it needs no
// buffer of MaxDatagram bytes as Read does.
func (c *PacketConn) ReadDatagram() ([]byte, error) {
	for {
		b, err := c.next()
		if err != nil {
			return nil, c.opErr("read", err)
		}
		if c.takeDatagram(Received, len(b)) {
			return b, nil
		}
	}
}

// Read returns the next datagram. What does not fit into p is lost, as with UDP.
func (c *PacketConn) Read(p []byte) (int, error) {
	b, err := c.ReadDatagram()
	return copy(p, b), err
}

// ReadFrom implements net.PacketConn; the address is always RemoteAddr.
func (c *PacketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := c.Read(p)
	if err != nil {
		return n, nil, err
	}
	return n, c.remoteAddr(), nil
}

// next waits for a datagram.
func (c *PacketConn) next() ([]byte, error) {
	var timer *time.Timer
	for {
		c.mu.Lock()
		by := c.readBy
		switch {
		case c.closed.Load():
			c.mu.Unlock()
			return nil, ErrClosed
		case !by.IsZero() && !time.Now().Before(by):
			c.mu.Unlock()
			return nil, os.ErrDeadlineExceeded
		}
		if b, ok := c.queue.pop(); ok {
			if c.queue.n > 0 {
				c.wakeReader() // for another reader
			}
			c.mu.Unlock()
			return b, nil
		}
		ended := c.ended
		c.mu.Unlock()
		if ended != nil {
			return nil, ended
		}
		var expired <-chan time.Time
		if !by.IsZero() {
			if timer == nil {
				timer = time.NewTimer(time.Until(by))
				defer timer.Stop()
			} else {
				timer.Reset(time.Until(by))
			}
			expired = timer.C
		}
		select {
		case <-c.wake:
		case <-c.done:
		case <-c.ctx.Done():
			if !c.closed.Load() {
				<-c.done // the stream is ending as well, and knows why
			}
		case <-expired:
		}
	}
}

// Write sends one datagram.
func (c *PacketConn) Write(p []byte) (int, error) {
	err := c.writable(len(p))
	if err == nil {
		err = c.sendTaken(p, true)
	}
	if err != nil && !errors.Is(err, ErrFull) {
		return 0, c.opErr("write", err)
	}
	return len(p), nil
}

// TryWrite is Write for a caller that must not wait for room, whatever the write
// deadline: instead the datagram is dropped and ErrFull returned, as also for one that
// a meter does not let through.
func (c *PacketConn) TryWrite(p []byte) error {
	err := c.writable(len(p))
	if err == nil {
		err = c.sendTaken(p, false)
	}
	if err != nil && !errors.Is(err, ErrFull) {
		err = c.opErr("write", err)
	}
	return err
}

// sendTaken sends one datagram that the meter lets through; ErrFull if it does not.
func (c *PacketConn) sendTaken(p []byte, wait bool) error {
	if !c.takeDatagram(Sent, len(p)) {
		return ErrFull
	}
	err := c.send(p, wait)
	if err != nil {
		c.untake(len(p))
	}
	return err
}

// send queues one datagram, whole or in parts.
func (c *PacketConn) send(p []byte, wait bool) error {
	m := datagramMessage{Kind: kindWhole, Flow: c.flow, Payload: p}
	room := c.lane.room()
	if m.Len() <= room {
		return c.sendMessage(&m, wait)
	}
	size := room - partHead
	count := (len(p) + size - 1) / size
	if count > maxPartsOfOne {
		return ErrTooLarge
	}
	m.Kind, m.Count, m.Number = kindPart, uint8(count), c.nextNumber()
	for i := range count {
		m.Index, m.Payload = uint8(i), p[i*size:min(len(p), (i+1)*size)]
		if err := c.sendMessage(&m, wait); err != nil {
			return err // without this part the others are of no use
		}
	}
	return nil
}

// WriteTo implements net.PacketConn; the address is not looked at, since a
// session has only one peer.
func (c *PacketConn) WriteTo(p []byte, _ net.Addr) (int, error) { return c.Write(p) }

// writable reports why a datagram of n bytes cannot be sent.
func (c *PacketConn) writable(n int) error {
	if n > MaxDatagram {
		return ErrTooLarge
	}
	c.mu.Lock()
	ended, by := c.ended, c.writeBy
	c.mu.Unlock()
	switch {
	case c.closed.Load():
		return ErrClosed
	case errors.Is(ended, io.EOF):
		return ErrBrokenPipe
	case ended != nil:
		return ended
	case !by.IsZero() && !time.Now().Before(by):
		return os.ErrDeadlineExceeded
	}
	return nil
}

// nextNumber numbers a datagram that is cut. Numbers may wrap: they only have to
// differ among those in the making.
func (c *PacketConn) nextNumber() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.number = (c.number + 1) & (1<<30 - 1)
	return c.number
}

// sendMessage queues m. If it may wait and there is a write deadline it waits for room
// until then.
func (c *PacketConn) sendMessage(m *datagramMessage, wait bool) error {
	if c.lane.send(m, &c.queued) {
		return nil
	}
	for wait {
		c.mu.Lock()
		by := c.writeBy
		c.mu.Unlock()
		if by.IsZero() {
			break
		}
		left := time.Until(by)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		// The queue empties at the speed of the network: look again soon rather than
		// have the sender wake everybody for each datagram.
		timer := time.NewTimer(min(left, time.Millisecond))
		select {
		case <-timer.C:
		case <-c.retry:
		case <-c.done:
		case <-c.ctx.Done():
		}
		timer.Stop()
		if c.closed.Load() {
			return ErrClosed
		}
		if c.ctx.Err() != nil {
			return ErrLost
		}
		if c.lane.send(m, &c.queued) {
			return nil
		}
	}
	return ErrFull
}

// Close ends the session.
func (c *PacketConn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return nil
	}
	_ = c.str.Close()
	c.str.CancelRead(codeClosed)
	c.release()
	return nil
}

// CloseWithError ends the session and tells the peer why: it reads the error that
// corresponds to err, as the dialer does after Incoming.Reject, or ErrReset if there
// is none. What reading from a target returned can be passed on as it is. nil,
// io.EOF and net.ErrClosed are a plain Close.
func (c *PacketConn) CloseWithError(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return c.Close()
	}
	if !c.closed.CompareAndSwap(false, true) {
		return nil
	}
	code := errorCode(err)
	c.str.CancelWrite(code)
	c.str.CancelRead(code)
	c.release()
	return nil
}

// LocalAddr returns this end, an Addr.
func (c *PacketConn) LocalAddr() net.Addr { return c.localAddr() }

// RemoteAddr returns the peer's end, an Addr: it tells the peer's node ID.
func (c *PacketConn) RemoteAddr() net.Addr { return c.remoteAddr() }

// SetDeadline implements net.Conn.
func (c *PacketConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *PacketConn) SetReadDeadline(t time.Time) error {
	if c.closed.Load() {
		return c.opErr("set", ErrClosed)
	}
	c.mu.Lock()
	c.readBy = t
	c.mu.Unlock()
	c.wakeReader()
	return nil
}

// SetWriteDeadline implements net.Conn. Without one, Write does not wait.
func (c *PacketConn) SetWriteDeadline(t time.Time) error {
	if c.closed.Load() {
		return c.opErr("set", ErrClosed)
	}
	c.mu.Lock()
	c.writeBy = t
	c.mu.Unlock()
	select {
	case c.retry <- struct{}{}:
	default:
	}
	return nil
}

// datagramRing is a queue of datagrams bounded in number and in bytes.
type datagramRing struct {
	slots []([]byte)
	head  int
	n     int
	bytes int
}

// push appends b, and reports false when there is no room.
func (r *datagramRing) push(b []byte) bool {
	if r.n >= packetQueue || r.bytes+len(b) > packetBytes && r.n > 0 {
		return false
	}
	if r.n == len(r.slots) {
		grown := make([][]byte, max(8, 2*len(r.slots)))
		for i := range r.n {
			grown[i] = r.slots[(r.head+i)%len(r.slots)]
		}
		r.slots, r.head = grown, 0
	}
	r.slots[(r.head+r.n)%len(r.slots)] = b
	r.n++
	r.bytes += len(b)
	return true
}

func (r *datagramRing) pop() ([]byte, bool) {
	if r.n == 0 {
		return nil, false
	}
	b := r.slots[r.head]
	r.slots[r.head] = nil
	r.head = (r.head + 1) % len(r.slots)
	r.n--
	r.bytes -= len(b)
	return b, true
}
