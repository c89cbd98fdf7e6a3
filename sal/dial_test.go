package sal

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal/saltest"
)

func TestDialErrors(t *testing.T) {
	r := &saltest.Resolver{}
	client := testNode(t, 1, r)
	denied := saltest.Key(101).Service()
	server := testNode(t, 2, r, func(c *Config) {
		c.Authorizer = func(_ identity.NodeID, s identity.ServiceID, _ uint16, _ record.Protocol) error {
			if s == denied {
				return errors.New("not for you")
			}
			return nil
		}
	})
	service := provide(r, 100, server)
	provide(r, 101, server)
	server.Handle(denied, echo)
	absent := provide(r, 102, server)
	if _, err := server.Listen(service, 1); err != nil {
		t.Fatal(err)
	}
	rejecting := provide(r, 103, server)
	rejections := make(chan error, 1)
	server.Handle(rejecting, func(_ context.Context, in *Incoming) { in.Reject(<-rejections) })
	silent := provide(r, 104, server)
	server.Handle(silent, func(context.Context, *Incoming) {})
	dead := saltest.Key(105).Service()
	r.SetService(dead, record.Candidate{Node: saltest.Key(5).Node(), Locators: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")}})

	for _, c := range []struct {
		name    string
		service identity.ServiceID
		port    uint16
		reject  error
		want    []error
	}{
		{"port nobody listens on", service, 2, nil, []error{ErrRefused, syscall.ECONNREFUSED}},
		{"not authorised", denied, 1, nil, []error{ErrNotAuthorized, syscall.EACCES}},
		{"provider does not have it", absent, 1, nil, []error{ErrUnknownService, syscall.EHOSTUNREACH}},
		{"nobody provides it", saltest.Key(200).Service(), 1, nil, []error{ErrNoProvider, syscall.EHOSTUNREACH}},
		{"target refuses", rejecting, 1, syscall.ECONNREFUSED, []error{ErrRefused, syscall.ECONNREFUSED}},
		{"target unreachable", rejecting, 1, &net.OpError{Err: syscall.EHOSTUNREACH}, []error{ErrTargetUnreachable, syscall.EHOSTUNREACH}},
		{"target times out", rejecting, 1, context.DeadlineExceeded, []error{ErrTargetTimeout, syscall.ETIMEDOUT}},
		{"over capacity", rejecting, 1, syscall.EMFILE, []error{ErrOverCapacity, syscall.EAGAIN}},
		{"draining", rejecting, 1, ErrDraining, []error{ErrDraining, syscall.EAGAIN}},
		{"handler decides nothing", silent, 1, nil, []error{ErrRefused}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.service == rejecting {
				rejections <- c.reject
			}
			_, err := client.Dial(timeoutContext(t, 20*time.Second), c.service, c.port)
			for _, want := range c.want {
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
			}
			var op *net.OpError
			if !errors.As(err, &op) || op.Op != "dial" {
				t.Errorf("%v is no net.OpError of a dial", err)
			}
		})
	}
	t.Run("deadline", func(t *testing.T) {
		_, err := client.Dial(timeoutContext(t, 300*time.Millisecond), dead, 1)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("resolver fails", func(t *testing.T) {
		boom := errors.New("boom")
		r.SetError(boom)
		defer r.SetError(nil)
		_, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1)
		if !errors.Is(err, boom) || !errors.Is(err, syscall.EHOSTUNREACH) || !errors.Is(err, ErrNoProvider) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		n := testNode(t, 9, r)
		n.Close()
		if _, err := n.Dial(t.Context(), service, 1); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
		if _, err := n.Listen(service, 1); !errors.Is(err, net.ErrClosed) {
			t.Errorf("listen: %v", err)
		}
	})
}

// TestUnreachableNode ends with an error of its own, not only the caller's deadline.
func TestUnreachableNode(t *testing.T) {
	r := &saltest.Resolver{}
	client := testNode(t, 1, r, func(c *Config) { c.HandshakeTimeout = 500 * time.Millisecond })
	node := saltest.Key(5).Node()
	r.SetNode(node, netip.MustParseAddrPort("127.0.0.1:9"))
	_, err := client.DialNode(timeoutContext(t, 20*time.Second), node, 1)
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("got %v", err)
	}
}

// TestOtherKey: the node at the address is not the one dialled.
func TestOtherKey(t *testing.T) {
	r := &saltest.Resolver{}
	client, server := testNode(t, 1, r), testNode(t, 2, r)
	other := saltest.Key(3).Node()
	r.SetNode(other, server.Locators()...)
	_, err := client.DialNode(timeoutContext(t, 20*time.Second), other, 1)
	if !errors.Is(err, ErrIdentity) {
		t.Errorf("got %v, want ErrIdentity", err)
	}
}

// TestAddressOfAnother: the first address is somebody else's, the next is right.
func TestAddressOfAnother(t *testing.T) {
	r := &saltest.Resolver{}
	client, other, server := testNode(t, 1, r), testNode(t, 2, r), testNode(t, 3, r)
	foreign := testNode(t, 4, r, func(c *Config) { c.Network = saltest.Key(998).Network() })
	service := saltest.Key(100).Service()
	server.Handle(service, echo)
	r.SetService(service, record.Candidate{Node: server.ID(), Locators: []netip.AddrPort{
		other.Locators()[0], foreign.Locators()[0], server.Locators()[0],
	}})
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c)
	c.Close()
}

