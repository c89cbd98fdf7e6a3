package overlay

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/conformance/netns"
)

// Interval is the time between two packets of an Echo.
const Interval = 2 * time.Millisecond

// ServeEcho answers UDP packets on the host with what they hold, until the
// returned connection is closed.
func ServeEcho(h *netns.Host, address string) (*EchoServer, error) {
	c, err := h.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}
	s := &EchoServer{conn: c}
	s.wg.Go(s.serve) // ends when Close closes the socket
	return s, nil
}

// EchoServer is a UDP echo server.
type EchoServer struct {
	conn net.PacketConn
	wg   sync.WaitGroup
}

func (s *EchoServer) serve() {
	buf := make([]byte, 65_536)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = s.conn.WriteTo(buf[:n], from)
		}
	}
}

// Close stops the server.
func (s *EchoServer) Close() error {
	err := s.conn.Close()
	s.wg.Wait()
	return err
}

// Echo sends packets at a steady pace and remembers which answers came, and
// when.
type Echo struct {
	conn     net.Conn
	interval time.Duration
	size     int
	stop     chan struct{}
	wg       sync.WaitGroup

	mu       sync.Mutex // guards below
	arrivals []time.Time
	sent     []time.Time // by number
	answered []bool      // by number
	errors   int         // of send and receive: ICMP errors reach the socket so
}

// StartEcho begins an echo of small packets, one every Interval, from the host to
// a UDP address. It does not end with ctx, but with Close.
func StartEcho(ctx context.Context, h *netns.Host, address string) (*Echo, error) {
	return StartStream(ctx, h, address, Interval, 16)
}

// StartStream is StartEcho with packets of a size, of 16 to 1,400 bytes, at
// another interval.
func StartStream(ctx context.Context, h *netns.Host, address string, interval time.Duration, size int) (*Echo, error) {
	c, err := h.Dial(ctx, "udp", address)
	if err != nil {
		return nil, err
	}
	e := &Echo{conn: c, interval: interval, size: min(max(size, 16), 1400), stop: make(chan struct{})}
	e.wg.Go(e.send)    // ends when Close closes stop
	e.wg.Go(e.receive) // ends when Close closes the socket
	return e, nil
}

func (e *Echo) send() {
	tick := time.NewTicker(e.interval)
	defer tick.Stop()
	packet := make([]byte, e.size)
	for n := uint64(0); ; n++ {
		select {
		case <-tick.C:
		case <-e.stop:
			return
		}
		binary.BigEndian.PutUint64(packet, n)
		e.mu.Lock()
		e.sent = append(e.sent, time.Now())
		e.answered = append(e.answered, false)
		e.mu.Unlock()
		if _, err := e.conn.Write(packet); err != nil {
			e.failed()
		}
	}
}

func (e *Echo) failed() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.errors++
}

func (e *Echo) receive() {
	packet := make([]byte, 2048)
	for {
		n, err := e.conn.Read(packet)
		now := time.Now()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n != e.size {
			e.failed()
			continue
		}
		number := binary.BigEndian.Uint64(packet)
		e.mu.Lock()
		if number < uint64(len(e.answered)) {
			e.arrivals = append(e.arrivals, now)
			e.answered[number] = true
		}
		e.mu.Unlock()
	}
}

// Lost returns how many packets were sent between two moments, and how many of
// them have no answer by now.
func (e *Echo) Lost(since, until time.Time) (sent, lost int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	from, _ := slices.BinarySearchFunc(e.sent, since, time.Time.Compare)
	for i := from; i < len(e.sent) && e.sent[i].Before(until); i++ {
		sent++
		if !e.answered[i] {
			lost++
		}
	}
	return sent, lost
}

// Silences returns every time without an answer between two moments that lasted
// at least so long, in their order.
func (e *Echo) Silences(since, until time.Time, least time.Duration) (list []time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	last := since
	note := func(t time.Time) {
		if d := t.Sub(last); d >= least {
			list = append(list, d)
		}
		last = t
	}
	for _, a := range e.arrivals {
		if !a.Before(since) && !a.After(until) {
			note(a)
		}
	}
	note(until)
	return list
}

// Silence returns the longest time without an answer from the given moment on
// until now, and whether any answer has come since.
func (e *Echo) Silence(since time.Time) (longest time.Duration, heard bool) {
	return e.SilenceBetween(since, time.Now())
}

// SilenceBetween is Silence up to a moment.
func (e *Echo) SilenceBetween(since, until time.Time) (longest time.Duration, heard bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	last := since
	for _, a := range e.arrivals {
		if a.Before(since) || a.After(until) {
			continue
		}
		heard = true
		longest = max(longest, a.Sub(last))
		last = a
	}
	return max(longest, until.Sub(last)), heard
}

// Recovered waits until answers have come for quiet long, after the given
// moment, without a pause of more than half of that, or until ctx ends. It
// returns the longest silence since then.
func (e *Echo) Recovered(ctx context.Context, since time.Time, quiet time.Duration) (time.Duration, error) {
	for {
		now := time.Now()
		if from := now.Add(-quiet); from.After(since) {
			if pause, heard := e.SilenceBetween(from, now); heard && pause < quiet/2 {
				longest, _ := e.SilenceBetween(since, now)
				return longest, nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Settle waits until the echo is steady: Recovered from now on.
func (e *Echo) Settle(ctx context.Context, quiet time.Duration) error {
	_, err := e.Recovered(ctx, time.Now(), quiet)
	return err
}

// Counts returns how many packets were sent and answered, and how many socket
// errors there were.
func (e *Echo) Counts() (sent, answered, failed int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.sent), len(e.arrivals), e.errors
}

// Close ends the echo.
func (e *Echo) Close() error {
	close(e.stop)
	err := e.conn.Close()
	e.wg.Wait()
	return err
}
