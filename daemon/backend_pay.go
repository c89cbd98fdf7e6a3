package daemon

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/meter"
	"scn.alt/scn/cashier/purse"
	"scn.alt/scn/cashier/spending"
	"scn.alt/scn/cashier/till"
	"scn.alt/scn/cashier/usage"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/routing/identity"
)

// refusedFor is how long scn status shows why something was not paid.
const refusedFor = time.Hour

// SetPrice implements control.Backend.
func (b backend) SetPrice(ctx context.Context, q control.PriceRequest) (control.Price, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	nm, err := b.name(q.Name)
	if err != nil {
		return control.Price{}, explain(err)
	}
	out := control.Price{Name: string(nm)}
	switch {
	case q.For != nil:
		if q.Account == nil {
			return out, explain(missing(true, "account_id"))
		}
		g, err := b.d.node.GrantPrice(nm, *q.For, *q.Account)
		out.Service, out.Grant = g.Service, node.FormatGrant(g)
		return out, explainPay(err)
	case q.Free:
		return out, explainPay(b.d.node.WithdrawPrice(ctx, nm))
	}
	var grant *voucher.Grant
	if q.Grant != "" {
		g, err := node.ParseGrant(strings.TrimSpace(q.Grant))
		if err != nil {
			return out, explain(err)
		}
		grant = &g
	}
	p, err := b.d.node.SetPrice(ctx, nm, till.Terms{
		Price: voucher.Price{PerGiB: q.PerGiB, PerHour: q.PerHour}, LossAllowance: q.LossAllowance, MaxWindow: q.MaxWindow,
	}, grant)
	if err != nil {
		return out, explainPay(err)
	}
	return b.priceOf(string(nm), p), nil
}

// Prices implements control.Backend.
func (b backend) Prices(context.Context) ([]control.Price, error) {
	prices := b.d.node.Till().Prices()
	services := b.d.node.Services()
	out := make([]control.Price, 0, len(services))
	for _, s := range services {
		out = append(out, b.priceOf(string(s.Name), prices[s.ID]))
		out[len(out)-1].Service = s.ID
	}
	return out, nil
}

func (b backend) priceOf(name string, p till.Price) control.Price {
	now := b.d.node.Now()
	out := control.Price{Name: name, Service: p.Ask.Service}
	if ask, in := p.At(now); in {
		out.Now, out.Service = askOf(ask), ask.Service
	}
	if p.Next.Sequence != 0 && p.Next.ValidFrom > now.Unix() {
		out.Next = askOf(p.Next)
	}
	return out
}

func askOf(a voucher.Ask) *control.Ask {
	out := &control.Ask{
		PerGiB: a.Price.PerGiB, PerHour: a.Price.PerHour, LossAllowance: a.LossAllowance, MaxWindow: a.MaxWindow, Until: unix(a.ValidTo),
	}
	if a.ValidFrom > 0 {
		from := unix(a.ValidFrom)
		out.From = &from
	}
	return out
}

// Market implements control.Backend.
func (b backend) Market(ctx context.Context, text string) (control.Market, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	r, offers, ledgerErr, err := b.d.node.Market(ctx, text)
	if err != nil {
		return control.Market{}, explainPay(err)
	}
	out := control.Market{Name: string(r.Name), Service: r.Service, Policy: b.d.node.Policy().String(), Offers: []control.Offer{}}
	if ledgerErr != nil {
		out.LedgerError = ledgerErr.Error()
	}
	for _, o := range offers {
		v := control.Offer{NodeID: o.Node, Locators: o.Locators, Priority: o.Priority, Weight: o.Weight, First: o.First}
		if o.Priced {
			account := o.Now.Account
			v.Now, v.Account = askOf(o.Now), &account
		}
		if next := o.Posted.Next; next.Sequence != 0 {
			v.Next = askOf(next)
		}
		if o.Answers {
			rtt := milliseconds(o.RTT)
			v.RTTMS = &rtt
		}
		if !o.Expires.IsZero() {
			expires := o.Expires
			v.Expires = &expires
		}
		if o.Refused != nil {
			v.Refused = o.Refused.Error()
		}
		if o.Score != nil {
			score := scoreOf(*o.Score)
			v.Score, v.Standing = &score.Score, &score
		}
		out.Offers = append(out.Offers, v)
	}
	return out, nil
}

