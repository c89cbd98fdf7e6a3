package evidence

import (
	"crypto/sha256"
	"math/bits"
)

// Hash is a node of a Merkle tree.
type Hash [sha256.Size]byte

// maxPath is the length of an inclusion proof at most: trees have fewer than 2^40
// leaves.
const maxPath = 40

// LeafHash returns the hash of a leaf (RFC 6962 §2.1).
func LeafHash(data []byte) Hash {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(data)
	return Hash(h.Sum(nil))
}

func nodeHash(left, right Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// MerkleRoot returns the root of the tree over leaves (RFC 6962 §2.1).
func MerkleRoot(leaves []Hash) Hash {
	switch n := len(leaves); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	default:
		k := split(n)
		return nodeHash(MerkleRoot(leaves[:k]), MerkleRoot(leaves[k:]))
	}
}

// MerklePath returns the inclusion proof of leaf i (RFC 6962 §2.1.1). i is below
// the number of leaves.
func MerklePath(leaves []Hash, i int) []Hash {
	n := len(leaves)
	if n == 1 {
		return nil
	}
	k := split(n)
	if i < k {
		return append(MerklePath(leaves[:k], i), MerkleRoot(leaves[k:]))
	}
	return append(MerklePath(leaves[k:], i-k), MerkleRoot(leaves[:k]))
}

// Included reports whether path proves that leaf is number i of the n leaves of
// the tree under root (RFC 9162 §2.1.3.2).
func Included(root Hash, n, i uint64, leaf Hash, path []Hash) bool {
	if i >= n || len(path) > maxPath {
		return false
	}
	hash, last := leaf, n-1
	for _, p := range path {
		if last == 0 {
			return false
		}
		if i&1 == 1 || i == last {
			hash = nodeHash(p, hash)
			for i&1 == 0 && i != 0 {
				i >>= 1
				last >>= 1
			}
		} else {
			hash = nodeHash(hash, p)
		}
		i >>= 1
		last >>= 1
	}
	return last == 0 && hash == root
}

// split returns the largest power of two below n, which is above 1.
func split(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }
