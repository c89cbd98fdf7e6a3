package underlay

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"scn.alt/scn/sal/relay"
)

// relayWorld is a host on each of two networks that are not connected, and a relay on
// both, which is no router.
type relayWorld struct {
	nearLeft, nearRight *host // routers
	left, middle, right *host
	relay, a, b         *peer
	ar, ra, br, rb      *session // a's and b's to the relay, and the relay's to them
	ab, ba              *session // through the relay
	echo                *echo
}

// newRelayWorld makes one whose networks carry packets of the given sizes, unseen by the
// hosts.
func newRelayWorld(t *testing.T, mtu [2]int) *relayWorld {
	t.Helper()
	w := &relayWorld{
		nearLeft: newRouter(t), nearRight: newRouter(t),
		left: newHost(t), middle: newHost(t), right: newHost(t),
	}
	attach(w.left, w.nearLeft, 1, "eth0")
	attach(w.right, w.nearRight, 2, "eth0")
	attach(w.middle, w.nearLeft, 3, "eth0")
	attach(w.middle, w.nearRight, 4, "eth1")
	w.left.join("eth0", 1, 0)
	w.right.join("eth0", 2, 0)
	w.middle.join("eth0", 3, 0)
	w.middle.add("eth1", at(4, 0)+"/24")
	w.middle.must(w.middle.nl.RouteAdd(&netlink.Route{
		LinkIndex: w.middle.link("eth1").Attrs().Index, Gw: net.IPv4(10, 4, 0, 1),
		Dst: &net.IPNet{IP: net.IPv4(10, 2, 0, 0).To4(), Mask: net.CIDRMask(16, 32)},
	}))
	w.nearLeft.setMTU("side1eth0", mtu[0])
	w.nearRight.setMTU("side2eth0", mtu[1])
	w.relay = w.middle.peer('r', Config{Relay: &fastLimits}, true)
	w.a = w.left.peer('a', Config{}, true)
	w.b = w.right.peer('b', Config{}, true)
	w.ar, w.ra = connect(t, w.a, w.relay, locator(at(3, 0), w.relay.Port()))
	w.br, w.rb = connect(t, w.b, w.relay, locator(at(4, 0), w.relay.Port()))
	register(t, w.ar, w.ra)
	register(t, w.br, w.rb)
	// A direct address that never answers stands first: the relay is asked beside it.
	w.ab, w.ba = connect(t, w.a, w.b, locator(at(2, 0), w.b.Port()), through(w.relay, w.b))
	w.echo = startEcho(t, w.ab, w.ba)
	settle(t, w.ab, w.ba)
	return w
}

// stillRelayed fails unless both ends are connected through the relay.
func (w *relayWorld) stillRelayed(t *testing.T) {
	t.Helper()
	for _, x := range []*session{w.ab, w.ba} {
		if i := x.a.Info(); i.Relay != w.relay.node || i.Lost {
			t.Errorf("%+v", i)
		}
	}
}

func TestRelayedSessionSurvivesMoves(t *testing.T) {
	w := newRelayWorld(t, [2]int{1500, 1500})
	eventually(t, "found that there is no NAT", func() bool { return w.a.NAT() == NATNone })
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
	run := func(name string, limit time.Duration, event func()) {
		var gaps []time.Duration
		for range rounds {
			event()
			gaps = append(gaps, w.echo.resumed(t, time.Now()))
			time.Sleep(150 * time.Millisecond)
		}
		t.Logf("%-12s median %8v worst %8v", name, median(gaps).Round(10*time.Microsecond), slices.Max(gaps).Round(10*time.Microsecond))
		if m := median(gaps); m > limit {
			t.Errorf("%s: median gap %v is above %v", name, m, limit)
		}
	}
	const limit = 250 * time.Millisecond // on a noisy machine
	run("left moves", limit, func() { move(0) })
	run("right moves", limit, func() { move(1) })
	run("both move", limit, func() { move(0); move(1) })
	w.stillRelayed(t)
	transfer(t, w.ab, w.ba, 4<<20)
	transfer(t, w.ba, w.ab, 4<<20)
	m := w.relay.Metrics().Relay
	t.Logf("relay %+v", m)
	if m.DroppedStranger != 0 {
		t.Errorf("tokens were not known: %+v", m)
	}
}

func TestRelayLegsAreNarrow(t *testing.T) {
	for _, mtu := range [][2]int{{1280, 1500}, {1500, 1124}, {1124, 1280}} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			w := newRelayWorld(t, mtu)
			t.Logf("8 MiB in %v", transfer(t, w.ab, w.ba, 8<<20))
			t.Logf("8 MiB back in %v", transfer(t, w.ba, w.ab, 8<<20))
			w.stillRelayed(t)
			if got := max(w.ar.a.Info().MTU, w.ra.a.Info().MTU); got > mtu[0] {
				t.Errorf("MTU of the left leg is %d", got)
			}
			if got := max(w.br.a.Info().MTU, w.rb.a.Info().MTU); got > mtu[1] {
				t.Errorf("MTU of the right leg is %d", got)
			}
			if m := w.relay.Metrics(); m.Joined == 0 || m.FragmentsSent == 0 {
				t.Errorf("the relay neither joined nor cut: %+v", m)
			}
			if m := w.b.Metrics(); mtu[1] == 1500 && m.FragmentsReceived > 200 { // before its MTU is known, some
				t.Errorf("the wide leg was cut too: %+v", m)
			}
		})
	}
}

