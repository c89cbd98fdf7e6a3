package tree

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
)

// Hash is a SHA-256 hash.
type Hash = [sha256.Size]byte

// Change is what becomes of one key. Put and Delete make them.
type Change struct {
	path, value Hash
	deleted     bool
}

// Put gives a key a value.
func Put(key, value []byte) Change {
	return Change{path: sha256.Sum256(key), value: sha256.Sum256(value)}
}

// Delete takes a key out. It need not be there.
func Delete(key []byte) Change { return Change{path: sha256.Sum256(key), deleted: true} }

// Map is a sparse Merkle tree in memory. The zero value is an empty one.
type Map struct {
	staged bool // owned by whoever stages

	mu     sync.RWMutex // guards what is visible: roots, sizes and lists of pages
	halves [2]half
}

// manyChanges is how many are worth a second goroutine.
const manyChanges = 256

// Root returns the root of the committed version: 32 zero bytes when it is empty.
func (m *Map) Root() Hash {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return top(&m.halves[0].root, &m.halves[1].root)
}

// Len returns how many keys there are.
func (m *Map) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.halves[0].size + m.halves[1].size
}

// Stage prepares the version after the changes, at most one to a key, and returns
// its root. It reorders the changes. Commit makes the version visible, Discard drops
// it; one of them must come before the next Stage. Many changes are worked on by two
// goroutines, which end before it returns; the outcome does not depend on them.
func (m *Map) Stage(changes []Change) Hash {
	if m.staged {
		panic("tree: a stage is open")
	}
	m.staged = true
	slices.SortFunc(changes, func(a, b Change) int {
		// The first bytes nearly always decide.
		if x, y := binary.BigEndian.Uint64(a.path[:]), binary.BigEndian.Uint64(b.path[:]); x != y {
			if x < y {
				return -1
			}
			return 1
		}
		return bytes.Compare(a.path[:], b.path[:])
	})
	for i := 1; i < len(changes); i++ {
		if changes[i].path == changes[i-1].path {
			panic("tree: a key changes twice")
		}
	}
	i := split(changes, 0)
	left, right := &m.halves[0], &m.halves[1]
	if len(changes) < manyChanges {
		left.stage(&m.mu, changes[:i])
		right.stage(&m.mu, changes[i:])
	} else {
		var wg sync.WaitGroup
		wg.Go(func() { left.stage(&m.mu, changes[:i]) })
		right.stage(&m.mu, changes[i:])
		wg.Wait()
	}
	return top(&left.next, &right.next)
}

// Commit makes the staged version the visible one. It waits for proofs being made.
func (m *Map) Commit() {
	if !m.staged {
		return
	}
	m.staged = false
	m.mu.Lock()
	defer m.mu.Unlock()
	m.halves[0].keep()
	m.halves[1].keep()
}

// Discard drops the staged version.
func (m *Map) Discard() {
	if !m.staged {
		return
	}
	m.staged = false
	m.halves[0].drop()
	m.halves[1].drop()
}

// top returns the root over both halves.
func top(left, right *subtree) Hash {
	if t, ok := lone(left, right); ok {
		return t.hash
	}
	return innerHash(&left.hash, &right.hash)
}

// walk goes from the root to the place of a path, calls step with the hash and
// emptiness of the sibling at each depth, and returns the leaf there, nil for none.
// The caller holds the lock.
func (m *Map) walk(path *Hash, step func(sibling *Hash, empty bool)) *leaf {
	side := bit(path, 0)
	h, beside := &m.halves[side], &m.halves[1-side].root
	n := h.root.node
	if t, ok := lone(&h.root, beside); ok {
		if n = t.node; beside.node != 0 {
			h = &m.halves[1-side]
		}
	} else {
		step(&beside.hash, beside.node == 0)
		for depth := 1; n != 0 && n&leafBit == 0; depth++ {
			in, side := h.inners.at(uint32(n)), bit(path, depth)
			step(&in.hashes[1-side], in.below[1-side] == 0)
			n = in.below[side]
		}
	}
	if n == 0 {
		return nil
	}
	return h.leaves.at(uint32(n &^ leafBit))
}
