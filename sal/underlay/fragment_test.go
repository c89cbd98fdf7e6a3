package underlay

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// cutAll makes the fragments of a datagram as sendPieces does.
func cutAll(b []byte, limit int, id uint32) [][]byte {
	count := pieces(len(b), limit)
	size := pieceSize(len(b), count)
	var out [][]byte
	for i := range count {
		f := fragment{index: i, count: count, total: len(b), id: id}
		piece := make([]byte, size)
		copy(piece, b[min(len(b), i*size):min(len(b), (i+1)*size)])
		out = append(out, append(f.appendHeader(nil), piece...))
	}
	return out
}

func TestFragmentGolden(t *testing.T) {
	got := cutAll([]byte{0x40, 1, 2, 3, 4}, fragmentHeader+3, 0xa1b2c3d4)
	want := [][]byte{
		{
			0x02,       // type
			0x01,       // index 0, count 2
			0x00, 0x05, // total
			0xa1, 0xb2, 0xc3, 0xd4, // id
			0x40, 1, 2, // piece
		},
		{
			0x02,
			0x11, // index 1, count 2
			0x00, 0x05,
			0xa1, 0xb2, 0xc3, 0xd4,
			3, 4, 0, // piece, padded
		},
	}
	if len(got) != 2 || !bytes.Equal(got[0], want[0]) || !bytes.Equal(got[1], want[1]) {
		t.Fatalf("got %x, want %x", got, want)
	}
	for n := range got[0] {
		if _, err := parseFragment(got[0][:n]); err == nil {
			t.Errorf("accepted %d of %d bytes", n, len(got[0]))
		}
	}
	if _, err := parseFragment(append(got[0], 0)); err == nil {
		t.Error("accepted a trailing byte")
	}
}

func TestPieces(t *testing.T) {
	for _, tc := range []struct{ total, limit, want int }{
		{1400, 1452, 2 - 1},
		{1400, 1252, 2},
		{1400, 1096, 2},
		{1400, 548, 3},
		{1452, 548, 3},
		{1400, 300, 0},
		{1501, 1452, 0},
		{1400, fragmentHeader, 0},
		{1400, 0, 0},
	} {
		if got := pieces(tc.total, tc.limit); got != tc.want {
			t.Errorf("pieces(%d, %d) = %d, want %d", tc.total, tc.limit, got, tc.want)
		}
	}
}

func TestJoinerAgainstShuffleAndLoss(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	from := netip.MustParseAddrPort("192.0.2.1:9")
	type piece struct {
		b  []byte
		id uint32
	}
	for range 200 {
		j := newJoiner()
		whole := make(map[uint32][]byte)
		lost := make(map[uint32]bool)
		var stream []piece
		for id := range uint32(40) {
			b := make([]byte, 1300+r.IntN(153))
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			b[0] |= headerFixedBit
			whole[id] = b
			for _, f := range cutAll(b, 548, id) {
				if r.IntN(20) == 0 {
					lost[id] = true
					continue
				}
				stream = append(stream, piece{f, id})
				if r.IntN(20) == 0 {
					stream = append(stream, piece{f, id}) // duplicate
				}
			}
		}
		for i := range stream { // bounded reordering
			k := min(len(stream)-1, i+r.IntN(8))
			stream[i], stream[k] = stream[k], stream[i]
		}
		joined := make(map[uint32]bool)
		for _, p := range stream {
			f, err := parseFragment(p.b)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := j.add(f, from, true, 0, 1); got != nil {
				if !bytes.Equal(got, whole[p.id]) {
					t.Fatalf("datagram %d differs", p.id)
				}
				joined[p.id] = true
			}
		}
		for id := range whole {
			if !lost[id] && !joined[id] {
				t.Fatalf("datagram %d was not joined", id)
			}
		}
	}
}

func TestJoinerForgets(t *testing.T) {
	j := newJoiner()
	from := netip.MustParseAddrPort("192.0.2.1:9")
	b := bytes.Repeat([]byte{headerFixedBit}, 1400)
	f := cutAll(b, 1096, 7)
	first, _ := parseFragment(f[0])
	second, _ := parseFragment(f[1])
	if got, _ := j.add(first, from, false, 0, 1); got != nil {
		t.Fatal("joined one piece")
	}
	if got, _ := j.add(second, netip.MustParseAddrPort("192.0.2.2:9"), false, 0, 1); got != nil {
		t.Fatal("joined pieces of two senders")
	}
	if got, _ := j.add(second, from, false, 0, 2+int64(joinTimeout)); got != nil {
		t.Fatal("joined after the time was over")
	}
	if got, ecn := j.add(first, from, false, 3, 3+int64(joinTimeout)); got == nil || ecn != 3 {
		t.Fatalf("did not join, or lost congestion: %d bytes, %d", len(got), ecn)
	}
}

// TestStrangersCannotDisplacePeers floods the strangers' pool between the two
// halves of a peer's datagram.
func TestStrangersCannotDisplacePeers(t *testing.T) {
	j := newJoiner()
	peer := netip.MustParseAddrPort("192.0.2.1:9")
	b := bytes.Repeat([]byte{headerFixedBit}, 1400)
	f := cutAll(b, 1096, 7)
	first, _ := parseFragment(f[0])
	second, _ := parseFragment(f[1])
	j.add(first, peer, true, 0, 1)
	for id := range uint32(100000) {
		flood, _ := parseFragment(cutAll(b, 1096, id)[0])
		j.add(flood, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(id >> 16), byte(id >> 8), byte(id)}), 1), false, 0, 1)
	}
	if got, _ := j.add(second, peer, true, 0, int64(50*time.Millisecond)); got == nil {
		t.Error("the peer's datagram was lost")
	}
}

func FuzzFragment(f *testing.F) {
	for _, b := range cutAll(bytes.Repeat([]byte{0x40}, 1400), 548, 1) {
		f.Add(b)
	}
	f.Add([]byte{0x02, 0x01, 0, 2, 0, 0, 0, 1, 0x40})
	f.Add([]byte{0x02, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0x40})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseFragment(b)
		if err != nil {
			return
		}
		if again := append(p.appendHeader(nil), p.piece...); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
		j := newJoiner()
		j.strangers.size = 8
		from := netip.AddrPortFrom(netip.IPv6Loopback(), 1)
		for i := range p.count {
			q := p
			q.index = i
			whole, _ := j.add(q, from, false, 0, 1)
			if (whole != nil) != (i == p.count-1) {
				t.Fatalf("after piece %d of %d: %d bytes", i, p.count, len(whole))
			}
			if whole != nil && len(whole) != p.total {
				t.Fatalf("joined %d of %d bytes", len(whole), p.total)
			}
		}
	})
}
