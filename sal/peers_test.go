package sal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/saltest"
)

// eventually waits until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func openLinks(n *Node) int { return n.Metrics().OpenConnections }

// TestOneConnection: sessions of both directions share one connection.
func TestOneConnection(t *testing.T) {
	client, server, service := testPair(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			exchange(t, c)
		})
	}
	wg.Wait()
	mine := saltest.Key(300).Service()
	client.Handle(mine, echo)
	server.cfg.Resolver.(*saltest.Resolver).SetService(mine, candidate(client))
	c, err := server.Dial(timeoutContext(t, 20*time.Second), mine, 80)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c)
	c.Close()
	if a, b := openLinks(client), openLinks(server); a != 1 || b != 1 {
		t.Errorf("%d and %d connections", a, b)
	}
	peers := client.Peers()
	if len(peers) != 1 || peers[0].Node != server.ID() || !peers[0].Remote.IsValid() || peers[0].RTT <= 0 {
		t.Errorf("peers %+v", peers)
	}
}

// TestSimultaneousDial: both dial at once, again and again; no session is lost, and
// one connection remains: that of the lower node ID.
func TestSimultaneousDial(t *testing.T) {
	for round := range 5 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			r := &saltest.Resolver{}
			quick := func(c *Config) { c.drainGrace = 100 * time.Millisecond }
			nodes := [2]*Node{testNode(t, 1, r, quick), testNode(t, 2, r, quick)}
			var conns [2][]*Conn
			var wg sync.WaitGroup
			start := make(chan struct{})
			for i, n := range nodes {
				service := saltest.Key(100 + i).Service()
				n.Handle(service, echo)
				r.SetService(service, candidate(n))
			}
			for i, n := range nodes {
				conns[i] = make([]*Conn, 4)
				for j := range conns[i] {
					wg.Go(func() {
						<-start
						time.Sleep(time.Duration(j*round) * time.Millisecond / 2)
						c, err := n.Dial(timeoutContext(t, 20*time.Second), saltest.Key(101-i).Service(), 80)
						if err != nil {
							t.Error(err)
							return
						}
						conns[i][j] = c
					})
				}
			}
			close(start)
			wg.Wait()
			if t.Failed() {
				return
			}
			for _, c := range append(conns[0], conns[1]...) {
				exchange(t, c)
			}
			time.Sleep(300 * time.Millisecond)
			for _, c := range append(conns[0], conns[1]...) {
				exchange(t, c)
				c.Close()
			}
			eventually(t, "one connection", func() bool { return openLinks(nodes[0]) == 1 && openLinks(nodes[1]) == 1 })
			lower := 0
			if nodes[1].ID().Compare(nodes[0].ID()) < 0 {
				lower = 1
			}
			a, b := nodes[lower].allLinks(), nodes[1-lower].allLinks()
			if nodes[lower].Metrics().Connections > 1 && (len(a) != 1 || len(b) != 1 || !a[0].initiator || b[0].initiator) {
				t.Error("the connection that remains was not dialled by the lower node ID")
			}
		})
	}
}

func TestIdleConnectionCloses(t *testing.T) {
	r := &saltest.Resolver{}
	quick := func(c *Config) { c.IdleTimeout = 150 * time.Millisecond }
	client, server := testNode(t, 1, r, quick), testNode(t, 2, r)
	service := provide(r, 100, server)
	server.Handle(service, echo)
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	exchange(t, c) // an open session keeps it
	c.Close()
	eventually(t, "idle connections are closed", func() bool { return openLinks(client) == 0 && openLinks(server) == 0 })
	c, err = client.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c)
	c.Close()
}

// restart closes a node without a word to anybody and opens it again.
func restart(t *testing.T, n *Node, i int, r *saltest.Resolver) *Node {
	t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), n.Locators()[0].Port())
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.cancel()
	_ = n.transport.Close() // without CONNECTION_CLOSE, as a crash
	_ = n.carrier.close()
	n.loops.abort()
	n.wg.Wait()
	return testNode(t, i, r, func(c *Config) { c.Listen = at })
}

// TestProviderRestarts: its clients' connections end within round trips, not after
// a timeout, and new sessions work at once.
func TestProviderRestarts(t *testing.T) {
	r := &saltest.Resolver{}
	client, server := testNode(t, 1, r), testNode(t, 2, r)
	service := provide(r, 100, server)
	server.Handle(service, echo)
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c)
	server = restart(t, server, 2, r)
	service = provide(r, 100, server)
	server.Handle(service, echo)

	start := time.Now()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write([]byte("anybody there?")); err == nil {
		_, err = c.Read(make([]byte, 1))
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v, want ECONNRESET", err)
		}
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %s", took)
	} else {
		t.Logf("noticed after %s", took)
	}
	c, err = client.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c)
	c.Close()
}

