package till

import (
	"context"
	"errors"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/meter"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

const (
	// defaultInterval is how often to settle while the ledger's epoch is not known, and
	// the most: a channel is given no credit in its last ten minutes, so it is settled
	// once more in time.
	defaultInterval = 5 * time.Minute
	// soon is when to look first, and again after the ledger was not reached.
	soon = 2 * time.Second
	// page is how many channels are asked for at once: what the ledger gives.
	page = 100
)

// Settled is what a settlement brought.
type Settled struct {
	// Channels were settled, for Amount together; Refused ones the ledger did not take.
	Channels, Refused int
	Amount            voucher.Amount
}

// Run settles in each epoch, refutes and renews, until ctx ends.
func (t *Till) Run(ctx context.Context) error {
	timer := time.NewTimer(soon)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-t.kick: // a first price: from now on there is something to look after
		}
		err := t.Look(ctx)
		if err != nil && ctx.Err() == nil {
			t.cfg.Logger.Debug("not settled", "err", err)
		}
		t.mu.Lock()
		wait := t.interval
		t.mu.Unlock()
		if err != nil {
			wait = min(wait, 15*soon)
		}
		timer.Reset(wait)
	}
}

// Look does once what Run does each time.
func (t *Till) Look(ctx context.Context) error {
	if !t.busy() {
		return nil
	}
	done, err := t.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer done()
	status, err := t.ledger.Status(ctx)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.interval = t.cfg.Interval
	if t.interval == 0 {
		t.interval = min(defaultInterval, Epoch(status.Parameters))
	}
	t.mu.Unlock()
	errRenew := t.renew(ctx)
	_, errSettle := t.settle(ctx)
	return errors.Join(errRenew, errSettle, t.watch(ctx))
}

// busy reports whether there is anything to look after: a node that asks no money does
// not bother the ledger.
func (t *Till) busy() bool {
	t.mu.Lock()
	m, prices := t.meter, len(t.prices)
	t.mu.Unlock()
	return prices > 0 || m != nil && len(m.Earned()) > 0
}

// Settle settles all that was promised and not yet paid, now.
func (t *Till) Settle(ctx context.Context) (Settled, error) {
	done, err := t.takeTurn(ctx)
	if err != nil {
		return Settled{}, err
	}
	defer done()
	return t.settle(ctx)
}

func (t *Till) settle(ctx context.Context) (out Settled, err error) {
	t.mu.Lock()
	m := t.meter
	t.mu.Unlock()
	if m == nil {
		return out, nil
	}
	var due []meter.Earned
	for _, e := range m.Earned() {
		if e.Voucher.Amount > e.Channel.Settled && e.Channel.Ask.Account == t.wallet.Account() {
			due = append(due, e)
		}
	}
	for len(due) > 0 && err == nil {
		batch := due[:min(len(due), cashier.MaxBatchVouchers)]
		due = due[len(batch):]
		err = t.settleBatch(ctx, m, batch, &out)
	}
	t.mu.Lock()
	t.lastErr, t.settled = err, t.cfg.Clock()
	if out != (Settled{}) {
		t.metrics.Settlements++
		t.metrics.Settled += uint64(out.Channels)
		t.metrics.Refused += uint64(out.Refused)
		t.metrics.Amount += out.Amount
	}
	t.mu.Unlock()
	if out.Channels > 0 {
		t.cfg.Logger.Info("settled", "channels", out.Channels, "amount", out.Amount.String())
	}
	return out, err
}

