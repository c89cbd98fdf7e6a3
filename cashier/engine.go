package cashier

import (
	"time"
)

// run is the engine: it owns the head and every write to the store. It ends when
// Close says so or the store fails, after answering every submission.
func (l *Ledger) run() {
	batch := make([]*submission, 0, l.cfg.MaxBlock)
	for {
		select {
		case <-l.stop:
			l.refuse(nil, ErrClosed)
			return
		case s := <-l.queue:
			batch = l.gather(append(batch[:0], s))
		}
		for rest := batch; len(rest) > 0; {
			n, err := l.makeBlock(rest)
			if err != nil {
				l.failure.Store(&err)
				l.cfg.Logger.Error("ledger stopped", "err", err)
				l.refuse(rest, l.failed())
				l.refuseUntilStopped()
				return
			}
			rest = rest[n:]
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
	h := *l.head.Load()
	now := max(h.Time, l.cfg.Clock().Unix())
	x, err := begin(rows{l.store.db}, h.Network, h.Height+1, now)
	if err != nil {
		return 0, err
	}
	answers := make([]answer, 0, len(batch))
	block := Block{Header: Header{
		Version: blockVersion, Network: h.Network, Height: h.Height + 1,
		Previous: h.Block, Time: now, AppHash: h.AppHash,
	}}
	for _, s := range batch {
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
	if len(block.Transactions) > 0 {
		if err := l.write(block, x.state.sorted(), h); err != nil {
			return 0, err
		}
	}
	for i, a := range answers {
		batch[i].reply <- a
	}
	return len(answers), nil
}

// write brings a block to the disk and makes it the head.
func (l *Ledger) write(block Block, changes []Change, h head) error {
	block.Header.Transactions = bodyHash(block.Transactions)
	h.AppHash = nextAppHash(h.AppHash, block.Header.Height, changes)
	h.Height, h.Block, h.Time = block.Header.Height, block.Header.Hash(), block.Header.Time
	start := time.Now()
	if err := l.store.write(block, changes, h); err != nil {
		return err
	}
	l.metrics.blocks.Add(1)
	l.metrics.accepted.Add(uint64(len(block.Transactions)))
	l.metrics.commitNanos.Add(uint64(time.Since(start)))
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
		}
	}
}
