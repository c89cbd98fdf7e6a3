package purse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/atomicfile"
	"scn.alt/scn/cashier/meter"
	"scn.alt/scn/cashier/spending"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Ledger is what a Purse needs of the ledger: a cashier.Ledger or a cashier.Client.
type Ledger interface {
	cashier.Submitter
	Account(ctx context.Context, id identity.AccountID) (cashier.Account, error)
	Channel(ctx context.Context, id voucher.ChannelID) (cashier.Channel, error)
	Status(ctx context.Context) (cashier.Status, error)
}

// Meter is what a Purse tells, and asks how much was paid: a meter.Meter.
type Meter interface {
	Spent() []meter.Spent
	Update(c meter.Channel)
	Forget(id voucher.ChannelID) error
}

// Config configures a Purse. Network, Key and File are required.
type Config struct {
	// Network is whose ledger it is.
	Network identity.NetworkID
	// Key is the secret that all other keys are derived from: the first key of the
	// node's account, for it must stay the same when the account changes its keys.
	Key identity.PrivateKey
	// Wallet is that of the node's account, which funds all others. Default: that of
	// the account whose key Key is.
	Wallet *cashier.Wallet
	// File is where the state is kept.
	File string
	// Limits are what may be spent. The zero value pays for nothing.
	Limits spending.Limits
	// OneAccount pays every provider from the node's account.
	OneAccount bool
	// Life is how long a channel is opened for. Default 30 d, 1 h to the ledger's most.
	Life time.Duration
	// IdleAfter is how long a channel may lie unused before it is closed. Default 7 d,
	// at least 1 min.
	IdleAfter time.Duration
	// Interval is how often Run looks at the channels. Default 1 min, at least 100 ms.
	Interval time.Duration
	// Keep is how long closed channels are remembered, for statements. Default 120 d.
	Keep time.Duration
	// Clock tells the time. Default time.Now.
	Clock func() time.Time
	// Logger receives changes of state. Default: discard.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Life == 0 {
		c.Life = 30 * 24 * time.Hour
	}
	if c.IdleAfter == 0 {
		c.IdleAfter = 7 * 24 * time.Hour
	}
	if c.Interval == 0 {
		c.Interval = time.Minute
	}
	if c.Keep == 0 {
		c.Keep = 120 * 24 * time.Hour
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var errs []error
	check := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("purse: "+format, args...))
		}
	}
	check(c.Network.IsZero(), "no network")
	check(c.Key.IsZero(), "no key")
	check(c.File == "", "no file")
	d := c.withDefaults()
	check(d.Life < time.Hour || d.Life > cashier.MaxChannelLife*time.Second, "a channel's life of %s is outside 1h to %ds", d.Life, cashier.MaxChannelLife)
	check(d.IdleAfter < time.Minute, "idle after %s, at least 1m", d.IdleAfter)
	check(d.Interval < 100*time.Millisecond, "interval of %s is below 100ms", d.Interval)
	check(d.Keep < 0, "negative Keep")
	return errors.Join(append(errs, c.Limits.Validate())...)
}

// askAgain is how long after a ledger that did not answer sessions that need it are
// refused at once.
const askAgain = 3 * time.Second

// maxRefusals is how many refusals are remembered.
const maxRefusals = 32

// Refusal is why a session was not paid for, of late.
type Refusal struct {
	At      time.Time
	Service identity.ServiceID
	Node    identity.NodeID
	Err     error
}

// Purse pays for a node.
type Purse struct {
	cfg      Config
	ledger   Ledger
	accounts spending.Accounts
	kick     chan struct{} // has Run look at once

	// turn is held through every exchange with the ledger about this node's own
	// channels: two of them would fund an account twice.
	turn chan struct{}

	saving sync.Mutex // one write of the file at a time; taken before mu, never within

	mu       sync.Mutex // guards below; never held while waiting for disk or ledger
	meter    Meter
	book     *spending.Book
	rows     map[voucher.ChannelID]*row
	away     time.Time // when the ledger did not answer, zero if it did
	awayErr  error
	refusals []Refusal
	metrics  Metrics
}

// Metrics is what a Purse did, and where its budget stands.
type Metrics struct {
	// Opened, Raised and Closed count channels that were, Refused sessions and top-ups
	// that the settings or the ledger did not allow.
	Opened, Raised, Closed, Refused uint64
	// Channels are open or opening; Committed lies in them, Spent is today's, in
	// micro-credits that go up and down.
	Channels         int
	Committed, Spent int64
}