func TestOtherNetwork(t *testing.T) {
	r := &saltest.Resolver{}
	client := testNode(t, 1, r)
	server := testNode(t, 2, r, func(c *Config) { c.Network = saltest.Key(998).Network() })
	_, err := client.DialNode(timeoutContext(t, 20*time.Second), server.ID(), 1)
	if !errors.Is(err, ErrNetwork) {
		t.Errorf("got %v, want ErrNetwork", err)
	}
}

func TestAdmit(t *testing.T) {
	r := &saltest.Resolver{}
	refuse := func(identity.NodeID) error { return errors.New("stranger") }
	client := testNode(t, 1, r)
	server := testNode(t, 2, r, func(c *Config) { c.Admit = refuse })
	service := provide(r, 100, server)
	server.Handle(service, echo)
	_, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1)
	if !errors.Is(err, ErrNotAdmitted) || !errors.Is(err, syscall.EACCES) {
		t.Errorf("dialled: %v", err)
	}
	r.SetService(service, record.Candidate{Node: client.ID()})
	_, err = server.Dial(timeoutContext(t, 20*time.Second), saltest.Key(77).Service(), 1)
	if !errors.Is(err, ErrNoProvider) {
		t.Errorf("unknown: %v", err)
	}
	_, err = server.DialNode(timeoutContext(t, 20*time.Second), client.ID(), 1)
	if !errors.Is(err, ErrNotAdmitted) {
		t.Errorf("dialling: %v", err)
	}
	if got := server.Metrics().NotAdmitted; got == 0 {
		t.Error("not counted")
	}
}

// TestNextProvider: a provider whose target is down is passed over.
func TestNextProvider(t *testing.T) {
	r := &saltest.Resolver{}
	client, down, up := testNode(t, 1, r), testNode(t, 2, r), testNode(t, 3, r)
	service := saltest.Key(100).Service()
	r.SetService(service, record.Candidate{Node: down.ID(), Priority: 1}, record.Candidate{Node: up.ID(), Priority: 2})
	var asked atomic.Int32
	down.Handle(service, func(_ context.Context, in *Incoming) { asked.Add(1); in.Reject(syscall.ECONNREFUSED) })
	up.Handle(service, echo)
	for range 10 {
		c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.RemoteAddr().(Addr).Node; got != up.ID() {
			t.Fatalf("accepted by %s", got)
		}
		exchange(t, c)
		c.Close()
	}
	if asked.Load() != 10 {
		t.Errorf("the better provider was asked %d times of 10", asked.Load())
	}
	up.Handle(service, func(_ context.Context, in *Incoming) { in.Reject(nil) })
	if _, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("all refuse: %v", err)
	}
}

