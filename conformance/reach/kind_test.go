package reach

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"scn.alt/scn/conformance/netns"
)

func TestMain(m *testing.M) {
	Populate()
	netns.Main(m)
}

// plainWorld is an Internet without an overlay.
func plainWorld(t *testing.T) *World {
	t.Helper()
	w := &World{Lab: netns.Test(t)}
	w.Internet = w.Lab.Router("internet")
	w.core = w.Lab.Switch("core", "51.0.0.0/24")
	w.Internet.Attach(w.core, 1)
	return w
}

// puncher is a UDP socket behind some NAT that opens the way to another.
type puncher struct {
	*net.UDPConn
	public netip.AddrPort // as an observer sees it
}

func (w *World) puncher(t *testing.T, k Kind, name string) *puncher {
	t.Helper()
	a := w.Host(name, w.Place(k))
	c, err := a.Host.ListenPacket("udp4", ":47700")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &puncher{UDPConn: c.(*net.UDPConn)}
}

// observe asks the observer how it sees the socket.
func (p *puncher) observe(observer *net.UDPConn, at netip.AddrPort, tries int) {
	buf := make([]byte, 100)
	for range tries {
		_, _ = p.WriteToUDPAddrPort([]byte("who am I?"), at)
		_ = observer.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, from, err := observer.ReadFromUDPAddrPort(buf); err == nil {
			p.public = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
			return
		}
	}
}

// meets sends to the address it was told and answers wherever something came
// from, until something it sent was answered.
func (p *puncher) meets(peer netip.AddrPort) bool {
	if !peer.IsValid() {
		return false
	}
	buf := make([]byte, 100)
	targets := map[netip.AddrPort]bool{peer: true}
	for range 25 {
		for a := range targets {
			_, _ = p.WriteToUDPAddrPort([]byte("hello"), a)
		}
		deadline := time.Now().Add(40 * time.Millisecond)
		_ = p.SetReadDeadline(deadline)
		for {
			n, from, err := p.ReadFromUDPAddrPort(buf)
			if err != nil {
				break
			}
			from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
			targets[from] = true
			_, _ = p.WriteToUDPAddrPort([]byte("heard"), from)
			if string(buf[:n]) == "heard" {
				return true
			}
		}
	}
	return false
}

// The table of what theory allows is true of these NATs: plain UDP sockets that
// open to one another meet exactly where it says so.
func TestTheory(t *testing.T) {
	w := plainWorld(t)
	host := w.Lab.Host("observer")
	at := netip.AddrPortFrom(host.Attach(w.core, 2).Addr4(), 3478)
	c, err := host.ListenPacket("udp4", ":3478")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, a := range Kinds() {
		for j, b := range Kinds() {
			if j < i {
				continue
			}
			one := w.puncher(t, a, fmt.Sprintf("one%d-%d", i, j))
			two := w.puncher(t, b, fmt.Sprintf("two%d-%d", i, j))
			for p, k := range map[*puncher]Kind{one: a, two: b} {
				tries := 20
				if k == UDPBlocked {
					tries = 2
				}
				p.observe(c.(*net.UDPConn), at, tries)
			}
			met := make(chan bool, 2)
			go func() { met <- one.meets(two.public) }()
			go func() { met <- two.meets(one.public) }()
			first, second := <-met, <-met // one answer has gone both ways
			want, why := Direct(a, b)
			if got := first || second; got != want {
				t.Errorf("%s and %s meet: %v; theory says %v: %s", a, b, got, want, why)
			}
			if again, _ := Direct(b, a); again != want {
				t.Errorf("theory is not symmetric for %s and %s", a, b)
			}
		}
	}
}