func gauge(a voucher.Amount) int64 { return int64(min(a, math.MaxInt64)) }

// Metrics returns what the purse did so far.
func (p *Purse) Metrics() Metrics {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, s := p.metrics, p.book.Summary(p.cfg.Clock())
	m.Channels, m.Committed, m.Spent = s.Channels, gauge(s.Committed), gauge(s.Spent)
	return m
}

var _ meter.Channels = (*Purse)(nil)

// Open reads the state and speaks to nobody.
func Open(ledger Ledger, cfg Config) (*Purse, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if cfg.Wallet == nil {
		cfg.Wallet = cashier.NewWallet(cfg.Key, cfg.Network, ledger, cfg.Clock)
	}
	p := &Purse{
		cfg: cfg, ledger: ledger, accounts: spending.NewAccounts(cfg.Key),
		kick: make(chan struct{}, 1), turn: make(chan struct{}, 1), rows: map[voucher.ChannelID]*row{},
	}
	b, err := atomicfile.Read(cfg.File, maxState)
	if err != nil {
		return nil, err
	}
	if b == nil {
		p.book, err = spending.NewBook(cfg.Limits)
		return p, err
	}
	book, rows, err := decodeState(b, cfg.Network, cfg.Limits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.File, err)
	}
	p.book = book
	for i := range rows {
		p.rows[rows[i].ID] = &rows[i]
	}
	return p, nil
}

// SetMeter names the meter that signs the vouchers. It is called once, before Run.
func (p *Purse) SetMeter(m Meter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.meter = m
}

// SetLimits changes what may be spent from now on.
func (p *Purse) SetLimits(l spending.Limits) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.book.SetLimits(l)
}

// Permit implements meter.Channels.
func (p *Purse) Permit(ask voucher.Ask) error {
	now := p.cfg.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.permitLocked(ask, now)
	if err != nil {
		p.refuseLocked(ask, err, now)
	}
	return err
}

// Judge is Permit for who only compares: nothing is remembered as refused.
func (p *Purse) Judge(ask voucher.Ask) error {
	now := p.cfg.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.permitLocked(ask, now)
}

func (p *Purse) permitLocked(ask voucher.Ask, now time.Time) error {
	if r := p.currentLocked(ask.Node, ask.Service, now); r != nil {
		// It is funded; what is left to judge is whether its price is still wanted.
		return asMeter(p.book.Limits().Check(r.Ask.Price))
	}
	least, err := leastDeposit(ask.Price)
	if err != nil {
		return err
	}
	if err := p.book.Permit(ask.Service, ask.Price, least, now); err != nil {
		return asMeter(err)
	}
	if !p.away.IsZero() && now.Sub(p.away) < askAgain {
		return fmt.Errorf("%w: %w", meter.ErrLedgerUnreachable, p.awayErr)
	}
	return nil
}

// currentLocked is the open channel to a provider for a service, nil if there is none.
func (p *Purse) currentLocked(node identity.NodeID, service identity.ServiceID, now time.Time) *row {
	for _, r := range p.rows {
		if r.State == StateOpen && r.Ask.Node == node && r.Ask.Service == service && r.Expires > now.Unix() {
			return r
		}
	}
	return nil
}

// leastDeposit is what a channel must hold to be of any use: the first voucher pays
// 64 KiB and some seconds ahead.
func leastDeposit(price voucher.Price) (voucher.Amount, error) {
	const bytes, milliseconds = 64 << 10, 4000
	least, ok := price.Cost(bytes, milliseconds)
	if !ok {
		return 0, fmt.Errorf("%w: %s", meter.ErrPrice, price)
	}
	return max(least, 1), nil
}

// asMeter gives errors of the book the class that meter and sal know.
func asMeter(err error) error {
	switch {
	case errors.Is(err, spending.ErrPrice):
		return fmt.Errorf("%w: %w", meter.ErrPrice, err)
	case errors.Is(err, spending.ErrBudget):
		return fmt.Errorf("%w: %w", meter.ErrBudget, err)
	}
	return err
}

// refuseLocked remembers why something was not paid, one reason for each provider
// and service.
func (p *Purse) refuseLocked(ask voucher.Ask, err error, now time.Time) {
	p.metrics.Refused++
	p.refusals = slices.DeleteFunc(p.refusals, func(r Refusal) bool { return r.Node == ask.Node && r.Service == ask.Service })
	if len(p.refusals) == maxRefusals {
		p.refusals = slices.Delete(p.refusals, 0, 1)
	}
	p.refusals = append(p.refusals, Refusal{now, ask.Service, ask.Node, err})
}

