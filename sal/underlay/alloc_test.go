package underlay

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/path"
)

// bare returns a client association on a socket without a transport, with its
// route set as after the first answer, and a connection ID of its own.
func bare(tb testing.TB, s *Socket, to netip.AddrPort) (*Association, uint64) {
	tb.Helper()
	a, err := s.Dial(identity.NodeID{1}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	a.route.Store(s.newRoute(path.Route{Remote: to}, unknownMTU))
	s.table.prove(a, to)
	id, err := s.ids.GenerateConnectionID()
	if err != nil {
		tb.Fatal(err)
	}
	cid, _ := destination(append([]byte{headerFixedBit}, id.Bytes()...))
	s.table.learn(cid, a)
	return a, cid
}

// shortHeader makes a datagram that looks like a 1-RTT packet.
func shortHeader(cid uint64, n int) []byte {
	b := make([]byte, n)
	b[0] = headerFixedBit
	for i := range connectionIDLen {
		b[1+i] = byte(cid >> (8 * (connectionIDLen - 1 - i)))
	}
	return b
}

func open(tb testing.TB, cfg Config) *Socket {
	tb.Helper()
	cfg.AllowLoopback = true
	s, err := Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

func messages(n int) []ipv4.Message {
	ms := make([]ipv4.Message, n)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, 1452)}
		ms[i].OOB = make([]byte, 128)
	}
	return ms
}

// allocatesNothing fails if f allocates. The race detector makes sync.Pool forget at
// random, and a socket just opened reads this host's addresses beside us.
func allocatesNothing(t *testing.T, f func()) {
	t.Helper()
	n := 1.0
	for i := 0; i < 20 && n != 0; i++ {
		n = testing.AllocsPerRun(200, f)
	}
	if n != 0 && !raceEnabled {
		t.Errorf("%v allocations per run", n)
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	for _, tc := range []struct {
		name      string
		segment   int
		mtu       int
		disabled  bool
		datagrams int
	}{
		{"one datagram", 0, 1500, false, 1},
		{"batch", 1400, 1500, false, 8},
		{"batch without GRO", 1400, 1500, true, 8},
		{"cut batch", 1400, 1280, false, 8},
	} {
		t.Run(tc.name, func(t *testing.T) {
			to := open(t, Config{disableGRO: tc.disabled})
			from := open(t, Config{})
			sender, _ := bare(t, from, loopback(to.Port()))
			sender.route.Load().limit.Store(int32(tc.mtu - headerIPv4))
			_, cid := bare(t, to, loopback(from.Port()))
			size := 1400 * tc.datagrams
			b := make([]byte, 0, size)
			for range tc.datagrams {
				b = append(b, shortHeader(cid, 1400)...)
			}
			oob := appendECN(nil, false, 2)
			if tc.segment > 0 {
				oob = appendSegment(oob, tc.segment)
			}
			ms := messages(8)
			to.SetReadDeadline(time.Now().Add(20 * time.Second))
			got := 0
			cycle := func() {
				if _, _, err := from.WriteMsgUDP(b, oob, sender.addr); err != nil {
					t.Fatal(err)
				}
				for got = 0; got < tc.datagrams; {
					n, err := to.ReadBatch(ms, 0)
					if err != nil {
						t.Fatal(err)
					}
					for _, m := range ms[:n] {
						if m.N != 1400 || m.NN == 0 || parseAncillary(m.OOB[:m.NN]).ecn != 2 {
							t.Fatalf("got %d bytes, control %x", m.N, m.OOB[:m.NN])
						}
					}
					got += n
				}
			}
			cycle()
			allocatesNothing(t, cycle)
			if m := to.Metrics(); tc.mtu < 1400 && m.Joined == 0 {
				t.Errorf("nothing was joined: %+v", m)
			}
		})
	}
}

// bound makes the association of a node as if its path were settled: on a socket
// without a transport nothing else is needed to send and to be believed.
func bound(tb testing.TB, s *Socket, node identity.NodeID, to netip.AddrPort) *Association {
	tb.Helper()
	a, err := s.Dial(node, nil)
	if err != nil {
		tb.Fatal(err)
	}
	a.route.Store(s.newRoute(path.Route{Remote: to}, unknownMTU))
	s.table.prove(a, to)
	a.bound.Store(true)
	return a
}

// serve reads a socket that hands nothing up.
func serve(tb testing.TB, s *Socket) {
	tb.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ms := messages(8); ; {
			if _, err := s.ReadBatch(ms, 0); err != nil {
				return
			}
		}
	}()
	tb.Cleanup(func() { s.Close(); <-done })
}

