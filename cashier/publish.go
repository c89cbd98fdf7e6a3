package cashier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"scn.alt/scn/naming/name"
)

// Publisher configures Publish. Put is required.
type Publisher struct {
	// Put brings a signed record to where names are resolved. It is called from
	// several goroutines, and again later for a record it failed for.
	Put func(ctx context.Context, n name.Name, signed []byte) error
	// Interval is how often every record is put anew. Default 4h; it must be well
	// below what the DHT's nodes keep a value for, and below name.Validity.
	Interval time.Duration
	// Retry is how often failed puts are tried again. Default 1m.
	Retry time.Duration
	// Parallel is how many puts run at once. Default 8.
	Parallel int
}

// Publish puts the record of every name, freshly signed, when it begins and at
// every interval after, and the record of each name that changes at once. It
// blocks until ctx ends or the ledger is closed, and then returns nil; an error
// means that the ledger could not be read.
func (l *Ledger) Publish(ctx context.Context, p Publisher) error {
	if p.Put == nil {
		return errors.New("cashier: Publisher.Put is not set")
	}
	p.Interval = orDefault(p.Interval, 4*time.Hour)
	p.Retry = orDefault(p.Retry, time.Minute)
	p.Parallel = orDefault(p.Parallel, 8)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	walk := time.NewTimer(0)
	defer walk.Stop()
	retry := time.NewTimer(p.Retry)
	defer retry.Stop()
	seen := l.head.Load().Height
	failed := map[name.Name]struct{}{} // at most one entry per name of the ledger
	for {
		changed := l.changes()
		names, height, err := l.namesSince(seen)
		if err == nil {
			seen = height
			err = l.putNames(ctx, p, names, failed)
		}
		if err != nil {
			return l.stopped(ctx, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.stop:
			return nil
		case <-changed:
		case <-walk.C:
			if err := l.putAll(ctx, p, failed); err != nil {
				return l.stopped(ctx, err)
			}
			walk.Reset(p.Interval)
		case <-retry.C:
			names := make([]name.Name, 0, len(failed))
			for n := range failed {
				names = append(names, n)
			}
			if err := l.putNames(ctx, p, names, failed); err != nil {
				return l.stopped(ctx, err)
			}
			retry.Reset(p.Retry)
		}
	}
}

// changes returns a channel that is closed at the next block.
func (l *Ledger) changes() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// stopped returns nil in place of errors that only say that it is time to end.
func (l *Ledger) stopped(ctx context.Context, err error) error {
	select {
	case <-l.stop:
		return nil
	default:
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// namesSince returns the names changed above a height, once each, and the height
// up to which that is all.
func (l *Ledger) namesSince(height uint64) ([]name.Name, uint64, error) {
	top := l.head.Load().Height
	seen := map[name.Name]struct{}{}
	var out []name.Name
	err := l.read(func(s rows) error {
		for h := height + 1; h <= top; h++ {
			b, err := loadBlock(s.r, h)
			if err != nil {
				return err
			}
			for _, signed := range b.Transactions {
				tx, _, err := decodeTransaction(l.cfg.Network, signed)
				if err != nil {
					return fmt.Errorf("%w: block %d: %w", ErrCorrupt, h, err)
				}
				n, ok := nameOf(tx.Operation)
				if _, again := seen[n]; ok && !again {
					seen[n] = struct{}{}
					out = append(out, n)
				}
			}
		}
		return nil
	})
	return out, top, err
}

// putNames puts the records of names as they are now.
func (l *Ledger) putNames(ctx context.Context, p Publisher, names []name.Name, failed map[name.Name]struct{}) error {
	return l.put(ctx, p, failed, func(yield func(SignedRecord) bool) error {
		for _, n := range names {
			a, err := l.Lookup(ctx, n)
			if err != nil {
				return err
			}
			if a.Signed != nil && !yield(SignedRecord{a.Record, a.Signed}) {
				return nil
			}
		}
		return nil
	})
}

func (l *Ledger) putAll(ctx context.Context, p Publisher, failed map[name.Name]struct{}) error {
	return l.put(ctx, p, failed, func(yield func(SignedRecord) bool) error {
		for r, err := range l.Records(ctx) {
			if err != nil {
				return err
			}
			if !yield(r) {
				return nil
			}
		}
		return nil
	})
}

// put puts the records of a source, some at once, and keeps in failed the names
// that did not get through.
func (l *Ledger) put(ctx context.Context, p Publisher, failed map[name.Name]struct{}, source func(func(SignedRecord) bool) error) error {
	type outcome struct {
		name name.Name
		err  error
	}
	outcomes := make(chan outcome, p.Parallel)
	var collect, group errgroup.Group
	collect.Go(func() error {
		for o := range outcomes {
			if o.err == nil {
				delete(failed, o.name)
				l.metrics.published.Add(1)
				continue
			}
			failed[o.name] = struct{}{}
			l.metrics.publishFailed.Add(1)
			if ctx.Err() == nil {
				l.cfg.Logger.Debug("name record not published", "name", string(o.name), "err", o.err)
			}
		}
		return nil
	})
	group.SetLimit(p.Parallel)
	err := source(func(r SignedRecord) bool {
		group.Go(func() error {
			outcomes <- outcome{r.Record.Name, p.Put(ctx, r.Record.Name, r.Signed)}
			return nil
		})
		return ctx.Err() == nil
	})
	_ = group.Wait() // its functions return nil
	close(outcomes)
	_ = collect.Wait()
	return err
}

func orDefault[T time.Duration | int](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}
