package tree

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// ErrProof is wrapped by every error that says a proof does not prove what it was
// shown for.
var ErrProof = errors.New("tree: proof does not hold")

// ErrMalformed is wrapped by the error for bytes that are no proof.
var ErrMalformed = errors.New("tree: malformed proof")

// MaxProof is the largest encoded proof in bytes.
const MaxProof = proofHeader + maxDepth/8 + (maxDepth+2)*sha256.Size

const (
	maxDepth    = 8 * sha256.Size
	proofHeader = 3
)

// The kinds of proof: what stands at the key's place.
const (
	itself byte = iota
	nothing
	another
)

// Proof shows what a root says of one key. Its encoding is in the package comment.
type Proof struct {
	kind     byte
	depth    int
	bitmap   Hash   // bit i: the sibling at depth i is not empty
	siblings []Hash // those, from the root down
	other    leaf   // of kind another
}

// Prove shows what the committed version says of a key.
func (m *Map) Prove(key []byte) Proof {
	path := sha256.Sum256(key)
	m.mu.RLock()
	defer m.mu.RUnlock()
	p := Proof{siblings: make([]Hash, 0, bits.Len(uint(m.halves[0].size))+6)}
	l := m.walk(&path, func(sibling *Hash, empty bool) {
		if !empty {
			p.bitmap[p.depth>>3] |= 0x80 >> (p.depth & 7)
			p.siblings = append(p.siblings, *sibling)
		}
		p.depth++
	})
	switch {
	case l == nil:
		p.kind = nothing
	case l.path != path:
		p.kind, p.other = another, *l
	}
	return p
}

// Has tells whether the key has this value in the committed version.
func (m *Map) Has(key, value []byte) bool {
	path := sha256.Sum256(key)
	m.mu.RLock()
	defer m.mu.RUnlock()
	l := m.walk(&path, func(*Hash, bool) {})
	return l != nil && l.path == path && l.value == sha256.Sum256(value)
}

// Contains tells whether the key is in the committed version.
func (m *Map) Contains(key []byte) bool {
	path := sha256.Sum256(key)
	m.mu.RLock()
	defer m.mu.RUnlock()
	l := m.walk(&path, func(*Hash, bool) {})
	return l != nil && l.path == path
}

// Present checks that under a root the key has the value.
func (p Proof) Present(root Hash, key, value []byte) error {
	if p.kind != itself {
		return fmt.Errorf("%w: it is of absence", ErrProof)
	}
	path, v := sha256.Sum256(key), sha256.Sum256(value)
	return p.check(root, &path, leafHash(&path, &v))
}

// Absent checks that under a root the key has no value.
func (p Proof) Absent(root Hash, key []byte) error {
	path := sha256.Sum256(key)
	switch p.kind {
	case nothing:
		return p.check(root, &path, Hash{})
	case another:
		if p.other.path == path || commonBits(&p.other.path, &path) < p.depth {
			return fmt.Errorf("%w: the other leaf is not at the key's place", ErrProof)
		}
		return p.check(root, &path, leafHash(&p.other.path, &p.other.value))
	}
	return fmt.Errorf("%w: it is of presence", ErrProof)
}

// check folds what stands at a path with its siblings, up to the root.
func (p Proof) check(root Hash, path *Hash, at Hash) error {
	rest := p.siblings
	for depth := p.depth - 1; depth >= 0; depth-- {
		var sibling Hash
		if p.bitmap[depth>>3]&(0x80>>(depth&7)) != 0 {
			if len(rest) == 0 {
				return fmt.Errorf("%w: siblings are missing", ErrProof)
			}
			sibling, rest = rest[len(rest)-1], rest[:len(rest)-1]
		}
		if bit(path, depth) == 0 {
			at = innerHash(&at, &sibling)
		} else {
			at = innerHash(&sibling, &at)
		}
	}
	if len(rest) > 0 || at != root {
		return fmt.Errorf("%w: it leads to another root", ErrProof)
	}
	return nil
}

// Append appends the proof's encoding to b.
func (p Proof) Append(b []byte) []byte {
	b = append(b, p.kind)
	b = binary.BigEndian.AppendUint16(b, uint16(p.depth))
	b = append(b, p.bitmap[:(p.depth+7)/8]...)
	for i := range p.siblings {
		b = append(b, p.siblings[i][:]...)
	}
	if p.kind == another {
		b = append(append(b, p.other.path[:]...), p.other.value[:]...)
	}
	return b
}

// ParseProof reads an encoded proof, of exactly its length.
func ParseProof(b []byte) (Proof, error) {
	fail := func(what string) (Proof, error) { return Proof{}, fmt.Errorf("%w: %s", ErrMalformed, what) }
	if len(b) < proofHeader {
		return fail("too short")
	}
	p := Proof{kind: b[0], depth: int(binary.BigEndian.Uint16(b[1:]))}
	b = b[proofHeader:]
	if p.kind > another || p.depth > maxDepth {
		return fail("kind or depth")
	}
	size := (p.depth + 7) / 8
	if len(b) < size {
		return fail("bitmap is cut off")
	}
	copy(p.bitmap[:], b[:size])
	b = b[size:]
	if p.depth&7 != 0 && p.bitmap[size-1]<<(p.depth&7) != 0 {
		return fail("bits beyond the depth")
	}
	count := 0
	for _, v := range p.bitmap {
		count += bits.OnesCount8(v)
	}
	want := count * sha256.Size
	if p.kind == another {
		want += 2 * sha256.Size
	}
	if len(b) != want {
		return fail("wrong length")
	}
	p.siblings = make([]Hash, count)
	for i := range p.siblings {
		p.siblings[i] = Hash(b[:sha256.Size])
		b = b[sha256.Size:]
	}
	if p.kind == another {
		p.other = leaf{Hash(b[:sha256.Size]), Hash(b[sha256.Size:])}
	}
	return p, nil
}

// commonBits counts the leading bits two paths share.
func commonBits(a, b *Hash) int {
	for i := range a {
		if d := a[i] ^ b[i]; d != 0 {
			return 8*i + bits.LeadingZeros8(d)
		}
	}
	return maxDepth
}
