package netns

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// natLab is a host behind a NAT, or behind two, and two observers on the other
// side who have two sockets each.
//
//	inner ── home ── nat ── wan 51.1.0.0/24 ── backbone, one, two
//	inner ── home ── nat ── shared 100.64.0.0/24 ── carrier ── wan
type natLab struct {
	*Lab
	t         *testing.T
	wan, home *Switch
	nat       *Host
	carrier   *Host // nil unless it is nested
	inner     *Host
	observers [2]*Host
	sockets   [2][2]*net.UDPConn // by observer and port
}

func newNATLab(t *testing.T, kind NATKind, nested bool) *natLab {
	l := &natLab{Lab: Test(t), t: t}
	l.wan = l.Switch("wan", "51.1.0.0/24")
	l.home = l.Switch("home", "192.168.1.0/24")
	l.Router("backbone").Attach(l.wan, 1)
	outside := l.wan
	if nested {
		l.carrier = l.NAT("carrier", Carrier)
		l.carrier.Attach(l.wan, 5)
		outside = l.Switch("shared", "100.64.0.0/24")
		l.carrier.Attach(outside, 1)
	}
	l.nat = l.NAT("nat", kind)
	l.nat.Attach(outside, 2)
	l.nat.Attach(l.home, 1)
	l.inner = l.Host("inner")
	l.inner.Attach(l.home, 2)
	for i := range l.observers {
		l.observers[i] = l.Host(fmt.Sprintf("observer%d", i))
		l.observers[i].Attach(l.wan, 3+i)
		for j := range l.sockets[i] {
			l.sockets[i][j] = l.socket(l.observers[i], fmt.Sprintf(":%d", 6000+j))
		}
	}
	return l
}

