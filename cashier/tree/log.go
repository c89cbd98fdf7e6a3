package tree

import (
	"crypto/sha256"
	"fmt"
	"math/bits"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// Log is a log of RFC 6962 as far as it is needed to go on with it: its size, and
// the roots of the perfect subtrees that cover it. It is a value: Append returns
// another one. The zero value is the empty log.
type Log struct {
	size   uint64
	hashes []Hash
}

// LogNode is the root of a perfect subtree of a log, of 2^Level entries from
// Index·2^Level on. Once complete it never changes.
type LogNode struct {
	Level uint8
	Index uint64
	Hash  Hash
}

// Nodes returns a node of a log its caller kept.
type Nodes func(level uint8, index uint64) (Hash, error)

// maxLogProof bounds the hashes of a proof about a log.
const maxLogProof = 2 * 64

// LogLeaf returns the hash of an entry.
func LogLeaf(entry []byte) Hash {
	s := sha256.New()
	s.Write([]byte{rfc6962.RFC6962LeafHashPrefix})
	s.Write(entry)
	return Hash(s.Sum(nil))
}

// NewLog returns a log of which size and Hashes are known.
func NewLog(size uint64, hashes []Hash) (Log, error) {
	if len(hashes) != bits.OnesCount64(size) {
		return Log{}, fmt.Errorf("%w: log of %d entries with %d hashes", ErrMalformed, size, len(hashes))
	}
	return Log{size, hashes}, nil
}

// Size returns how many entries there are.
func (l Log) Size() uint64 { return l.size }

// Hashes returns the roots of the subtrees that cover the log, the largest first.
// The caller does not change them.
func (l Log) Hashes() []Hash { return l.hashes }

// Append returns the log with one entry more, of the hash LogLeaf gave, and the nodes
// that became complete with it: the leaf, and what it filled up.
func (l Log) Append(leaf Hash) (Log, []LogNode) {
	nodes := []LogNode{{0, l.size, leaf}}
	rest, at := l.hashes, leaf
	for level := 0; l.size>>level&1 == 1; level++ {
		at = innerHash(&rest[len(rest)-1], &at)
		rest = rest[:len(rest)-1]
		nodes = append(nodes, LogNode{uint8(level + 1), l.size >> (level + 1), at})
	}
	return Log{l.size + 1, append(rest[:len(rest):len(rest)], at)}, nodes
}

// Root returns the root of the log.
func (l Log) Root() Hash {
	if len(l.hashes) == 0 {
		return sha256.Sum256(nil)
	}
	at := l.hashes[len(l.hashes)-1]
	for i := len(l.hashes) - 2; i >= 0; i-- {
		at = innerHash(&l.hashes[i], &at)
	}
	return at
}

// Inclusion returns the proof that the entry at an index is in the log of a size.
func Inclusion(index, size uint64, get Nodes) ([]Hash, error) {
	p, err := proof.Inclusion(index, size)
	if err != nil {
		return nil, fmt.Errorf("tree: %w", err)
	}
	return fetch(p, get)
}

// Consistency returns the proof that the log of one size begins with that of
// another, at most as large.
func Consistency(from, to uint64, get Nodes) ([]Hash, error) {
	p, err := proof.Consistency(from, to)
	if err != nil {
		return nil, fmt.Errorf("tree: %w", err)
	}
	return fetch(p, get)
}

func fetch(p proof.Nodes, get Nodes) ([]Hash, error) {
	hashes := make([][]byte, len(p.IDs))
	for i, id := range p.IDs {
		h, err := get(uint8(id.Level), id.Index)
		if err != nil {
			return nil, err
		}
		hashes[i] = h[:]
	}
	hashes, err := p.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)
	if err != nil {
		return nil, fmt.Errorf("tree: %w", err)
	}
	out := make([]Hash, len(hashes))
	for i, h := range hashes {
		out[i] = Hash(h)
	}
	return out, nil
}

// VerifyInclusion checks that the entry with this leaf hash is at an index of the log
// of a size and root.
func VerifyInclusion(index, size uint64, leaf Hash, hashes []Hash, root Hash) error {
	if len(hashes) > maxLogProof {
		return fmt.Errorf("%w: %d hashes", ErrProof, len(hashes))
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, leaf[:], slicesOf(hashes), root[:]); err != nil {
		return fmt.Errorf("%w: %w", ErrProof, err)
	}
	return nil
}

// VerifyConsistency checks that the log of size to and root toRoot begins with the
// log of size from and root fromRoot.
func VerifyConsistency(from, to uint64, hashes []Hash, fromRoot, toRoot Hash) error {
	if len(hashes) > maxLogProof {
		return fmt.Errorf("%w: %d hashes", ErrProof, len(hashes))
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, from, to, slicesOf(hashes), fromRoot[:], toRoot[:]); err != nil {
		return fmt.Errorf("%w: %w", ErrProof, err)
	}
	return nil
}

func slicesOf(hashes []Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}

// RootOf returns the root of the log of a list of entries.
func RootOf(entries [][]byte) Hash {
	var l Log
	var stack [64]Hash // covers l.size entries, as Log.hashes does
	n := 0
	for _, e := range entries {
		at := LogLeaf(e)
		for level := 0; l.size>>level&1 == 1; level++ {
			n--
			at = innerHash(&stack[n], &at)
		}
		stack[n] = at
		n++
		l.size++
	}
	l.hashes = stack[:n]
	return l.Root()
}

// InclusionIn returns the proof that the entry at an index is in the log of a list.
func InclusionIn(entries [][]byte, index int) ([]Hash, error) {
	known := make(map[compact.NodeID]Hash, 2*len(entries))
	var l Log
	for _, e := range entries {
		var nodes []LogNode
		l, nodes = l.Append(LogLeaf(e))
		for _, n := range nodes {
			known[compact.NewNodeID(uint(n.Level), n.Index)] = n.Hash
		}
	}
	return Inclusion(uint64(index), l.size, func(level uint8, i uint64) (Hash, error) {
		return known[compact.NewNodeID(uint(level), i)], nil
	})
}