func (t *Till) settleBatch(ctx context.Context, m Meter, batch []meter.Earned, out *Settled) error {
	signed := make([]voucher.Signed, len(batch))
	for i, e := range batch {
		signed[i] = voucher.Signed{Session: e.Channel.SessionKey, Voucher: e.Voucher}
	}
	r, err := t.wallet.SettleBatch(ctx, t.wallet.Account(), signed)
	if errors.Is(err, cashier.ErrNothingPaid) {
		// All were refused: by each channel's row, why.
		out.Refused += len(batch)
		for _, e := range batch {
			err := t.refresh(ctx, m, e)
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err != nil {
		return err
	}
	refused := map[uint32]bool{}
	for _, f := range r.Refused {
		refused[f.Index] = true
	}
	out.Amount += r.Paid
	for i, e := range batch {
		if refused[uint32(i)] {
			out.Refused++
			if err := t.refresh(ctx, m, e); err != nil {
				return err
			}
			continue
		}
		out.Channels++
		c := e.Channel
		c.Settled, c.Sequence, c.Bytes, c.Milliseconds = e.Voucher.Amount, e.Voucher.Sequence, e.Voucher.Bytes, e.Voucher.Milliseconds
		m.Update(c)
	}
	return nil
}

// refresh asks the ledger about one channel and tells the meter.
func (t *Till) refresh(ctx context.Context, m Meter, e meter.Earned) error {
	c, err := t.ledger.Channel(ctx, e.Channel.ID)
	if errors.Is(err, cashier.ErrNoChannel) {
		return t.ended(m, e, e.Channel.Settled)
	}
	if err != nil {
		return err
	}
	return t.see(ctx, m, e, c)
}

// see takes what the ledger says of a channel: one that closes is refuted where there
// is something higher, one that is over is forgotten.
func (t *Till) see(ctx context.Context, m Meter, e meter.Earned, c cashier.Channel) error {
	switch c.State {
	case cashier.ChannelClosed:
		return t.ended(m, e, c.Settled)
	case cashier.ChannelClosing:
		if e.Voucher.Amount > c.Settled {
			if _, err := t.wallet.Refute(ctx, voucher.Signed{Session: c.Session, Voucher: e.Voucher}); err != nil {
				return err
			}
			t.mu.Lock()
			t.metrics.Refuted++
			t.mu.Unlock()
			t.cfg.Logger.Info("a stale closing was refuted", "peer", e.Peer.Short())
			return t.ended(m, e, e.Voucher.Amount)
		}
	case cashier.ChannelOpen:
	}
	next := e.Channel
	next.Deposit, next.Settled, next.Expires, next.Open = c.Deposit, max(next.Settled, c.Settled), c.Expires, c.State == cashier.ChannelOpen
	if next != e.Channel {
		m.Update(next)
	}
	return nil
}

func (t *Till) ended(m Meter, e meter.Earned, settled voucher.Amount) error {
	if lost, ok := e.Voucher.Amount.Sub(settled); ok && lost > 0 {
		t.cfg.Logger.Warn("a channel ended before all of it was settled", "peer", e.Peer.Short(), "lost", lost.String())
	}
	next := e.Channel
	next.Settled, next.Open = max(next.Settled, settled), false
	m.Update(next)
	return m.Forget(e.Channel.ID)
}

// watch looks for channels that close.
func (t *Till) watch(ctx context.Context) error {
	t.mu.Lock()
	m := t.meter
	t.mu.Unlock()
	if m == nil {
		return nil
	}
	earned := map[voucher.ChannelID]meter.Earned{}
	for _, e := range m.Earned() {
		earned[e.Channel.ID] = e
	}
	seen := map[voucher.ChannelID]bool{}
	var after voucher.ChannelID
	for {
		channels, err := t.ledger.Channels(ctx, t.wallet.Account(), after, page)
		if err != nil {
			return err
		}
		for _, c := range channels {
			after = c.ID
			seen[c.ID] = true
			if e, ours := earned[c.ID]; ours {
				if err := t.see(ctx, m, e, c); err != nil {
					return err
				}
			}
		}
		if len(channels) < page {
			break
		}
	}
	for id, e := range earned {
		if !seen[id] && e.Channel.Expires != 0 && e.Channel.Expires < t.cfg.Clock().Unix() {
			if err := t.ended(m, e, e.Channel.Settled); err != nil {
				return err
			}
		}
	}
	return nil
}

// Status is how settling goes.
type Status struct {
	// Account is paid.
	Account identity.AccountID
	// Promised is the newest vouchers' sum, Settled what of it is on the ledger.
	Promised, Settled voucher.Amount
	Channels          int
	// Last is when it was last tried, Err why it failed then.
	Last time.Time
	Err  error
}

// Status says how settling goes.
func (t *Till) Status() Status {
	t.mu.Lock()
	out := Status{Account: t.wallet.Account(), Last: t.settled, Err: t.lastErr}
	m := t.meter
	t.mu.Unlock()
	if m == nil {
		return out
	}
	for _, e := range m.Earned() {
		out.Channels++
		out.Promised += e.Voucher.Amount
		out.Settled += e.Channel.Settled
	}
	return out
}