// TestHostileRelaying sends what nobody should believe.
func TestHostileRelaying(t *testing.T) {
	w := newTriangle(t, fastLimits)
	c, s := connect(t, w.left, w.right, through(w.relay, w.right))
	settle(t, c, s)
	mallory, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer mallory.Close()
	leftToken := w.left.ways.by(headOf(w.relay.node)).token
	inner := shortHeader(7, 60)
	send := func(to uint16, typ byte, token relay.Token, node relay.Prefix, inner []byte) {
		t.Helper()
		b := append(relay.Header{Type: typ, Token: token, Node: node}.Append(nil), inner...)
		if _, err := mallory.WriteToUDPAddrPort(b, loopback(to)); err != nil {
			t.Fatal(err)
		}
	}
	counted := func(what string, n func() uint64, f func()) {
		t.Helper()
		before := n()
		f()
		eventually(t, what, func() bool { return n() == before+1 })
	}
	toRight, fromRight := relay.Prefix(w.right.node[:8]), relay.Prefix(w.right.node[:8])
	relayed := func() uint64 { return w.right.Metrics().RelayedReceived }
	before := relayed()

	counted("a stranger's token", func() uint64 { return w.relay.Metrics().KernelDrops }, func() {
		send(w.relay.Port(), relay.TypeForward, relay.Token{1}, toRight, inner)
	})
	counted("a stranger's lucky token", func() uint64 { return w.relay.Metrics().Relay.DroppedStranger }, func() {
		send(w.relay.Port(), relay.TypeForward, w.relay.forwarder.sieve.Mark(relay.Token{1}), toRight, inner)
	})
	counted("a stolen token", func() uint64 { return w.relay.Metrics().Relay.DroppedSpoofed }, func() {
		send(w.relay.Port(), relay.TypeForward, leftToken, toRight, inner)
	})
	counted("relayed by a stranger", func() uint64 { return w.left.Metrics().DroppedRelayStranger }, func() {
		send(w.left.Port(), relay.TypeRelayed, relay.Token{1}, fromRight, inner)
	})
	counted("relayed from elsewhere", func() uint64 { return w.left.Metrics().DroppedRelaySpoofed }, func() {
		send(w.left.Port(), relay.TypeRelayed, leftToken, fromRight, inner)
	})
	counted("asked of a node that is no relay", func() uint64 { return w.left.Metrics().KernelDrops }, func() {
		send(w.left.Port(), relay.TypeForward, leftToken, fromRight, inner)
	})
	counted("nothing in it", func() uint64 { return w.relay.Metrics().DroppedMalformed }, func() {
		send(w.relay.Port(), relay.TypeForward, leftToken, toRight, nil)
	})

	// From the right address, by the node itself.
	byNode := func(b []byte) {
		t.Helper()
		if errno := w.left.transmit(w.l.a.route.Load(), b, 0, 0); errno != 0 {
			t.Fatal(errno)
		}
	}
	header := relay.Header{Type: relay.TypeForward, Token: leftToken, Node: toRight}.Append(nil)
	counted("wrapped twice", func() uint64 { return w.relay.Metrics().DroppedMalformed }, func() {
		byNode(slices.Concat(header, header, inner))
	})
	time.Sleep(20 * time.Millisecond)
	if n := relayed() - before; n > 20 { // keep-alives of the connection itself
		t.Errorf("%d datagrams were delivered", n)
	}
	transfer(t, c, s, 1<<20)
	transfer(t, s, c, 1<<20)
	if i := c.a.Info(); i.Lost || i.Moves != 0 {
		t.Errorf("%+v", i)
	}
}

// TestRelayQuota has one node send more than its share.
func TestRelayQuota(t *testing.T) {
	left, relayed, right, way, cid := bareTriangle(t, Config{Relay: &relay.Limits{PerNode: 1e6}}, Config{})
	serve(t, right)
	b := make([]byte, 0, 14*1400)
	for range 14 {
		b = append(b, shortHeader(cid, 1400)...)
	}
	sent := uint64(0)
	start := time.Now()
	for time.Since(start) < 500*time.Millisecond {
		way.write(b, 1400, 0)
		sent += 14
		time.Sleep(time.Millisecond)
	}
	took := time.Since(start).Seconds()
	_ = left
	eventually(t, "all accounted for", func() bool {
		m := relayed.Metrics().Relay
		return m.Forwarded+m.DroppedOverNode == sent
	})
	m := relayed.Metrics().Relay
	if most := uint64((1 + took) * 1e6); m.DroppedOverNode == 0 || m.ForwardedBytes > most+most/10 {
		t.Errorf("%d bytes of %d datagrams in %.1fs, %+v", m.ForwardedBytes, sent, took, m)
	}
}
