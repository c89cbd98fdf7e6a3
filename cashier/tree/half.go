package tree

import (
	"crypto/sha256"
	"sync"
)

// node is a place in a pool of its half: 0 is the empty subtree, the top bit set a
// leaf.
type node uint32

const leafBit node = 1 << 31

// maxNodes bounds a pool, so that every place in it has a number.
const maxNodes = 1<<31 - 1

type leaf struct{ path, value Hash }

// inner holds the hashes of the subtrees below it rather than its own: whoever
// changes one side needs the other's hash, and so finds it without going there.
type inner struct {
	below  [2]node
	hashes [2]Hash
}

// subtree is a node with its hash.
type subtree struct {
	node node
	hash Hash
}

func (t subtree) leafOrEmpty() bool { return t.node == 0 || t.node&leafBit != 0 }

// half is the subtree of all paths that begin with the same bit, with nodes of its
// own: two goroutines can work on the halves of a tree.
type half struct {
	leaves pool[leaf]
	inners pool[inner]

	// Owned by whoever stages.
	next    subtree
	grown   int
	places  []node // of warm
	touched byte   // of warm
	fresh   []node // made by the stage, for drop
	retired []node // no longer used after keep

	// Guarded by the Map's lock, as are the pages of both pools.
	root subtree
	size int
}

// stage prepares the version after the changes, which are sorted.
func (h *half) stage(mu *sync.RWMutex, changes []Change) {
	h.grown = 0
	h.warm(changes)
	h.next = h.update(mu, h.root, 1, changes)
}

// keep makes the staged version the visible one.
func (h *half) keep() {
	h.root, h.size = h.next, h.size+h.grown
	h.release(h.retired)
}

// drop forgets the staged version.
func (h *half) drop() { h.release(h.fresh) }

func (h *half) release(unused []node) {
	for _, n := range unused {
		if n&leafBit != 0 {
			h.leaves.free = append(h.leaves.free, uint32(n&^leafBit))
		} else {
			h.inners.free = append(h.inners.free, uint32(n))
		}
	}
	h.fresh, h.retired = h.fresh[:0], h.retired[:0]
}

// warm walks all paths side by side, level by level, and changes nothing. The
// nodes come to the cache many at a time; update, which goes down one path after the
// other, would wait for each.
func (h *half) warm(changes []Change) {
	if len(changes) < 16 || h.root.leafOrEmpty() {
		return
	}
	at := h.places[:0]
	for range changes {
		at = append(at, h.root.node)
	}
	h.places = at
	for depth, inners := 1, len(at); inners > 0 && depth < maxDepth; depth++ {
		inners = 0
		for i, n := range at {
			if n != 0 && n&leafBit == 0 {
				in := h.inners.at(uint32(n))
				at[i] = in.below[bit(&changes[i].path, depth)]
				h.touched ^= in.hashes[1][len(Hash{})-1] // the node's other end
				inners++
			}
		}
	}
}

// update returns the subtree at t, whose place is so deep, after changes that all
// belong below it.
func (h *half) update(mu *sync.RWMutex, t subtree, depth int, changes []Change) subtree {
	switch {
	case len(changes) == 0:
		return t
	case t.leafOrEmpty():
		return h.build(mu, t, depth, changes)
	}
	was := h.inners.at(uint32(t.node))
	left, right := subtree{was.below[0], was.hashes[0]}, subtree{was.below[1], was.hashes[1]}
	i := split(changes, depth)
	left = h.update(mu, left, depth+1, changes[:i])
	right = h.update(mu, right, depth+1, changes[i:])
	if left.node == was.below[0] && right.node == was.below[1] {
		return t
	}
	h.retired = append(h.retired, t.node)
	return h.join(mu, left, right)
}

// build is update for a subtree that is empty or a leaf.
func (h *half) build(mu *sync.RWMutex, t subtree, depth int, changes []Change) subtree {
	if len(changes) == 0 {
		return t
	}
	var old *leaf
	if t.node != 0 {
		old = h.leaves.at(uint32(t.node &^ leafBit))
	}
	if len(changes) == 1 {
		c := &changes[0]
		switch same := old != nil && old.path == c.path; {
		case same && c.deleted:
			h.retired = append(h.retired, t.node)
			h.grown--
			return subtree{}
		case same && old.value == c.value, !same && c.deleted:
			return t
		case same:
			h.retired = append(h.retired, t.node)
			return h.newLeaf(mu, c)
		case old == nil:
			h.grown++
			return h.newLeaf(mu, c)
		}
	}
	i := split(changes, depth)
	var left, right subtree
	if old != nil && bit(&old.path, depth) == 0 {
		left = t
	} else {
		right = t
	}
	left = h.build(mu, left, depth+1, changes[:i])
	right = h.build(mu, right, depth+1, changes[i:])
	return h.join(mu, left, right)
}

// join returns the subtree over two.
func (h *half) join(mu *sync.RWMutex, left, right subtree) subtree {
	if t, ok := lone(&left, &right); ok {
		return t
	}
	n := node(h.inners.take(mu))
	h.fresh = append(h.fresh, n)
	*h.inners.at(uint32(n)) = inner{[2]node{left.node, right.node}, [2]Hash{left.hash, right.hash}}
	return subtree{n, innerHash(&left.hash, &right.hash)}
}

func (h *half) newLeaf(mu *sync.RWMutex, c *Change) subtree {
	i := h.leaves.take(mu)
	*h.leaves.at(i) = leaf{c.path, c.value}
	n := node(i) | leafBit
	h.fresh = append(h.fresh, n)
	return subtree{n, leafHash(&c.path, &c.value)}
}

// lone returns what stands in place of two subtrees that are at most one leaf.
func lone(left, right *subtree) (subtree, bool) {
	switch {
	case left.node == 0 && right.leafOrEmpty():
		return *right, true
	case right.node == 0 && left.leafOrEmpty():
		return *left, true
	}
	return subtree{}, false
}

// split returns how many of the changes, which are sorted and share the bits before,
// go to the left.
func split(changes []Change, depth int) int {
	low, high := 0, len(changes)
	for low < high {
		middle := int(uint(low+high) >> 1)
		if bit(&changes[middle].path, depth) == 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

func bit(path *Hash, depth int) byte { return path[depth>>3] >> (7 - depth&7) & 1 }

func leafHash(path, value *Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	copy(b[1:], path[:])
	copy(b[1+sha256.Size:], value[:])
	return sha256.Sum256(b[:])
}

func innerHash(left, right *Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}
