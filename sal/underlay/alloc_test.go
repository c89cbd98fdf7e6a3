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
			time.Sleep(100 * time.Millisecond) // what Open left to do allocates
			// The race detector makes sync.Pool forget at random.
			if n := testing.AllocsPerRun(200, cycle); n != 0 && !raceEnabled {
				t.Errorf("%v allocations per run", n)
			}
			if m := to.Metrics(); tc.mtu < 1400 && m.Joined == 0 {
				t.Errorf("nothing was joined: %+v", m)
			}
		})
	}
}
