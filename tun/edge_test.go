package tun

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun/tuntest"
)

func testService(n int) (id identity.ServiceID) {
	binary.BigEndian.PutUint32(id[:], uint32(n)+1)
	return id
}

var testNetwork = identity.NetworkID{7}

// edge opens a device over the overlay and runs it until the test ends.
func openEdge(tb testing.TB, o Overlay, change func(*Config)) *Edge {
	tb.Helper()
	tuntest.Require(tb)
	cfg := Config{Overlay: o, Network: testNetwork, State: filepath.Join(tb.TempDir(), "addresses"), noSelfTest: true}
	if change != nil {
		change(&cfg)
	}
	e, err := Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		// A test that fails at once closes before this runs.
		if err := e.Run(context.Background()); err != nil && !errors.Is(err, ErrClosed) {
			tb.Error("run:", err)
		}
	})
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Error("close:", err)
		}
		wg.Wait()
		if n, held := e.tcp.size(); held != 0 {
			tb.Errorf("%d flows, %d held after Close", n, held)
		}
		if n := e.udp.size(); n != 0 {
			tb.Errorf("%d packet flows after Close", n)
		}
		if n := e.buffers.InUse(); n != 0 {
			tb.Errorf("%d bytes of buffers in use after Close", n)
		}
		if n := e.udp.queued.Load(); n != 0 {
			tb.Errorf("%d bytes queued after Close", n)
		}
	})
	return e
}

// families runs the test over IPv4 and IPv6, with streams that are TCP connections and
// such that are not.
func families(t *testing.T, run func(t *testing.T, e *Edge, o *tuntest.Overlay, pick func(identity.ServiceID) netip.Addr)) {
	for _, opaque := range []bool{false, true} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("ipv6=%v,opaque=%v", v6, opaque), func(t *testing.T) {
				o := &tuntest.Overlay{Opaque: opaque}
				e := openEdge(t, o, nil)
				run(t, e, o, func(s identity.ServiceID) netip.Addr {
					t.Helper()
					a4, a6, err := e.Assign(t.Context(), s)
					if err != nil {
						t.Fatal(err)
					}
					if v6 {
						if !a6.IsValid() {
							t.Skip("no IPv6 in this namespace")
						}
						return a6
					}
					return a4
				})
			})
		}
	}
}

// listen serves TCP connections on loopback with handle.
func listen(tb testing.TB, handle func(*net.TCPConn)) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			})
		}
	})
	tb.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

func dial(tb testing.TB, network string, a netip.Addr, port uint16) (net.Conn, error) {
	tb.Helper()
	d := net.Dialer{Timeout: 20 * time.Second}
	c, err := d.Dial(network, netip.AddrPortFrom(a, port).String())
	if err == nil {
		tb.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	}
	return c, err
}

