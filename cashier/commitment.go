package cashier

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"scn.alt/scn/cashier/tree"
)

// Roots are the roots of the trees over what a ledger is asked for. The key of a row
// in its tree is its key in the state.
type Roots struct {
	Names Hash `cbor:"1,keyasint,omitzero"`
	// Accounts have money, sequence, keys and stake, Services asks, bindings,
	// and who provides them, how well.
	Accounts   Hash `cbor:"2,keyasint,omitzero"`
	Services   Hash `cbor:"3,keyasint,omitzero"`
	Channels   Hash `cbor:"4,keyasint,omitzero"`
	Parameters Hash `cbor:"5,keyasint,omitzero"`
}

// The trees, in the order of Roots.
const (
	namesTree = iota
	accountsTree
	servicesTree
	channelsTree
	parametersTree

	treeCount
	noTree = -1
)

// treeRows says which rows are in which tree, by the first byte of their keys.
// What is in none is covered by the chain.
var treeRows = [treeCount]string{
	namesTree:      "n",
	accountsTree:   "abyg",
	servicesTree:   "kel",
	channelsTree:   "c",
	parametersTree: "p",
}

var treeOfRow = func() (trees [256]int8) {
	for i := range trees {
		trees[i] = noTree
	}
	for i, kinds := range treeRows {
		for _, kind := range []byte(kinds) {
			trees[kind] = int8(i)
		}
	}
	return trees
}()

// treeOf returns the tree a row is in, or noTree.
func treeOf(key []byte) int {
	if len(key) == 1 && key[0] == leaseStartKey[0] {
		return parametersTree // what the life of names depends on besides the parameters
	}
	return int(treeOfRow[key[0]])
}

func (r *Roots) at(i int) *Hash {
	return [...]*Hash{&r.Names, &r.Accounts, &r.Services, &r.Channels, &r.Parameters}[i]
}

// commitment is what the app hash commits to: the trees, the log of blocks, and the
// chain of changes of all other rows. It is a function of the state and the blocks,
// and lives in memory beside them. Its owner, the engine or a Replay, stages what a
// block changes, writes the block, and then commits; proofs are of what was
// committed, and so never of what a power cut could take back.
type commitment struct {
	// Owned by whoever stages.
	log    tree.Log
	staged struct {
		log   tree.Log
		roots Roots
	}
	changes [treeCount][]tree.Change // scratch
	others  []Change                 // scratch

	maps [treeCount]tree.Map

	mu    sync.RWMutex // guards below, and that maps and head belong together
	head  head
	roots Roots
	rules uint64 // of the head's block; 0 at height 0
}

// batchRows is how many rows go into the trees at once when they are built: enough
// that the upper nodes are hashed rarely.
const batchRows = 1 << 15

// openCommitment builds the commitment from all rows of a state, whose head is h and
// was made by rules of a version.
func openCommitment(s rows, h head, rules uint64) (*commitment, error) {
	log, err := tree.NewLog(h.Height, treeHashes(h.Log))
	if err != nil {
		return nil, fmt.Errorf("%w: head: %w", ErrCorrupt, err)
	}
	c := &commitment{log: log, head: h, rules: rules}
	for i := range c.maps {
		batch := c.changes[i]
		flush := func() {
			c.maps[i].Stage(batch)
			c.maps[i].Commit()
			batch = batch[:0]
		}
		for _, prefix := range []byte(treeRows[i]) {
			err := s.scan([]byte{prefix}, nil, func(key, value []byte) bool {
				if batch = append(batch, tree.Put(key, value)); len(batch) == batchRows {
					flush()
				}
				return true
			})
			if err != nil {
				return nil, err
			}
		}
		if i == parametersTree {
			v, err := s.Get(leaseStartKey)
			if err != nil {
				return nil, err
			}
			if v != nil {
				batch = append(batch, tree.Put(leaseStartKey, v))
			}
		}
		flush()
		*c.roots.at(i) = c.maps[i].Root()
	}
	if rules >= rulesMarket && h.AppHash != appHash(h.Height, c.roots, Hash(log.Root()), h.Chain) {
		return nil, fmt.Errorf("%w: the rows are not those the app hash of block %d commits to", ErrCorrupt, h.Height)
	}
	return c, nil
}

// newCommitment returns the commitment of a ledger that begins with these rows.
func newCommitment(h head, changes []Change) *commitment {
	c := &commitment{}
	c.sort(changes)
	for i := range c.maps {
		c.staged.roots.set(i, c.maps[i].Stage(c.changes[i]))
	}
	c.commit(h, 0)
	return c
}

func (r *Roots) set(i int, h Hash) { *r.at(i) = h }

