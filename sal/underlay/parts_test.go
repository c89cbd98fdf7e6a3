package underlay

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/path"
)

func TestConnectionIDs(t *testing.T) {
	here, there := newConnectionIDs(), newConnectionIDs()
	foreign := 0
	for range 2000 {
		id, err := here.GenerateConnectionID()
		if err != nil {
			t.Fatal(err)
		}
		b := append([]byte{headerFixedBit}, id.Bytes()...)
		cid, ok := destination(b)
		if !ok || !here.own(cid) {
			t.Fatalf("%x is not recognised", b)
		}
		if there.own(cid) {
			foreign++
		}
		long := append([]byte{headerFormBit | headerFixedBit, 0, 0, 0, 1, connectionIDLen}, id.Bytes()...)
		long = append(append(long, connectionIDLen), id.Bytes()...)
		d, ok1 := destination(long)
		s, ok2 := source(long)
		if !ok1 || !ok2 || d != cid || s != cid {
			t.Fatalf("long header %x: %x %v, %x %v", long, d, ok1, s, ok2)
		}
		for n := range long {
			destination(long[:n])
			if _, ok := source(long[:n]); ok {
				t.Fatalf("source of %d bytes", n)
			}
		}
	}
	if foreign > 1 {
		t.Errorf("%d of 2000 IDs of another process pass", foreign)
	}
}

func TestMadeUpAddresses(t *testing.T) {
	for _, text := range []string{"192.0.2.1:7", "[2001:db8::1]:7", "127.0.0.1:65535"} {
		a := netip.MustParseAddrPort(text)
		up := strangerAddr(a)
		if len(up.IP) != net.IPv6len {
			t.Errorf("%v has %d bytes", up, len(up.IP))
		}
		if back, ok := realAddr(up); !ok || back != a {
			t.Errorf("%v became %v", a, back)
		}
	}
	m := madeUp(identity.NodeID{1, 2, 3}, 9)
	if !isMadeUp(m) || m.IP.String() != "fd53:434e:102:300::" {
		t.Errorf("made up %v", m)
	}
	if _, ok := realAddr(m); ok {
		t.Error("a made-up address is taken for a real one")
	}
}

func TestRing(t *testing.T) {
	var r ring
	var out [ringSize]ringSlot
	if n := r.copyTo(&out); n != 0 {
		t.Fatalf("an empty ring holds %d", n)
	}
	r.keep([]byte{1}, 0, 1)
	r.keep([]byte{2, 2, 3, 3, 4}, 2, 2)
	if n := r.copyTo(&out); n != 4 || out[0].data[0] != 1 || out[0].ecn != 1 || out[3].size != 1 || out[3].data[0] != 4 {
		t.Fatalf("%d kept: %v", n, out[0].data[:2])
	}
	r.keep(bytes.Repeat([]byte{9}, 20*1400), 1400, 0)
	if n := r.copyTo(&out); n != 4 || out[0].size != 1400 || out[3].data[1399] != 9 {
		t.Fatalf("%d kept", n)
	}
	r.keep(make([]byte, ringDatagram+1), 0, 0)
	if r.copyTo(&out); out[3].size != 1400 {
		t.Error("kept a datagram larger than a slot")
	}
	r.trim()
	r.trim()
	if n := r.copyTo(&out); n != 0 || !r.last(&out[0]) || out[0].size != ringHead || out[0].data[0] != 9 || r.slots != nil {
		t.Errorf("%d kept after trim, %d bytes of the last", n, out[0].size)
	}
	r.keep([]byte{7}, 0, 0)
	if n := r.copyTo(&out); n != 1 || out[0].size != 1 || out[0].data[0] != 7 || !r.last(&out[1]) || out[1].data[0] != 7 {
		t.Errorf("%d kept after trim", n)
	}
	r.drop()
	if n := r.copyTo(&out); n != 0 {
		t.Errorf("%d left after drop", n)
	}
}

func TestRouteShrinks(t *testing.T) {
	s := open(t, Config{})
	r := s.newRoute(path.Route{Remote: loopback(9)}, 1500)
	if r.limit.Load() != 1472 {
		t.Fatalf("limit %d", r.limit.Load())
	}
	if !r.shrink(1472, 1400) || r.mtu() != 1400 {
		t.Errorf("interface MTU 1400: %d", r.mtu())
	}
	for _, want := range []int{1280, 1124, 576} {
		if !r.shrink(int(r.limit.Load()), 0) || r.mtu() != want {
			t.Errorf("got %d, want %d", r.mtu(), want)
		}
	}
	if r.shrink(int(r.limit.Load()), 0) {
		t.Error("shrank below the least")
	}
}