func mustDial(tb testing.TB, network string, a netip.Addr, port uint16) net.Conn {
	tb.Helper()
	c, err := dial(tb, network, a, port)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func echo(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

func TestTCPEchoAndHalfClose(t *testing.T) {
	families(t, func(t *testing.T, e *Edge, o *tuntest.Overlay, pick func(identity.ServiceID) netip.Addr) {
		s := testService(1)
		o.Serve(s, "tcp", 80, listen(t, func(c *net.TCPConn) {
			// Answers only after the end of the request: needs the half-close.
			b, err := io.ReadAll(c)
			if err != nil {
				t.Error("service:", err)
			}
			fmt.Fprintf(c, "%d bytes %x", len(b), sha256.Sum256(b))
		}))
		a := pick(s)
		for range 3 { // held, then early
			c := mustDial(t, "tcp", a, 80)
			if got := c.RemoteAddr().String(); got != netip.AddrPortFrom(a, 80).String() {
				t.Fatalf("remote address %s", got)
			}
			data := make([]byte, 3<<20)
			fill(data, 1)
			if _, err := c.Write(data); err != nil {
				t.Fatal(err)
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if want := fmt.Sprintf("%d bytes %x", len(data), sha256.Sum256(data)); err != nil || string(got) != want {
				t.Fatalf("%s, %v", got, err)
			}
		}
		if m := e.Metrics(); m.FlowsOpened != 3 || m.FlowsEarly != 2 || m.FlowsReset != 0 || m.WriteErrors != 0 {
			t.Fatalf("%+v", m)
		}
	})
}

func fill(b []byte, seed uint64) {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
}

func TestRefusals(t *testing.T) {
	families(t, func(t *testing.T, e *Edge, o *tuntest.Overlay, pick func(identity.ServiceID) netip.Addr) {
		s := testService(1)
		o.Serve(s, "tcp", 80, listen(t, echo))
		a := pick(s)
		prohibited := syscall.EHOSTUNREACH
		if a.Is6() {
			prohibited = syscall.EACCES
		}
		for _, c := range []struct {
			port uint16
			err  error
			want syscall.Errno
		}{
			{81, syscall.ECONNREFUSED, syscall.ECONNREFUSED},
			{82, syscall.EAGAIN, syscall.ECONNREFUSED},
			{83, syscall.EHOSTUNREACH, syscall.EHOSTUNREACH},
			{84, syscall.ENETUNREACH, syscall.EHOSTUNREACH},
			{85, context.DeadlineExceeded, syscall.EHOSTUNREACH},
			{86, errors.New("something else"), syscall.EHOSTUNREACH},
			{87, syscall.EACCES, prohibited},
			{88, fmt.Errorf("dial: %w", syscall.ECONNREFUSED), syscall.ECONNREFUSED},
		} {
			o.Fail(s, "tcp", c.port, c.err)
			start := time.Now()
			_, err := dial(t, "tcp", a, c.port)
			if !errors.Is(err, c.want) {
				t.Errorf("%v: connect failed with %v, want %v", c.err, err, c.want)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("%v: told after %v", c.err, d)
			}
		}
		// An address of ours that is no service's.
		other := a.Next()
		if _, err := dial(t, "tcp", other, 80); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("unknown address: %v", err)
		}
		if n, held := e.tcp.size(); n != 0 || held != 0 {
			t.Errorf("%d flows, %d held are left", n, held)
		}
		// A warm port that refuses: reset first, then held again and refused truthfully.
		c := mustDial(t, "tcp", a, 80)
		c.Close()
		o.Fail(s, "tcp", 80, syscall.ECONNREFUSED)
		if c, err := dial(t, "tcp", a, 80); err == nil {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("early flow refused: read gave %v", err)
			}
		} else if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
		if _, err := dial(t, "tcp", a, 80); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("after a refusal: %v", err)
		}
		o.Fail(s, "tcp", 80, nil)
		mustDial(t, "tcp", a, 80)
	})
}

func TestSYNIsHeldOnce(t *testing.T) {
	o := &tuntest.Overlay{}
	e := openEdge(t, o, nil)
	s := testService(1)
	o.Serve(s, "tcp", 80, listen(t, echo))
	a, _, err := e.Assign(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	release := o.Hold()
	defer release()
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := dial(t, "tcp", a, 80)
		if err != nil {
			t.Error(err)
			return
		}
		c.Close()
	})
	time.Sleep(2500 * time.Millisecond) // the kernel sends the SYN again after 1 s
	if n, held := e.tcp.size(); n != 1 || held != 1 || o.Dials() != 1 {
		t.Errorf("%d flows, %d held, %d dials", n, held, o.Dials())
	}
	release()
	wg.Wait()
	if o.Dials() != 1 {
		t.Errorf("%d dials for one connection", o.Dials())
	}
}

func TestApplicationGivesUp(t *testing.T) {
	o := &tuntest.Overlay{}
	e := openEdge(t, o, nil)
	s := testService(1)
	ended := make(chan error, 1)
	o.Serve(s, "tcp", 80, listen(t, func(c *net.TCPConn) {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}))
	a, _, err := e.Assign(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	release := o.Hold()
	d := net.Dialer{Timeout: 200 * time.Millisecond}
	if _, err := d.Dial("tcp", netip.AddrPortFrom(a, 80).String()); err == nil {
		t.Fatal("connected while held")
	}
	release()
	select {
	case err := <-ended:
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the service saw %v, want a reset", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the service's connection is still open")
	}
	if m := e.Metrics(); m.FlowsOpened != 0 {
		t.Errorf("%+v", m)
	}
}

