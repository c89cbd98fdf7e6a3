package saltest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// MakePackets opens one packet session and returns its two ends. stop closes both.
type MakePackets func() (a, b net.Conn, stop func(), err error)

// TestPacketConn checks that the two ends of a packet session behave as connected
// UDP sockets do, with datagrams of up to largest bytes.
func TestPacketConn(t *testing.T, largest int, pipe MakePackets) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, a, b net.Conn)
	}{
		{"Boundaries", func(t *testing.T, a, b net.Conn) { packetBoundaries(t, a, b, largest) }},
		{"Truncation", packetTruncation},
		{"Loss", func(t *testing.T, a, b net.Conn) { packetIntegrity(t, a, b, largest) }},
		{"TooLarge", func(t *testing.T, a, _ net.Conn) { packetTooLarge(t, a, largest) }},
		{"ReadDeadline", packetReadDeadline},
		{"WriteNeverBlocks", func(t *testing.T, a, _ net.Conn) { packetWriteNeverBlocks(t, a, largest) }},
		{"CloseWakesReaders", packetCloseWakesReaders},
		{"PeerCloses", packetPeerCloses},
		{"Concurrent", packetConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b, stop, err := pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			c.test(t, a, b)
		})
	}
}

// packetSend sends p until it is seen: datagrams may be lost.
func packetSend(t *testing.T, from, to net.Conn, p, buf []byte) []byte {
	t.Helper()
	for range 20 {
		_ = from.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if n, err := from.Write(p); err != nil || n != len(p) {
			t.Fatalf("write of %d bytes: %d, %v", len(p), n, err)
		}
		_ = to.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := to.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		_ = to.SetReadDeadline(time.Time{})
		return buf[:n]
	}
	t.Fatalf("a datagram of %d bytes never arrived", len(p))
	return nil
}

func packetBoundaries(t *testing.T, a, b net.Conn, largest int) {
	buf := make([]byte, largest+1)
	for _, size := range []int{0, 1, 2, 100, 1199, 1200, 1300, 1350, 1380, 1400, 1500, 2700, 8192, 30000, largest - 1, largest} {
		p := bytes.Repeat([]byte{byte(size)}, size)
		if got := packetSend(t, a, b, p, buf); !bytes.Equal(got, p) {
			t.Errorf("%d bytes became %d, or others", size, len(got))
		}
		if got := packetSend(t, b, a, p, buf); !bytes.Equal(got, p) {
			t.Errorf("back: %d bytes became %d, or others", size, len(got))
		}
	}
}

func packetTruncation(t *testing.T, a, b net.Conn) {
	if got := packetSend(t, a, b, []byte("abcdef"), make([]byte, 3)); string(got) != "abc" {
		t.Errorf("got %q", got)
	}
	if got := packetSend(t, a, b, []byte("next"), make([]byte, 9)); string(got) != "next" {
		t.Errorf("got %q: the rest of a datagram must be lost", got)
	}
}

// packetIntegrity sends many datagrams of random sizes: some may be lost, none may
// be wrong.
func packetIntegrity(t *testing.T, a, b net.Conn, largest int) {
	const count = 300
	random := rand.New(rand.NewPCG(1, 2))
	// The writer keeps some ahead of the reader, however slow that is; what is lost
	// gives its place up in time.
	ahead := make(chan struct{}, 32)
	written := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(written)
		for i := range count {
			select {
			case ahead <- struct{}{}:
			case <-time.After(20 * time.Millisecond):
			}
			size := 9 + random.IntN(5000)
			if i%20 == 0 {
				size = 9 + random.IntN(largest-9)
			}
			p := make([]byte, size)
			copy(p, fmt.Sprintf("%08d", i))
			for j := 8; j < size; j++ {
				p[j] = byte(i + j)
			}
			_ = a.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if _, err := a.Write(p); err != nil {
				t.Error(err)
				return
			}
		}
	})
	buf := make([]byte, largest)
	got := 0
	for got < count {
		_ = b.SetReadDeadline(time.Now().Add(2 * time.Second))
		n, err := b.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			select {
			case <-written:
			default:
				continue
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got++
		select {
		case <-ahead:
		default:
		}
		var i int
		if _, err := fmt.Sscanf(string(buf[:8]), "%08d", &i); err != nil {
			t.Fatalf("head %q", buf[:8])
		}
		for j := 8; j < n; j++ {
			if buf[j] != byte(i+j) {
				t.Fatalf("datagram %d differs at byte %d", i, j)
			}
		}
	}
	wg.Wait()
	if got < count/2 {
		t.Errorf("%d of %d arrived", got, count)
	}
}

func packetTooLarge(t *testing.T, a net.Conn, largest int) {
	if n, err := a.Write(make([]byte, largest+1)); err == nil || n != 0 {
		t.Errorf("write of %d bytes: %d, %v", largest+1, n, err)
	}
}

func packetReadDeadline(t *testing.T, a, _ net.Conn) {
	_ = a.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past deadline: %v", err)
	}
	_ = a.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err := a.Read(make([]byte, 1))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("future deadline: %v", err)
	}
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("%v is no timeout", err)
	}
	_ = a.SetReadDeadline(time.Time{})
	done := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_, err := a.Read(make([]byte, 1))
		done <- err
	})
	time.Sleep(10 * time.Millisecond)
	_ = a.SetReadDeadline(time.Unix(1, 0))
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("deadline set while reading: %v", err)
	}
}

// packetWriteNeverBlocks floods a reader that does not read.
func packetWriteNeverBlocks(t *testing.T, a net.Conn, largest int) {
	done := make(chan struct{})
	var wg sync.WaitGroup // waited for by done
	wg.Go(func() {
		defer close(done)
		p := make([]byte, largest)
		for range 200 {
			if _, err := a.Write(p); err != nil {
				t.Error(err)
				return
			}
		}
	})
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("writes without a deadline block")
	}
}

func packetCloseWakesReaders(t *testing.T, a, _ net.Conn) {
	done := make(chan error, 2)
	var wg sync.WaitGroup // waited for by done
	for range 2 {
		wg.Go(func() {
			_, err := a.Read(make([]byte, 1))
			done <- err
		})
	}
	time.Sleep(20 * time.Millisecond)
	a.Close()
	for range 2 {
		select {
		case err := <-done:
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("read: %v, want net.ErrClosed", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a reader still waits")
		}
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write: %v, want net.ErrClosed", err)
	}
	if err := a.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("deadline: %v, want net.ErrClosed", err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func packetPeerCloses(t *testing.T, a, b net.Conn) {
	b.Close()
	_ = a.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read: %v, want io.EOF", err)
	}
	if _, err := a.Write([]byte("x")); err == nil {
		t.Error("write succeeds")
	}
}

func packetConcurrent(t *testing.T, a, b net.Conn) {
	var wg sync.WaitGroup
	for _, c := range []net.Conn{a, b} {
		for range 3 {
			wg.Go(func() {
				for range 100 {
					_ = c.SetWriteDeadline(time.Now().Add(5 * time.Second))
					if _, err := c.Write(make([]byte, 3000)); err != nil {
						t.Error(err)
					}
					_ = c.LocalAddr().String()
				}
			})
			wg.Go(func() {
				buf := make([]byte, 5000)
				for range 50 {
					_ = c.SetReadDeadline(time.Now().Add(time.Second))
					if _, err := c.Read(buf); errors.Is(err, os.ErrDeadlineExceeded) {
						return // the rest was lost
					} else if err != nil {
						t.Error(err)
					}
					_ = c.RemoteAddr().String()
				}
			})
		}
	}
	wg.Wait()
}
