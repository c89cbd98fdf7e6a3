package routing

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
)

// testKey returns a key that is the same in every run.
func testKey(parts ...any) identity.PrivateKey {
	return identity.NewKeyFromSeed(sha256.Sum256([]byte(fmt.Sprint(parts...))))
}

// testNode is a node of a testNetwork.
type testNode struct {
	*Router
	cfg    Config
	silent atomic.Bool // everything to and from it is lost
	stop   func()
}

// addresses are where the node is: on loopback, on the port it listens on.
func (n *testNode) addresses() []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), n.cfg.Listen.Port())}
}

// testNetwork is a network of real nodes on loopback.
type testNetwork struct {
	t       *testing.T
	founder identity.PrivateKey
	file    network.File
	nodes   []*testNode
}

// freePort returns a port whose successor is free for a DHT to bind.
func freePort(t *testing.T) uint16 {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port() - 1
}

// newNetwork starts n nodes, of which the first two are bootstrap nodes and the
// first is the authority, and waits until all are in the DHT and have published
// where they are. Adjust may change each node's configuration.
func newNetwork(t *testing.T, n int, adjust func(i int, cfg *Config)) *testNetwork {
	t.Helper()
	w := &testNetwork{t: t, founder: testKey("founder")}
	var configs []Config
	request := 2 * time.Second
	if raceEnabled {
		request = 5 * time.Second
	}
	for i := range n {
		configs = append(configs, Config{
			Key:           testKey("node", i),
			Listen:        netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t)),
			AllowLoopback: true, RequestTimeout: request, LookupTimeout: 3 * request,
			retry: 100 * time.Millisecond,
		})
	}
	f := network.File{
		Name: "test", Sequence: 1, Zone: "top", Admission: network.Open,
		Authorities: []identity.NodeID{configs[0].Key.Node()},
	}
	for _, c := range configs[:min(2, n)] {
		f.Bootstrap = append(f.Bootstrap, network.Peer{Node: c.Key.Node(), Addresses: []netip.AddrPort{c.Listen}})
	}
	var err error
	if w.file, err = f.Sign(w.founder); err != nil {
		t.Fatal(err)
	}
	for i, c := range configs {
		c.Network = w.file
		if adjust != nil {
			adjust(i, &c)
		}
		node := w.add(c)
		node.Observe(node.addresses())
		if i > 0 && i%4 == 0 {
			// A storm of handshakes among many nodes outlasts every timeout on a slow
			// machine.
			eventually(t, fmt.Sprintf("node %d found a peer", i), func() bool { return node.Status().Peers > 0 })
		}
	}
	var wg sync.WaitGroup
	for i, node := range w.nodes {
		wg.Go(func() {
			eventually(t, fmt.Sprintf("node %d is in the network", i), func() bool {
				return n == 1 || node.Status().Peers >= min(n-1, 4)
			})
			if n > 1 && !node.cfg.Mobile {
				node.publish(t)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return w
}

func (n *testNode) publish(t *testing.T) {
	t.Helper()
	eventually(t, "the node's record is stored", func() bool {
		_, err := n.PublishNode(t.Context(), n.addresses())
		return err == nil
	})
}

// add starts a node.
func (w *testNetwork) add(cfg Config) *testNode {
	w.t.Helper()
	node := &testNode{cfg: cfg}
	if os.Getenv("ROUTING_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", cfg.Key.Node().Short())
	}
	cfg.silence = node.silent.Load
	var err error
	if node.Router, err = Open(cfg); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := node.Run(ctx); err != nil {
			w.t.Errorf("run: %v", err)
		}
	})
	node.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := node.Close(); err != nil {
			w.t.Errorf("close: %v", err)
		}
	})
	w.nodes = append(w.nodes, node)
	w.t.Cleanup(node.stop)
	return node
}

// eventually waits for a condition, long enough for a busy machine.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("not in time: %s", what)
			return
		}
	}
}