// TestSlowProvider: the next one is tried beside it, and the loser is told.
func TestSlowProvider(t *testing.T) {
	r := &saltest.Resolver{}
	client, slow, quick := testNode(t, 1, r, func(c *Config) { c.Stagger = 30 * time.Millisecond }), testNode(t, 2, r), testNode(t, 3, r)
	service := saltest.Key(100).Service()
	r.SetService(service, record.Candidate{Node: slow.ID(), Priority: 1}, record.Candidate{Node: quick.ID(), Priority: 2})
	cancelled := make(chan error, 1)
	slow.Handle(service, func(ctx context.Context, in *Incoming) {
		<-ctx.Done()
		_, err := in.Accept()
		cancelled <- errors.Join(context.Cause(ctx), err)
	})
	quick.Handle(service, echo)
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.RemoteAddr().(Addr).Node; got != quick.ID() {
		t.Errorf("accepted by %s", got)
	}
	select {
	case err := <-cancelled:
		if !errors.Is(err, ErrAborted) {
			t.Errorf("loser's context: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the loser was not told")
	}
}

// TestWeights: they hold within 5 points over 1,000 sessions.
func TestWeights(t *testing.T) {
	r := &saltest.Resolver{}
	client := testNode(t, 1, r, func(c *Config) { c.Stagger = 5 * time.Second })
	a, b, never := testNode(t, 2, r), testNode(t, 3, r), testNode(t, 4, r)
	service := saltest.Key(100).Service()
	r.SetService(service,
		record.Candidate{Node: never.ID(), Priority: 2, Weight: 1000},
		record.Candidate{Node: a.ID(), Priority: 1, Weight: 70},
		record.Candidate{Node: b.ID(), Priority: 1, Weight: 30})
	for _, n := range []*Node{a, b, never} {
		n.Handle(service, echo)
	}
	count := map[identity.NodeID]int{}
	for range 1000 {
		c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
		if err != nil {
			t.Fatal(err)
		}
		count[c.RemoteAddr().(Addr).Node]++
		c.Close()
	}
	if got := count[a.ID()]; got < 650 || got > 750 {
		t.Errorf("weight 70 of 100 got %d sessions of 1000", got)
	}
	if got := count[never.ID()]; got != 0 {
		t.Errorf("the worse priority got %d sessions", got)
	}
}

// TestProviderDies: one of two providers vanishes without a word, with a running
// connection to it; new sessions succeed within a second.
func TestProviderDies(t *testing.T) {
	r := &saltest.Resolver{}
	client, alive := testNode(t, 1, r), testNode(t, 3, r)
	service := saltest.Key(100).Service()
	relay := newBlackHole(t)
	dying := testNode(t, 2, r)
	relay.forward(t, dying.Locators()[0])
	r.SetNode(dying.ID(), relay.addr())
	r.SetService(service, record.Candidate{Node: dying.ID(), Weight: 1}, record.Candidate{Node: alive.ID(), Priority: 1, Weight: 1})
	dying.Handle(service, echo)
	alive.Handle(service, echo)
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.RemoteAddr().(Addr).Node != dying.ID() {
		t.Skip("the relay is not the first choice")
	}
	exchange(t, c)
	relay.cut.Store(true)
	for i := range 20 {
		start := time.Now()
		c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		took := time.Since(start)
		if took > time.Second {
			t.Errorf("session %d took %s", i, took)
		}
		if i >= 2 && took > client.cfg.Stagger {
			t.Errorf("session %d still waited for the dead provider: %s", i, took)
		}
	}
}

// blackHole relays UDP between one client and one server until it is cut.
type blackHole struct {
	front *net.UDPConn
	cut   atomic.Bool
}

func newBlackHole(t *testing.T) *blackHole {
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return &blackHole{front: front}
}

func (b *blackHole) addr() netip.AddrPort { return b.front.LocalAddr().(*net.UDPAddr).AddrPort() }

func (b *blackHole) forward(t *testing.T, to netip.AddrPort) {
	back, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var client atomic.Pointer[net.UDPAddr]
	wg.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := b.front.ReadFromUDP(buf)
			if err != nil {
				return
			}
			client.Store(from)
			if !b.cut.Load() {
				_, _ = back.Write(buf[:n])
			}
		}
	})
	wg.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, err := back.Read(buf)
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				continue
			}
			if c := client.Load(); c != nil && !b.cut.Load() {
				_, _ = b.front.WriteToUDP(buf[:n], c)
			}
		}
	})
	t.Cleanup(func() { b.front.Close(); back.Close(); wg.Wait() })
}

