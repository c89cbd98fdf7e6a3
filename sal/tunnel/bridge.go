package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"
)

// queued is how many datagrams wait for a tunnel to take them. TCP below holds
// more; a longer queue would only make what is in it older.
const queued = 64

// Errors that end a tunnel.
var (
	// errMessage is what a message that is no datagram ends it with.
	errMessage = errors.New("tunnel: not a datagram")
	// errIdle is what a tunnel of a server that nobody uses ends with.
	errIdle = errors.New("tunnel: idle")
)

// datagram is one, on its way from the UDP socket to the tunnel. It has room for a
// byte too many, to tell that it was cut.
type datagram struct {
	bytes [MaxDatagram + 1]byte
	n     int
}

// port is a UDP socket on loopback and what came from it and is not sent yet. It
// may outlive the tunnels it feeds.
type port struct {
	udp      *net.UDPConn // connected to the node
	queue    chan *datagram
	pool     *sync.Pool
	counters *counters
}

func newPool() *sync.Pool { return &sync.Pool{New: func() any { return new(datagram) }} }

func newPort(udp *net.UDPConn, pool *sync.Pool, c *counters) *port {
	return &port{udp: udp, queue: make(chan *datagram, queued), pool: pool, counters: c}
}

// read takes datagrams into the queue until the socket is closed.
func (p *port) read() {
	for {
		d := p.pool.Get().(*datagram)
		n, err := p.udp.Read(d.bytes[:])
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // the node's port is closed for now
			p.pool.Put(d)
			time.Sleep(time.Millisecond)
			continue
		case n > MaxDatagram:
			p.counters.oversize.Add(1)
			p.pool.Put(d)
			continue
		}
		d.n = n
		select {
		case p.queue <- d:
		default:
			p.counters.dropped.Add(1)
			p.pool.Put(d)
		}
	}
}

// discard empties the queue of what waited for no tunnel.
func (p *port) discard() {
	for {
		select {
		case d := <-p.queue:
			p.counters.dropped.Add(1)
			p.pool.Put(d)
		default:
			return
		}
	}
}

// carry joins a port and a WebSocket until the latter ends, or ctx does, and
// closes the WebSocket. With idle above zero it also ends after so long without a
// datagram out of the tunnel.
func (p *port) carry(ctx context.Context, ws *websocket.Conn, t timing, idle time.Duration) error {
	p.counters.opened.Add(1)
	p.counters.tunnels.Add(1)
	defer p.counters.tunnels.Add(-1)
	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { _ = ws.Close() })()
	group.Go(func() error { return p.toWebSocket(ctx, ws, t) })
	group.Go(func() error { return p.fromWebSocket(ws, t, idle) })
	err := group.Wait()
	return errors.Join(err, ws.Close())
}

// toWebSocket sends what is queued, and pings.
func (p *port) toWebSocket(ctx context.Context, ws *websocket.Conn, t timing) error {
	ping := time.NewTicker(t.ping)
	defer ping.Stop()
	for {
		select {
		case d := <-p.queue:
			err := ws.SetWriteDeadline(time.Now().Add(t.write))
			if err == nil {
				err = ws.WriteMessage(websocket.BinaryMessage, d.bytes[:d.n])
			}
			p.counters.sent.Add(1)
			p.counters.sentBytes.Add(uint64(d.n))
			p.pool.Put(d)
			if err != nil {
				return err
			}
		case <-ping.C:
			if err := ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(t.write)); err != nil {
				return err
			}
		case <-ctx.Done():
			_ = ws.WriteControl(websocket.CloseMessage,
				websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
			return ctx.Err()
		}
	}
}

// fromWebSocket hands messages to the node.
func (p *port) fromWebSocket(ws *websocket.Conn, t timing, idle time.Duration) error {
	ws.SetReadLimit(MaxDatagram)
	alive := func() error { return ws.SetReadDeadline(time.Now().Add(t.silence)) }
	used := time.Now()
	ws.SetPongHandler(func(string) error {
		if idle > 0 && time.Since(used) > idle {
			return errIdle
		}
		return alive()
	})
	answer := ws.PingHandler()
	ws.SetPingHandler(func(text string) error {
		if err := alive(); err != nil {
			return err
		}
		return answer(text)
	})
	var buffer [MaxDatagram]byte
	for {
		if err := alive(); err != nil {
			return err
		}
		n, err := readMessage(ws, buffer[:])
		switch {
		case errors.Is(err, errMessage):
			p.counters.oversize.Add(1)
			return err
		case err != nil:
			return err
		case n == 0:
			continue
		}
		used = time.Now()
		p.counters.received.Add(1)
		p.counters.receivedBytes.Add(uint64(n))
		// A full or closed port of the node loses the datagram, as a wire would.
		if _, err := p.udp.Write(buffer[:n]); errors.Is(err, net.ErrClosed) {
			return err
		}
	}
}

// readMessage reads one datagram into buffer, which has room for the largest.
func readMessage(ws *websocket.Conn, buffer []byte) (int, error) {
	kind, r, err := ws.NextReader()
	switch {
	case errors.Is(err, websocket.ErrReadLimit), err == nil && kind != websocket.BinaryMessage:
		return 0, errMessage
	case err != nil:
		return 0, err
	}
	for n := 0; ; {
		read, err := r.Read(buffer[n:])
		n += read
		switch {
		case errors.Is(err, io.EOF):
			return n, nil // the message's end; the connection's is another error
		case errors.Is(err, websocket.ErrReadLimit):
			return 0, errMessage
		case err != nil:
			return 0, err
		case n == len(buffer):
			return n, nil // as large as one may be
		}
	}
}
