package tun

import (
	"context"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun/address"
	"scn.alt/scn/tun/packet"
)

// ack is a segment that says nothing new.
var ack = packet.Segment{Flags: packet.ACK}

func tableFamilies() [2]*family {
	v4, v6 := address.DefaultPool(), address.Prefix(testNetwork)
	return [2]*family{
		{prefix: v4, own: address.Own(v4, ownNumber), gateway: address.Own(v4, firstPeer), port: 33333},
		{prefix: v6, own: address.Own(v6, ownNumber), gateway: address.Own(v6, firstPeer), port: 33334, is6: true},
	}
}

// synFrom makes a SYN of the n-th application socket.
func synFrom(f *family, n int, isn uint32) ([]byte, packet.Header) {
	src := netip.AddrPortFrom(f.own, uint16(n))
	a := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 0xc6120010+uint32(n>>16))))
	if f.is6 {
		b := f.prefix.Addr().As16()
		b[6] = 0x80
		b[15] = byte(n >> 16)
		a = netip.AddrFrom16(b)
	}
	// The reset that answers a made-up packet is the shortest way to a valid TCP packet;
	// only its flags and sequence number are changed.
	b := packet.PutUDP(make([]byte, packet.UDPHeadroom+12), src, netip.AddrPortFrom(a, 80))
	if f.is6 {
		b[6] = packet.TCP
	} else {
		b[9] = packet.TCP
	}
	at := len(b) - 20
	binary.BigEndian.PutUint32(b[at+4:], isn)
	b[at+12], b[at+13] = 5<<4, packet.SYN
	h, err := packet.Parse(b)
	if err != nil {
		panic(err)
	}
	return b, h
}

func TestTableHoldsMoreFlowsThanOnePeerHasPorts(t *testing.T) {
	const flows = 3*65536 + 7
	table := newTCPTable(786432, 1)
	now := time.Unix(1, 0)
	for which, fam := range tableFamilies() {
		seen := make(map[netip.AddrPort]bool, flows)
		for n := range flows {
			b, h := synFrom(fam, n, 1)
			f := table.add(t.Context(), fam, &h, b, identity.ServiceID{1}, netip.Addr{}, false)
			if f == nil {
				t.Fatalf("no room for flow %d", n)
			}
			peer := fam.peer(f.number)
			if seen[peer] || peer.Addr() == fam.own || !fam.prefix.Contains(peer.Addr()) || peer.Port() < firstPeerPort {
				t.Fatalf("flow %d has peer %s", n, peer)
			}
			seen[peer] = true
			if table.fromListener(fam, peer, ack, now) != f {
				t.Fatalf("%s is not found again", peer)
			}
		}
		if len(table.byPeer[which]) != flows {
			t.Fatal(len(table.byPeer[which]))
		}
	}
}

func TestPeerNumbersRoundTrip(t *testing.T) {
	for _, fam := range tableFamilies() {
		for _, n := range []int{0, 1, peerPorts - 1, peerPorts, peers*peerPorts - 1} {
			if got, ok := fam.peerNumber(fam.peer(n)); !ok || got != n {
				t.Errorf("%d → %s → %d, %v", n, fam.peer(n), got, ok)
			}
		}
		for _, a := range []netip.AddrPort{
			netip.AddrPortFrom(fam.own, 5000),
			netip.AddrPortFrom(address.Own(fam.prefix, firstPeer+peers), 5000),
			netip.AddrPortFrom(address.Own(fam.prefix, firstPeer), firstPeerPort-1),
			netip.AddrPortFrom(address.IPv6(testNetwork, identity.ServiceID{1}), 5000),
		} {
			if fam.is6 != a.Addr().Is6() {
				continue
			}
			if n, ok := fam.peerNumber(a); ok {
				t.Errorf("%s is peer %d", a, n)
			}
		}
	}
}

func TestTableBounds(t *testing.T) {
	fam := tableFamilies()[0]
	table := newTCPTable(4, 2)
	now := time.Unix(1, 0)
	add := func(n int, hold bool) *tcpFlow {
		b, h := synFrom(fam, n, 1)
		return table.add(t.Context(), fam, &h, b, identity.ServiceID{1}, netip.Addr{}, hold)
	}
	held := []*tcpFlow{add(1, true), add(2, true)}
	if add(3, true) != nil {
		t.Fatal("more held than allowed")
	}
	a, b := add(4, false), add(5, false)
	if a == nil || b == nil || add(6, false) != nil {
		t.Fatal("the bound on flows does not hold")
	}
	table.finish(a, now)
	if add(6, false) == nil {
		t.Fatal("a closing flow must make room")
	}
	if a.state != flowGone || add(7, false) != nil {
		t.Fatal("state", a.state)
	}
	if table.release(held[0]) == nil || table.release(held[0]) != nil || table.refuse(held[1]) == nil {
		t.Fatal("a held SYN is taken once")
	}
	if n, h := table.size(); n != 3 || h != 0 {
		t.Fatalf("%d flows, %d held", n, h)
	}
}

