package node

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/market"
	"scn.alt/scn/cashier/meter"
	"scn.alt/scn/cashier/purse"
	"scn.alt/scn/cashier/spending"
	"scn.alt/scn/cashier/till"
	"scn.alt/scn/cashier/usage"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal"
)

// PayConfig says what a node pays for by itself, and whom it prefers. The zero value
// pays for nothing and takes providers as their owner wants.
type PayConfig struct {
	// Limits are what may be spent.
	Limits spending.Limits
	// Policy chooses among providers. Default market.Weighted.
	Policy market.Policy
	// OneAccount pays every provider from the node's own account. Default: a fresh
	// account for each.
	OneAccount bool
	// Retention is how long usage records are kept. Default 120 d.
	Retention time.Duration
}

// Validate reports every fault.
func (c PayConfig) Validate() error {
	return errors.Join(c.Limits.Validate(), usage.Config{Retention: c.Retention}.Validate())
}

const (
	// settlePatience bounds the last settlement at shutdown: what it misses is settled
	// at the next start.
	settlePatience = 5 * time.Second
	// pingPatience bounds the measuring of one provider for the market.
	pingPatience = 2 * time.Second
	// grantLife is how long a grant to ask money lasts: it can be given anew, and a
	// node that must not provide any more loses its grant to provide.
	grantLife = 10 * 365 * 24 * time.Hour
)

// payment is what a node has to pay and to earn with.
type payment struct {
	purse  *purse.Purse
	till   *till.Till
	usage  *usage.Log
	market *market.Cache
	policy atomic.Uint32
}

// openPayment opens them, with the wallet of the node's account. The ledger itself is
// asked later.
func (n *Node) openPayment() (err error) {
	state, id, log := n.dir.StateDir(), n.Network().ID, n.log.With("layer", "cashier")
	books := lateBooks{n}
	n.wallet = cashier.NewWalletOf(n.account, n.signing, id, books, n.Now)
	p := &n.pay
	p.policy.Store(uint32(n.cfg.Pay.Policy))
	if p.purse, err = purse.Open(books, purse.Config{
		Network: id, Key: n.hello, Wallet: n.wallet, File: filepath.Join(state, "purse"), Limits: n.cfg.Pay.Limits, OneAccount: n.cfg.Pay.OneAccount,
		Clock: n.Now, Logger: log,
	}); err != nil {
		return err
	}
	if p.till, err = till.Open(books, till.Config{
		Network: id, Node: n.key, Wallet: n.wallet, File: filepath.Join(state, "till"), Clock: n.Now, Logger: log,
	}); err != nil {
		return err
	}
	if p.market, err = market.New(n.asksOf, market.Config{Clock: n.Now, Logger: log}); err != nil {
		return err
	}
	p.usage, err = usage.Open(filepath.Join(state, "usage"), usage.Config{Retention: n.cfg.Pay.Retention, Clock: n.Now, Logger: log})
	return err
}

// runPayment looks after channels, settles and learns prices until ctx ends.
func (n *Node) runPayment(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.pay.purse.Run(ctx) })
	group.Go(func() error { return n.pay.till.Run(ctx) })
	group.Go(func() error { return n.pay.market.Run(ctx) })
	return group.Wait()
}

// settleLast settles what was promised, while sessions to the ledger still work.
func (n *Node) settleLast() {
	if n.pay.till == nil || n.books == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), settlePatience)
	defer cancel()
	if _, err := n.pay.till.Settle(ctx); err != nil {
		n.log.Warn("not settled before the end: it will be at the next start", "err", err)
	}
}

// SetPay changes what may change while the node runs: limits and policy.
func (n *Node) SetPay(c PayConfig) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if err := n.pay.purse.SetLimits(c.Limits); err != nil {
		return err
	}
	n.pay.policy.Store(uint32(c.Policy))
	return nil
}

// Policy is how providers are chosen.
func (n *Node) Policy() market.Policy { return market.Policy(n.pay.policy.Load()) }

// Purse returns what pays.
func (n *Node) Purse() *purse.Purse { return n.pay.purse }

