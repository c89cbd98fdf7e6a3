package tun

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun/tuntest"
)

// listenUDP echoes datagrams on loopback.
func listenUDP(tb testing.TB) string {
	tb.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(buf[:n], from)
		}
	})
	tb.Cleanup(func() {
		c.Close()
		wg.Wait()
	})
	return c.LocalAddr().String()
}

func TestDatagramsOfAllSizes(t *testing.T) {
	families(t, func(t *testing.T, e *Edge, o *tuntest.Overlay, pick func(identity.ServiceID) netip.Addr) {
		s := testService(1)
		o.Serve(s, "udp", 53, listenUDP(t))
		c := mustDial(t, "udp", pick(s), 53)
		buf := make([]byte, 65536)
		for _, size := range []int{0, 1, 2, 7, 512, 1400, 8 << 10, 60000, 65000, 65487, 65488, 65507} {
			msg := make([]byte, size)
			fill(msg, uint64(size))
			if _, err := c.Write(msg); err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, err := c.Read(buf)
			if err != nil || !bytes.Equal(buf[:n], msg) {
				t.Fatalf("%d bytes: %d came back, %v", size, n, err)
			}
		}
		if m := e.Metrics(); m.PacketFlows != 1 || m.PacketFlowsOpened != 1 || m.DatagramsDropped != 0 || m.WriteErrors != 0 {
			t.Errorf("%+v", m)
		}
	})
}

func TestDatagramRefusals(t *testing.T) {
	families(t, func(t *testing.T, _ *Edge, o *tuntest.Overlay, pick func(identity.ServiceID) netip.Addr) {
		s := testService(1)
		o.Serve(s, "udp", 53, listenUDP(t))
		a := pick(s)
		prohibited := syscall.EHOSTUNREACH
		if a.Is6() {
			prohibited = syscall.EACCES
		}
		// Nobody listens there: the refusal comes after the flow was opened.
		closed, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		o.Serve(s, "udp", 60, closed.LocalAddr().String())
		closed.Close()
		o.Fail(s, "udp", 61, syscall.ECONNREFUSED)
		o.Fail(s, "udp", 62, syscall.EHOSTUNREACH)
		o.Fail(s, "udp", 63, syscall.EACCES)
		for _, c := range []struct {
			to   netip.AddrPort
			want syscall.Errno
		}{
			{netip.AddrPortFrom(a, 60), syscall.ECONNREFUSED},
			{netip.AddrPortFrom(a, 61), syscall.ECONNREFUSED},
			{netip.AddrPortFrom(a, 62), syscall.EHOSTUNREACH},
			{netip.AddrPortFrom(a, 63), prohibited},
			{netip.AddrPortFrom(a.Next(), 53), syscall.EHOSTUNREACH},
		} {
			conn, err := net.Dial("udp", c.to.String())
			if err != nil {
				t.Fatal(err)
			}
			// Soft errors reach a socket only on wish; name resolvers wish it.
			wantErrors(t, conn.(*net.UDPConn))
			for range 2 { // the second is answered from memory
				_, _ = conn.Write(make([]byte, 3000))
				_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
				if _, err := conn.Read(make([]byte, 10)); !errors.Is(err, c.want) {
					t.Errorf("%s: %v, want %v", c.to, err, c.want)
				}
			}
			conn.Close()
		}
	})
}

// TestDatagramLateRefusal: a target that goes away in the middle of a flow is refused
// to the application, and one that is back a second later is reached again.
func TestDatagramLateRefusal(t *testing.T) {
	families(t, func(t *testing.T, e *Edge, o *tuntest.Overlay, pick func(identity.ServiceID) netip.Addr) {
		s := testService(1)
		target, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		o.Serve(s, "udp", 53, target.LocalAddr().String())
		c := mustDial(t, "udp", pick(s), 53)
		wantErrors(t, c.(*net.UDPConn))
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		buf := make([]byte, 10)
		// The flow is open and has carried datagrams both ways.
		if _, err := c.Write([]byte("first")); err != nil {
			t.Fatal(err)
		}
		n, from, err := target.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := target.WriteToUDPAddrPort(buf[:n], from); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != "first" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		again := target.LocalAddr().(*net.UDPAddr)
		target.Close()
		for range 2 { // the second is answered from memory
			_, _ = c.Write([]byte("second"))
			if _, err := c.Read(buf); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatalf("target gone: %v", err)
			}
		}
		if m := e.Metrics(); m.PacketFlowsRefused != 1 {
			t.Errorf("%d flows refused", m.PacketFlowsRefused)
		}
		if target, err = net.ListenUDP("udp", again); err != nil {
			t.Fatal(err)
		}
		defer target.Close()
		_ = target.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		for deadline := time.Now().Add(20 * time.Second); ; {
			_, _ = c.Write([]byte("third"))
			if n, err := target.Read(buf); err == nil && string(buf[:n]) == "third" {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("the target is back and not reached")
			}
			_ = target.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		}
	})
}

