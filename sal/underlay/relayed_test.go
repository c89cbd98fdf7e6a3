package underlay

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/path"
	"scn.alt/scn/sal/relay"
)

// triangle is two nodes that cannot reach each other, having no address family in
// common, and a relay that has both, at which both are registered.
type triangle struct {
	relay, left, right *peer
	l, r               *session // of left and right to the relay
	lr, rr             *session // the relay's to left and right
}

// fastLimits are above what loopback does.
var fastLimits = relay.Limits{PerNode: 20e9, Total: 20e9}

func newTriangle(tb testing.TB, limits relay.Limits) *triangle {
	tb.Helper()
	t := &triangle{
		relay: newPeer(tb, 'r', Config{AllowLoopback: true, Relay: &limits}, true),
		left:  newPeer(tb, 'a', Config{AllowLoopback: true, Listen: netip.MustParseAddrPort("127.0.0.1:0")}, true),
		right: newPeer(tb, 'b', Config{AllowLoopback: true, Listen: netip.MustParseAddrPort("[::1]:0")}, true),
	}
	t.l, t.lr = connect(tb, t.left, t.relay, loopback(t.relay.Port()))
	t.r, t.rr = connect(tb, t.right, t.relay, loopback6(t.relay.Port()))
	register(tb, t.l, t.lr)
	register(tb, t.r, t.rr)
	return t
}

// register does what sal does in a session.
func register(tb testing.TB, node, atRelay *session) {
	tb.Helper()
	token, err := atRelay.a.GrantRelay()
	if err != nil {
		tb.Fatal(err)
	}
	if err := node.a.UseRelay(token); err != nil {
		tb.Fatal(err)
	}
}

// through is the address of a peer by way of a relay.
func through(relay, to *peer) netip.AddrPort { return path.RelayRemote(relay.node, to.node) }

func TestRelayedConnection(t *testing.T) {
	for _, retry := range []bool{false, true} {
		name := "plain"
		if retry {
			name = "retry"
		}
		t.Run(name, func(t *testing.T) {
			w := newTriangle(t, fastLimits)
			var asked atomic.Int32
			if retry {
				// The token in the Retry is bound to the address that stands for the way.
				w.right.ln.Close()
				w.right.tr.VerifySourceAddress = func(net.Addr) bool { asked.Add(1); return true }
				var err error
				if w.right.ln, err = w.right.tr.Listen(w.right.tls, testQUIC()); err != nil {
					t.Fatal(err)
				}
			}
			c, s := connect(t, w.left, w.right, through(w.relay, w.right))
			settle(t, c, s)
			transfer(t, c, s, 8<<20)
			transfer(t, s, c, 8<<20)
			for _, x := range []*session{c, s} {
				i := x.a.Info()
				if i.Relay != w.relay.node || i.Lost || !path.IsRelayed(i.Remote) || i.Tunnelled {
					t.Errorf("%+v", i)
				}
			}
			if retry && asked.Load() == 0 {
				t.Error("no Retry was sent")
			}
			m := w.relay.Metrics()
			if m.Relay.Forwarded < 10000 || m.Relay.Registrations != 2 || m.Relay.DroppedBusy > m.Relay.Forwarded/100 {
				t.Errorf("%+v", m.Relay)
			}
			if w.left.Metrics().RelayedSent < 5000 || w.right.Metrics().RelayedReceived < 5000 {
				t.Errorf("left %+v, right %+v", w.left.Metrics(), w.right.Metrics())
			}
			eventually(t, "all that was forwarded arrived", func() bool {
				return w.relay.Metrics().Relay.Forwarded == w.left.Metrics().RelayedReceived+w.right.Metrics().RelayedReceived
			})
		})
	}
}

// TestRelayIsAPeerToo has a node talk to its relay while it talks through it.
func TestRelayIsAPeerToo(t *testing.T) {
	w := newTriangle(t, fastLimits)
	c, s := connect(t, w.left, w.right, through(w.relay, w.right))
	done := make(chan time.Duration, 1)
	go func() { done <- transfer(t, w.l, w.lr, 4<<20) }()
	transfer(t, c, s, 4<<20)
	<-done
}

func TestDropRelay(t *testing.T) {
	w := newTriangle(t, fastLimits)
	c, s := connect(t, w.left, w.right, through(w.relay, w.right))
	settle(t, c, s)
	w.l.a.DropRelay()
	echoLost(t, c)
	token, err := w.lr.a.GrantRelay()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.l.a.UseRelay(token); err != nil {
		t.Fatal(err)
	}
	transfer(t, c, s, 1<<20)
	if i := c.a.Info(); i.Lost {
		t.Errorf("%+v", i)
	}
	// What the relay revokes ends too, and is told.
	w.rr.a.RevokeRelay()
	echoLost(t, c)
	if m := w.relay.Metrics().Relay; m.DroppedUnknown == 0 || m.Registrations != 1 {
		t.Errorf("%+v", m)
	}
}

// echoLost sends until the association knows that nothing comes back.
func echoLost(t *testing.T, c *session) {
	t.Helper()
	st, err := c.OpenStream() // transfer uses those of one direction
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "path lost", func() bool {
		if _, err := st.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		return c.a.Info().Lost
	})
}

