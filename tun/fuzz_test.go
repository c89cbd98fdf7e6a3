package tun

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun/address"
	"scn.alt/scn/tun/packet"
	"scn.alt/scn/tun/splice"
	"scn.alt/scn/tun/tuntest"
)

// deviceless is an edge whose packets go nowhere.
func deviceless(tb testing.TB) (*Edge, *loop) {
	tb.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { null.Close() })
	pool, err := address.Open(address.Config{Network: testNetwork})
	if err != nil {
		tb.Fatal(err)
	}
	cfg := Config{Overlay: &tuntest.Overlay{}, Network: testNetwork}.withDefaults()
	fams := tableFamilies()
	for _, f := range fams {
		f.probe = address.Own(f.prefix, probeNumber)
	}
	e := &Edge{
		cfg: cfg, log: cfg.Logger, pool: pool, dev: &device{name: "none", queues: []*os.File{null}},
		family4: fams[0], family6: fams[1], buffers: splice.NewBuffers(0),
		local: &localAddresses{list: func() ([]netip.Addr, error) { return nil, nil }},
		tcp:   newTCPTable(64, 8), udp: newPacketTable(16), warm: newWarmPorts(cfg.Warm), pings: make(chan struct{}, 4),
		ended: make(chan struct{}),
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e, &loop{edge: e, queue: null}
}

// FuzzLoop feeds the packet loop with any packets: it never panics, and what it keeps is
// bounded and gone at the end.
func FuzzLoop(f *testing.F) {
	for which, fam := range tableFamilies() {
		syn, _ := synFrom(fam, 40000, 1)
		datagram := packet.PutUDP(make([]byte, packet.UDPHeadroom+8), netip.AddrPortFrom(fam.own, 5), netip.AddrPortFrom(fam.own.Next(), 53))
		seed := binary.BigEndian.AppendUint16(nil, uint16(len(syn)))
		seed = append(seed, syn...)
		seed = binary.BigEndian.AppendUint16(seed, uint16(len(datagram)))
		f.Add(append(seed, datagram...), which == 0)
	}
	f.Fuzz(func(t *testing.T, data []byte, aim bool) {
		e, l := deviceless(t)
		v4, v6, err := e.pool.Assign(identity.ServiceID{1})
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; len(data) >= 2 && n < 64; n++ {
			size := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
			b := data[2 : 2+size : 2+size]
			data = data[2+size:]
			if aim { // at a service, from this host: the deeper paths
				switch {
				case len(b) >= 20 && b[0]>>4 == 4:
					s, d := e.family4.own.As4(), v4.As4()
					copy(b[12:], s[:])
					copy(b[16:], d[:])
				case len(b) >= 40 && b[0]>>4 == 6:
					s, d := e.family6.own.As16(), v6.As16()
					copy(b[8:], s[:])
					copy(b[24:], d[:])
				}
			}
			l.handle(b)
		}
		if n, held := e.tcp.size(); n > 64 || held > 8 || e.udp.size() > 16 {
			t.Fatalf("%d flows, %d held, %d packet flows", n, held, e.udp.size())
		}
		e.stopFlows()
		if _, held := e.tcp.size(); held != 0 || e.udp.size() != 0 || e.udp.queued.Load() != 0 || len(e.pings) != 0 {
			t.Fatal("something is left")
		}
	})
}

// TestTableInvariants does random things to a table and looks at all of it after each.
func TestTableInvariants(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	fams := tableFamilies()
	table := newTCPTable(20, 5)
	now := time.Unix(1, 0)
	var flows []*tcpFlow // every flow whose goroutine, in the edge, would still be there
	for step := range 20000 {
		now = now.Add(time.Duration(r.IntN(2000)) * time.Millisecond)
		fam := fams[r.IntN(2)]
		b, h := synFrom(fam, r.IntN(30), r.Uint32N(3))
		key := tupleOf(h.Source(), h.Destination())
		seg := packet.Segment{Flags: uint8(r.Uint32()), End: r.Uint32N(4), Ack: r.Uint32N(4)}
		switch r.IntN(8) {
		case 0, 1, 2:
			if f, same := table.again(key, b, h.Segment(b).Seq); f == nil && !same {
				if f := table.add(t.Context(), fam, &h, b, identity.ServiceID{1}, netip.Addr{}, r.IntN(2) == 0); f != nil {
					flows = append(flows, f)
				}
			}
		case 3:
			table.fromApp(key, seg, now)
		case 4:
			table.fromListener(fam, fam.peer(r.IntN(50)), seg, now)
		case 5:
			if len(flows) > 0 {
				i := r.IntN(len(flows))
				f := flows[i]
				if r.IntN(2) == 0 {
					table.refuse(f)
				} else {
					table.release(f)
				}
				if r.IntN(2) == 0 {
					table.finish(f, now)
					flows = append(flows[:i], flows[i+1:]...)
				}
			}
		case 6:
			table.accept(fam, fam.peer(r.IntN(50)), nil)
		case 7:
			table.sweep(now, nil)
		}
		if err := checkTable(table); err != "" {
			t.Fatalf("seed %d, step %d: %s", seed, step, err)
		}
	}
	for _, f := range flows {
		table.finish(f, now)
	}
	table.sweep(now.Add(time.Hour), nil)
	if n, held := table.size(); n != 0 || held != 0 || len(table.byPeer[0])+len(table.byPeer[1])+len(table.closing) != 0 {
		t.Errorf("seed %d: %d flows, %d held, %d closing are left", seed, n, held, len(table.closing))
	}
}

func checkTable(t *tcpTable) string {
	held := 0
	for key, f := range t.byApp {
		switch {
		case f.key != key || f.state == flowGone:
			return "a flow that is gone is found"
		case t.byPeer[index(f.family)][f.number] != f:
			return "a flow is not found by its peer"
		case (f.state == flowHeld) != (f.syn != nil):
			return "a held flow without a SYN, or a SYN without one"
		}
		if f.state == flowHeld {
			held++
		}
	}
	switch {
	case len(t.byPeer[0])+len(t.byPeer[1]) != len(t.byApp):
		return "the two indexes differ in size"
	case held != t.held || held > t.limitHeld || len(t.byApp) > t.limit:
		return "the counts or bounds are wrong"
	}
	return ""
}
