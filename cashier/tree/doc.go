// Package tree has the Merkle trees with which a ledger proves what it says: Map,
// a sparse Merkle tree over keys and values, which proves that a key has a value or
// that it has none; and Log, a log of RFC 6962 that only grows, which proves that an
// entry is in it and that a longer log begins with a shorter one.
//
// # Map
//
// A key's place is its SHA-256, its path, read bit by bit from the first:
//
//	empty subtree      32 zero bytes
//	subtree of one     SHA-256(0x00 ‖ path ‖ SHA-256(value))      a leaf, wherever it is
//	any other          SHA-256(0x01 ‖ left ‖ right)
//
// The root is a function of the keys and values alone; how they came to be there
// leaves no trace. From a root each path leads to one place only: a leaf of its
// own, a leaf of another path, or nothing. So no root proves a key both present and
// absent.
//
// The tree lives in memory, in pages of nodes that name each other by number: a
// million keys take 120 MB and the garbage collector has nothing to follow. Changes
// are staged in copies of the nodes they touch, each hashed once, and become
// visible at Commit; proofs made meanwhile are of the version before.
//
// # Proof
//
//	1 byte   kind: 0 the key is present, 1 its place is empty, 2 another leaf is there
//	2 bytes  depth of the place, 0 to 256, big endian
//	n bytes  bitmap of the siblings that are not empty, from the root down, a bit each
//	32 each  those siblings, from the root down
//	64       kind 2: the other leaf's path and hash of its value
//
// Verifying one is a pure function of bounded work.
//
// # What it does not do
//
// It stores nothing: a Map is rebuilt from the rows it stands for, and a Log is
// given its hashes by the caller.
//
// # Concurrency
//
// One goroutine stages and commits; any number may read and prove meanwhile. Logs
// are not safe for concurrent use.
package tree