func (l *natLab) socket(h *Host, address string) *net.UDPConn {
	l.t.Helper()
	c, err := h.ListenPacket("udp4", address)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

// at returns the address of an observer's socket.
func (l *natLab) at(i, j int) netip.AddrPort {
	return netip.AddrPortFrom(l.wan.Addr4(3+i), uint16(6000+j))
}

// delivered reports whether a packet from one socket to an address reaches
// another socket, and as whose. It is for packets that should: many are tried,
// since links settle and machines are busy.
func delivered(from *net.UDPConn, address netip.AddrPort, to *net.UDPConn) (netip.AddrPort, bool) {
	return attempt(20, from, address, to)
}

// stopped is the opposite, for packets that should not arrive.
func stopped(from *net.UDPConn, address netip.AddrPort, to *net.UDPConn) bool {
	_, ok := attempt(3, from, address, to)
	return !ok
}

func attempt(times int, from *net.UDPConn, address netip.AddrPort, to *net.UDPConn) (netip.AddrPort, bool) {
	text := fmt.Sprintf("to %s at %d", address, time.Now().UnixNano())
	buf := make([]byte, 100)
	for range times {
		if _, err := from.WriteToUDPAddrPort([]byte(text), address); err != nil {
			return netip.AddrPort{}, false
		}
		_ = to.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
		for {
			n, source, err := to.ReadFromUDPAddrPort(buf)
			if err != nil {
				break
			}
			if string(buf[:n]) == text {
				return netip.AddrPortFrom(source.Addr().Unmap(), source.Port()), true
			}
		}
	}
	return netip.AddrPort{}, false
}

// behaviour is a NAT in the words of RFC 4787: what a mapping, and what the
// filter, depends on.
type behaviour struct {
	mapping, filtering string
	keepsPort          bool
}

const (
	independent    = "endpoint"
	byAddress      = "address"
	addressAndPort = "address and port"
	nothing        = "nothing gets out"
)

// classify finds out by packets alone (RFC 5780 §4.3, §4.4).
func (l *natLab) classify(in *net.UDPConn) (b behaviour) {
	l.t.Helper()
	var seen [2][2]netip.AddrPort
	// In this order, the filter lets in the first observer's first port alone
	// when it is asked.
	try := 20
	if l.nat.nat.kind == UDPBlocked {
		try = 3
	}
	first, ok := attempt(try, in, l.at(0, 0), l.sockets[0][0])
	if !ok {
		return behaviour{mapping: nothing, filtering: nothing}
	}
	samePort := !stopped(l.sockets[0][1], first, in)
	anybody := !stopped(l.sockets[1][0], first, in)
	switch {
	case anybody:
		b.filtering = independent
	case samePort:
		b.filtering = byAddress
	default:
		b.filtering = addressAndPort
	}
	if _, ok := delivered(l.sockets[0][0], first, in); !ok {
		l.t.Error("even an answer does not get in")
	}
	for i := range seen {
		for j := range seen[i] {
			if seen[i][j], ok = delivered(in, l.at(i, j), l.sockets[i][j]); !ok {
				l.t.Fatalf("nothing gets to %s", l.at(i, j))
			}
		}
	}
	switch {
	case seen[0][0] == seen[0][1] && seen[0][0] == seen[1][0]:
		b.mapping = independent
	case seen[0][0] == seen[0][1]:
		b.mapping = byAddress
	default:
		b.mapping = addressAndPort
	}
	b.keepsPort = seen[0][0].Port() == port(in)
	return b
}

func port(c *net.UDPConn) uint16 { return uint16(c.LocalAddr().(*net.UDPAddr).Port) }

// The lab is proved right before it judges the product.
func TestNATKinds(t *testing.T) {
	for _, c := range []struct {
		kind   NATKind
		nested bool
		want   behaviour
	}{
		{PortRestricted, false, behaviour{independent, addressAndPort, true}},
		{FullCone, false, behaviour{independent, independent, true}},
		{Symmetric, false, behaviour{addressAndPort, addressAndPort, false}},
		{Carrier, false, behaviour{independent, addressAndPort, false}},
		{UDPBlocked, false, behaviour{nothing, nothing, false}},
		{PortRestricted, true, behaviour{independent, addressAndPort, false}},
		{FullCone, true, behaviour{independent, addressAndPort, false}},
	} {
		t.Run(fmt.Sprintf("%s nested=%v", c.kind, c.nested), func(t *testing.T) {
			l := newNATLab(t, c.kind, c.nested)
			if got := l.classify(l.socket(l.inner, ":5000")); got != c.want {
				t.Errorf("it behaves as %+v, want %+v", got, c.want)
			}
		})
	}
}

// Two inside who use the same port each keep one public port of their own,
// whoever they speak to.
func TestCarrierKeepsHostsApart(t *testing.T) {
	l := newNATLab(t, Carrier, false)
	other := l.Host("other")
	other.Attach(l.home, 3)
	a, b := l.socket(l.inner, ":5000"), l.socket(other, ":5000")
	var seen [2]netip.AddrPort
	for i, in := range []*net.UDPConn{a, b} {
		for j := range 2 {
			from, ok := delivered(in, l.at(j, 0), l.sockets[j][0])
			if !ok || j > 0 && from != seen[i] {
				t.Errorf("host %d is seen as %v by one and %v by the other", i, seen[i], from)
			}
			seen[i] = from
		}
	}
	if seen[0] == seen[1] {
		t.Errorf("both hosts are %v", seen[0])
	}
}

// What comes to a NAT before the one inside sends to the same stranger must not
// cost the one inside its port: this is how two peers open to one another.
func TestNATKeepsItsPortForSimultaneousOpen(t *testing.T) {
	for _, kind := range []NATKind{PortRestricted, FullCone, Carrier} {
		t.Run(kind.String(), func(t *testing.T) {
			l := newNATLab(t, kind, false)
			in := l.socket(l.inner, ":5000")
			public, ok := delivered(in, l.at(0, 0), l.sockets[0][0])
			if !ok {
				t.Fatal("nothing gets out")
			}
			if in := !stopped(l.sockets[1][0], public, in); in != (kind == FullCone) {
				t.Errorf("a stranger's packet got in: %v", in)
			}
			if now, ok := delivered(in, l.at(1, 0), l.sockets[1][0]); !ok || now != public {
				t.Errorf("to the stranger it is %v, to the other it was %v", now, public)
			}
			if _, ok := delivered(l.sockets[1][0], public, in); !ok {
				t.Error("the stranger's answer does not get in")
			}
		})
	}
}

func TestRebindNAT(t *testing.T) {
	for _, kind := range []NATKind{PortRestricted, FullCone, Symmetric, Carrier} {
		t.Run(kind.String(), func(t *testing.T) {
			l := newNATLab(t, kind, false)
			in := l.socket(l.inner, ":5000")
			before, ok := delivered(in, l.at(0, 0), l.sockets[0][0])
			if !ok {
				t.Fatal("nothing gets out")
			}
			l.nat.RebindNAT()
			if !stopped(l.sockets[0][0], before, in) {
				t.Error("the old mapping still works")
			}
			after, ok := delivered(in, l.at(0, 0), l.sockets[0][0])
			if !ok || after == before {
				t.Errorf("it was %v and is %v, %v", before, after, ok)
			}
			if _, ok := delivered(l.sockets[0][0], after, in); !ok {
				t.Error("the new mapping does not work")
			}
		})
	}
}

func TestForgetNAT(t *testing.T) {
	for _, kind := range []NATKind{PortRestricted, FullCone, Symmetric, Carrier} {
		t.Run(kind.String(), func(t *testing.T) {
			l := newNATLab(t, kind, false)
			in := l.socket(l.inner, ":5000")
			before, ok := delivered(in, l.at(0, 0), l.sockets[0][0])
			if !ok {
				t.Fatal("nothing gets out")
			}
			l.nat.ForgetNAT()
			if !stopped(l.sockets[0][0], before, in) {
				t.Error("the old mapping still works")
			}
		})
	}
}

func TestUDPTimeout(t *testing.T) {
	for _, kind := range []NATKind{PortRestricted, FullCone, Symmetric, Carrier} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			l := newNATLab(t, kind, false)
			const timeout = 4 * time.Second
			l.nat.SetUDPTimeout(timeout)
			in := l.socket(l.inner, ":5000")
			public, ok := delivered(in, l.at(0, 0), l.sockets[0][0])
			if !ok {
				t.Fatal("nothing gets out")
			}
			for range 3 { // answers keep it, as most NATs have it
				time.Sleep(timeout / 3)
				if _, ok := delivered(l.sockets[0][0], public, in); !ok {
					t.Fatal("the mapping is gone before its time")
				}
			}
			time.Sleep(timeout + timeout/2)
			if !stopped(l.sockets[0][0], public, in) {
				t.Error("the mapping outlives its timeout")
			}
		})
	}
}