// bareTriangle is two sockets and a relay without transports. It returns what the left
// one sends to the right one by, and a connection ID of the right one's.
func bareTriangle(tb testing.TB, relayConfig, rightConfig Config) (left, relayed, right *Socket, way *Association, cid uint64) {
	tb.Helper()
	l, m, r := identity.NodeID{1}, identity.NodeID{2}, identity.NodeID{3}
	left, relayed, right = open(tb, Config{}), open(tb, relayConfig), open(tb, rightConfig)
	serve(tb, relayed)
	for _, x := range []struct {
		s    *Socket
		node identity.NodeID
	}{{left, l}, {right, r}} {
		token, err := bound(tb, relayed, x.node, loopback(x.s.Port())).GrantRelay()
		if err != nil {
			tb.Fatal(err)
		}
		if err := bound(tb, x.s, m, loopback(relayed.Port())).UseRelay(token); err != nil {
			tb.Fatal(err)
		}
	}
	_, cid = bare(tb, right, path.RelayRemote(m, l))
	return left, relayed, right, bound(tb, left, r, path.RelayRemote(m, r)), cid
}

func TestRelayingAllocatesNothing(t *testing.T) {
	for _, tc := range []struct {
		name      string
		segment   int
		mtu       int // of both legs
		disabled  bool
		datagrams int
	}{
		{"one datagram", 0, 1500, false, 1},
		{"batch", 1400, 1500, false, 14},
		{"batch without GRO", 1400, 1500, true, 14},
		{"cut batch", 1400, 1280, false, 14},
	} {
		t.Run(tc.name, func(t *testing.T) {
			left, relayed, right, way, cid := bareTriangle(t, Config{Relay: &fastLimits, disableGRO: tc.disabled}, Config{disableGRO: tc.disabled})
			for _, s := range []*Socket{left, relayed} {
				s.table.each(func(a *Association) {
					if r := a.route.Load(); !r.relayed {
						r.limit.Store(int32(tc.mtu - headerIPv4))
					}
				})
			}
			var b []byte
			for i := range tc.datagrams {
				b = append(b, shortHeader(cid, 1400)...)
				b[1400*i+100] = byte(i)
			}
			oob := appendECN(nil, false, 2)
			if tc.segment > 0 {
				oob = appendSegment(oob, tc.segment)
			}
			ms := messages(8)
			right.SetReadDeadline(time.Now().Add(60 * time.Second))
			allocatesNothing(t, func() {
				if _, _, err := left.WriteMsgUDP(b, oob, way.addr); err != nil {
					t.Fatal(err)
				}
				for got := 0; got < tc.datagrams; {
					n, err := right.ReadBatch(ms, 0)
					if err != nil {
						t.Fatalf("%v, relay %+v", err, relayed.Metrics())
					}
					for i, m := range ms[:n] {
						if m.N != 1400 || parseAncillary(m.OOB[:m.NN]).ecn != 2 || m.Buffers[0][100] != byte(got+i) {
							t.Fatalf("got %d bytes, control %x, number %d", m.N, m.OOB[:m.NN], m.Buffers[0][100])
						}
					}
					got += n
				}
			})
			if m := relayed.Metrics(); tc.mtu < 1416 && m.Joined == 0 || m.Relay.Forwarded == 0 {
				t.Errorf("%+v", m)
			}
			if m := relayed.Metrics(); !tc.disabled && tc.mtu == 1500 && tc.datagrams > 1 && m.Relay.Forwarded < 4*m.Reads {
				t.Errorf("batches were taken apart: %+v", m)
			}
		})
	}
}