func TestResetBothWays(t *testing.T) {
	families(t, func(t *testing.T, e *Edge, o *tuntest.Overlay, pick func(identity.ServiceID) netip.Addr) {
		s := testService(1)
		got := make(chan error, 1)
		o.Serve(s, "tcp", 80, listen(t, func(c *net.TCPConn) {
			_, _ = c.Write([]byte("hello"))
			_, err := io.Copy(io.Discard, c)
			got <- err
		}))
		o.Serve(s, "tcp", 81, listen(t, func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 1))
			_ = c.SetLinger(0)
		}))
		// A service that neither reads nor writes: both directions block.
		blocked := make(chan struct{})
		o.Serve(s, "tcp", 82, listen(t, func(c *net.TCPConn) {
			_, _ = c.Write([]byte("hello"))
			<-blocked
			_, err := io.Copy(io.Discard, c)
			got <- err
		}))
		a := pick(s)

		c := mustDial(t, "tcp", a, 80)
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
		if err := wait(t, got); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the service saw %v, want a reset", err)
		}

		c = mustDial(t, "tcp", a, 81)
		_, _ = c.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the application saw %v, want a reset", err)
		}

		c = mustDial(t, "tcp", a, 82)
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		for {
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				break
			}
		}
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
		deadline := time.Now().Add(10 * time.Second)
		for e.Metrics().FlowsReset < 3 && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
		close(blocked)
		if err := wait(t, got); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the blocked service saw %v, want a reset", err)
		}
		if m := e.Metrics(); m.FlowsReset != 3 {
			t.Errorf("%d flows reset, want 3", m.FlowsReset)
		}
	})
}

func wait[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing within 20 s")
	}
	return v
}

func TestBigTransfersBothWays(t *testing.T) {
	families(t, func(t *testing.T, e *Edge, o *tuntest.Overlay, pick func(identity.ServiceID) netip.Addr) {
		s := testService(1)
		const size = 64 << 20
		sums := make(chan [32]byte, 1)
		o.Serve(s, "tcp", 80, listen(t, func(c *net.TCPConn) {
			var wg sync.WaitGroup
			wg.Go(func() { send(t, c, 1, size) })
			sums <- receive(t, c)
			wg.Wait()
		}))
		c := mustDial(t, "tcp", pick(s), 80)
		var wg sync.WaitGroup
		wg.Go(func() { send(t, c, 2, size) })
		down := receive(t, c)
		wg.Wait()
		if down != sumOf(1, size) {
			t.Error("downwards: the bytes differ")
		}
		if wait(t, sums) != sumOf(2, size) {
			t.Error("upwards: the bytes differ")
		}
	})
}

func send(t *testing.T, c net.Conn, seed byte, size int64) {
	_, err := io.CopyN(c, rand.NewChaCha8([32]byte{seed}), size)
	if err == nil {
		err = c.(*net.TCPConn).CloseWrite()
	}
	if err != nil {
		t.Error("send:", err)
	}
}

func receive(t *testing.T, c net.Conn) [32]byte {
	h := sha256.New()
	if _, err := io.Copy(h, c); err != nil {
		t.Error("receive:", err)
	}
	return [32]byte(h.Sum(nil))
}

func sumOf(seed byte, size int64) [32]byte {
	h := sha256.New()
	_, _ = io.CopyN(h, rand.NewChaCha8([32]byte{seed}), size)
	return [32]byte(h.Sum(nil))
}

func TestManyFlows(t *testing.T) {
	o := &tuntest.Overlay{}
	e := openEdge(t, o, nil)
	s := testService(1)
	o.Serve(s, "tcp", 80, listen(t, echo))
	v4, v6, err := e.Assign(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	const flows = 2000
	ready, goOn := make(chan struct{}, flows), make(chan struct{})
	var wg sync.WaitGroup
	for n := range flows {
		wg.Go(func() {
			a := v4
			if n%2 == 1 && v6.IsValid() {
				a = v6
			}
			c, err := net.DialTimeout("tcp", netip.AddrPortFrom(a, 80).String(), 50*time.Second)
			ready <- struct{}{}
			<-goOn
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(60 * time.Second))
			msg := []byte("flow " + strconv.Itoa(n))
			if _, err := c.Write(msg); err != nil {
				t.Error(err)
				return
			}
			_ = c.(*net.TCPConn).CloseWrite()
			if got, err := io.ReadAll(c); err != nil || string(got) != string(msg) {
				t.Errorf("flow %d: %q, %v", n, got, err)
			}
		})
	}
	for range flows {
		<-ready
	}
	if n, _ := e.tcp.size(); n < flows {
		t.Errorf("%d flows at once, want %d", n, flows)
	}
	close(goOn)
	wg.Wait()
	if t.Failed() {
		t.Logf("%+v", e.Metrics())
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		n, _ := e.tcp.size()
		if n == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d flows are never forgotten", n)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