// Till returns what earns.
func (n *Node) Till() *till.Till { return n.pay.till }

// UsageMetrics says how many usage records were kept, and lost.
func (n *Node) UsageMetrics() usage.Metrics { return n.pay.usage.Metrics() }

// lateBooks is the ledger for those who are opened before it.
type lateBooks struct{ n *Node }

func (b lateBooks) books() (ledgerAPI, error) {
	if b.n.books == nil {
		return nil, cashier.ErrUnreachable
	}
	return b.n.books, nil
}

// Submit implements cashier.Submitter.
func (b lateBooks) Submit(ctx context.Context, signed []byte) (cashier.Receipt, error) {
	books, err := b.books()
	if err != nil {
		return cashier.Receipt{}, err
	}
	return books.Submit(ctx, signed)
}

// Account implements purse.Ledger.
func (b lateBooks) Account(ctx context.Context, id identity.AccountID) (cashier.Account, error) {
	books, err := b.books()
	if err != nil {
		return cashier.Account{}, err
	}
	return books.Account(ctx, id)
}

// Status implements purse.Ledger.
func (b lateBooks) Status(ctx context.Context) (cashier.Status, error) {
	books, err := b.books()
	if err != nil {
		return cashier.Status{}, err
	}
	return books.Status(ctx)
}

// Channel implements purse.Ledger.
func (b lateBooks) Channel(ctx context.Context, id voucher.ChannelID) (cashier.Channel, error) {
	books, err := b.books()
	if err != nil {
		return cashier.Channel{}, err
	}
	return books.Channel(ctx, id)
}

// Channels implements till.Ledger.
func (b lateBooks) Channels(ctx context.Context, account identity.AccountID, after voucher.ChannelID, limit int) ([]cashier.Channel, error) {
	books, err := b.books()
	if err != nil {
		return nil, err
	}
	return books.Channels(ctx, account, after, limit)
}

// Asks implements till.Ledger.
func (b lateBooks) Asks(ctx context.Context, service identity.ServiceID) ([]cashier.PostedAsk, error) {
	books, err := b.books()
	if err != nil {
		return nil, err
	}
	return books.Asks(ctx, service)
}

// asksOf is the market's source: what is asked for a service now.
func (n *Node) asksOf(ctx context.Context, service identity.ServiceID) ([]voucher.Ask, error) {
	posted, err := lateBooks{n}.Asks(ctx, service)
	if err != nil {
		return nil, err
	}
	now := n.Now()
	out := make([]voucher.Ask, 0, len(posted))
	for _, p := range posted {
		if ask, in := p.At(now); in {
			out = append(out, ask)
		}
	}
	return out, nil
}

// order implements sal.Policy by the market, without waiting: what is not known to ask
// money counts as free until its acceptance says otherwise. Where there is no choice,
// nobody is asked for prices: the meter judges what the one provider asks.
func (n *Node) order(service identity.ServiceID, choices []sal.Choice) {
	if len(choices) < 2 {
		return
	}
	asks := n.pay.market.Known(service)
	n.arrange(asks, n.knownScores(service), choices)
	if slices.ContainsFunc(choices, func(c sal.Choice) bool { return c.Refused == nil }) {
		return
	}
	for _, ask := range asks {
		_ = n.pay.purse.Permit(ask) // remembers for the user why nobody is asked
	}
}

func (n *Node) arrange(asks []voucher.Ask, scores map[identity.NodeID]cashier.ProviderScore, choices []sal.Choice) {
	policy := n.Policy()
	if len(asks) == 0 && len(scores) == 0 && policy != market.Fastest {
		return
	}
	offers := make([]market.Offer, len(choices))
	for i, c := range choices {
		offers[i] = market.Offer{Node: c.Node, RTT: c.RTT, Weight: c.Weight}
		if s, ok := scores[c.Node]; ok {
			offers[i].Score, offers[i].Scored, offers[i].Suspended = s.Standing.Score, true, s.Suspended
		}
		k := slices.IndexFunc(asks, func(a voucher.Ask) bool { return a.Node == c.Node })
		if k < 0 {
			continue
		}
		offers[i].Price = asks[k].Price
		// That the ledger is away, who opens the channel finds out.
		if err := n.pay.purse.Judge(asks[k]); err != nil && !errors.Is(err, meter.ErrLedgerUnreachable) {
			choices[i].Refused = err
		}
	}
	policy.Order(offers)
	for i, o := range offers {
		choices[i].Rank, choices[i].Weight = o.Rank, o.Weight
	}
}