func TestSuspendClock(t *testing.T) {
	offset := time.Hour
	c := suspendClock{read: func() (time.Duration, bool) { return offset, true }}
	c.start()
	for _, step := range []struct{ to, want time.Duration }{
		{time.Hour, 0},
		{time.Hour + time.Millisecond, 0},
		{time.Hour, 0},
		{2 * time.Hour, time.Hour - time.Millisecond},
		{2 * time.Hour, 0},
		{2*time.Hour + time.Second, time.Second},
	} {
		offset = step.to
		if got := c.slept(); got != step.want {
			t.Errorf("offset %v: slept %v, want %v", step.to, got, step.want)
		}
	}
	var real suspendClock
	real.start()
	if got := real.slept(); got != 0 {
		t.Errorf("the host slept %v during this test", got)
	}
}

func TestGapMeter(t *testing.T) {
	ms := int64(time.Millisecond)
	var g gapMeter
	g.received(100*ms, 99*ms)
	g.begin(150*ms, 100*ms)
	g.begin(150*ms, 100*ms)
	g.received(130*ms+100*ms, 100*ms)
	g.received(231*ms, 230*ms)
	if got := g.last.Load(); got != 130*ms {
		t.Errorf("gap %v, want 130ms", time.Duration(got))
	}
	// The peer moved first: its data came again before we followed.
	g.received(1000*ms, 231*ms)
	g.received(1001*ms, 1000*ms)
	g.begin(1002*ms, 1001*ms)
	g.received(1003*ms, 1002*ms)
	if got := g.last.Load(); got != 769*ms {
		t.Errorf("gap %v, want 769ms", time.Duration(got))
	}
}

func TestAttribution(t *testing.T) {
	tb := newTable()
	here := netip.MustParseAddrPort("192.0.2.1:7")
	client := &Association{client: true}
	old, served := &Association{}, &Association{}
	if got := tb.attribute(1, here); got != nil {
		t.Fatal("attributed to nobody's address")
	}
	tb.prove(client, here)
	if got := tb.attribute(2, here); got != client {
		t.Error("the only association was not chosen")
	}
	tb.prove(old, here)
	tb.prove(served, here)
	dialled := &Association{client: true}
	tb.prove(dialled, here)
	if got := tb.attribute(3, here); got != served {
		t.Error("the newest one served was not chosen")
	}
	if got := tb.attribute(2, here); got != client {
		t.Error("an ID once learnt went to another")
	}
	tb.forget(served)
	if got := tb.attribute(3, here); got != old {
		t.Error("an ID of a forgotten association was not freed")
	}
	resting := &Association{}
	tb.learn(7, resting)
	tb.prove(resting, here)
	tb.rest(resting)
	tb.learn(8, resting)
	if tb.cid(7) != nil || tb.cid(8) != nil || tb.attribute(9, here) == resting {
		t.Error("packets belong to an association without a connection")
	}
	for cid := range uint64(100) {
		tb.learn(1000+cid, old)
	}
	if len(old.cids) != maxCIDs || tb.cid(1000) != nil || tb.cid(1099) != old {
		t.Errorf("%d IDs learnt", len(old.cids))
	}
	for p := range uint16(100) {
		tb.prove(old, netip.AddrPortFrom(here.Addr(), 100+p))
	}
	if len(old.proved) != maxProved || len(tb.byRemote) > maxProved+1 {
		t.Errorf("%d addresses of %d", len(old.proved), len(tb.byRemote))
	}
}

// TestPathInUseStaysKnown lets a peer wander through more networks than it is told of at
// a time. What comes by the path that was there first is still attributed to it: a new
// connection ID would have nobody otherwise, and QUIC takes one every few seconds.
func TestPathInUseStaysKnown(t *testing.T) {
	tb, a := newTable(), &Association{}
	first := netip.MustParseAddrPort("192.0.2.1:7")
	tb.prove(a, first)
	for p := range uint16(path.MaxAddresses - 1) {
		tb.prove(a, netip.AddrPortFrom(first.Addr(), 100+p))
		if got := tb.attribute(uint64(p), first); got != a {
			t.Fatalf("belongs to nobody after %d other addresses", p+1)
		}
	}
	tb.disprove(a, first)
	if got := tb.attribute(1000, first); got != nil {
		t.Error("belongs to it though the address was given up")
	}
}