// PayChannels implements control.Backend.
func (b backend) PayChannels(ctx context.Context) ([]control.PayChannel, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	paying := b.d.node.Purse().Channels()
	// Where the ledger is away this is what was known last, which is shown all the same.
	earning, err := b.d.node.EarningChannels(ctx)
	if err != nil {
		b.d.log.Debug("channels not refreshed", "err", err)
	}
	out := make([]control.PayChannel, 0, len(paying)+len(earning))
	for _, c := range paying {
		out = append(out, b.payingOf(c))
	}
	for _, e := range earning {
		v := channelOf(e.Channel)
		v.NodeID, v.State = b.d.node.ID(), e.State
		v.Promised = max(e.Voucher.Amount, e.Channel.Settled)
		v.Vouchers, v.Bytes, v.Milliseconds = max(v.Vouchers, e.Voucher.Sequence), max(v.Bytes, e.Voucher.Bytes), max(v.Milliseconds, e.Voucher.Milliseconds)
		if e.Deadline != 0 {
			t := unix(e.Deadline)
			v.Deadline = &t
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(x, y control.PayChannel) int {
		if x.Paying != y.Paying {
			return map[bool]int{true: -1, false: 1}[x.Paying]
		}
		return cmp.Or(slices.Compare(x.Service[:], y.Service[:]), slices.Compare(x.ID[:], y.ID[:]))
	})
	return out, nil
}

func channelOf(c meter.Channel) control.PayChannel {
	out := control.PayChannel{
		ID: c.ID, Service: c.Ask.Service, NodeID: c.Ask.Node, Client: c.Client, Provider: c.Ask.Account,
		PerGiB: c.Ask.Price.PerGiB, PerHour: c.Ask.Price.PerHour, Deposit: c.Deposit, Settled: c.Settled,
		Vouchers: c.Sequence, Bytes: c.Bytes, Milliseconds: c.Milliseconds,
	}
	if c.Expires != 0 {
		t := unix(c.Expires)
		out.Expires = &t
	}
	return out
}

// payingOf adds what the meter promised on a channel.
func (b backend) payingOf(c purse.Channel) control.PayChannel {
	v := channelOf(c.Channel)
	v.Paying, v.State, v.Promised = true, c.State.String(), c.Promised
	for _, s := range b.d.node.Meter().Spent() {
		if s.Channel.ID == c.ID {
			v.Vouchers, v.Bytes, v.Milliseconds = s.Voucher.Sequence, s.Voucher.Bytes, s.Voucher.Milliseconds
		}
	}
	if !c.Deadline.IsZero() {
		t := c.Deadline.UTC()
		v.Deadline = &t
	}
	return v
}

// OpenChannel implements control.Backend.
func (b backend) OpenChannel(ctx context.Context, q control.ChannelRequest) (control.PayChannel, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	var at identity.NodeID
	if q.Node != nil {
		at = *q.Node
	}
	held, err := b.d.node.OpenChannel(ctx, q.Name, at, q.Amount)
	if err != nil {
		return control.PayChannel{}, explainPay(err)
	}
	return b.ownChannel(held.ID)
}

// TopUpChannel implements control.Backend.
func (b backend) TopUpChannel(ctx context.Context, q control.ChannelRequest) (control.PayChannel, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	if err := b.d.node.TopUpChannel(ctx, q.ID, q.Amount); err != nil {
		return control.PayChannel{}, explainPay(err)
	}
	return b.ownChannel(q.ID)
}

// CloseChannel implements control.Backend.
func (b backend) CloseChannel(ctx context.Context, q control.ChannelRequest) (control.PayChannel, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	c, err := b.d.node.Purse().Close(ctx, q.ID)
	if err != nil {
		return control.PayChannel{}, explainPay(err)
	}
	return b.payingOf(c), nil
}

func (b backend) ownChannel(id voucher.ChannelID) (control.PayChannel, error) {
	for _, c := range b.d.node.Purse().Channels() {
		if c.ID == id {
			return b.payingOf(c), nil
		}
	}
	return control.PayChannel{}, explainPay(purse.ErrNoChannel)
}

// Statement implements control.Backend.
func (b backend) Statement(ctx context.Context, q control.StatementRequest) (control.Statement, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	if q.Until.IsZero() {
		// A record begun in this very millisecond is still of the period.
		q.Until = b.d.node.Now().Add(time.Millisecond)
	}
	var account identity.AccountID
	if q.Account != nil {
		account = *q.Account
	}
	s, ledgerErr, err := b.d.node.Statement(ctx, account, q.Since, q.Until)
	if err != nil {
		return control.Statement{}, explainPay(err)
	}
	return statementOf(s, q.Account, ledgerErr)
}

func statementOf(s usage.Statement, account *identity.AccountID, ledgerErr error) (control.Statement, error) {
	out := control.Statement{
		Account: account, Since: s.Since.UTC(), Until: s.Until.UTC(), Lines: []control.StatementLine{}, Paid: s.Paid, Earned: s.Earned,
		SettledPaid: s.SettledPaid, SettledEarned: s.SettledEarned, UnsettledPaid: s.UnsettledPaid, UnsettledEarned: s.UnsettledEarned,
	}
	if ledgerErr != nil {
		out.LedgerError = ledgerErr.Error()
	}
	for _, l := range s.Lines {
		p := l.Position
		out.Lines = append(out.Lines, control.StatementLine{
			Channel: l.Channel, Service: l.Service, Peer: l.Peer, Direction: l.Direction(), Sessions: l.Sessions,
			Sent: l.Sent, Received: l.Received, Milliseconds: l.Milliseconds, PerGiB: p.Price.PerGiB, PerHour: p.Price.PerHour,
			Used: l.Used, UsedAll: l.UsedAll, Promised: p.Promised, Settled: p.Settled,
			Unpromised: l.Unpromised.String(), Unsettled: l.Unsettled.String(), State: p.State,
		})
	}
	var csv strings.Builder
	err := s.WriteCSV(&csv)
	out.CSV = csv.String()
	return out, err
}

// payStatus is nil where nothing was ever paid, earned or refused, and nothing may be.
func (d *daemon) payStatus() *control.Pay {
	now := d.node.Now()
	spent, earned := d.node.Purse().Summary(), d.node.Till().Status()
	refused := d.node.Purse().Refusals(now.Add(-refusedFor))
	prices := d.node.Till().Prices()
	if !spent.Limits.Pays() && spent.Channels == 0 && earned.Channels == 0 && len(refused) == 0 && len(prices) == 0 {
		return nil
	}
	out := &control.Pay{
		Policy: d.node.Policy().String(), Spent: spent.Spent, Committed: spent.Committed, Channels: spent.Channels,
		Earned: earned.Promised, Settled: earned.Settled,
	}
	if l := spent.Limits.PerDay; l != spending.Unlimited {
		out.Budget = &l
	}
	for _, r := range refused {
		out.Refused = append(out.Refused, control.Refusal{At: r.At.UTC(), Service: r.Service, NodeID: r.Node, Reason: r.Err.Error()})
	}
	return out
}

// explainPay gives errors of paying the code their command exits with, and what to do
// about them.
func explainPay(err error) error {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
	}
	switch {
	case is(meter.ErrLedgerUnreachable):
		return control.Errorf(control.Unreachable, "%w (\"scn doctor\" looks for the cause)", err)
	case is(meter.ErrBudget, spending.ErrBudget):
		return control.Errorf(control.Refused, "%w: pay.budget_per_day and pay.budget_per_service in the settings raise it; \"scn ledger account\" shows what this node has", err)
	case is(meter.ErrPrice, spending.ErrPrice):
		return control.Errorf(control.Refused, "%w: pay.max_price_per_gib and pay.max_price_per_hour in the settings raise it", err)
	case is(till.ErrNoGrant):
		return control.Errorf(control.Refused, "%w: its owner prints a token with \"scn price SERVICE --for NODEID --account ACCOUNTID\", to be given here with --grant", err)
	case is(till.ErrFree, purse.ErrNoChannel, cashier.ErrNoChannel, cashier.ErrNoAsk):
		return control.Errorf(control.NotFound, "%w", err)
	case is(meter.ErrChannel, cashier.ErrChannelOver, cashier.ErrChannelClosing, cashier.ErrDeposit, cashier.ErrTooSoon, cashier.ErrStaleAsk,
		cashier.ErrNotGranted, cashier.ErrNodeConsent):
		return control.Errorf(control.Refused, "%w", err)
	}
	return explainMoney(err)
}