// usageRecords writes what the meter saw to the usage log.
type usageRecords struct{ log *usage.Log }

// Record implements meter.Usage.
func (u usageRecords) Record(r meter.UsageRecord) {
	u.log.Record(usage.Record{
		Nonce: r.Nonce, Peer: r.Peer, Service: r.Service, Port: r.Port, Protocol: r.Protocol, Payer: r.Initiator, Channel: r.Channel,
		Sent: r.Sent, Received: r.Received, Milliseconds: r.Milliseconds, Amount: r.Amount,
		Start: r.Start.UnixMilli(), End: max(r.Start.UnixMilli(), r.End.UnixMilli()), Final: r.Final,
	})
}

// SetPrice asks money for a service this node provides. Where it is another node's,
// the grant is its owner's; nil where it was given before.
func (n *Node) SetPrice(ctx context.Context, nm name.Name, terms till.Terms, grant *voucher.Grant) (till.Price, error) {
	s, err := n.servedAs(nm)
	if err != nil {
		return till.Price{}, err
	}
	if grant == nil {
		if grant, err = n.ownGrant(nm, s.ID); err != nil {
			return till.Price{}, err
		}
	}
	if grant.Service != s.ID {
		return till.Price{}, fmt.Errorf("%w: the grant is for another service", ErrRequest)
	}
	return n.pay.till.Post(ctx, *grant, terms)
}

// servedAs finds a service of this node by its name.
func (n *Node) servedAs(nm name.Name) (Service, error) {
	for _, s := range n.Services() {
		if s.Name == nm {
			return s.Service, nil
		}
	}
	return Service{}, fmt.Errorf("%s: %w", nm, ErrNotServed)
}

// ownGrant is the one that was given before, or made with the service's key.
func (n *Node) ownGrant(nm name.Name, service identity.ServiceID) (*voucher.Grant, error) {
	if p, known := n.pay.till.Prices()[service]; known && p.Grant.Verify(n.Network().ID) && p.Grant.NotAfter > n.Now().Unix() {
		return &p.Grant, nil
	}
	g, err := n.GrantPrice(nm, n.ID(), n.Account())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", till.ErrNoGrant, err)
	}
	return &g, nil
}

// GrantPrice lets a node ask money for a service whose key this node has, for an
// account.
func (n *Node) GrantPrice(nm name.Name, node identity.NodeID, account identity.AccountID) (voucher.Grant, error) {
	key, err := n.dir.ServiceKey(string(nm))
	if err != nil {
		return voucher.Grant{}, fmt.Errorf("%s: %w", nm, ErrNotOwned)
	}
	g := voucher.Grant{Node: node, Account: account, NotAfter: n.Now().Add(grantLife).Unix()}
	g.Sign(key, n.Network().ID)
	return g, nil
}

// FormatGrant writes a grant as the text that its receiver gives to ParseGrant.
func FormatGrant(g voucher.Grant) string { return base64.RawURLEncoding.EncodeToString(g.Append(nil)) }

// ParseGrant reads what FormatGrant wrote.
func ParseGrant(text string) (voucher.Grant, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) != voucher.GrantSize {
		return voucher.Grant{}, fmt.Errorf("%w: not a grant token", ErrRequest)
	}
	g, err := voucher.ParseGrant(b)
	if err != nil {
		return g, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return g, nil
}

// WithdrawPrice makes a service free.
func (n *Node) WithdrawPrice(ctx context.Context, nm name.Name) error {
	s, err := n.servedAs(nm)
	if err != nil {
		return err
	}
	return n.pay.till.Withdraw(ctx, s.ID)
}