func TestInProcess(t *testing.T) {
	r := &saltest.Resolver{}
	n := testNode(t, 1, r)
	service := saltest.Key(100).Service()
	n.Handle(service, echo)
	c, err := n.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c)
	c.Close()
	p, err := n.DialPacket(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, p)
	p.Close()
	if r.Asked() != 0 {
		t.Error("asked the resolver for a service of its own")
	}
	if got := n.Metrics().OpenConnections; got != 0 {
		t.Errorf("%d connections", got)
	}
}

func TestDialEarly(t *testing.T) {
	r := &saltest.Resolver{}
	client, server := testNode(t, 1, r), testNode(t, 2, r)
	service := provide(r, 100, server)
	release := make(chan error)
	server.Handle(service, func(ctx context.Context, in *Incoming) {
		if err := <-release; err != nil {
			in.Reject(err)
			return
		}
		echo(ctx, in)
	})
	for name, packet := range map[string]bool{"stream": false, "packet": true} {
		dial := func() net.Conn {
			t.Helper()
			if packet {
				c, err := client.DialPacketEarly(timeoutContext(t, 20*time.Second), service, 1)
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			c, err := client.DialEarly(timeoutContext(t, 20*time.Second), service, 1)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		t.Run(name+" accepted", func(t *testing.T) {
			c := dial()
			defer c.Close()
			if _, err := c.Write([]byte("early")); err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := c.Read(make([]byte, 5)); !isDeadline(err) {
				t.Fatalf("read before the answer: %v", err)
			}
			release <- nil
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			got := make([]byte, 5)
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "early" {
				t.Fatalf("read %q, %v", got, err)
			}
		})
		t.Run(name+" refused", func(t *testing.T) {
			c := dial()
			defer c.Close()
			if _, err := c.Write([]byte("early")); err != nil {
				t.Fatal(err)
			}
			release <- syscall.ECONNREFUSED
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.Read(make([]byte, 5)); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("read: %v", err)
			}
			if _, err := c.Write(make([]byte, 5)); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("write: %v", err)
			}
		})
	}
}

// TestDialAt: that very provider is asked, whatever the grants and the policy say, and
// the session has the nonce that the dialer wants, at both ends.
func TestDialAt(t *testing.T) {
	r := &saltest.Resolver{}
	first, second := testNode(t, 2, r), testNode(t, 3, r)
	client := testNode(t, 1, r, func(c *Config) {
		c.Policy = func(identity.ServiceID, []Choice) { t.Error("the policy was asked") }
	})
	service := saltest.Key(100).Service()
	r.SetService(service, record.Candidate{Node: first.ID()}, record.Candidate{Node: second.ID(), Priority: 1})
	seen := make(chan [32]byte, 4)
	for _, n := range []*Node{first, second} {
		n.Handle(service, func(_ context.Context, in *Incoming) {
			c, err := in.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			seen <- c.Nonce()
			_, _ = io.Copy(c, c)
		})
	}
	ctx := timeoutContext(t, 20*time.Second)
	for _, nonce := range [][32]byte{{1, 2, 3}, {}} {
		c, err := client.DialAt(ctx, candidate(second), service, 7, nonce)
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, c)
		if at := c.RemoteAddr().(Addr).Node; at != second.ID() {
			t.Errorf("at %s", at.Short())
		}
		theirs := <-seen
		if theirs != c.Nonce() || theirs == ([32]byte{}) || nonce != ([32]byte{}) && theirs != nonce {
			t.Errorf("nonce %x, the provider's %x, wanted %x", c.Nonce(), theirs, nonce)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