// A host that goes from one NAT to another is somebody else to the world.
func TestMoveBetweenNATs(t *testing.T) {
	l := newNATLab(t, PortRestricted, false)
	elsewhere := l.Switch("elsewhere", "192.168.1.0/24") // as homes are
	second := l.NAT("second", Symmetric)
	second.Attach(l.wan, 7)
	second.Attach(elsewhere, 1)
	in := l.socket(l.inner, ":5000")
	before, ok := delivered(in, l.at(0, 0), l.sockets[0][0])
	if !ok || before.Addr() != l.wan.Addr4(2) {
		t.Fatalf("behind the first NAT it is %v, %v", before, ok)
	}
	l.inner.links[0].Move(elsewhere, 2)
	after, ok := delivered(in, l.at(0, 0), l.sockets[0][0])
	if !ok || after.Addr() != l.wan.Addr4(7) {
		t.Errorf("behind the second NAT it is %v, %v", after, ok)
	}
}

func TestUDPBlockedLetsTCPOut(t *testing.T) {
	l := newNATLab(t, UDPBlocked, false)
	echo(t, l.observers[0], ":443")
	echo(t, l.observers[0], ":8443")
	c, err := l.inner.Dial(t.Context(), "tcp", netip.AddrPortFrom(l.wan.Addr4(3), 443).String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	dialer := l.inner.Command(t.Context(), "timeout", "1", "bash", "-c", "echo >/dev/tcp/51.1.0.3/8443")
	if err := dialer.Run(); err == nil {
		t.Error("TCP gets out to port 8443")
	}
}

func TestBlock(t *testing.T) {
	lab, client, router, server := twoLANs(t)
	_ = lab
	a := &natLab{t: t}
	from, to := a.socket(client, ":5000"), a.socket(server, ":5000")
	at := netip.MustParseAddrPort("10.2.0.2:5000")
	if _, ok := delivered(from, at, to); !ok {
		t.Fatal("nothing gets through")
	}
	router.Block("10.1.0.0/24", "10.2.0.0/24")
	if !stopped(from, at, to) {
		t.Error("a block blocks nothing")
	}
	if err := ping(t, client, "10.2.0.2"); err != nil {
		t.Errorf("more than UDP is blocked: %v", err)
	}
	router.Unblock()
	if _, ok := delivered(from, at, to); !ok {
		t.Error("the block is still there")
	}
}
