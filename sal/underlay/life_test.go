package underlay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sys/unix"

	"scn.alt/scn/routing/identity"
)

func TestRestartedNodeResetsItsPeers(t *testing.T) {
	first, err := Open(Config{AllowLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	port := first.Port()
	first.Close()

	server := newPeer(t, 's', Config{AllowLoopback: true, Listen: netip.AddrPortFrom(netip.Addr{}, port)}, true)
	client := newPeer(t, 'c', Config{AllowLoopback: true}, false)
	c, s := connect(t, client, server, loopback(port))
	settle(t, c, s)
	// As after kill -9: nothing is said, only the port is gone.
	server.Close()
	server.tr.Close()
	newPeer(t, 's', Config{AllowLoopback: true, Listen: netip.AddrPortFrom(netip.Addr{}, port)}, true)
	st, err := c.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	st.Write([]byte("are you there?"))
	select {
	case <-c.Context().Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the client never learnt")
	}
	var reset *quic.StatelessResetError
	if err := context.Cause(c.Context()); !errors.As(err, &reset) {
		t.Errorf("got %v", err)
	}
}

func TestBothDialAtOnce(t *testing.T) {
	for round := range 4 {
		a := newPeer(t, 'a', Config{AllowLoopback: true}, true)
		b := newPeer(t, 'b', Config{AllowLoopback: true}, true)
		var wg sync.WaitGroup
		var ab, ba [2]*session // as client, as server
		wg.Go(func() { ab[0] = a.dial(t, b, loopback(b.Port())) })
		wg.Go(func() { ba[0] = b.dial(t, a, loopback(a.Port())) })
		wg.Go(func() { ab[1] = b.accept(t, a) })
		wg.Go(func() { ba[1] = a.accept(t, b) })
		wg.Wait()
		if t.Failed() {
			return
		}
		settle(t, ab[0], ab[1])
		settle(t, ba[0], ba[1])
		// Long enough for connection IDs to change.
		transfer(t, ab[0], ab[1], 20<<20)
		transfer(t, ba[0], ba[1], 20<<20)
		for i, s := range []*session{ab[0], ab[1], ba[0], ba[1]} {
			if !sameAddr(s.RemoteAddr(), s.a.Addr()) {
				t.Errorf("round %d: session %d is at %v, not %v", round, i, s.RemoteAddr(), s.a.Addr())
			}
		}
		// One is kept, as sal does.
		ba[0].CloseWithError(0, "")
		ba[0].a.Close()
		select {
		case <-ba[1].Context().Done():
		case <-time.After(10 * time.Second):
			t.Fatal("the peer did not learn of the close")
		}
		ba[1].a.Close()
		transfer(t, ab[0], ab[1], 4<<20)
		transfer(t, ab[1], ab[0], 4<<20)
	}
}

// TestRetry has the server prove every address first: the token in its Retry is
// bound to the address a stranger has.
func TestRetry(t *testing.T) {
	server := newPeer(t, 's', Config{AllowLoopback: true}, false)
	var asked atomic.Int32
	server.tr.VerifySourceAddress = func(net.Addr) bool { asked.Add(1); return true }
	var err error
	if server.ln, err = server.tr.Listen(server.tls, testQUIC()); err != nil {
		t.Fatal(err)
	}
	client := newPeer(t, 'c', Config{AllowLoopback: true}, false)
	c, s := connect(t, client, server, loopback6(server.Port()), loopback(server.Port()))
	settle(t, c, s)
	if asked.Load() == 0 {
		t.Error("no Retry was sent")
	}
}

func TestManyClients(t *testing.T) {
	server := newPeer(t, 's', Config{AllowLoopback: true}, true)
	const n = 30
	var wg sync.WaitGroup
	for i := range n {
		client := newPeer(t, byte(i), Config{AllowLoopback: true}, false)
		wg.Go(func() { client.dial(t, server, loopback(server.Port())) })
	}
	var all []*session
	for range n {
		all = append(all, server.accept(t, server))
	}
	wg.Wait()
	eventually(t, "all connections migrated", func() bool {
		for _, s := range all {
			// Anything makes the client answer.
			if st, err := s.OpenUniStream(); err == nil {
				st.Write([]byte{1})
				st.Close()
			}
			if !sameAddr(s.RemoteAddr(), s.a.Addr()) {
				return false
			}
		}
		return true
	})
	if got := server.Metrics().Associations; got != n {
		t.Errorf("%d associations", got)
	}
}

func TestDialTriesAllLocators(t *testing.T) {
	w := &world{router: newRouter(t), left: newHost(t), right: newHost(t)}
	attach(w.left, w.router, 1, "eth0")
	attach(w.right, w.router, 2, "eth0")
	w.left.join("eth0", 1, 0)
	w.right.join("eth0", 2, 0)
	server := w.right.peer('s', Config{}, true)
	good := locator(at(2, 0), server.Port())
	client := w.left.peer('c', Config{}, false)
	dead := func(i int) netip.AddrPort { return locator(fmt.Sprintf("10.2.3.%d", 10+i), 9) }
	for _, tc := range []struct {
		name     string
		locators []netip.AddrPort
	}{
		{"first good", []netip.AddrPort{good, dead(0)}},
		{"one dead", []netip.AddrPort{dead(0), good}},
		{"seven dead", []netip.AddrPort{dead(0), dead(1), dead(2), dead(3), dead(4), dead(5), dead(6), good}},
		{"no route", []netip.AddrPort{locator("2001:db8::1", 9), locator("2001:db8::2", 9), good}},
		{"closed port", []netip.AddrPort{locator(at(2, 0), 9), good}},
	} {
		start := time.Now()
		c, s := connect(t, client, server, tc.locators...)
		took := time.Since(start)
		t.Logf("%-12s %v", tc.name, took)
		if limit := time.Duration(len(tc.locators))*stagger + 2*time.Second; took > limit {
			t.Errorf("%s: took %v", tc.name, took)
		}
		transfer(t, c, s, 1<<20)
		c.CloseWithError(0, "")
		c.a.Close()
		s.a.Close()
	}
	// Locators that come while the dial is under way.
	a, err := client.Dial(server.node, nil)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { a.SetLocators([]netip.AddrPort{dead(1), good}) })
	c, err := client.tr.Dial(t.Context(), a.Addr(), client.tls, testQUIC())
	if err != nil {
		t.Fatal(err)
	}
	c.CloseWithError(0, "")
}

func TestTwoLinks(t *testing.T) {
	w := newWorld(t)
	attach(w.left, w.router, 3, "eth1")
	w.left.add("eth1", at(3, 0)+"/24")
	eventually(t, "second link seen", func() bool { return len(w.client.Locators()) == 2 })
	time.Sleep(300 * time.Millisecond)
	// The first link goes: its address and its default route.
	w.left.leave("eth0", 1, 0)
	w.left.gateway("eth1", "10.3.0.1")
	t.Logf("first link lost: %v", w.echo.resumed(t, time.Now()))
	// An answer under way when the link went counts as resumed; the path follows.
	eventually(t, "the path leaves by the second link", func() bool {
		return w.c.a.Info().Local.Addr().String() == at(3, 0)
	})
	transfer(t, w.c, w.s, 4<<20)
	transfer(t, w.s, w.c, 4<<20)
}

// TestNoSegmentation has a route whose device refused UDP_SEGMENT (EIO; newer
// kernels segment for it).
func TestNoSegmentation(t *testing.T) {
	server := newPeer(t, 's', Config{AllowLoopback: true}, true)
	client := newPeer(t, 'c', Config{AllowLoopback: true}, false)
	c, s := connect(t, client, server, loopback(server.Port()))
	settle(t, c, s)
	c.a.route.Load().noGSO.Store(true)
	transfer(t, c, s, 4<<20)
	r := c.a.route.Load()
	r.limit.Store(1280 - headerIPv4)
	if !r.noGSO.Load() {
		t.Error("the route forgot that its device cannot segment")
	}
	transfer(t, c, s, 4<<20)
	if client.Metrics().FragmentsSent == 0 {
		t.Error("nothing was cut")
	}
}

func TestSpecificAddress(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0"} {
		server := newPeer(t, 's', Config{AllowLoopback: true, Listen: netip.MustParseAddrPort(listen)}, true)
		client := newPeer(t, 'c', Config{AllowLoopback: true}, false)
		at := loopback(server.Port())
		if listen == "[::1]:0" {
			at = loopback6(server.Port())
		}
		c, s := connect(t, client, server, at)
		transfer(t, c, s, 1<<20)
		transfer(t, s, c, 1<<20)
		if l := server.Locators(); len(l) == 0 || slices.ContainsFunc(l, func(a netip.AddrPort) bool {
			return a.Addr().Is6() != (listen == "[::1]:0")
		}) {
			t.Errorf("listening on %s: locators %v", listen, l)
		}
		s.CloseWithError(0, "")
		c.CloseWithError(0, "")
	}
	busy := open(t, Config{})
	if _, err := Open(Config{Listen: netip.AddrPortFrom(netip.Addr{}, busy.Port())}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("port in use: %v", err)
	}
}

