package cashier

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
)

// run is the engine: it owns the head and every write to the store. It ends when
// Close says so or the store fails, after answering every submission.
func (l *Ledger) run() {
	batch := make([]*submission, 0, l.cfg.MaxBlock)
	now := make(chan time.Time)
	close(now)
	every := l.tickEvery()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if e := l.tickEvery(); e != every {
			every = e
			tick.Reset(every)
		}
		batch = batch[:0]
		duty, err := l.seedDuty()
		if err != nil {
			l.fail(err)
			l.refuseUntilStopped()
			return
		}
		next := tick.C
		if duty != nil {
			batch = append(batch, duty)
		}
		if (duty != nil || l.unfinished) && l.refusal() == nil {
			next = now // there is something to do, whatever comes
		}
		select {
		case <-l.stop:
			l.refuse(nil, ErrClosed)
			return
		case s := <-l.queue:
			runtime.Gosched() // as in the gate
			batch = l.gather(append(batch, s))
		case <-next:
			l.watchClock()
		case c := <-l.chores:
			err := c.do()
			c.done <- err
			if err != nil {
				l.fail(err)
				l.refuseUntilStopped()
				return
			}
			l.duty = voucher.TransferID{} // not done yet
			continue
		}
		for rest := batch; ; {
			n, err := l.makeBlock(rest)
			if err != nil {
				l.fail(err)
				l.refuse(rest, l.failed())
				l.refuseUntilStopped()
				return
			}
			if rest = rest[n:]; len(rest) == 0 {
				break
			}
		}
	}
}

// fail stops the ledger. What a broken invariant left as evidence is kept beside
// the store, for a log may be gone by the time somebody looks.
func (l *Ledger) fail(err error) {
	l.failure.Store(&err)
	l.cfg.Logger.Error("ledger stopped", "err", err)
	if broken, ok := errors.AsType[*InvariantError](err); ok {
		path := l.cfg.fs.PathJoin(l.dir, fmt.Sprintf("evidence-%d.txt", broken.Height))
		if err := writeFile(l.cfg.fs, path, []byte(broken.Error()+"\n")); err != nil {
			l.cfg.Logger.Error("evidence not written", "err", err)
		}
	}
}

// gather adds what waits, without waiting: while one block is written the next
// gathers in the queue, so blocks grow with the load and a lone transaction waits
// for nobody.
func (l *Ledger) gather(batch []*submission) []*submission {
	for len(batch) < l.cfg.MaxBlock {
		select {
		case s := <-l.queue:
			batch = append(batch, s)
		default:
			return batch
		}
	}
	return batch
}

// makeBlock judges submissions in their order, writes the accepted ones as a
// block and answers all it judged. It returns how many that were: a name changed
// twice ends the block early. Rejections are answered after the write as well,
// since they may rest on what the same block accepted.
func (l *Ledger) makeBlock(batch []*submission) (int, error) {
	if err := l.refusal(); err != nil {
		for _, s := range batch {
			s.reply <- answer{err: err}
		}
		return len(batch), nil
	}
	h := *l.head.Load()
	now := max(h.Time, l.time.now(h.Time).Unix())
	block := Block{Header: Header{
		Version: l.rules.at(h.Height + 1), Network: h.Network, Height: h.Height + 1,
		Previous: h.Block, Time: now, AppHash: h.AppHash,
	}}
	if err := orderReveals(rows{l.store.db}, batch); err != nil {
		return 0, err
	}
	x, err := begin(rows{l.store.db}, block.Header, len(batch))
	if err != nil {
		return 0, err
	}
	if l.epoch = x.parameters.epoch(); *l.allowance.parameters.Load() != x.parameters {
		l.allowance.parameters.Store(new(x.parameters))
	}
	answers := make([]answer, 0, len(batch))
	size := 0
	for _, s := range batch {
		// Batches of vouchers are large: a block ends before it would be too large.
		if size += len(s.tx.signed) + 5; size > MaxBlock-1<<10 && len(answers) > 0 {
			break
		}
		r, err := x.execute(&s.tx)
		if err != nil {
			return 0, err
		}
		if r.Rejection != nil && r.Rejection.Code == NameBusy {
			break
		}
		if r.Rejection == nil && !r.Again {
			block.Transactions = append(block.Transactions, s.tx.signed)
		}
		answers = append(answers, answer{result: r})
	}
	// A block without transactions is a tick; see tick.go.
	if len(block.Transactions) > 0 || x.expired > 0 || x.newEpoch(h.Time) {
		changes := x.finish()
		if x.err != nil {
			return 0, x.err
		}
		if err := l.write(block, changes); err != nil {
			return 0, err
		}
	}
	if len(answers) > 0 {
		l.metrics.lagNanos.Store(int64(time.Since(batch[0].queued)))
	}
	for i, a := range answers {
		batch[i].reply <- a
	}
	return len(answers), nil
}

