package cashier

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"scn.alt/scn/cashier/tree"
	"scn.alt/scn/routing/identity"
)

// A ledger that was put back to an older state, by a restored backup or a disk that
// forgot, would give other answers than it signed before: money spent twice, names
// given to two. It is known by checkpoints the authority signed since:
//
//	Config.Promised   the newest one, noted every few seconds outside the ledger
//	Witness           any one that somebody else holds
//
// A ledger that has promised more than it has takes no transactions, until its
// operator says that the newer state is lost (AcceptRollback). That is stated in a
// Fork, signed and kept for all to see; what was signed before it counts no more.

// Rollback is a promise the ledger does not keep.
type Rollback struct {
	// Promised is what was signed, Height where the ledger is.
	Promised Checkpoint
	Height   uint64
}

// Fork is the authority's statement that its ledger goes on from an older state
// than it once signed.
//
// Rules for adding a field: next integer key, omitzero, never reuse a key.
type Fork struct {
	Network identity.NetworkID `cbor:"1,keyasint"`
	// Height and Block are where the ledger was when this was stated.
	Height uint64 `cbor:"2,keyasint"`
	Block  Hash   `cbor:"3,keyasint"`
	// PromisedHeight and PromisedBlock are the newest known to be lost.
	PromisedHeight uint64 `cbor:"4,keyasint"`
	PromisedBlock  Hash   `cbor:"5,keyasint"`
	// Time is when it was stated, in Unix seconds. Checkpoints signed before, of blocks
	// the ledger does not have, do not count any more.
	Time int64 `cbor:"6,keyasint"`
}

// Excuses reports whether the fork explains why a checkpoint is not kept.
func (f Fork) Excuses(c Checkpoint) bool {
	return f.Network == c.Network && c.Time <= f.Time
}

// OpenFork verifies a fork that an authority of the network stated.
func OpenFork(network identity.NetworkID, authorities []identity.NodeID, signed []byte) (f Fork, err error) {
	if err := openAnswer(typeFork, signed, authorities, &f); err != nil {
		return f, err
	}
	if f.Network != network {
		return f, fmt.Errorf("fork: %w", ErrNetwork)
	}
	return f, nil
}

const forkPrefix = "m/fork/"

func forkKey(height uint64, time int64) []byte {
	return appendUint64(appendUint64([]byte(forkPrefix), height), uint64(time))
}

// checkPromise compares the ledger with what it noted that it promised.
func (l *Ledger) checkPromise() error {
	if l.cfg.Promised == "" {
		return nil
	}
	b, err := readFile(l.cfg.fs, l.cfg.Promised, identity.MaxEnvelope)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = l.judge(b)
	}
	if err != nil && !errors.Is(err, ErrRolledBack) {
		return fmt.Errorf("%s: %w", l.cfg.Promised, err)
	}
	return nil
}

// Witness is a checkpoint of this ledger that somebody holds. It returns
// ErrRolledBack when the ledger is not where it was then; from then on no
// transactions are taken. A checkpoint the authority did not sign changes nothing.
func (l *Ledger) Witness(_ context.Context, signed []byte) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.readers.Done()
	return l.judge(signed)
}

func (l *Ledger) judge(signed []byte) error {
	c, err := OpenCheckpoint(l.cfg.Network, []identity.NodeID{l.store.authority}, signed)
	if err != nil {
		return reject(BadSignature, "%v", err)
	}
	kept, err := l.keeps(c.Checkpoint)
	if err != nil || kept {
		return err
	}
	forks, err := l.forks()
	if err != nil {
		return err
	}
	for _, f := range forks {
		if f.Excuses(c.Checkpoint) {
			return nil
		}
	}
	found := &Rollback{c.Checkpoint, l.head.Load().Height}
	if had := l.rolledBack.Load(); had == nil || had.Promised.Height < c.Height {
		l.rolledBack.Store(found)
		l.cfg.Logger.Error("ledger was put back to an older state: it takes no transactions", "height", found.Height,
			"promised", c.Height, "advice", rollbackAdvice)
		if err := l.writePromise(c); err != nil {
			return err
		}
	}
	return l.refusal()
}

// keeps reports whether a checkpoint is of this ledger's past.
func (l *Ledger) keeps(c Checkpoint) (bool, error) {
	h := l.head.Load()
	switch {
	case c.Height > h.Height:
		return false, nil
	case c.Height == 0:
		return true, nil
	case c.Height == h.Height:
		return c.Block == h.Block, nil
	}
	leaf, err := readLog(l.store.db, 0, c.Height-1)
	return leaf == Hash(tree.LogLeaf(c.Block[:])), err
}

