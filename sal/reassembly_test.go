package sal

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

func cut(p []byte, size int) [][]byte {
	var parts [][]byte
	for len(p) > 0 {
		n := min(size, len(p))
		parts = append(parts, p[:n])
		p = p[n:]
	}
	return parts
}

func TestReassembly(t *testing.T) {
	start := time.Unix(1000, 0)
	random := rand.New(rand.NewPCG(3, 4))
	var r reassembler
	for number := range uint64(200) {
		p := make([]byte, 1400+random.IntN(60_000))
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		parts := cut(p, 1300)
		var got []byte
		for _, i := range random.Perm(len(parts)) {
			if got != nil {
				t.Fatal("whole before its last part")
			}
			got = r.add(start, number, uint8(i), uint8(len(parts)), parts[i])
			if got == nil && random.IntN(10) == 0 { // a duplicate
				got = r.add(start, number, uint8(i), uint8(len(parts)), parts[i])
			}
		}
		if !bytes.Equal(got, p) {
			t.Fatalf("datagram %d of %d bytes differs", number, len(p))
		}
	}
	if r.memory != 0 || len(r.partials) != 0 || r.dropped != 0 {
		t.Errorf("left %d bytes, %d partials, %d dropped", r.memory, len(r.partials), r.dropped)
	}
}

// TestReassemblyBounds: parts that never complete hold little, for a short time.
func TestReassemblyBounds(t *testing.T) {
	now := time.Unix(1000, 0)
	random := rand.New(rand.NewPCG(5, 6))
	var r reassembler
	for i := range 100_000 {
		count := uint8(random.IntN(256))
		r.add(now, uint64(i/3), uint8(random.IntN(256)), count, make([]byte, random.IntN(1400)))
		if len(r.partials) > maxPartials {
			t.Fatalf("%d partials", len(r.partials))
		}
		sum := 0
		for _, p := range r.partials {
			sum += p.size
		}
		if sum != r.memory || sum > maxPartialMemory {
			t.Fatalf("holds %d bytes, counts %d", sum, r.memory)
		}
	}
	r.add(now, 1<<20, 0, 2, []byte("a"))
	r.add(now.Add(partialLife+time.Millisecond), 1<<21, 0, 2, []byte("b"))
	if len(r.partials) != 1 {
		t.Errorf("%d partials, want the late ones gone", len(r.partials))
	}
	if got := r.add(now.Add(partialLife+time.Millisecond), 1<<20, 1, 2, []byte("z")); got != nil {
		t.Error("a part that was given up completed a datagram")
	}
}

// FuzzReassembly never panics, whatever a peer sends.
func FuzzReassembly(f *testing.F) {
	f.Add([]byte{1, 0, 2, 1, 1, 2})
	f.Add([]byte{0, 0, 0, 255, 255, 255, 1, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r reassembler
		now := time.Unix(0, 0)
		for len(b) >= 3 {
			now = now.Add(time.Duration(b[0]) * time.Millisecond)
			r.add(now, uint64(b[0])&3, b[1], b[2], bytes.Repeat([]byte{1}, int(b[1])*int(b[2])%1500))
			b = b[3:]
			if r.memory < 0 || r.memory > maxPartialMemory {
				t.Fatalf("holds %d bytes", r.memory)
			}
		}
	})
}
