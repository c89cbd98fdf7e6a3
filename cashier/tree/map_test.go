package tree

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// naiveRoot is the definition of the package comment, word by word.
func naiveRoot(values map[string]string) Hash {
	leaves := make(map[Hash]Hash, len(values))
	for k, v := range values {
		leaves[sha256.Sum256([]byte(k))] = sha256.Sum256([]byte(v))
	}
	var subtree func(paths []Hash, depth int) Hash
	subtree = func(paths []Hash, depth int) Hash {
		switch len(paths) {
		case 0:
			return Hash{}
		case 1:
			v := leaves[paths[0]]
			return sha256.Sum256(slices.Concat([]byte{0}, paths[0][:], v[:]))
		}
		var sides [2][]Hash
		for _, p := range paths {
			b := p[depth/8] >> (7 - depth%8) & 1
			sides[b] = append(sides[b], p)
		}
		left, right := subtree(sides[0], depth+1), subtree(sides[1], depth+1)
		return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
	}
	return subtree(slices.Collect(maps.Keys(leaves)), 0)
}

// check compares a tree with the values it should hold, and asks for proofs of some
// keys that are there and some that are not.
func check(t *testing.T, m *Map, values map[string]string, r *rand.Rand) {
	t.Helper()
	root := m.Root()
	if want := naiveRoot(values); root != want || m.Len() != len(values) {
		t.Fatalf("root %x of %d, want %x of %d", root[:4], m.Len(), want[:4], len(values))
	}
	for range 8 {
		k := fmt.Sprint(r.IntN(1200))
		p, err := ParseProof(m.Prove([]byte(k)).Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		v, there := values[k]
		present, absent := p.Present(root, []byte(k), []byte(v)), p.Absent(root, []byte(k))
		if there != (present == nil) || there == (absent == nil) || m.Has([]byte(k), []byte(v)) != there {
			t.Fatalf("%s is there: %v; presence %v, absence %v", k, there, present, absent)
		}
		if there && p.Present(root, []byte(k), []byte(v+"x")) == nil {
			t.Fatal("another value is proved")
		}
		wrong := root
		wrong[r.IntN(32)] ^= 1 << r.IntN(8)
		if p.Present(wrong, []byte(k), []byte(v)) == nil || p.Absent(wrong, []byte(k)) == nil {
			t.Fatal("holds under another root")
		}
		if other := fmt.Sprint(r.IntN(1200)); there && other != k && p.Present(root, []byte(other), []byte(v)) == nil {
			t.Fatal("another key is proved present")
		} else if _, has := values[other]; has && p.Absent(root, []byte(other)) == nil {
			t.Fatal("a key that is there is proved absent")
		}
	}
}

// Random histories of batches against the definition: the root depends on the values
// alone, what is discarded leaves no trace, and every proof holds for what it shows
// and nothing else.
func TestMapAgainstDefinition(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		m, values := new(Map), map[string]string{}
		for range 25 {
			next := maps.Clone(values)
			var changes []Change
			used := map[string]bool{}
			for range r.IntN(600) {
				k := fmt.Sprint(r.IntN(1000))
				if used[k] {
					continue
				}
				used[k] = true
				if r.IntN(5) < 2 {
					delete(next, k)
					changes = append(changes, Delete([]byte(k)))
				} else {
					next[k] = fmt.Sprint(r.IntN(3))
					changes = append(changes, Put([]byte(k), []byte(next[k])))
				}
			}
			before := m.Root()
			staged := m.Stage(changes)
			if m.Root() != before {
				t.Fatalf("seed %d: a stage is visible", seed)
			}
			if r.IntN(4) == 0 {
				m.Discard()
			} else {
				m.Commit()
				values = next
				if m.Root() != staged {
					t.Fatalf("seed %d: another root than staged", seed)
				}
			}
			check(t, m, values, r)
		}
		var all []Change
		for k := range values {
			all = append(all, Delete([]byte(k)))
		}
		m.Stage(all)
		m.Commit()
		if m.Root() != (Hash{}) || m.Len() != 0 {
			t.Fatalf("seed %d: emptied tree has root %x", seed, m.Root())
		}
		for i := range m.halves {
			h := &m.halves[i]
			if live := int(max(h.leaves.used, 1)+max(h.inners.used, 1)) - len(h.leaves.free) - len(h.inners.free); live != 2 {
				t.Errorf("seed %d: %d nodes are lost", seed, live-2)
			}
		}
	}
}