const rollbackAdvice = `restore a newer backup, or if there is none: scn ledger restore --accept-rollback`

// refusal is why no transaction is taken, nil if they are.
func (l *Ledger) refusal() error {
	r := l.rolledBack.Load()
	if r == nil {
		return nil
	}
	return reject(RolledBack, "block %d was promised at %s, and the newest is %d; its operator must %s",
		r.Promised.Height, time.Unix(r.Promised.Time, 0).UTC().Format(time.DateTime), r.Height, rollbackAdvice)
}

// Rollback tells what the ledger promised and does not keep; nil if nothing.
func (l *Ledger) Rollback() *Rollback { return l.rolledBack.Load() }

// AcceptRollback is the operator's word that what was promised is lost. It is
// stated in a Fork, and the ledger takes transactions again.
func (l *Ledger) AcceptRollback() (Fork, error) {
	if err := l.enter(); err != nil {
		return Fork{}, err
	}
	defer l.readers.Done()
	var f Fork
	err := l.chore(func() error {
		r, h := l.rolledBack.Load(), l.head.Load()
		if r == nil {
			return nil
		}
		f = Fork{
			Network: l.cfg.Network, Height: h.Height, Block: h.Block,
			PromisedHeight: r.Promised.Height, PromisedBlock: r.Promised.Block, Time: max(l.now().Unix(), r.Promised.Time),
		}
		signed, err := sealAs(l.key, typeFork, f)
		if err != nil {
			return err
		}
		b := l.store.db.NewBatch()
		defer b.Close()
		if err := errors.Join(b.Set(forkKey(f.Height, f.Time), signed, nil), l.store.commit(b)); err != nil {
			return err
		}
		l.rolledBack.Store(nil)
		return nil
	})
	if err != nil {
		return f, err
	}
	if f.Network.IsZero() {
		return f, reject(NotFound, "nothing was promised that is not kept")
	}
	l.cfg.Logger.Warn("rollback accepted", "height", f.Height, "lost", f.PromisedHeight)
	l.promise.Lock()
	l.promised = Checkpoint{}
	l.promise.Unlock()
	return f, l.notePromise()
}

// Forks returns the signed statements of all forks, the oldest first.
func (l *Ledger) Forks(context.Context) ([][]byte, error) {
	if err := l.enter(); err != nil {
		return nil, err
	}
	defer l.readers.Done()
	var out [][]byte
	err := eachRow(l.store.db, forkPrefix, func(_, value []byte) error {
		out = append(out, append([]byte(nil), value...))
		return nil
	})
	return out, err
}

func (l *Ledger) forks() ([]Fork, error) {
	return readForks(l.store.db, l.cfg.Network, l.store.authority)
}

func readForks(r reader, network identity.NetworkID, authority identity.NodeID) (out []Fork, err error) {
	err = eachRow(r, forkPrefix, func(key, value []byte) error {
		f, err := OpenFork(network, []identity.NodeID{authority}, value)
		if err != nil || string(key) != string(forkKey(f.Height, f.Time)) {
			return fmt.Errorf("%w: fork %q: %w", ErrCorrupt, key, errors.Join(err, errOtherKey))
		}
		out = append(out, f)
		return nil
	})
	return out, err
}

var errOtherKey = errors.New("it stands under another key")

// notePromise notes the newest checkpoint.
func (l *Ledger) notePromise() error {
	if l.cfg.Promised == "" || l.rolledBack.Load() != nil {
		return nil
	}
	c := l.books.checkpoint()
	l.promise.Lock()
	same := l.promised.Height == c.Height && l.promised.Block == c.Block
	l.promise.Unlock()
	if same {
		return nil
	}
	signed, err := l.signCheckpoint(c)
	if err != nil {
		return err
	}
	return l.writePromise(signed)
}

// writePromise writes the one checkpoint that is noted.
func (l *Ledger) writePromise(c SignedCheckpoint) error {
	if l.cfg.Promised == "" {
		return nil
	}
	l.promise.Lock()
	defer l.promise.Unlock()
	if err := replaceFile(l.cfg.fs, l.cfg.Promised, c.Signed); err != nil {
		return fmt.Errorf("note what was promised: %w", err)
	}
	l.promised = c.Checkpoint
	return nil
}
