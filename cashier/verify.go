package cashier

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/routing/identity"
)

// checkChain follows the chain back from the head over the newest blocks, all of
// them if blocks is negative. It checks hashes, heights and times, not signatures.
func checkChain(r reader, h head, blocks int) error {
	want, height, t := h.Block, h.Height, h.Time
	for ; height > 0 && blocks != 0; height, blocks = height-1, blocks-1 {
		b, err := loadBlock(r, height)
		if err != nil {
			return err
		}
		switch hd := b.Header; {
		case hd.Hash() != want:
			return fmt.Errorf("%w: block %d is not the one its successor names", ErrCorrupt, height)
		case hd.Network != h.Network || hd.Height != height || hd.Time > t:
			return fmt.Errorf("%w: block %d: wrong network, height or time", ErrCorrupt, height)
		default:
			want, t = hd.Previous, hd.Time
		}
	}
	if height == 0 && want != (Hash{}) {
		return fmt.Errorf("%w: the first block has a predecessor", ErrCorrupt)
	}
	above, err := readBlock(r, h.Height+1)
	if err == nil && above != nil {
		return fmt.Errorf("%w: a block above the head", ErrCorrupt)
	}
	return err
}

func loadBlock(r reader, height uint64) (Block, error) {
	raw, err := readBlock(r, height)
	if err != nil {
		return Block{}, err
	}
	if raw == nil {
		return Block{}, fmt.Errorf("%w: block %d is missing", ErrCorrupt, height)
	}
	return DecodeBlock(raw)
}

// Replay applies blocks in their order, beginning with an empty ledger of the
// network, and checks everything each of them says.
type Replay struct {
	state State
	put   func([]Change) error
	head  head
}

// NewReplay returns a replay from genesis that keeps the state in memory.
func NewReplay(network identity.NetworkID, genesis Parameters) *Replay {
	m := memory{}
	r, _ := newReplay(network, genesis, m, m.put) // memory does not fail
	return r
}

func newReplay(network identity.NetworkID, genesis Parameters, s State, put func([]Change) error) (*Replay, error) {
	changes, app := Genesis(network, genesis)
	return &Replay{s, put, head{Network: network, AppHash: app}}, put(changes)
}

// Apply checks the next block, with every signature in it, and applies it. After
// an error the replay stays where it was.
func (r *Replay) Apply(b Block) (Outcome, error) {
	h := b.Header
	switch {
	case h.Network != r.head.Network || h.Height != r.head.Height+1 || h.Previous != r.head.Block:
		return Outcome{}, fmt.Errorf("%w: block %d does not follow block %d", ErrCorrupt, h.Height, r.head.Height)
	case h.Time < r.head.Time || h.AppHash != r.head.AppHash || h.Transactions != bodyHash(b.Transactions):
		return Outcome{}, fmt.Errorf("%w: block %d: wrong time, app hash or transactions", ErrCorrupt, h.Height)
	}
	txs, err := b.Open()
	if err != nil {
		return Outcome{}, err
	}
	out, err := Apply(r.state, h, txs)
	if err != nil {
		return Outcome{}, err
	}
	for i, res := range out.Results {
		if res.Rejection != nil || res.Again {
			return Outcome{}, fmt.Errorf("%w: block %d, transaction %d should not be in it: %w", ErrCorrupt, h.Height, i, res.asError())
		}
	}
	if err := r.put(out.Changes); err != nil {
		return Outcome{}, err
	}
	r.head = head{h.Network, h.Height, h.Hash(), out.AppHash, h.Time}
	return out, nil
}

// Height returns the height of the last block applied.
func (r *Replay) Height() uint64 { return r.head.Height }

// AppHash returns the app hash after the last block applied.
func (r *Replay) AppHash() Hash { return r.head.AppHash }

// Block returns the hash of the last block applied.
func (r *Replay) Block() Hash { return r.head.Block }

func (r Result) asError() error {
	if r.Rejection != nil {
		return r.Rejection
	}
	return errors.New("accepted before")
}

// Verify replays every block from the first, checks every hash and signature, and
// compares the outcome with every row of the store. It works on a snapshot, beside
// the running ledger, with the state in a scratch store in memory. progress, if
// not nil, is called after each block. An error wrapping ErrCorrupt says what is
// wrong; the ledger itself goes on.
func (l *Ledger) Verify(ctx context.Context, progress func(height, of uint64)) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.readers.Done()
	snapshot := l.store.db.NewSnapshot()
	defer snapshot.Close()
	scratch, err := pebble.Open("verify", &pebble.Options{
		FS: vfs.NewMem(), DisableWAL: true, FormatMajorVersion: pebbleFormat, Logger: storeLogger{l.cfg.Logger},
	})
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	stopped := func() error {
		select {
		case <-l.stop:
			return ErrClosed
		default:
			return ctx.Err()
		}
	}
	return errors.Join(verify(stopped, snapshot, scratch, l.cfg.Network, progress), scratch.Close())
}

func verify(stopped func() error, r reader, scratch *pebble.DB, network identity.NetworkID, progress func(height, of uint64)) error {
	var h head
	var genesis Parameters
	for _, m := range []struct {
		key []byte
		row any
	}{{headKey, &h}, {genesisKey, &genesis}} {
		raw, err := get(r, m.key)
		if err != nil {
			return err
		}
		if err := identity.Unmarshal(raw, m.row); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrCorrupt, m.key, err)
		}
	}
	replay, err := newReplay(network, genesis, rows{scratch}, func(changes []Change) error {
		b := scratch.NewBatch()
		defer b.Close()
		if err := setRows(b, changes); err != nil {
			return err
		}
		return b.Commit(pebble.NoSync)
	})
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	for replay.Height() < h.Height {
		if err := stopped(); err != nil {
			return err
		}
		b, err := loadBlock(r, replay.Height()+1)
		if err != nil {
			return err
		}
		if _, err := replay.Apply(b); err != nil {
			return err
		}
		if progress != nil {
			progress(replay.Height(), h.Height)
		}
	}
	if replay.head != h {
		return fmt.Errorf("%w: the head is not what the blocks lead to", ErrCorrupt)
	}
	return compareRows(r, scratch)
}

// compareRows checks that two databases hold the same state.
func compareRows(a, b reader) error {
	bounds := &pebble.IterOptions{LowerBound: []byte(statePrefix), UpperBound: successor([]byte(statePrefix))}
	x, err := a.NewIter(bounds)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	y, err := b.NewIter(bounds)
	if err != nil {
		return errors.Join(fmt.Errorf("verify: %w", err), x.Close())
	}
	x.First()
	y.First()
	for x.Valid() && y.Valid() && bytes.Equal(x.Key(), y.Key()) && bytes.Equal(x.Value(), y.Value()) {
		x.Next()
		y.Next()
	}
	var found error
	switch {
	case x.Valid():
		found = fmt.Errorf("%w: row %q is not what the blocks lead to", ErrCorrupt, x.Key())
	case y.Valid():
		found = fmt.Errorf("%w: row %q is missing", ErrCorrupt, y.Key())
	}
	return errors.Join(found, x.Error(), y.Error(), x.Close(), y.Close())
}

// memory is a State in a map, for replays and tests.
type memory map[string][]byte

// Get implements State.
func (m memory) Get(key []byte) ([]byte, error) { return m[string(key)], nil }

func (m memory) put(changes []Change) error {
	for _, c := range changes {
		if c.Value == nil {
			delete(m, string(c.Key))
		} else {
			m[string(c.Key)] = c.Value
		}
	}
	return nil
}