// sort puts changes to their trees, and the others aside.
func (c *commitment) sort(changes []Change) {
	for i := range c.changes {
		c.changes[i] = c.changes[i][:0]
	}
	c.others = c.others[:0]
	for _, ch := range changes {
		switch i := treeOf(ch.Key); {
		case i == noTree:
			c.others = append(c.others, ch)
		case ch.Value == nil:
			c.changes[i] = append(c.changes[i], tree.Delete(ch.Key))
		default:
			c.changes[i] = append(c.changes[i], tree.Put(ch.Key, ch.Value))
		}
	}
}

// stage returns the head after a block, whose header is complete, and the nodes of
// the log it makes. Here the app hash of every version of the rules is made. commit
// or discard must come next.
func (c *commitment) stage(h Header, changes []Change) (head, []tree.LogNode) {
	c.sort(changes)
	for i := range c.maps {
		c.staged.roots.set(i, c.maps[i].Stage(c.changes[i]))
	}
	next := head{Network: h.Network, Height: h.Height, Block: h.Hash(), Time: h.Time, Genesis: c.head.Genesis}
	var nodes []tree.LogNode
	c.staged.log, nodes = c.log.Append(tree.LogLeaf(next.Block[:]))
	next.Log = ownHashes(c.staged.log.Hashes())
	if h.Version < rulesMarket {
		next.AppHash = chainChanges(allRows, c.head.AppHash, h.Height, changes)
		return next, nodes
	}
	before := c.head.Chain
	if c.rules < rulesMarket {
		before = c.head.AppHash // the chain begins with all there was
	}
	next.Chain = chainChanges(otherRows, before, h.Height, c.others)
	next.AppHash = appHash(h.Height, c.staged.roots, Hash(c.staged.log.Root()), next.Chain)
	return next, nodes
}

// commit makes what was staged visible: the block, made by rules of a version, is on
// the disk.
func (c *commitment) commit(h head, rules uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.maps {
		c.maps[i].Commit()
	}
	c.log = c.staged.log
	c.head, c.roots, c.rules = h, c.staged.roots, rules
}

// discard forgets what was staged.
func (c *commitment) discard() {
	for i := range c.maps {
		c.maps[i].Discard()
	}
}

// checkpoint returns what there is to sign of the newest block.
func (c *commitment) checkpoint() Checkpoint {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.checkpointLocked()
}

func (c *commitment) checkpointLocked() Checkpoint {
	return Checkpoint{
		Network: c.head.Network, Height: c.head.Height, Block: c.head.Block, AppHash: c.head.AppHash, Rules: c.rules,
		Roots: c.roots, Log: Hash(c.log.Root()), Chain: c.head.Chain, BlockTime: c.head.Time,
	}
}

// row is a row of the state; a nil value says that there is none.
type row struct{ key, value []byte }

// errMoved is returned by prove when the commitment is not of the head the rows are
// of.
var errMoved = errors.New("cashier: the ledger moved on")

// prove proves rows of a state, each of a tree, with the checkpoint they are under.
// With errMoved the checkpoint's height is all that counts.
func (c *commitment) prove(of head, rows []row) (Checkpoint, [][]byte, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.head.Height != of.Height {
		return Checkpoint{Height: c.head.Height}, nil, errMoved
	}
	proofs := make([][]byte, len(rows))
	for i, r := range rows {
		m := &c.maps[treeOf(r.key)]
		if r.value != nil != m.Contains(r.key) || r.value != nil && !m.Has(r.key, r.value) {
			return Checkpoint{}, nil, fmt.Errorf("%w: %s is not what the app hash commits to", ErrCorrupt, rowName(r.key))
		}
		proofs[i] = m.Prove(r.key).Append(nil)
	}
	return c.checkpointLocked(), proofs, nil
}

// appHash is the app hash of the third rules. Every row is under it: in a tree, or
// in the chain.
func appHash(height uint64, r Roots, log, chain Hash) (out Hash) {
	s := sha256.New()
	s.Write([]byte("scn/ledger/v3 app"))
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], height)
	s.Write(n[:])
	for i := range treeCount {
		s.Write(r.at(i)[:])
	}
	s.Write(log[:])
	s.Write(chain[:])
	s.Sum(out[:0])
	return out
}

func treeHashes(hashes []Hash) []tree.Hash {
	out := make([]tree.Hash, len(hashes))
	for i, h := range hashes {
		out[i] = tree.Hash(h)
	}
	return out
}

func ownHashes(hashes []tree.Hash) []Hash {
	out := make([]Hash, len(hashes))
	for i, h := range hashes {
		out[i] = Hash(h)
	}
	return out
}
