package routing

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	recpb "github.com/libp2p/go-libp2p-record/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"

	"scn.alt/scn/routing/network"
	"scn.alt/scn/routing/record"
)

// scripted is a transport whose dials do what the test says.
type scripted struct {
	transport.Transport
	dials int
	dial  func(ctx context.Context, n int) (transport.CapableConn, error)
}

// Dial implements transport.Transport.
func (s *scripted) Dial(ctx context.Context, _ ma.Multiaddr, _ peer.ID) (transport.CapableConn, error) {
	s.dials++
	return s.dial(ctx, s.dials)
}

// idleConn is a connection that can only be closed.
type idleConn struct {
	transport.CapableConn
	closed bool
}

// Close implements transport.CapableConn.
func (c *idleConn) Close() error { c.closed = true; return nil }

// As implements transport.CapableConn.
func (c *idleConn) As(any) bool { return false }

func TestDialsFollowMoves(t *testing.T) {
	unsendable := &quic.TransportError{ErrorCode: quic.InternalError, ErrorMessage: "network is unreachable"}
	refused := errors.New("refused")
	var early idleConn
	for _, tc := range []struct {
		name  string
		dial  func(ctx context.Context, e *era, n int) (transport.CapableConn, error)
		dials int
		err   error
	}{
		{"waiting for an answer to an address that is gone", func(ctx context.Context, e *era, n int) (transport.CapableConn, error) {
			if n > 1 {
				return &idleConn{}, nil
			}
			e.next()
			<-ctx.Done()
			return nil, ctx.Err()
		}, 2, nil},
		{"answered, partly, at an address that is gone", func(_ context.Context, e *era, n int) (transport.CapableConn, error) {
			if n > 1 {
				return &idleConn{}, nil
			}
			e.next()
			return &early, nil
		}, 2, nil},
		{"no route for a moment", func(_ context.Context, e *era, n int) (transport.CapableConn, error) {
			if n > 1 {
				return &idleConn{}, nil
			}
			e.next()
			return nil, unsendable
		}, 2, nil},
		{"no route in two eras", func(_ context.Context, e *era, n int) (transport.CapableConn, error) {
			if n == 2 {
				e.next()
			}
			if n > 3 {
				return &idleConn{}, nil
			}
			return nil, unsendable
		}, 4, nil},
		{"no route at all", func(context.Context, *era, int) (transport.CapableConn, error) {
			return nil, unsendable
		}, 2, unsendable},
		{"refused", func(context.Context, *era, int) (transport.CapableConn, error) {
			return nil, refused
		}, 1, refused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var e era
			inner := &scripted{dial: func(ctx context.Context, n int) (transport.CapableConn, error) { return tc.dial(ctx, &e, n) }}
			r := &roaming{Transport: inner, era: &e, sources: newSources()}
			to := dhtAddrs([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:7000")})[0]
			conn, err := r.Dial(t.Context(), to, "")
			if !errors.Is(err, tc.err) || (conn == nil) != (tc.err != nil) {
				t.Errorf("%v, %v; want error %v", conn, err, tc.err)
			}
			if inner.dials != tc.dials {
				t.Errorf("%d dials, want %d", inner.dials, tc.dials)
			}
		})
	}
	if !early.closed {
		t.Error("a connection the peer has with the old address is left open")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := &roaming{Transport: &scripted{dial: func(ctx context.Context, _ int) (transport.CapableConn, error) { return nil, ctx.Err() }}, era: new(era), sources: newSources()}
	if _, err := r.Dial(ctx, dhtAddrs([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:7000")})[0], ""); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A node whose routing table a move left with nobody in it still tells those it can
// reach where it is.
func TestPublishWithoutRoutingTable(t *testing.T) {
	w := newNetwork(t, 3, nil)
	node := w.nodes[2]
	for _, c := range node.host.Network().Conns() {
		_ = c.Close()
	}
	for _, p := range node.dht.RoutingTable().ListPeers() {
		node.dht.RoutingTable().RemovePeer(p)
	}
	receipt, err := node.PublishNode(t.Context(), node.addresses())
	if err != nil || receipt.Stored == 0 {
		t.Errorf("%+v, %v", receipt, err)
	}
}

// Lookups that wait for a dead node and have asked everybody else must not keep the
// next one from asking again.
func TestLookupAsksAgain(t *testing.T) {
	w := newNetwork(t, 4, nil)
	holder, dead, reader := w.nodes[0], w.nodes[2], w.nodes[3]
	dead.silent.Store(true)
	mover := testKey("mover")
	key, value := nodeKey(mover.Node()), sealNode(t, mover, 7, time.Now().Add(time.Minute))
	for range maxFlightsOfKey {
		if _, err := reader.fly(key, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(300 * time.Millisecond)
	if err := holder.values.Put(t.Context(), key, &recpb.Record{Key: []byte(key), Value: value}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for c, err := range reader.ResolveNode(t.Context(), mover.Node()) {
		if err != nil || c.Sequence != 7 {
			t.Fatalf("%+v, %v", c, err)
		}
		break
	}
	if took := time.Since(start); took > reader.cfg.RequestTimeout/2 {
		t.Errorf("found after %v", took)
	}
}

// Who is in touch with a node by other means finds the DHT through it, wherever its
// bootstrap nodes went.
func TestNeighboursShowTheWay(t *testing.T) {
	w := newNetwork(t, 1, nil)
	first := w.nodes[0]
	f := w.file
	f.Bootstrap = []network.Peer{{Node: first.self, Addresses: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))}}}
	f, err := f.Sign(w.founder)
	if err != nil {
		t.Fatal(err)
	}
	cfg := first.cfg
	cfg.Key, cfg.Network = testKey("guest"), f
	cfg.Listen = netip.AddrPortFrom(cfg.Listen.Addr(), freePort(t))
	cfg.Neighbours = func() []record.Candidate {
		return []record.Candidate{{Node: first.self, Locators: first.addresses()}}
	}
	guest := w.add(cfg)
	guest.Observe(guest.addresses())
	eventually(t, "the guest is in the DHT", func() bool { return guest.Status().Peers > 0 })
}
