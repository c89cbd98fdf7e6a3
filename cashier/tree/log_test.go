package tree

import (
	"errors"
	"fmt"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
)

type nodeID struct {
	level uint8
	index uint64
}

// grown is a log with all its nodes and the root of each size.
type grown struct {
	log     Log
	entries [][]byte
	nodes   map[nodeID]Hash
	roots   []Hash
}

func (g *grown) get(level uint8, index uint64) (Hash, error) {
	h, ok := g.nodes[nodeID{level, index}]
	if !ok {
		return Hash{}, fmt.Errorf("no node %d.%d", level, index)
	}
	return h, nil
}

func grow(t testing.TB, n int) *grown {
	g := &grown{nodes: map[nodeID]Hash{}, roots: []Hash{Log{}.Root()}}
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	reference := factory.NewEmptyRange(0)
	for i := range n {
		e := []byte(fmt.Sprint("entry ", i))
		g.entries = append(g.entries, e)
		var nodes []LogNode
		g.log, nodes = g.log.Append(LogLeaf(e))
		for _, n := range nodes {
			g.nodes[nodeID{n.Level, n.Index}] = n.Hash
		}
		added := 0
		if err := reference.Append(rfc6962.DefaultHasher.HashLeaf(e), func(id compact.NodeID, h []byte) {
			if got := g.nodes[nodeID{uint8(id.Level), id.Index}]; got != Hash(h) {
				t.Fatalf("node %v is %x, want %x", id, got, h)
			}
			added++
		}); err != nil {
			t.Fatal(err)
		}
		want, err := reference.GetRootHash(nil)
		if err != nil || g.log.Root() != Hash(want) || RootOf(g.entries) != Hash(want) {
			t.Fatalf("%d entries: root %x, want %x (%v)", i+1, g.log.Root(), want, err)
		}
		if added > len(nodes) || len(nodes) > added+1 {
			t.Fatalf("%d entries: %d nodes, the library has %d", i+1, len(nodes), added)
		}
		g.roots = append(g.roots, g.log.Root())
		if again, err := NewLog(g.log.Size(), g.log.Hashes()); err != nil || again.Root() != g.log.Root() {
			t.Fatalf("taken up again: %v", err)
		}
	}
	return g
}

// Every proof among the first sizes holds for what it shows and nothing beside it.
func TestLogProofs(t *testing.T) {
	const n = 40
	g := grow(t, n)
	for size := uint64(1); size <= n; size++ {
		for i := range size {
			p, err := Inclusion(i, size, g.get)
			if err != nil {
				t.Fatal(err)
			}
			leaf, root := LogLeaf(g.entries[i]), g.roots[size]
			if err := VerifyInclusion(i, size, leaf, p, root); err != nil {
				t.Fatalf("entry %d of %d: %v", i, size, err)
			}
			in, err := InclusionIn(g.entries[:size], int(i))
			if err != nil || VerifyInclusion(i, size, leaf, in, root) != nil {
				t.Fatalf("entry %d of a list of %d: %v", i, size, err)
			}
			for what, err := range map[string]error{
				"another place": VerifyInclusion((i+1)%size, size, leaf, p, root),
				"another entry": VerifyInclusion(i, size, LogLeaf([]byte("x")), p, root),
				"another root":  VerifyInclusion(i, size, leaf, p, g.roots[size-1]),
				"a longer one":  VerifyInclusion(i, size, leaf, append(p, Hash{}), root),
				"out of range":  VerifyInclusion(size, size, leaf, p, root),
			} {
				if !errors.Is(err, ErrProof) && (what != "another place" || size > 1) {
					t.Errorf("entry %d of %d holds for %s: %v", i, size, what, err)
				}
			}
		}
		for from := range size + 1 {
			p, err := Consistency(from, size, g.get)
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyConsistency(from, size, p, g.roots[from], g.roots[size]); err != nil {
				t.Fatalf("%d in %d: %v", from, size, err)
			}
			if from > 0 && VerifyConsistency(from, size, p, Hash{1}, g.roots[size]) == nil {
				t.Errorf("%d in %d holds for another beginning", from, size)
			}
			if from > 0 && VerifyConsistency(from, size, p, g.roots[from], Hash{1}) == nil {
				t.Errorf("%d in %d holds for another log", from, size)
			}
		}
	}
	if _, err := Inclusion(n, n, g.get); err == nil {
		t.Error("an entry that does not exist is included")
	}
	if _, err := Consistency(n+1, n, g.get); err == nil {
		t.Error("a larger log is the beginning of a smaller one")
	}
	if _, err := NewLog(3, make([]Hash, 1)); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
	if err := VerifyConsistency(1, 1<<63, make([]Hash, 1000), Hash{}, Hash{}); !errors.Is(err, ErrProof) {
		t.Error(err)
	}
}

// The vectors of RFC 6962's first implementation.
func TestLogVectors(t *testing.T) {
	for entries, want := range map[string]string{
		"":     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"one":  "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"some": "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
	} {
		list := map[string][][]byte{"": nil, "one": {{}}, "some": {{}, {0}}}[entries]
		if got := fmt.Sprintf("%x", RootOf(list)); got != want {
			t.Errorf("%q: %s, want %s", entries, got, want)
		}
	}
}

// Whatever somebody calls a proof, it is judged and nothing worse.
func FuzzVerifyLog(f *testing.F) {
	f.Add(uint64(3), uint64(7), []byte{}, uint8(1))
	f.Add(uint64(1<<63), ^uint64(0), make([]byte, 640), uint8(0))
	g := grow(f, 20)
	f.Fuzz(func(t *testing.T, a, b uint64, raw []byte, k uint8) {
		var hashes []Hash
		for ; len(raw) >= 32; raw = raw[32:] {
			hashes = append(hashes, Hash(raw))
		}
		root := g.roots[int(k)%len(g.roots)]
		if VerifyInclusion(a, b, Hash{k}, hashes, root) == nil {
			t.Error("a made-up entry is included")
		}
		if a > 0 && a < b && b <= 20 && VerifyConsistency(a, b, hashes, Hash{k}, g.roots[b]) == nil {
			t.Error("a made-up log is the beginning")
		}
		_ = VerifyConsistency(a, b, hashes, root, Hash{k})
	})
}