func TestGrantRelay(t *testing.T) {
	plain := newPeer(t, 'p', Config{AllowLoopback: true}, true)
	node := newPeer(t, 'n', Config{AllowLoopback: true}, false)
	_, s := connect(t, node, plain, loopback(plain.Port()))
	if _, err := s.a.GrantRelay(); !errors.Is(err, ErrNoRelay) {
		t.Errorf("by a node that is no relay: %v", err)
	}
	w := newTriangle(t, relay.Limits{Registrations: 2})
	third := newPeer(t, 'c', Config{AllowLoopback: true}, false)
	c, cr := connect(t, third, w.relay, loopback(w.relay.Port()))
	if _, err := cr.a.GrantRelay(); !errors.Is(err, relay.ErrFull) {
		t.Errorf("a third: %v", err)
	}
	w.rr.a.Close()
	token, err := cr.a.GrantRelay()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.a.UseRelay(token); err != nil {
		t.Fatal(err)
	}
	cr.a.Close()
	if _, err := cr.a.GrantRelay(); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
	if n := w.relay.Metrics().Relay.Registrations; n != 1 {
		t.Errorf("%d registered", n)
	}
	c.a.Close()
	if third.ways.by(headOf(w.relay.node)) != nil {
		t.Error("a closed association is still a way")
	}
	if err := c.a.UseRelay(token); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

func TestUnknownDestination(t *testing.T) {
	told := make(chan [2]any, 100)
	r := newPeer(t, 'r', Config{AllowLoopback: true, Relay: &relay.Limits{}, RelayUnknown: func(from identity.NodeID, to [8]byte) {
		told <- [2]any{from, to}
	}}, true)
	n := newPeer(t, 'n', Config{AllowLoopback: true}, false)
	c, s := connect(t, n, r, loopback(r.Port()))
	register(t, c, s)
	nobody := identity.NodeID{1, 2, 3, 4, 5, 6, 7, 8}
	a, err := n.Dial(nobody, []netip.AddrPort{path.RelayRemote(r.node, nobody)})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		a.write(shortHeader(1, 100), 0, 0)
	}
	select {
	case got := <-told:
		if got != [2]any{n.node, [8]byte(nobody[:8])} {
			t.Errorf("told %v", got)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("not told")
	}
	eventually(t, "all dropped", func() bool { return r.Metrics().Relay.DroppedUnknown >= 20 })
	if len(told) != 0 {
		t.Errorf("told %d times more", len(told))
	}
}

// TestSprayOrder has the best address and the best relay tried at once, whatever stands
// between them and whenever they become known.
func TestSprayOrder(t *testing.T) {
	s := open(t, Config{})
	node := identity.NodeID{7}
	relays := []netip.AddrPort{path.RelayRemote(identity.NodeID{1}, node), path.RelayRemote(identity.NodeID{2}, node)}
	direct := []netip.AddrPort{loopback(1), loopback(2), loopback(3)}
	order := func(p *spray) (first, all []netip.AddrPort) {
		whole, _, _ := p.targets()
		for _, r := range whole {
			first = append(first, r.path.Remote)
		}
		for _, r := range p.routes {
			all = append(all, r.path.Remote)
		}
		return first, all
	}
	for _, tc := range []struct {
		name       string
		steps      [][]netip.AddrPort
		first, all []netip.AddrPort
	}{
		{"direct only", [][]netip.AddrPort{direct}, direct[:1], direct},
		{"relays only", [][]netip.AddrPort{relays}, relays[:1], relays},
		{
			"relays last",
			[][]netip.AddrPort{{direct[0], direct[1], relays[0], relays[1]}},
			[]netip.AddrPort{direct[0], relays[0]},
			[]netip.AddrPort{direct[0], relays[0], direct[1], relays[1]},
		},
		{
			"relays first",
			[][]netip.AddrPort{{relays[0], relays[1], direct[0]}},
			[]netip.AddrPort{direct[0], relays[0]},
			[]netip.AddrPort{direct[0], relays[0], relays[1]},
		},
		{
			"a relay, then the rest",
			[][]netip.AddrPort{{relays[0]}, {direct[0], direct[1]}},
			[]netip.AddrPort{direct[0], relays[0]},
			[]netip.AddrPort{direct[0], relays[0], direct[1]},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var p spray
			for _, list := range tc.steps {
				p.replace(s, list)
			}
			if first, all := order(&p); !slices.Equal(first, tc.first) || !slices.Equal(all, tc.all) {
				t.Errorf("first %v of %v", first, all)
			}
		})
	}
	// A relay that becomes known later is next.
	var p spray
	p.replace(s, direct)
	p.targets()
	p.replace(s, []netip.AddrPort{direct[0], relays[0]})
	to, _ := p.advance(s)
	if len(to) != 1 || to[0].path.Remote != relays[0] {
		t.Errorf("next is %v", to)
	}
}

// TestDialBeforeRegistration dials through a relay at which this node registers only
// then: what was said so far is said again at once.
func TestDialBeforeRegistration(t *testing.T) {
	w := newTriangle(t, fastLimits)
	w.l.a.DropRelay()
	done := make(chan *session, 1)
	go func() { done <- w.right.accept(t, w.left) }()
	connected := make(chan struct{})
	go func() {
		defer close(connected)
		w.left.dial(t, w.right, through(w.relay, w.right))
	}()
	eventually(t, "dialled in vain", func() bool { return w.left.Metrics().SendErrors > 0 })
	before := w.left.Metrics()
	register(t, w.l, w.lr)
	eventually(t, "said again", func() bool {
		m := w.left.Metrics()
		return m.Sprayed > before.Sprayed && m.RelayedSent > 0
	})
	<-connected
	if s := <-done; s == nil || s.a.Info().Relay != w.relay.node {
		t.Error("not connected through the relay")
	}
}