func TestPendingIsBounded(t *testing.T) {
	tb := newTable()
	for i := range 5 * maxPending {
		remote := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
		tb.meet(uint64(i), &Association{remote: remote, met: int64(i)})
	}
	if len(tb.pending) != maxPending || len(tb.byCID) != maxPending || len(tb.byRemote) != maxPending {
		t.Errorf("%d pending, %d IDs, %d addresses", len(tb.pending), len(tb.byCID), len(tb.byRemote))
	}
	tb.expire(1 << 60)
	if len(tb.pending)+len(tb.byCID)+len(tb.byRemote) != 0 {
		t.Error("not all expired")
	}
}

func TestSerials(t *testing.T) {
	s := open(t, Config{MaxAssociations: 3})
	seen := make(map[int]bool)
	var all []*Association
	for range 3 {
		a, err := s.Dial(identity.NodeID{1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if seen[a.Addr().Port] || s.table.bySerial(uint16(a.Addr().Port)) != a {
			t.Errorf("serial %d", a.Addr().Port)
		}
		seen[a.Addr().Port] = true
		all = append(all, a)
	}
	if _, err := s.Dial(identity.NodeID{1}, nil); !errors.Is(err, ErrCapacity) {
		t.Errorf("got %v", err)
	}
	s.table.forget(all[0])
	if _, err := s.Dial(identity.NodeID{1}, nil); err != nil {
		t.Errorf("after one was freed: %v", err)
	}
}

func TestValidateReportsEverything(t *testing.T) {
	err := Config{
		Listen:        netip.MustParseAddrPort("224.0.0.1:1"),
		ReceiveBuffer: 1, SendBuffer: 1, MaxAssociations: -1,
	}.Validate()
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) || len(joined.Unwrap()) != 4 {
		t.Errorf("got %v", err)
	}
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("zero value: %v", err)
	}
	if !errors.Is(ErrClosed, net.ErrClosed) {
		t.Error("ErrClosed is not net.ErrClosed")
	}
}

func TestIgnoreVirtual(t *testing.T) {
	got := make(map[string]bool)
	for _, name := range []string{"eth0", "wlan0", "enp3s0", "vmbr0", "docker0", "br-1a2b3c", "tailscale0", "wg0", "tun3"} {
		got[name] = IgnoreVirtual(name)
	}
	want := map[string]bool{
		"eth0": false, "wlan0": false, "enp3s0": false, "vmbr0": false,
		"docker0": true, "br-1a2b3c": true, "tailscale0": true, "wg0": true, "tun3": true,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestUsableLocators(t *testing.T) {
	s, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var in []netip.AddrPort
	for _, text := range []string{
		"0.0.0.0:1", "127.0.0.1:1", "224.0.0.1:1", "[ff02::1]:1", "192.0.2.1:0", "[fd53:434e::1]:1",
		"192.0.2.1:1", "[::ffff:192.0.2.1]:1", "192.0.2.2:1",
	} {
		in = append(in, netip.MustParseAddrPort(text))
	}
	for i := range 20 {
		in = append(in, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 1))
	}
	node := identity.NodeID{1, 2, 3}
	// One through a relay does not compete with the others, if it is to this node.
	in = append(in, path.RelayRemote(identity.NodeID{8}, identity.NodeID{7}), path.RelayRemote(identity.NodeID{9}, node))
	got := s.usableLocators(node, in)
	if len(got) != maxSpray+1 || got[0].String() != "192.0.2.1:1" || got[1].String() != "192.0.2.2:1" ||
		got[maxSpray] != path.RelayRemote(identity.NodeID{9}, node) {
		t.Errorf("got %v", got)
	}
	// Loopback only where a tunnel begins.
	end := loopback(7)
	s.SetTunnels([]netip.AddrPort{end})
	if got := s.usableLocators(node, []netip.AddrPort{loopback(8), end}); !slices.Equal(got, []netip.AddrPort{end}) {
		t.Errorf("got %v", got)
	}
	if !s.tunnelled(end) || s.tunnelled(in[6]) {
		t.Error("tunnels are not told from the rest")
	}
}