// TestDialAfterRestart: a dial over a connection whose peer has restarted is made
// again on a new one without the caller noticing.
func TestDialAfterRestart(t *testing.T) {
	r := &saltest.Resolver{}
	client, server := testNode(t, 1, r), testNode(t, 2, r)
	service := provide(r, 100, server)
	server.Handle(service, echo)
	for range 3 {
		c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, c)
		c.Close()
		server = restart(t, server, 2, r)
		service = provide(r, 100, server)
		server.Handle(service, echo)
	}
}

// TestClientRestarts: the new life's hello ends what is left of the old one.
func TestClientRestarts(t *testing.T) {
	for _, ids := range [][2]int{{1, 2}, {2, 1}} {
		r := &saltest.Resolver{}
		client, server := testNode(t, ids[0], r), testNode(t, ids[1], r)
		accepted := make(chan *Conn, 10)
		service := provide(r, 100, server)
		server.Handle(service, func(_ context.Context, in *Incoming) {
			if c, err := in.Accept(); err == nil {
				accepted <- c
			}
		})
		dial := func() {
			if _, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80); err != nil {
				t.Fatal(err)
			}
		}
		dial()
		old := <-accepted
		client = restart(t, client, ids[0], r)
		dial()
		fresh := <-accepted
		_ = old.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := old.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("old session: %v, want ECONNRESET", err)
		}
		if _, err := fresh.Write([]byte("x")); err != nil {
			t.Errorf("new session: %v", err)
		}
		eventually(t, "one connection", func() bool { return openLinks(server) == 1 })
	}
}

func TestCloseEndsEverything(t *testing.T) {
	client, server, service := testPair(t)
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	l, err := server.Listen(service, 1)
	if err != nil {
		t.Fatal(err)
	}
	accept := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accept <- err
	}()
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-accept; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v", err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("write after the node was closed")
	}
}

func TestPing(t *testing.T) {
	r := &saltest.Resolver{}
	client, server := testNode(t, 1, r), testNode(t, 2, r)
	service := provide(r, 100, server)
	absent := provide(r, 101, server)
	server.Handle(service, echo)
	rtt, peer, err := client.Ping(timeoutContext(t, 20*time.Second), service)
	if err != nil || peer != server.ID() || rtt <= 0 || rtt > 5*time.Second {
		t.Errorf("%s from %s, %v", rtt, peer.Short(), err)
	}
	if _, _, err := client.Ping(timeoutContext(t, 20*time.Second), absent); !errors.Is(err, ErrUnknownService) {
		t.Errorf("unknown service: %v", err)
	}
	if _, peer, err := server.Ping(timeoutContext(t, 20*time.Second), service); err != nil || peer != server.ID() {
		t.Errorf("own service: %v", err)
	}
	r.SetService(identity.ServiceOf(server.ID()), candidate(server))
	if _, _, err := client.Ping(timeoutContext(t, 20*time.Second), identity.ServiceOf(server.ID())); err != nil {
		t.Errorf("a node itself: %v", err)
	}
}

func TestClockOffset(t *testing.T) {
	r := &saltest.Resolver{}
	client := testNode(t, 1, r)
	for i, ahead := range []time.Duration{time.Hour, time.Hour + time.Second, -1000 * time.Hour} {
		server := testNode(t, 2+i, r, func(c *Config) {
			c.Clock = func() time.Time { return time.Now().Add(ahead) }
			c.Hello = []byte("greetings")
		})
		service := provide(r, 100+i, server)
		server.Handle(service, echo)
		c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		eventually(t, "hello", func() bool { _, n := client.ClockOffset(); return n == i+1 })
	}
	for _, p := range client.Peers() {
		if string(p.Hello) != "greetings" {
			t.Errorf("peer's hello %q", p.Hello)
		}
	}
	got, n := client.ClockOffset()
	if d := got - time.Hour; d < -time.Second || d > time.Second || n != 3 {
		t.Errorf("offset %s of %d peers", got, n)
	}
}

// TestCloseDelivers: what was written to a session that was closed arrives, though
// the node is closed right after.
func TestCloseDelivers(t *testing.T) {
	r := &saltest.Resolver{}
	client, server := testNode(t, 1, r), testNode(t, 2, r)
	service := provide(r, 100, server)
	got := make(chan int, 1)
	server.Handle(service, func(_ context.Context, in *Incoming) {
		c, err := in.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b, _ := io.ReadAll(c)
		got <- len(b)
	})
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	client.Close()
	if n := <-got; n != 1<<20 {
		t.Errorf("%d bytes arrived", n)
	}
}

func TestReadmit(t *testing.T) {
	r := &saltest.Resolver{}
	var excluded atomic.Bool
	client := testNode(t, 1, r)
	server := testNode(t, 2, r, func(c *Config) {
		c.Admit = func(identity.NodeID) error {
			if excluded.Load() {
				return errors.New("excluded")
			}
			return nil
		}
	})
	service := provide(r, 100, server)
	server.Handle(service, echo)
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1)
	if err != nil {
		t.Fatal(err)
	}
	server.Readmit()
	exchange(t, c)
	excluded.Store(true)
	server.Readmit()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.EACCES) {
		t.Errorf("session of an excluded node: %v", err)
	}
}