// MarketOffer is one provider of a service, with what it asks and how near it is.
type MarketOffer struct {
	record.Candidate
	Posted cashier.PostedAsk
	// Now is in force, if Priced.
	Now    voucher.Ask
	Priced bool
	// RTT is measured if Answers.
	RTT     time.Duration
	Answers bool
	// Refused is why this node would not use it.
	Refused error
	// First is preferred.
	First bool
	// Score is how it stands on the ledger, nil if it is not inspected.
	Score *cashier.ProviderScore
}

// Market lists who provides a service, at which price, as the policy ranks them. The
// second error is why prices are not known.
func (n *Node) Market(ctx context.Context, nameOrID string) (Resolution, []MarketOffer, error, error) {
	r, err := n.Resolve(ctx, nameOrID)
	if err != nil {
		return r, nil, nil, err
	}
	_, candidates, err := n.Providers(ctx, r.Service)
	if err != nil {
		return r, nil, nil, err
	}
	posted, ledgerErr := lateBooks{n}.Asks(ctx, r.Service)
	_, _ = n.pay.market.Fetch(ctx, r.Service) // the next dial knows as much as the user
	offers := make([]MarketOffer, len(candidates))
	var wg sync.WaitGroup
	for i, c := range candidates {
		o := &offers[i]
		o.Candidate = c
		if k := slices.IndexFunc(posted, func(p cashier.PostedAsk) bool { return p.Ask.Node == c.Node || p.Next.Node == c.Node }); k >= 0 {
			o.Posted = posted[k]
			o.Now, o.Priced = o.Posted.At(n.Now())
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, pingPatience)
			defer cancel()
			rtt, err := n.sal.PingAt(ctx, c, r.Service)
			o.RTT, o.Answers = rtt, err == nil
		})
	}
	wg.Wait()
	_ = n.fetchScores(ctx, r.Service) // where they cannot be had, what is known
	n.rank(r.Service, offers)
	return r, offers, ledgerErr, nil
}

// rank sorts offers as the policy does, and marks the first that is not refused.
func (n *Node) rank(service identity.ServiceID, offers []MarketOffer) {
	var asks []voucher.Ask
	choices := make([]sal.Choice, len(offers))
	for i, o := range offers {
		choices[i] = sal.Choice{Node: o.Node, Priority: o.Priority, Weight: o.Weight, RTT: o.RTT}
		if o.Priced {
			asks = append(asks, o.Now)
		}
	}
	scores := n.knownScores(service)
	for i, o := range offers {
		if s, ok := scores[o.Node]; ok {
			offers[i].Score = &s
		}
	}
	n.arrange(asks, scores, choices)
	best := -1
	better := func(a, b sal.Choice) bool {
		switch {
		case a.Rank != b.Rank:
			return a.Rank < b.Rank
		case a.Priority != b.Priority:
			return a.Priority < b.Priority
		}
		return a.Weight > b.Weight
	}
	for i, c := range choices {
		offers[i].Refused = c.Refused
		if c.Refused == nil && offers[i].Answers && (best < 0 || better(c, choices[best])) {
			best = i
		}
	}
	if best >= 0 {
		offers[best].First = true
	}
}

// OpenChannel opens a channel to a provider of a service with a deposit; the zero node
// is the one that a session would use.
func (n *Node) OpenChannel(ctx context.Context, nameOrID string, node identity.NodeID, deposit voucher.Amount) (meter.Held, error) {
	_, offers, ledgerErr, err := n.Market(ctx, nameOrID)
	if err := errors.Join(err, ledgerErr); err != nil {
		return meter.Held{}, err
	}
	for _, o := range offers {
		if o.Node != node && (!node.IsZero() || !o.First) {
			continue
		}
		if !o.Priced {
			return meter.Held{}, fmt.Errorf("%w: that provider asks no money", ErrRequest)
		}
		return n.pay.purse.OpenWith(ctx, o.Now, deposit)
	}
	return meter.Held{}, fmt.Errorf("%w: no such provider", ErrNotFound)
}