func TestBindErrors(t *testing.T) {
	s := open(t, Config{})
	a, err := s.Dial(identity.NodeID{1}, []netip.AddrPort{loopback(9)})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Bind(make([]byte, SecretSize), true); !errors.Is(err, ErrUnanswered) {
		t.Errorf("before any answer: %v", err)
	}
	b, _ := bare(t, s, loopback(9))
	if err := b.Bind(nil, true); err == nil {
		t.Error("bound without a secret")
	}
	b, _ = bare(t, s, loopback(9))
	if err := b.Bind(make([]byte, SecretSize), true); err != nil {
		t.Error(err)
	}
	if err := b.Bind(make([]byte, SecretSize), true); !errors.Is(err, ErrBound) {
		t.Errorf("twice: %v", err)
	}
	b.Close()
	b.Close()
	if _, err := s.Accepted(b.Addr(), identity.NodeID{}); err == nil {
		t.Error("accepted from a made-up address")
	}
	if _, err := s.Accepted(&net.TCPAddr{}, identity.NodeID{}); err == nil {
		t.Error("accepted a TCP address")
	}
	s.Close()
	if err := a.Bind(make([]byte, SecretSize), true); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
	if _, err := s.Dial(identity.NodeID{}, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial after close: %v", err)
	}
	if _, _, err := s.ReadFrom(make([]byte, 10)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if _, err := s.WriteTo([]byte{1}, b.Addr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
}

func TestGarbage(t *testing.T) {
	server := newPeer(t, 's', Config{AllowLoopback: true}, true)
	client := newPeer(t, 'c', Config{AllowLoopback: true}, false)
	c, s := connect(t, client, server, loopback(server.Port()))
	settle(t, c, s)
	attacker, err := net.Dial("udp", loopback(server.Port()).String())
	if err != nil {
		t.Fatal(err)
	}
	defer attacker.Close()
	cid, _ := server.ids.GenerateConnectionID()
	ours := append([]byte{headerFixedBit}, cid.Bytes()...)
	for i := range 256 {
		for _, n := range []int{1, 2, 8, 9, 17, 100, 1200, 1500} {
			b := make([]byte, n)
			for j := range b {
				b[j] = byte(i * j)
			}
			b[0] = byte(i)
			attacker.Write(b)
		}
		attacker.Write(append(ours, make([]byte, 30)...))
	}
	transfer(t, c, s, 1<<20)
	m := server.Metrics()
	if m.DroppedMalformed == 0 || m.DroppedUnknownType == 0 || m.DroppedUnknownCID == 0 {
		t.Errorf("%+v", m)
	}
}

// TestRedirectNeedsProof replays a packet of a session from another address: it
// must cause a challenge, and no move.
func TestRedirectNeedsProof(t *testing.T) {
	server := newPeer(t, 's', Config{AllowLoopback: true}, true)
	client := newPeer(t, 'c', Config{AllowLoopback: true}, false)
	c, s := connect(t, client, server, loopback(server.Port()))
	settle(t, c, s)
	var out [ringSize]ringSlot
	if c.a.ring.copyTo(&out) == 0 {
		t.Fatal("nothing was sent")
	}
	attacker, err := net.Dial("udp", loopback(server.Port()).String())
	if err != nil {
		t.Fatal(err)
	}
	defer attacker.Close()
	before := s.a.Info().Remote
	for range 100 {
		attacker.Write(out[0].data[:out[0].size])
		time.Sleep(time.Millisecond)
	}
	transfer(t, s, c, 1<<20)
	if now := s.a.Info().Remote; now != before {
		t.Errorf("moved from %v to %v", before, now)
	}
	if m := server.Metrics(); m.UnknownAddress == 0 {
		t.Errorf("not noticed: %+v", m)
	}
	attacker.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	var got int
	b := make([]byte, 2000)
	for {
		n, err := attacker.Read(b)
		if err != nil {
			break
		}
		got += n
	}
	t.Logf("the attacker got %d bytes for %d", got, 100*out[0].size)
	if got > 100*3*out[0].size+2000 {
		t.Errorf("the attacker got %d bytes for %d", got, 100*out[0].size)
	}
}

func TestCloseWaits(t *testing.T) {
	s := open(t, Config{})
	read := make(chan error, 1)
	go func() {
		_, _, err := s.ReadFrom(make([]byte, 2000))
		read <- err
	}()
	time.Sleep(10 * time.Millisecond)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second: %v", err)
	}
}