// write brings a block to the disk and makes it the head.
func (l *Ledger) write(block Block, changes []Change) error {
	block.Header.Transactions = bodyHash(block.Header.Version, block.Transactions)
	h, nodes := l.books.stage(block.Header, changes)
	start := time.Now()
	if err := l.store.write(block, changes, h, nodes); err != nil {
		l.books.discard()
		return err
	}
	l.books.commit(h, block.Header.Version)
	l.metrics.blocks.Add(1)
	l.metrics.accepted.Add(uint64(len(block.Transactions)))
	took := time.Since(start)
	l.metrics.commitNanos.Add(uint64(took))
	l.metrics.slowestNanos.Store(max(l.metrics.slowestNanos.Load(), int64(took)))
	l.head.Store(&h)
	l.mu.Lock()
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
	return nil
}

// refuse answers the batch and all that waits.
func (l *Ledger) refuse(batch []*submission, err error) {
	for _, s := range batch {
		s.reply <- answer{err: err}
	}
	for {
		select {
		case s := <-l.queue:
			s.reply <- answer{err: err}
		default:
			return
		}
	}
}

// refuseUntilStopped answers what still comes in after a failure.
func (l *Ledger) refuseUntilStopped() {
	for {
		select {
		case <-l.stop:
			l.refuse(nil, ErrClosed)
			return
		case s := <-l.queue:
			s.reply <- answer{err: l.failed()}
		case c := <-l.chores:
			c.done <- l.failed()
		}
	}
}

// orderReveals puts reveals of one name in the order of their commits, in the places
// they have: then nobody is told that he has a name which the machine gives to an
// older commit of the same block.
func orderReveals(s State, batch []*submission) error {
	type candidate struct {
		at     int
		s      *submission
		commit placeRow
	}
	var reveals map[name.Name][]candidate
	for i, sub := range batch {
		op, ok := sub.tx.Operation.(RevealName)
		if !ok {
			continue
		}
		b, err := s.Get(commitReference(sub.tx.Account, CommitHash(sub.tx.Network, sub.tx.Account, op.Name, op.Salt)).key())
		if err != nil {
			return err
		}
		c := candidate{at: i, s: sub, commit: placeRow{Height: math.MaxUint64}}
		if b != nil {
			row, err := decodeCommit(b)
			if err != nil {
				return err
			}
			c.commit = row.place
		}
		if reveals == nil {
			reveals = map[name.Name][]candidate{}
		}
		reveals[op.Name] = append(reveals[op.Name], c)
	}
	for _, rivals := range reveals { // each name's places are its own: their order does not matter
		places := make([]int, len(rivals))
		for i, c := range rivals {
			places[i] = c.at
		}
		slices.SortStableFunc(rivals, func(a, b candidate) int {
			return cmp.Or(cmp.Compare(a.commit.Height, b.commit.Height), cmp.Compare(a.commit.Index, b.commit.Index))
		})
		for i, c := range rivals {
			batch[places[i]] = c.s
		}
	}
	return nil
}