// Refusals returns what was not paid since a time, and why; the newest last.
func (p *Purse) Refusals(since time.Time) []Refusal {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.refusals), func(r Refusal) bool { return r.At.Before(since) })
}

// Held implements meter.Channels.
func (p *Purse) Held() []meter.Held {
	now := p.cfg.Clock().Unix()
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []meter.Held
	for _, r := range p.rows {
		if r.State == StateOpen && r.Expires > now {
			out = append(out, p.held(r))
		}
	}
	slices.SortFunc(out, func(a, b meter.Held) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return out
}

func (p *Purse) held(r *row) meter.Held {
	return meter.Held{Channel: p.channelOf(r), Key: p.accounts.Session(r.Ask.Node, r.Nonce)}
}

func (p *Purse) channelOf(r *row) meter.Channel {
	return meter.Channel{
		ID: r.ID, Client: r.Client, Ask: r.Ask, SessionKey: voucher.SessionKey(p.accounts.Session(r.Ask.Node, r.Nonce).Public()),
		Deposit: r.Deposit, Settled: r.Settled, Sequence: r.Sequence, Bytes: r.Bytes, Milliseconds: r.Milliseconds,
		Expires: r.Expires, Open: r.State == StateOpen,
	}
}

// State implements meter.Channels.
func (p *Purse) State(ctx context.Context, id voucher.ChannelID) (meter.Channel, error) {
	c, err := p.ledger.Channel(ctx, id)
	if err != nil {
		return meter.Channel{}, p.noteAnswer(err)
	}
	return ChannelOf(c), p.noteAnswer(nil)
}

// ChannelOf is a channel of the ledger as a meter sees it.
func ChannelOf(c cashier.Channel) meter.Channel {
	return meter.Channel{
		ID: c.ID, Client: c.Client, SessionKey: c.Session,
		Ask: voucher.Ask{
			Service: c.Service, Node: c.Node, Account: c.Provider, Price: c.Price, LossAllowance: c.LossAllowance, MaxWindow: c.MaxWindow,
		},
		Deposit: c.Deposit, Settled: c.Settled, Sequence: c.Sequence, Bytes: c.Bytes, Milliseconds: c.Milliseconds,
		Expires: c.Expires, Open: c.State == cashier.ChannelOpen,
	}
}

// noteAnswer remembers whether the ledger answers, and gives an error its class.
func (p *Purse) noteAnswer(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !unreachable(err) {
		p.away, p.awayErr = time.Time{}, nil
		return err
	}
	p.away, p.awayErr = p.cfg.Clock(), err
	return fmt.Errorf("%w: %w", meter.ErrLedgerUnreachable, err)
}

// unreachable reports whether it is unknown what the ledger did: anything but its
// word.
func unreachable(err error) bool {
	if err == nil {
		return false
	}
	r, refused := errors.AsType[*cashier.Rejection](err)
	return !refused || r.Code == cashier.OverCapacity || r.Code == cashier.RateLimited
}

// save writes the state as it is now. Nobody who holds mu waits for the disk: Permit
// is on the path of every dial.
func (p *Purse) save() error {
	p.saving.Lock()
	defer p.saving.Unlock()
	b, err := p.encode()
	if err != nil {
		return err
	}
	return atomicfile.Write(p.cfg.File, b)
}

// change changes the state and writes it down.
func (p *Purse) change(f func() error) error {
	p.mu.Lock()
	err := f()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return p.save()
}

func (p *Purse) encode() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	book, err := p.book.Encode()
	if err != nil {
		return nil, err
	}
	f := stateFile{Version: stateVersion, Network: p.cfg.Network, Book: book}
	for _, r := range p.rows {
		f.Channels = append(f.Channels, *r)
	}
	slices.SortFunc(f.Channels, func(a, b row) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return identity.Marshal(f)
}

// takeTurn waits for the turn, which the result gives back.
func (p *Purse) takeTurn(ctx context.Context) (func(), error) {
	select {
	case p.turn <- struct{}{}:
		return func() { <-p.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// wallet is that of the account that pays a channel.
func (p *Purse) wallet(r *row) *cashier.Wallet {
	if r.Own {
		return p.cfg.Wallet
	}
	return cashier.NewWallet(p.accounts.For(r.Ask.Node), p.cfg.Network, p.ledger, p.cfg.Clock)
}
