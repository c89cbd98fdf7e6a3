package purse

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/meter"
	"scn.alt/scn/cashier/voucher"
)

// ErrNoChannel is returned for a channel that this node did not open.
var ErrNoChannel = errors.New("purse: no such channel of this node")

// Open implements meter.Channels: it opens a channel with the deposit of the settings,
// or less if the budget has less.
func (p *Purse) Open(ctx context.Context, ask voucher.Ask) (meter.Held, error) {
	p.mu.Lock()
	deposit := p.book.Limits().Deposit
	p.mu.Unlock()
	return p.OpenWith(ctx, ask, deposit)
}

// OpenWith opens a channel that holds an amount, or less if the budget has less. One
// whose opening is under way for the same ask is finished instead.
func (p *Purse) OpenWith(ctx context.Context, ask voucher.Ask, deposit voucher.Amount) (meter.Held, error) {
	done, err := p.takeTurn(ctx)
	if err != nil {
		return meter.Held{}, err
	}
	defer done()
	r, err := p.prepare(ask, deposit)
	if err != nil {
		return meter.Held{}, err
	}
	if err := p.finishOpening(ctx, r); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.refuseLocked(ask, err, p.cfg.Clock())
		return meter.Held{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cfg.Logger.Info("payment channel opened", "service", ask.Service.Short(), "peer", ask.Node.Short(), "deposit", r.Deposit.String())
	return p.held(r), nil
}

// prepare takes a deposit from the budget and writes the channel down, before anybody
// hears of it.
func (p *Purse) prepare(ask voucher.Ask, deposit voucher.Amount) (*row, error) {
	r, err := p.reserve(ask, deposit)
	if err != nil {
		return nil, err
	}
	if err := p.save(); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.rows, r.ID)
		return nil, errors.Join(err, p.book.Close(r.ID, 0, p.cfg.Clock()))
	}
	return r, nil
}

// reserve takes a deposit from the budget for a new channel, or finds one whose opening
// is under way.
func (p *Purse) reserve(ask voucher.Ask, deposit voucher.Amount) (*row, error) {
	now := p.cfg.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.rows {
		if r.State == StateOpening && r.Ask == ask {
			return r, nil
		}
	}
	fail := func(err error) (*row, error) {
		p.refuseLocked(ask, err, now)
		return nil, err
	}
	if err := p.book.Limits().Check(ask.Price); err != nil {
		return fail(asMeter(err))
	}
	least, err := leastDeposit(ask.Price)
	if err != nil {
		return fail(err)
	}
	granted, err := p.book.Grant(ask.Service, max(deposit, least), least, now)
	if err != nil {
		return fail(asMeter(err))
	}
	r := &row{Ask: ask, Own: p.cfg.OneAccount, State: StateOpening, Deposit: granted, Opened: now.Unix(), Used: now.Unix(), Expires: now.Add(p.cfg.Life).Unix()}
	if r.Nonce, err = voucher.NewTransferID(rand.Reader); err != nil {
		return nil, err
	}
	r.Client = p.wallet(r).Account()
	if r.Client == ask.Account {
		return fail(fmt.Errorf("%w: the provider's account is this node's own", meter.ErrChannel))
	}
	r.ID = p.opening(r).Channel(p.cfg.Network, r.Client)
	p.rows[r.ID] = r
	p.book.Open(r.ID, ask.Service, granted)
	return r, nil
}

// opening is the operation that opens a channel: always the same.
func (p *Purse) opening(r *row) cashier.OpenChannel {
	return cashier.OpenChannel{
		ID: r.Nonce, Provider: r.Ask.Account, Node: r.Ask.Node, Service: r.Ask.Service, Ask: r.Ask.ID(),
		Session: voucher.SessionKey(p.accounts.Session(r.Ask.Node, r.Nonce).Public()), Deposit: r.Deposit, Expires: r.Expires,
	}
}

