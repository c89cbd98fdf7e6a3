package proofofservice

import (
	"errors"
	"fmt"

	"scn.alt/scn/proofofservice/evidence"
)

// MaxBlock is the size of a block of content in bytes at most: one fits into every
// probe.
const MaxBlock = 32 << 10

// maxLeaves is how many blocks a content has at most: 2^20 of 32 KiB are 32 GiB.
const maxLeaves = 1 << 20

// ErrContent is returned for content that contradicts itself.
var ErrContent = errors.New("proofofservice: bad content")

// Content is a file that a service offers to everybody over HTTP, cut into blocks.
// The service's owner publishes the root of the Merkle tree over all blocks
// (RFC 6962), so any block of any provider can be checked.
type Content struct {
	Port uint16
	// Host and Path are what is asked for.
	Host, Path string
	// Size is the file's, Block that of every block but the last, in bytes.
	Size  int64
	Block uint32
	Root  evidence.Hash
	// Leaves are the hashes of all blocks. They need not come from anybody trusted.
	Leaves []evidence.Hash
}

// Validate reports every fault, among them leaves that are not those under the root.
func (c Content) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrContent}, args...)...))
		}
	}
	check(c.Port != 0, "no port")
	check(len(c.Path) > 0 && c.Path[0] == '/', "a path of %q", c.Path)
	check(c.Block > 0 && c.Block <= MaxBlock, "blocks of %d bytes, at most %d", c.Block, MaxBlock)
	check(c.Size > 0, "%d bytes", c.Size)
	check(len(c.Leaves) <= maxLeaves, "%d blocks, at most %d", len(c.Leaves), maxLeaves)
	if len(errs) == 0 {
		blocks := (c.Size + int64(c.Block) - 1) / int64(c.Block)
		check(int64(len(c.Leaves)) == blocks, "%d hashes of %d blocks", len(c.Leaves), blocks)
		check(evidence.MerkleRoot(c.Leaves) == c.Root, "the hashes are not those under the root")
	}
	return errors.Join(errs...)
}

// Leaves returns the hashes of all blocks of a file, for its owner to publish.
func Leaves(file []byte, block int) []evidence.Hash {
	leaves := make([]evidence.Hash, 0, (len(file)+block-1)/max(block, 1))
	for len(file) > 0 {
		n := min(block, len(file))
		leaves = append(leaves, evidence.LeafHash(file[:n]))
		file = file[n:]
	}
	return leaves
}

// span returns the bytes of block i: from first to last, both included.
func (c *Content) span(i int) (first, last int64) {
	first = int64(i) * int64(c.Block)
	return first, min(first+int64(c.Block), c.Size) - 1
}

// holds reports whether data is block i.
func (c *Content) holds(i int, data []byte) bool { return evidence.LeafHash(data) == c.Leaves[i] }
