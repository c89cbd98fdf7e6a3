package purse

import (
	"context"
	"errors"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/meter"
	"scn.alt/scn/cashier/spending"
)

// Run looks after the channels until ctx ends.
func (p *Purse) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			p.notePaid()
			return nil
		case <-timer.C:
		case <-p.kick:
		}
		p.Look(ctx)
		timer.Reset(p.wait())
	}
}

// overdue is how often to look at a channel whose deadline has passed: the ledger
// closes it with one of its next blocks.
const overdue = 2 * time.Second

// wait is how long until the next look: sooner where a channel is about to end.
func (p *Purse) wait() time.Duration {
	now := p.cfg.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	wait := p.cfg.Interval
	for _, r := range p.rows {
		if r.State == StateClosing && r.Deadline != 0 {
			wait = min(wait, max(overdue, time.Unix(r.Deadline, 0).Sub(now)))
		}
	}
	return wait
}

func (p *Purse) kickRun() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// Look looks at every channel once. A ledger that cannot be reached ends the look; the
// next one goes on.
func (p *Purse) Look(ctx context.Context) {
	p.notePaid()
	now := p.cfg.Clock()
	p.mu.Lock()
	rows := make([]*row, 0, len(p.rows))
	for _, r := range p.rows {
		if r.State == StateSwept {
			if now.Sub(time.Unix(r.Ended, 0)) > p.cfg.Keep {
				delete(p.rows, r.ID)
			}
			continue
		}
		rows = append(rows, r)
	}
	p.mu.Unlock()
	for _, r := range rows {
		if err := p.lookAt(ctx, r); err != nil {
			if ctx.Err() == nil {
				p.cfg.Logger.Debug("payment channel not looked after", "peer", r.Ask.Node.Short(), "err", err)
			}
			if errors.Is(err, meter.ErrLedgerUnreachable) {
				return
			}
		}
	}
}

func (p *Purse) lookAt(ctx context.Context, r *row) error {
	done, err := p.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer done()
	p.mu.Lock()
	state, used := r.State, time.Unix(r.Used, 0)
	p.mu.Unlock()
	switch state {
	case StateOpening:
		return p.finishOpening(ctx, r)
	case StateClosed:
		return p.sweep(ctx, r)
	case StateSwept:
		return nil
	case StateOpen:
		if err := p.finishRaise(ctx, r); err != nil {
			return err
		}
		if p.cfg.Clock().Sub(used) > p.cfg.IdleAfter {
			if _, err := p.stopPaying(r); err != nil {
				return err
			}
			return p.requestClose(ctx, r)
		}
	case StateClosing:
		// Asked for before a crash, or not heard: asking again is harmless.
		p.mu.Lock()
		asked := r.Deadline != 0
		p.mu.Unlock()
		if !asked {
			return p.requestClose(ctx, r)
		}
	}
	return p.refresh(ctx, r)
}

// refresh asks the ledger what became of a channel.
func (p *Purse) refresh(ctx context.Context, r *row) error {
	c, err := p.ledger.Channel(ctx, r.ID)
	if errors.Is(err, cashier.ErrNoChannel) && p.cfg.Clock().Unix() > r.Expires {
		// The ledger drops the row of a channel that expired.
		c, err = cashier.Channel{State: cashier.ChannelClosed, Settled: r.Settled}, nil
	}
	if err := p.noteAnswer(err); err != nil {
		return err
	}
	return p.take(r, c)
}

// take notes what the ledger says of a channel, and tells the meter.
func (p *Purse) take(r *row, c cashier.Channel) error {
	changed, m, err := p.note(r, c)
	if m != nil {
		p.mu.Lock()
		told := p.channelOf(r)
		p.mu.Unlock()
		m.Update(told)
	}
	if err != nil || !changed {
		return err
	}
	return p.save()
}

// note changes the row; the result says whether anything was new, and whom to
// tell.
func (p *Purse) note(r *row, c cashier.Channel) (changed bool, tell Meter, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := *r
	r.Settled = max(r.Settled, c.Settled)
	if c.Sequence > r.Sequence {
		r.Sequence, r.Bytes, r.Milliseconds = c.Sequence, c.Bytes, c.Milliseconds
	}
	r.Expires, r.Deadline = max(r.Expires, c.Expires), max(r.Deadline, c.Deadline)
	switch c.State {
	case cashier.ChannelOpen:
	case cashier.ChannelClosing:
		r.State = StateClosing
	case cashier.ChannelClosed:
		r.State, r.Ended = StateClosed, p.cfg.Clock().Unix()
		p.metrics.Closed++
		if err := p.book.Close(r.ID, r.Settled, p.cfg.Clock()); err != nil && !errors.Is(err, spending.ErrChannel) {
			return false, nil, err
		}
		p.kickRun() // to sweep it
	}
	if was.State != r.State || was.Settled != r.Settled || was.Expires != r.Expires {
		tell = p.meter
	}
	return was != *r, tell, nil
}

// sweep brings what came back from a closed channel to the node's account, unless
// another channel is opened from the same.
func (p *Purse) sweep(ctx context.Context, r *row) error {
	p.mu.Lock()
	busy, m := false, p.meter
	for _, other := range p.rows {
		busy = busy || other != r && other.Client == r.Client && other.State < StateClosed
	}
	p.mu.Unlock()
	if !r.Own && !busy {
		if err := p.noteAnswer(p.empty(ctx, r)); err != nil {
			return err
		}
	}
	if m != nil {
		if err := m.Forget(r.ID); err != nil {
			return err
		}
	}
	return p.change(func() error { r.State = StateSwept; return nil })
}

func (p *Purse) empty(ctx context.Context, r *row) error {
	account, err := p.ledger.Account(ctx, r.Client)
	if err != nil {
		return err
	}
	status, err := p.ledger.Status(ctx)
	if err != nil {
		return err
	}
	amount, ok := account.Counters.Available().Sub(status.Parameters.TransferFee)
	if !ok || amount == 0 {
		return nil
	}
	_, err = p.wallet(r).Pay(ctx, cashier.Transfer{
		ID:    derivedID("sweep", r.Nonce, amount),
		Moves: []cashier.Move{{Kind: cashier.MovePay, To: p.cfg.Wallet.Account(), Amount: amount}},
	})
	return err
}

// notePaid notes what the meter has promised since, in the book and on disk.
func (p *Purse) notePaid() {
	p.mu.Lock()
	m := p.meter
	p.mu.Unlock()
	if m == nil {
		return
	}
	spent := m.Spent() // takes the meter's own locks
	if p.noteSpent(spent) {
		if err := p.save(); err != nil {
			p.cfg.Logger.Error("what was spent is not on the disk", "err", err)
		}
	}
}

func (p *Purse) noteSpent(spent []meter.Spent) (changed bool) {
	now := p.cfg.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range spent {
		r := p.rows[s.Channel.ID]
		if r == nil || s.Voucher.Amount <= r.Promised {
			continue
		}
		r.Promised, r.Used, changed = s.Voucher.Amount, now.Unix(), true
		if err := p.book.Pay(r.ID, s.Voucher.Amount, now); err != nil && !errors.Is(err, spending.ErrChannel) {
			p.cfg.Logger.Warn("spending not noted", "err", err)
		}
	}
	return changed
}

// Summary says where the budget stands.
func (p *Purse) Summary() spending.Summary {
	p.notePaid()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.book.Summary(p.cfg.Clock())
}

// Days returns what was spent on each day since a time.
func (p *Purse) Days(since time.Time) []spending.Day {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.book.Days(since)
}
