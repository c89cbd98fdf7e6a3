package underlay

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"
)

// transfer sends n random bytes one way and checks that they arrive.
func transfer(tb testing.TB, from, to *session, n int) time.Duration {
	tb.Helper()
	start := time.Now()
	sent := make(chan [32]byte, 1)
	go func() {
		h := sha256.New()
		out, err := from.OpenUniStream()
		if err != nil {
			return
		}
		io.CopyN(io.MultiWriter(out, h), rand.Reader, int64(n))
		out.Close()
		sent <- [32]byte(h.Sum(nil))
	}()
	in, err := to.AcceptUniStream(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	in.SetReadDeadline(time.Now().Add(90 * time.Second))
	h := sha256.New()
	if got, err := io.Copy(h, in); err != nil || got != int64(n) {
		tb.Fatalf("got %d of %d bytes: %v", got, n, err)
	}
	if [32]byte(h.Sum(nil)) != <-sent {
		tb.Fatal("bytes differ")
	}
	return time.Since(start)
}

// setMTU changes the MTU of the router's port only: the hosts cannot see it.
func (h *host) setMTU(name string, mtu int) {
	h.tb.Helper()
	h.must(h.nl.LinkSetMTU(h.link(name), mtu))
}

func TestPathMTU(t *testing.T) {
	for _, mtu := range []int{1500, 1400, 1280, 1124} {
		t.Run(fmt.Sprint("IPv4 ", mtu), func(t *testing.T) { testPathMTU(t, mtu, false) })
	}
	for _, mtu := range []int{1500, 1280} {
		t.Run(fmt.Sprint("IPv6 ", mtu), func(t *testing.T) { testPathMTU(t, mtu, true) })
	}
}

// testPathMTU connects and transfers both ways over a path whose two middle hops
// carry less than the ends know.
func testPathMTU(t *testing.T, mtu int, v6 bool) {
	far, near := newRouter(t), newRouter(t)
	left, right := newHost(t), newHost(t)
	attach(left, near, 1, "eth0")
	attach(right, far, 2, "eth0")
	cable(near, "middle", far, "middle")
	near.setMTU("middle", mtu)
	far.setMTU("middle", mtu)
	var to netip.AddrPort
	if v6 {
		near.add("middle", "fd00:9::1/64")
		far.add("middle", "fd00:9::2/64")
		near.gateway("middle", "fd00:9::2")
		far.gateway("middle", "fd00:9::1")
		left.add("eth0", at6(1, 0)+"/64")
		left.gateway("eth0", "fd00:1:0::1")
		right.add("eth0", at6(2, 0)+"/64")
		right.gateway("eth0", "fd00:2:0::1")
	} else {
		near.add("middle", "10.9.0.1/24")
		far.add("middle", "10.9.0.2/24")
		near.gateway("middle", "10.9.0.2")
		far.gateway("middle", "10.9.0.1")
		left.join("eth0", 1, 0)
		right.join("eth0", 2, 0)
	}
	server := right.peer('s', Config{}, true)
	client := left.peer('c', Config{}, false)
	if to = locator(at(2, 0), server.Port()); v6 {
		to = locator(at6(2, 0), server.Port())
	}
	start := time.Now()
	c, s := connect(t, client, server, to)
	handshake := time.Since(start)
	up := transfer(t, c, s, 8<<20)
	down := transfer(t, s, c, 8<<20)
	t.Logf("handshake %v, 8 MiB up %v, down %v, MTU %d and %d", handshake, up, down, c.a.Info().MTU, s.a.Info().MTU)
	if got := c.a.Info().MTU; got > mtu || got < min(mtu, 1124) {
		t.Errorf("client's MTU is %d on a path of %d", got, mtu)
	}
	if mtu < 1400 && client.Metrics().FragmentsSent == 0 {
		t.Error("nothing was cut")
	}
}

func TestMTUShrinksUnderLoad(t *testing.T) {
	w := newWorld(t)
	done := make(chan time.Duration, 1)
	go func() { done <- transfer(t, w.c, w.s, 24<<20) }()
	time.Sleep(30 * time.Millisecond)
	w.router.setMTU("side2eth0", 1280)
	select {
	case d := <-done:
		t.Logf("24 MiB in %v, MTU now %d", d, w.c.a.Info().MTU)
	case <-time.After(100 * time.Second):
		t.Fatal("stalled")
	}
	t.Logf("24 MiB more in %v", transfer(t, w.c, w.s, 24<<20))
	t.Logf("back: 24 MiB in %v", transfer(t, w.s, w.c, 24<<20))
	if got := w.c.a.Info().MTU; got > 1280 {
		t.Errorf("client still believes in an MTU of %d", got)
	}
}

func TestSmallInterfaceMTU(t *testing.T) {
	// The hosts' own interface is smaller than QUIC's packets: EMSGSIZE.
	w := newWorld(t)
	w.left.setMTU("eth0", 1280)
	t.Logf("8 MiB up %v", transfer(t, w.c, w.s, 8<<20))
	if m := w.client.Metrics(); m.FragmentsSent == 0 {
		t.Errorf("nothing was cut: %+v", m)
	}
}

// TestMoveToNarrowPath moves the client, under load, to a network that carries
// less than QUIC's packets.
func TestMoveToNarrowPath(t *testing.T) {
	for _, mtu := range []int{1280, 1124} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			w := newWorld(t)
			attach(w.left, w.router, 3, "eth1")
			w.router.setMTU("side3eth1", mtu)
			done := make(chan time.Duration, 2)
			go func() { done <- transfer(t, w.c, w.s, 24<<20) }()
			go func() { done <- transfer(t, w.s, w.c, 24<<20) }()
			time.Sleep(30 * time.Millisecond)
			w.left.leave("eth0", 1, 0)
			w.left.join("eth1", 3, 0)
			gap := w.echo.resumed(t, time.Now())
			t.Logf("resumed after %v, 24 MiB each way in %v and %v", gap, <-done, <-done)
			if got := max(w.c.a.Info().MTU, w.s.a.Info().MTU); got > mtu {
				t.Errorf("MTU %d on a path of %d", got, mtu)
			}
		})
	}
}