// finishOpening funds and submits an opening until the ledger has it or refuses. An
// error that is meter.ErrLedgerUnreachable leaves it to be finished later.
func (p *Purse) finishOpening(ctx context.Context, r *row) error {
	p.mu.Lock()
	op := p.opening(r)
	p.mu.Unlock()
	err := p.fund(ctx, r, op.Deposit, r.Nonce)
	if err == nil {
		_, err = p.wallet(r).Pay(ctx, op)
	}
	err = p.noteAnswer(err)
	if errors.Is(err, meter.ErrLedgerUnreachable) {
		return err
	}
	if err == nil {
		return p.change(func() error { r.State = StateOpen; p.metrics.Opened++; return nil })
	}
	defer p.kickRun()
	return errors.Join(classify(err), p.change(func() error {
		// What was transferred for it is swept, as of a channel that ended unused.
		r.State, r.Deposit, r.Ended = StateClosed, 0, p.cfg.Clock().Unix()
		return p.book.Close(r.ID, 0, p.cfg.Clock())
	}))
}

// classify gives what a ledger refused the class that meter and sal know.
func classify(err error) error {
	if errors.Is(err, cashier.ErrFunds) {
		return fmt.Errorf("%w: this node's account has not got it: %w", meter.ErrBudget, err)
	}
	return fmt.Errorf("%w: %w", meter.ErrChannel, err)
}

// fund brings what an account lacks to it from the node's own. The transfer's ID is
// derived from what it is for, so that it counts once.
func (p *Purse) fund(ctx context.Context, r *row, need voucher.Amount, purpose voucher.TransferID) error {
	if r.Own {
		return nil
	}
	account, err := p.ledger.Account(ctx, r.Client)
	if err != nil {
		return err
	}
	lack, ok := need.Sub(account.Counters.Available())
	if !ok || lack == 0 {
		return nil
	}
	_, err = p.cfg.Wallet.Pay(ctx, cashier.Transfer{
		ID:    derivedID("fund", purpose, lack),
		Moves: []cashier.Move{{Kind: cashier.MovePay, To: r.Client, Amount: lack}},
	})
	return err
}

// derivedID is an ID for what is done once for a purpose.
func derivedID(what string, purpose voucher.TransferID, amount voucher.Amount) voucher.TransferID {
	b := append([]byte("scn/purse/"+what+"/v1"), purpose[:]...)
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(b, uint64(amount)))
	return voucher.TransferID(sum[:16])
}

