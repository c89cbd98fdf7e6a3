package underlay

import (
	"encoding/binary"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"scn.alt/scn/routing/identity"
)

// world is two hosts on two sides of a router, with a session between them.
type world struct {
	router, left, right *host
	client, server      *peer
	c, s                *session
	echo                *echo
}

// directory answers Resolve with where a node is at that moment.
type directory struct {
	mu    sync.Mutex
	nodes map[identity.NodeID]func() []netip.AddrPort
	ask   map[identity.NodeID]*Association
}

func (d *directory) resolve(node identity.NodeID) {
	d.mu.Lock()
	where, a := d.nodes[node], d.ask[node]
	d.mu.Unlock()
	if where != nil && a != nil {
		a.SetLocators(where())
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{router: newRouter(t), left: newHost(t), right: newHost(t)}
	attach(w.left, w.router, 1, "eth0")
	attach(w.right, w.router, 2, "eth0")
	w.left.join("eth0", 1, 0)
	w.right.join("eth0", 2, 0)
	d := &directory{nodes: make(map[identity.NodeID]func() []netip.AddrPort), ask: make(map[identity.NodeID]*Association)}
	w.server = w.right.peer('s', Config{Resolve: d.resolve}, true)
	w.client = w.left.peer('c', Config{Resolve: d.resolve}, false)
	w.c, w.s = connect(t, w.client, w.server, locator(at(2, 0), w.server.Port()))
	d.mu.Lock()
	d.nodes[w.server.node], d.ask[w.server.node] = w.server.Locators, w.c.a
	d.nodes[w.client.node], d.ask[w.client.node] = w.client.Locators, w.s.a
	d.mu.Unlock()
	w.echo = startEcho(t, w.c, w.s)
	settle(t, w.c, w.s)
	return w
}

// echo sends a number every 2 ms and notes when the last answer came.
type echo struct {
	last atomic.Int64 // UnixNano of the last answer
	got  atomic.Uint64
	done chan struct{}
	wg   sync.WaitGroup
}

func startEcho(t *testing.T, c, s *session) *echo {
	t.Helper()
	e := &echo{done: make(chan struct{})}
	out, err := c.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out.Write([]byte{0})
	in, err := s.AcceptStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e.wg.Go(func() { io.Copy(in, in) })
	e.wg.Go(func() {
		var b [8]byte
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for n := uint64(1); ; n++ {
			select {
			case <-e.done:
				out.CancelRead(0)
				out.CancelWrite(0)
				return
			case <-tick.C:
				binary.BigEndian.PutUint64(b[:], n)
				if _, err := out.Write(b[:]); err != nil {
					return
				}
			}
		}
	})
	e.wg.Go(func() {
		var b [8]byte
		io.ReadFull(out, b[:1])
		for want := uint64(1); ; want++ {
			if _, err := io.ReadFull(out, b[:]); err != nil {
				return
			}
			if n := binary.BigEndian.Uint64(b[:]); n != want {
				t.Errorf("echo: got %d, want %d", n, want)
				return
			}
			e.got.Store(want)
			e.last.Store(time.Now().UnixNano())
		}
	})
	t.Cleanup(func() {
		close(e.done)
		c.CloseWithError(0, "")
		s.CloseWithError(0, "")
		e.wg.Wait()
	})
	return e
}

// resumed waits for the first number that was written after since and returns
// how long after since its answer came.
func (e *echo) resumed(t *testing.T, since time.Time) time.Duration {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
		if last := e.last.Load(); last > since.UnixNano() {
			return time.Duration(last - since.UnixNano())
		}
	}
	t.Fatal("the session did not resume")
	return 0
}

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2]
}

func TestSessionSurvivesMoves(t *testing.T) {
	w := newWorld(t)
	place := [2]int{}
	move := func(side int) {
		h := w.left
		if side == 1 {
			h = w.right
		}
		old := place[side]
		place[side] = (old + 1) % places
		h.leave("eth0", side+1, old)
		h.join("eth0", side+1, place[side])
	}
	const rounds = 10
	run := func(name string, limit time.Duration, event func() time.Time) {
		var gaps []time.Duration
		for range rounds {
			gaps = append(gaps, w.echo.resumed(t, event()))
			time.Sleep(150 * time.Millisecond)
		}
		t.Logf("%-22s median %8v worst %8v  %v", name, median(gaps).Round(10*time.Microsecond),
			slices.Max(gaps).Round(10*time.Microsecond), w.c.a.Info().LastGap)
		if m := median(gaps); m > limit {
			t.Errorf("%s: median gap %v is above %v", name, m, limit)
		}
	}
	const slow = 5 // times the target, for a noisy machine
	run("client moves", slow*50*time.Millisecond, func() time.Time { move(0); return time.Now() })
	run("server moves", slow*50*time.Millisecond, func() time.Time { move(1); return time.Now() })
	run("both move", slow*time.Second, func() time.Time { move(0); move(1); return time.Now() })
	run("client away 500 ms", slow*50*time.Millisecond, func() time.Time {
		w.left.leave("eth0", 1, place[0])
		time.Sleep(500 * time.Millisecond)
		place[0] = (place[0] + 1) % places
		w.left.join("eth0", 1, place[0])
		return time.Now()
	})
	if !sameAddr(w.s.RemoteAddr(), w.s.a.Addr()) || !sameAddr(w.c.RemoteAddr(), w.c.a.Addr()) {
		t.Errorf("QUIC noticed: server sees %v, client %v", w.s.RemoteAddr(), w.c.RemoteAddr())
	}
	for name, p := range map[string]*peer{"client": w.client, "server": w.server} {
		t.Logf("%s: %+v", name, p.Metrics())
	}
	t.Logf("client %+v", w.c.a.Info())
	if i := w.c.a.Info(); i.Moves < 3*rounds {
		t.Errorf("client counts %d moves", i.Moves)
	}
}