func TestTableSYNAgain(t *testing.T) {
	fam := tableFamilies()[0]
	table := newTCPTable(10, 10)
	now := time.Unix(1, 0)
	b, h := synFrom(fam, 1, 100)
	key := tupleOf(h.Source(), h.Destination())
	f := table.add(t.Context(), fam, &h, b, identity.ServiceID{1}, netip.Addr{}, true)
	// Again while held: absorbed. Another connection of the same socket pair takes over.
	if again, same := table.again(key, b, 100); again != nil || !same {
		t.Fatal("a repeated SYN is not absorbed")
	}
	b2, _ := synFrom(fam, 1, 500)
	if again, same := table.again(key, b2, 500); again != nil || !same || f.isn != 500 {
		t.Fatal("the newer SYN is not held")
	}
	if _, pass, _ := table.fromApp(key, ack, now); pass {
		t.Fatal("a packet passed a held flow")
	}
	if syn := table.release(f); binary.BigEndian.Uint32(syn[24:]) != 500 {
		t.Fatal("the older SYN was released")
	}
	if again, same := table.again(key, b2, 500); again != f || !same {
		t.Fatal("a SYN sent again must pass")
	}
	// A new connection in the place of an open one ends the old one.
	if again, same := table.again(key, b, 900); again != nil || same || f.state != flowGone || f.ctx.Err() == nil {
		t.Fatal("the old flow lives")
	}
	if n, _ := table.size(); n != 0 {
		t.Fatal(n)
	}
}

func TestTableClosing(t *testing.T) {
	fam := tableFamilies()[0]
	table := newTCPTable(10, 10)
	now := time.Unix(1, 0)
	seg := func(flags uint8, end, ack uint32) packet.Segment {
		return packet.Segment{Flags: flags, Seq: end - 1, End: end, Ack: ack}
	}
	for n, c := range []struct {
		fromUs, fromApp []packet.Segment // ours come first, the application's after finish
		lives           time.Duration
	}{
		{[]packet.Segment{seg(packet.FIN|packet.ACK, 50, 9)}, []packet.Segment{seg(packet.FIN|packet.ACK, 10, 50)}, 150 * time.Second},
		{[]packet.Segment{seg(packet.FIN|packet.ACK, 50, 0xfffffff0)}, []packet.Segment{seg(packet.ACK, 10, 50)}, 150 * time.Second},
		{nil, []packet.Segment{seg(packet.RST, 10, 50)}, time.Second},
		{[]packet.Segment{seg(packet.RST, 50, 10)}, nil, time.Second},
		{nil, nil, 150 * time.Second},
	} {
		b, h := synFrom(fam, n+1, 1)
		f := table.add(context.Background(), fam, &h, b, identity.ServiceID{1}, netip.Addr{}, false)
		for _, s := range c.fromUs {
			table.fromListener(fam, fam.peer(f.number), s, now)
		}
		table.finish(f, now)
		for _, s := range c.fromApp {
			table.fromApp(f.key, s, now)
		}
		table.sweep(now.Add(c.lives-time.Millisecond), nil)
		if f.state != flowClosing {
			t.Errorf("case %d: forgotten before %v", n, c.lives)
		}
		if got, pass, _ := table.fromApp(f.key, ack, now); got != f || !pass {
			t.Errorf("case %d: a closing flow must go on rewriting", n)
		}
		table.sweep(now.Add(c.lives), nil)
		if f.state != flowGone {
			t.Errorf("case %d: kept after %v", n, c.lives)
		}
		if f.ctx.Err() == nil {
			t.Errorf("case %d: context leaks", n)
		}
	}
	// Both ends acknowledged: nothing but a last acknowledgement can come again.
	b, h := synFrom(fam, 100, 1)
	f := table.add(context.Background(), fam, &h, b, identity.ServiceID{1}, netip.Addr{}, false)
	peer := fam.peer(f.number)
	table.fromApp(f.key, seg(packet.FIN|packet.ACK, 10, 40), now)
	table.fromListener(fam, peer, seg(packet.FIN|packet.ACK, 50, 10), now)
	table.finish(f, now)
	table.fromApp(f.key, seg(packet.ACK, 10, 50), now)
	table.sweep(now.Add(3*time.Second), nil)
	if f.state != flowGone {
		t.Error("a flow that ended on both sides is kept")
	}
	if len(table.closing) != 0 || len(table.byApp) != 0 || len(table.byPeer[0]) != 0 {
		t.Error("something is left")
	}
}

func TestWarmPorts(t *testing.T) {
	now := time.Unix(1, 0)
	w := newWarmPorts(30 * time.Second)
	s := identity.ServiceID{1}
	w.accepted(netip.Addr{}, s, 80, now)
	if !w.is(netip.Addr{}, s, 80, now.Add(29*time.Second)) || w.is(netip.Addr{}, s, 80, now.Add(30*time.Second)) || w.is(netip.Addr{}, s, 81, now) {
		t.Error("warm at the wrong time")
	}
	w.failed(netip.Addr{}, s, 80)
	if w.is(netip.Addr{}, s, 80, now) {
		t.Error("one refusal must bring the holding back")
	}
	for n := range 2 * maxWarm {
		w.accepted(netip.Addr{}, testService(n), 80, now)
	}
	if len(w.until) > maxWarm {
		t.Error("unbounded")
	}
	w.accepted(netip.Addr{}, s, 80, now.Add(time.Hour))
	if !w.is(netip.Addr{}, s, 80, now.Add(time.Hour)) {
		t.Error("old entries block new ones for ever")
	}
	off := newWarmPorts(-1)
	off.accepted(netip.Addr{}, s, 80, now)
	if off.is(netip.Addr{}, s, 80, now) {
		t.Error("turned off, yet warm")
	}
}

func TestLocalAddresses(t *testing.T) {
	now := time.Unix(1, 0)
	host := []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	reads := 0
	l := &localAddresses{list: func() ([]netip.Addr, error) { reads++; return host, nil }}
	other := netip.MustParseAddr("10.0.0.2")
	for range 5 {
		if !l.contains(host[0], now) || l.contains(other, now) {
			t.Fatal("wrong")
		}
	}
	if reads != 1 {
		t.Errorf("%d reads within a second", reads)
	}
	host = append(host, other) // the host got another address
	if !l.contains(other, now.Add(time.Second)) {
		t.Error("a new address is not noticed")
	}
}