// Paths that agree for long, as somebody may search for, make a deep but bounded
// tree. No such keys can be found here, so their paths are made.
func TestDeepPaths(t *testing.T) {
	var a, b, c Hash
	b[31], c[31] = 1, 2
	m := new(Map)
	m.Stage([]Change{{path: a}, {path: b}, {path: c}})
	m.Commit()
	l := leafHash(&a, &Hash{})
	right := leafHash(&b, &Hash{})
	l = innerHash(&l, &right)
	other := leafHash(&c, &Hash{})
	want := innerHash(&l, &other)
	for range 254 {
		want = innerHash(&want, new(Hash))
	}
	if m.Root() != want {
		t.Error("another root than by hand")
	}
	m.Stage([]Change{{path: b, deleted: true}, {path: c, deleted: true}})
	m.Commit()
	if m.Root() != leafHash(&a, &Hash{}) {
		t.Error("a lone leaf did not come back to the root")
	}
}

// Proofs made while versions are staged and committed hold for the version they
// were made of. Run with the race detector.
func TestProofsBesideChanges(t *testing.T) {
	m := new(Map)
	roots := struct {
		sync.Mutex
		known map[Hash]bool
	}{known: map[Hash]bool{{}: true}}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(g)))
			for {
				select {
				case <-done:
					return
				default:
				}
				k := []byte(fmt.Sprint(r.IntN(5000)))
				p := m.Prove(k)
				held := false
				roots.Lock()
				for root := range roots.known {
					held = held || p.Present(root, k, k) == nil || p.Absent(root, k) == nil
				}
				roots.Unlock()
				if !held {
					t.Error("a proof of no version")
					return
				}
			}
		})
	}
	for i := range 20 {
		var changes []Change
		for j := range 200 {
			k := []byte(fmt.Sprint(i*100 + j)) // half of them again
			changes = append(changes, Put(k, k))
		}
		root := m.Stage(changes)
		roots.Lock()
		roots.known[root] = true
		roots.Unlock()
		m.Commit()
	}
	close(done)
	wg.Wait()
}

func TestStagePanicsWhenMisused(t *testing.T) {
	for name, f := range map[string]func(*Map){
		"a key twice": func(m *Map) { m.Stage([]Change{Put([]byte("a"), nil), Delete([]byte("a"))}) },
		"two stages":  func(m *Map) { m.Stage(nil); m.Stage(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("went through")
				}
			}()
			f(new(Map))
		})
	}
}

func FuzzProof(f *testing.F) {
	m := new(Map)
	var changes []Change
	for i := range 100 {
		changes = append(changes, Put([]byte{byte(i)}, []byte("v")))
	}
	root := m.Stage(changes)
	m.Commit()
	for i := range 130 {
		f.Add(m.Prove([]byte{byte(i)}).Append(nil), byte(i))
	}
	f.Add(new(Map).Prove(nil).Append(nil), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, k byte) {
		p, err := ParseProof(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if len(b) > MaxProof {
			t.Fatalf("a proof of %d bytes", len(b))
		}
		if again := p.Append(nil); !slices.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
		present, absent := p.Present(root, []byte{k}, []byte("v")) == nil, p.Absent(root, []byte{k}) == nil
		if there := k < 100; present && !there || absent && there {
			t.Fatalf("%d: proved present %v, absent %v", k, present, absent)
		}
		if p.Present(root, []byte{k}, []byte("w")) == nil {
			t.Fatal("a wrong value is proved")
		}
	})
}

// A proof cut off anywhere, or with something behind it, is refused.
func TestProofLengths(t *testing.T) {
	m := new(Map)
	m.Stage([]Change{Put([]byte("a"), nil), Put([]byte("b"), nil), Put([]byte("c"), nil)})
	m.Commit()
	for _, k := range []string{"a", "b", "c", "d", "e", "f"} {
		b := m.Prove([]byte(k)).Append(nil)
		for n := range b {
			if _, err := ParseProof(b[:n]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s cut to %d of %d bytes: %v", k, n, len(b), err)
			}
		}
		if _, err := ParseProof(append(b, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s with a byte behind it: %v", k, err)
		}
	}
}