// TestBlackout has a switch between client and router lose everything, which
// neither end is told of; and a router that forwards nothing.
func TestBlackout(t *testing.T) {
	w := newWorld(t)
	sw := newHost(t)
	w.left.must(w.left.nl.LinkDel(w.left.link("eth0")))
	cable(w.left, "eth0", sw, "left")
	cable(w.router, "side1", sw, "right")
	sw.must(sw.nl.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "bridge"}}))
	sw.up("bridge")
	mend := func() {
		sw.must(sw.nl.LinkSetMaster(sw.link("left"), sw.link("bridge")))
		sw.must(sw.nl.LinkSetMaster(sw.link("right"), sw.link("bridge")))
	}
	mend()
	w.router.add("side1", "10.1.0.1/24")
	w.left.join("eth0", 1, 0)
	t.Logf("new link: %v", w.echo.resumed(t, time.Now()))
	for _, d := range []time.Duration{300 * time.Millisecond, time.Second, 5 * time.Second} {
		time.Sleep(200 * time.Millisecond)
		sw.must(sw.nl.LinkSetNoMaster(sw.link("left")))
		time.Sleep(d)
		mend()
		gap := w.echo.resumed(t, time.Now())
		t.Logf("cut for %v: resumed after %v", d, gap)
		if gap > 5*time.Second {
			t.Errorf("resumed %v after a cut of %v", gap, d)
		}
		if d >= time.Second { // less may end before the path is taken for lost
			eventually(t, "gap told", func() bool { return w.c.a.Info().LastGap > d*9/10 })
		}
	}
	for _, d := range []time.Duration{300 * time.Millisecond, 2 * time.Second} {
		time.Sleep(200 * time.Millisecond)
		w.router.sysctl("net/ipv4/ip_forward", "0")
		time.Sleep(d)
		w.router.sysctl("net/ipv4/ip_forward", "1")
		t.Logf("no forwarding for %v: resumed after %v", d, w.echo.resumed(t, time.Now()))
	}
	t.Logf("client %+v", w.client.Metrics())
}

// TestCarrierLost pulls the cable at the far end.
func TestCarrierLost(t *testing.T) {
	w := newWorld(t)
	var gaps []time.Duration
	for range 4 {
		w.router.down("side1eth0")
		time.Sleep(time.Second)
		w.router.up("side1eth0")
		gaps = append(gaps, w.echo.resumed(t, time.Now()))
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("resumed after %v, %d neighbours asked again", gaps, w.client.Metrics().Nudges)
	if m := median(gaps); m > time.Second {
		t.Errorf("median %v", m)
	}
}

// TestFamilyChange has the client leave IPv4 for a network that has only IPv6,
// and come back. The server's IPv6 address it was told by the server itself.
func TestFamilyChange(t *testing.T) {
	w := newWorld(t)
	w.right.add("eth0", at6(2, 0)+"/64")
	w.right.gateway("eth0", "fd00:2:0::1")
	eventually(t, "server's IPv6 address seen", func() bool { return len(w.server.Locators()) == 2 })
	time.Sleep(300 * time.Millisecond)
	w.left.leave("eth0", 1, 0)
	w.left.add("eth0", at6(1, 1)+"/64")
	w.left.gateway("eth0", "fd00:1:1::1")
	t.Logf("to IPv6: %v", w.echo.resumed(t, time.Now()))
	transfer(t, w.c, w.s, 4<<20)
	transfer(t, w.s, w.c, 4<<20)
	if i := w.c.a.Info(); !i.Remote.Addr().Is6() || !i.Local.Addr().Is6() {
		t.Errorf("path is %v to %v", i.Local, i.Remote)
	}
	w.left.del("eth0", at6(1, 1)+"/64")
	w.left.join("eth0", 1, 2)
	t.Logf("to IPv4: %v", w.echo.resumed(t, time.Now()))
	transfer(t, w.c, w.s, 4<<20)
	transfer(t, w.s, w.c, 4<<20)
}