func wantErrors(t *testing.T, c *net.UDPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
	})
}

func TestDatagramFlowIdles(t *testing.T) {
	o := &tuntest.Overlay{}
	e := openEdge(t, o, func(c *Config) { c.PacketIdle = 300 * time.Millisecond })
	s := testService(1)
	o.Serve(s, "udp", 53, listenUDP(t))
	a, _, err := e.Assign(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	c := mustDial(t, "udp", a, 53)
	for round := range 2 {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(15 * time.Second)
		for e.Metrics().PacketFlows != 0 {
			if time.Now().After(deadline) {
				t.Fatal("an idle flow never ends")
			}
			time.Sleep(20 * time.Millisecond)
		}
		if o.Dials() != round+1 {
			t.Fatalf("%d dials", o.Dials())
		}
	}
}

func TestDatagramQueueIsBounded(t *testing.T) {
	o := &tuntest.Overlay{}
	e := openEdge(t, o, nil)
	s := testService(1)
	o.Serve(s, "udp", 53, listenUDP(t))
	a, _, err := e.Assign(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	release := o.Hold()
	defer release()
	c := mustDial(t, "udp", a, 53)
	for range 2 * packetQueue {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for e.Metrics().DatagramsDropped < packetQueue && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if m := e.Metrics(); m.DatagramsDropped != packetQueue {
		t.Errorf("%d dropped of %d beyond the queue", m.DatagramsDropped, packetQueue)
	}
}

func TestPing(t *testing.T) {
	ping, err := exec.LookPath("ping")
	if err != nil {
		t.Skip(err)
	}
	o := &tuntest.Overlay{Delay: 40 * time.Millisecond}
	e := openEdge(t, o, nil)
	s := testService(1)
	o.Serve(s, "tcp", 80, "127.0.0.1:1")
	v4, v6, err := e.Assign(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	times := regexp.MustCompile(`time=([0-9.]+) ms`)
	for _, a := range []netip.Addr{v4, v6} {
		if !a.IsValid() {
			continue
		}
		for _, size := range []string{"56", "1", "8000", "65400"} {
			out, err := exec.CommandContext(t.Context(), ping, "-n", "-c", "2", "-i", "0.2", "-W", "10", "-s", size, a.String()).CombinedOutput()
			if err != nil {
				t.Fatalf("ping %s of %s bytes: %v\n%s", a, size, err, out)
			}
			for _, m := range times.FindAllSubmatch(out, -1) {
				if ms, _ := strconv.ParseFloat(string(m[1]), 64); ms < 40 || ms > 2000 {
					t.Errorf("ping shows %v ms for a way of 40 ms", ms)
				}
			}
		}
		out, err := exec.CommandContext(t.Context(), ping, "-n", "-c", "1", "-W", "5", a.Next().String()).CombinedOutput()
		if err == nil || !regexp.MustCompile(`(?i)unreachable`).Match(out) {
			t.Errorf("ping of an address without service: %v\n%s", err, out)
		}
	}
	if m := e.Metrics(); m.Pings != 16 && m.Pings != 8 {
		t.Errorf("%d pings answered", m.Pings)
	}
}

func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip(err)
	}
	families(t, func(t *testing.T, _ *Edge, o *tuntest.Overlay, pick func(identity.ServiceID) netip.Addr) {
		s := testService(1)
		body := make([]byte, 8<<20)
		fill(body, 3)
		o.Serve(s, "tcp", 80, serveHTTP(t, body))
		file := t.TempDir() + "/body"
		url := "http://" + netip.AddrPortFrom(pick(s), 80).String() + "/"
		out, err := exec.CommandContext(t.Context(), curl, "-sS", "--noproxy", "*", "-g", "-m", "60", "-o", file, url).CombinedOutput()
		if err != nil {
			t.Fatalf("curl: %v\n%s", err, out)
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	})
}