// Statement makes an invoice of a period: all of this node's, or what one account paid
// or was paid. The second error is why the ledger's part may be out of date.
func (n *Node) Statement(ctx context.Context, account identity.AccountID, since, until time.Time) (s usage.Statement, ledgerErr, err error) {
	if err := n.pay.usage.Flush(ctx); err != nil {
		return s, nil, err
	}
	positions, ledgerErr := n.positions(ctx)
	// All records there are: vouchers are sums over a channel's whole life.
	all := n.pay.usage.Records(time.UnixMilli(0), time.UnixMilli(math.MaxInt64/2))
	s, err = usage.MakeStatement(all, positions, account, since, until)
	return s, ledgerErr, err
}

// positions are where all channels of this node stand.
func (n *Node) positions(ctx context.Context) ([]usage.Position, error) {
	n.pay.purse.Look(ctx)
	positions := make([]usage.Position, 0, 16)
	for _, c := range n.pay.purse.Channels() {
		positions = append(positions, usage.Position{
			Channel: c.ID, Service: c.Ask.Service, Node: c.Ask.Node, Client: c.Client, Provider: c.Ask.Account, Price: c.Ask.Price,
			Promised: c.Promised, Settled: c.Settled, Deposit: c.Deposit, State: c.State.String(), Opened: c.Opened,
		})
	}
	earned, err := n.EarningChannels(ctx)
	for _, e := range earned {
		c := e.Channel
		positions = append(positions, usage.Position{
			Channel: c.ID, Service: c.Ask.Service, Node: c.Ask.Node, Client: c.Client, Provider: c.Ask.Account, Price: c.Ask.Price,
			Promised: max(e.Voucher.Amount, c.Settled), Settled: c.Settled, Deposit: c.Deposit, State: e.State,
		})
	}
	return positions, err
}

// Earning is a channel this node is paid by.
type Earning struct {
	Channel  meter.Channel
	Voucher  voucher.Voucher
	State    string
	Deadline int64
}

// EarningChannels are the channels this node is paid by, as the ledger has them; where
// it cannot be asked, as they were when it last could.
func (n *Node) EarningChannels(ctx context.Context) ([]Earning, error) {
	byID := map[voucher.ChannelID]Earning{}
	for _, e := range n.meter.Earned() {
		state := "open"
		if !e.Channel.Open {
			state = "closing"
		}
		byID[e.Channel.ID] = Earning{Channel: e.Channel, Voucher: e.Voucher, State: state}
	}
	var after voucher.ChannelID
	const page = 100
	var failed error
	for {
		channels, err := lateBooks{n}.Channels(ctx, n.Account(), after, page)
		if err != nil {
			failed = err
			break
		}
		for _, c := range channels {
			after = c.ID
			if c.Provider != n.Account() || c.Node != n.ID() {
				continue
			}
			e := byID[c.ID]
			e.Channel, e.Deadline = purse.ChannelOf(c), c.Deadline
			e.State = map[cashier.ChannelState]string{cashier.ChannelOpen: "open", cashier.ChannelClosing: "closing", cashier.ChannelClosed: "closed"}[c.State]
			byID[c.ID] = e
		}
		if len(channels) < page {
			break
		}
	}
	out := make([]Earning, 0, len(byID))
	for _, e := range byID {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Earning) int { return slices.Compare(a.Channel.ID[:], b.Channel.ID[:]) })
	return out, failed
}

// TopUpChannel adds an amount to a channel of this node.
func (n *Node) TopUpChannel(ctx context.Context, id voucher.ChannelID, amount voucher.Amount) error {
	for _, c := range n.pay.purse.Channels() {
		if c.ID != id {
			continue
		}
		deposit, ok := c.Deposit.Add(amount)
		if !ok {
			return fmt.Errorf("%w: the deposit does not fit", ErrRequest)
		}
		raised, err := n.pay.purse.TopUp(ctx, id, deposit)
		if err != nil {
			return err
		}
		n.meter.Update(raised)
		return nil
	}
	return purse.ErrNoChannel
}