// TopUp implements meter.Channels: it raises a deposit to at least atLeast, by as much
// as the settings put into a channel if the budget has that.
func (p *Purse) TopUp(ctx context.Context, id voucher.ChannelID, atLeast voucher.Amount) (meter.Channel, error) {
	done, err := p.takeTurn(ctx)
	if err != nil {
		return meter.Channel{}, err
	}
	defer done()
	p.mu.Lock()
	r := p.rows[id]
	p.mu.Unlock()
	if r == nil {
		return meter.Channel{}, ErrNoChannel
	}
	if err := p.finishRaise(ctx, r); err != nil {
		return meter.Channel{}, err
	}
	if err := p.prepareRaise(r, atLeast); err != nil {
		return meter.Channel{}, err
	}
	if err := p.finishRaise(ctx, r); err != nil {
		return meter.Channel{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.channelOf(r), nil
}

// prepareRaise takes what is to be added from the budget and writes it down.
func (p *Purse) prepareRaise(r *row, atLeast voucher.Amount) error {
	return p.change(func() error { return p.raiseLocked(r, atLeast) })
}

func (p *Purse) raiseLocked(r *row, atLeast voucher.Amount) error {
	now := p.cfg.Clock()
	if r.State != StateOpen {
		return fmt.Errorf("%w: the channel is %s", meter.ErrChannel, r.State)
	}
	least, more := atLeast.Sub(r.Deposit)
	if !more || least == 0 {
		return nil
	}
	fail := func(err error) error {
		p.refuseLocked(r.Ask, err, now)
		return asMeter(err)
	}
	if err := p.book.Limits().Check(r.Ask.Price); err != nil {
		return fail(err)
	}
	granted, err := p.book.Grant(r.Ask.Service, max(least, p.book.Limits().Deposit), least, now)
	if err != nil {
		return fail(err)
	}
	deposit, ok := r.Deposit.Add(granted)
	if !ok {
		return fmt.Errorf("%w: the deposit does not fit", meter.ErrBudget)
	}
	if r.Raised, err = voucher.NewTransferID(rand.Reader); err != nil {
		return err
	}
	r.Raise = granted
	return p.book.Deposit(r.ID, deposit)
}

// finishRaise submits a top-up that was written down, if there is one.
func (p *Purse) finishRaise(ctx context.Context, r *row) error {
	p.mu.Lock()
	raise, id, deposit := r.Raise, r.Raised, r.Deposit
	p.mu.Unlock()
	if raise == 0 {
		return nil
	}
	// The ID is forgotten after a day: the deposit itself tells whether it was done.
	c, err := p.ledger.Channel(ctx, r.ID)
	if err == nil && c.Deposit == deposit {
		if err = p.fund(ctx, r, raise, id); err == nil {
			_, err = p.wallet(r).Pay(ctx, cashier.TopUpChannel{ID: id, Channel: r.ID, Amount: raise})
		}
	}
	err = p.noteAnswer(err)
	if errors.Is(err, meter.ErrLedgerUnreachable) {
		return err
	}
	if err != nil {
		err = classify(err)
	}
	return errors.Join(err, p.change(func() error {
		r.Raise, r.Raised = 0, voucher.TransferID{}
		if err == nil {
			r.Deposit += raise
			p.metrics.Raised++
			return nil
		}
		return p.book.Withdraw(r.ID, deposit)
	}))
}

// Close asks the ledger to close a channel: its provider may settle until the deadline
// that Channels shows, then what is left comes back.
func (p *Purse) Close(ctx context.Context, id voucher.ChannelID) (Channel, error) {
	done, err := p.takeTurn(ctx)
	if err != nil {
		return Channel{}, err
	}
	defer done()
	p.mu.Lock()
	r := p.rows[id]
	p.mu.Unlock()
	if r == nil {
		return Channel{}, ErrNoChannel
	}
	closing, err := p.stopPaying(r)
	if err == nil && closing {
		err = p.requestClose(ctx, r)
	}
	if err != nil {
		return Channel{}, err
	}
	p.kickRun()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shownLocked(r), nil
}

// stopPaying has nothing more promised on an open channel, and reports whether it is to
// be closed.
func (p *Purse) stopPaying(r *row) (closing bool, err error) {
	var m Meter
	var told meter.Channel
	err = p.change(func() error {
		if r.State == StateOpen {
			r.State, m = StateClosing, p.meter
		}
		closing, told = r.State == StateClosing, p.channelOf(r)
		return nil
	})
	if m != nil {
		m.Update(told)
	}
	return closing, err
}

// requestClose submits the request, once and for all.
func (p *Purse) requestClose(ctx context.Context, r *row) error {
	_, err := p.wallet(r).Pay(ctx, cashier.RequestClose{ID: derivedID("close", r.Nonce, 0), Channel: r.ID})
	if errors.Is(err, cashier.ErrChannelClosing) || errors.Is(err, cashier.ErrChannelOver) {
		err = nil
	}
	if err := p.noteAnswer(err); err != nil {
		return err
	}
	return p.refresh(ctx, r)
}

// Channel is a channel of this node, to be shown.
type Channel struct {
	meter.Channel
	State            State
	Promised         voucher.Amount
	Opened, Deadline time.Time
}

// Channels returns the channels this node pays from, those closed included for a
// while.
func (p *Purse) Channels() []Channel {
	p.notePaid()
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Channel, 0, len(p.rows))
	for _, r := range p.rows {
		out = append(out, p.shownLocked(r))
	}
	return out
}

func (p *Purse) shownLocked(r *row) Channel {
	c := Channel{Channel: p.channelOf(r), State: r.State, Promised: max(r.Promised, r.Settled), Opened: time.Unix(r.Opened, 0)}
	if r.Deadline != 0 {
		c.Deadline = time.Unix(r.Deadline, 0)
	}
	return c
}
