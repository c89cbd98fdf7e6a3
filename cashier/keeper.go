package cashier

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// keepEvery is how often the keeper looks.
const keepEvery = 5 * time.Second

// keep does beside the engine what takes long: it notes what the ledger promised,
// takes snapshots and prunes. It ends when Close says so. A failure is told and
// tried again: what is promised to others stands in blocks, which the engine keeps.
func (l *Ledger) keep() {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		if err := errors.Join(l.notePromise(), l.retain()); err != nil && l.failed() == nil {
			l.cfg.Logger.Error("ledger's keeping", "err", err)
		}
	}
}

// retain takes a snapshot twice in a Retention, and prunes the blocks up to the
// newest one that is older than Retention. It does nothing in an archive.
func (l *Ledger) retain() error {
	if l.cfg.Retention == 0 {
		return nil
	}
	l.store.keeping.Lock()
	defer l.store.keeping.Unlock()
	h := l.head.Load()
	have, err := listSnapshots(l.cfg.fs, l.dir, l.store.authority, l.cfg.Network)
	if err != nil {
		return err
	}
	if have, err = l.ownSnapshots(have); err != nil {
		return err
	}
	second := int64(l.cfg.Retention / time.Second)
	newest := baseRow{}
	if n := len(have); n > 0 {
		newest = have[n-1]
	}
	if h.Height > newest.Height && (newest.Height == 0 || h.Time-newest.Time >= second/2) {
		start := time.Now()
		base, err := l.takeSnapshot()
		if err != nil {
			return err
		}
		if base.Height > newest.Height {
			have = append(have, base)
			l.cfg.Logger.Info("snapshot taken", "height", base.Height, "took", time.Since(start))
		}
	}
	begin := l.begin.Load()
	for _, s := range have {
		if s.Height > begin && h.Time-s.Time >= second {
			begin = s.Height
		}
	}
	return l.prune(have, begin)
}

// ownSnapshots removes snapshots of a ledger that was here before a restore.
func (l *Ledger) ownSnapshots(have []baseRow) (out []baseRow, err error) {
	for _, s := range have {
		kept, err := l.keeps(Checkpoint{Height: s.Height, Block: s.Block})
		if err == nil && !kept {
			err = l.cfg.fs.RemoveAll(snapshotPath(l.cfg.fs, l.dir, s.Height))
		} else if kept {
			out = append(out, s)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// prune forgets the blocks up to a snapshot, and the snapshots before it.
func (l *Ledger) prune(have []baseRow, begin uint64) error {
	for _, s := range have {
		if s.Height != begin || begin == l.begin.Load() {
			continue
		}
		signed, err := sealAs(l.key, typeBase, s)
		if err != nil {
			return err
		}
		if err := l.chore(func() error { return l.store.prune(s.Height, signed) }); err != nil {
			return fmt.Errorf("prune: %w", err)
		}
		l.begin.Store(s.Height)
		l.cfg.Logger.Info("blocks pruned", "height", s.Height)
	}
	for _, s := range have {
		if s.Height < begin {
			if err := l.cfg.fs.RemoveAll(snapshotPath(l.cfg.fs, l.dir, s.Height)); err != nil {
				return err
			}
		}
	}
	return nil
}

// chore has the engine do something to the store between two blocks: nobody else
// writes there, and a store that fails stops the ledger.
func (l *Ledger) chore(do func() error) error {
	c := chore{do, make(chan error, 1)}
	select {
	case l.chores <- c:
	case <-l.stop:
		return ErrClosed
	}
	return <-c.done
}

// chore is something for the engine to do.
type chore struct {
	do   func() error
	done chan error // one answer, buffered
}

// checkpointTo links the store's files into a new folder, as of one block. What is in
// memory is flushed first: Pebble does not open the checkpoint of a store that was
// opened after a power cut and has not flushed since. The rest is done between two
// blocks: a log that is written while it is copied may be torn in its middle, and
// that Pebble does not open either.
func (l *Ledger) checkpointTo(path string, opts ...pebble.CheckpointOption) error {
	if err := l.store.db.Flush(); err != nil {
		return err
	}
	var err error
	stopped := l.chore(func() error {
		err = l.store.db.Checkpoint(path, opts...)
		return nil // the ledger goes on without
	})
	return errors.Join(stopped, err)
}

// prune deletes the blocks up to a height and notes where the ledger begins, both
// or neither.
func (s *store) prune(height uint64, base []byte) error {
	b := s.db.NewBatch()
	defer b.Close()
	err := errors.Join(
		b.DeleteRange(blockKey(0), blockKey(height+1), nil),
		b.Set(baseKey, base, nil),
	)
	if err != nil {
		return err
	}
	return s.commit(b)
}
