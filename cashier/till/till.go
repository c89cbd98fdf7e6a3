package till

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/atomicfile"
	"scn.alt/scn/cashier/meter"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Ledger is what a Till needs of the ledger: a cashier.Ledger or a cashier.Client.
type Ledger interface {
	cashier.Submitter
	Asks(ctx context.Context, service identity.ServiceID) ([]cashier.PostedAsk, error)
	Channel(ctx context.Context, id voucher.ChannelID) (cashier.Channel, error)
	Channels(ctx context.Context, account identity.AccountID, after voucher.ChannelID, limit int) ([]cashier.Channel, error)
	Status(ctx context.Context) (cashier.Status, error)
}

// Meter is what has the vouchers: a meter.Meter.
type Meter interface {
	Earned() []meter.Earned
	Update(c meter.Channel)
	Forget(id voucher.ChannelID) error
}

// Config configures a Till. Network, Node, Wallet and File are required.
type Config struct {
	// Network is whose ledger it is.
	Network identity.NetworkID
	// Node is the key of the node that provides.
	Node identity.PrivateKey
	// Wallet is that of the account that is paid.
	Wallet *cashier.Wallet
	// File is where the state is kept.
	File string
	// Interval is how often to settle. Default: the ledger's epoch, at most 5 min.
	Interval time.Duration
	// Validity is how long an ask is good. Default 60 d, 1 h to the ledger's most. It is
	// posted anew when half of it is over.
	Validity time.Duration
	// Clock tells the time. Default time.Now.
	Clock func() time.Time
	// Logger receives changes of state. Default: discard.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Validity == 0 {
		c.Validity = 60 * 24 * time.Hour
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
			errs = append(errs, fmt.Errorf("till: "+format, args...))
		}
	}
	check(c.Network.IsZero(), "no network")
	check(c.Node.IsZero(), "no key of the node")
	check(c.Wallet == nil, "no wallet")
	check(c.File == "", "no file")
	d := c.withDefaults()
	check(c.Interval < 0, "negative interval")
	check(d.Validity < time.Hour || d.Validity > cashier.MaxAskLife*time.Second, "asks valid for %s, outside 1h to %ds", d.Validity, cashier.MaxAskLife)
	return errors.Join(errs...)
}

// Price is what a service costs here, and from when on something else.
type Price struct {
	// Ask is in force, Next announced; Next has no sequence number where nothing is.
	Ask, Next voucher.Ask
	Grant     voucher.Grant
}

// At returns the ask in force at a time; false: the service is free.
func (p Price) At(t time.Time) (voucher.Ask, bool) {
	if p.Next.Sequence != 0 && p.Next.ValidFrom <= t.Unix() {
		return p.Next, !p.Next.Price.IsZero()
	}
	return p.Ask, p.Ask.Sequence != 0 && p.Ask.ValidFrom <= t.Unix() && !p.Ask.Price.IsZero()
}

// Till earns for a node.
type Till struct {
	cfg    Config
	ledger Ledger
	wallet *cashier.Wallet

	kick chan struct{} // has Run look at once; of capacity one

	// turn is held through each exchange about an ask, and each settlement.
	turn chan struct{}

	saving sync.Mutex // one write of the file at a time; taken before mu, never within

	mu       sync.Mutex // guards below; never held while waiting for disk or ledger
	meter    Meter
	prices   map[identity.ServiceID]*priceRow
	lastErr  error // of the last settlement
	settled  time.Time
	interval time.Duration
	metrics  Metrics
}

// Metrics is what a Till did.
type Metrics struct {
	// Settlements were submitted; Settled channels were paid in them, for Amount
	// micro-credits together, and Refused ones not. Refuted closings were stale.
	Settlements, Settled, Refused, Refuted uint64
	Amount                                 voucher.Amount
	// Prices is how many services cost something.
	Prices int
}

// Metrics returns what the till did so far.
func (t *Till) Metrics() Metrics {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.metrics
	m.Prices = len(t.prices)
	return m
}

var _ meter.Asks = (*Till)(nil)

// Open reads the state and speaks to nobody.
func Open(ledger Ledger, cfg Config) (*Till, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	t := &Till{
		cfg: cfg, ledger: ledger, wallet: cfg.Wallet,
		kick: make(chan struct{}, 1), turn: make(chan struct{}, 1), prices: map[identity.ServiceID]*priceRow{}, interval: defaultInterval,
	}
	b, err := atomicfile.Read(cfg.File, maxState)
	if err != nil || b == nil {
		return t, err
	}
	rows, err := decodeState(b, cfg.Network)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.File, err)
	}
	for i := range rows {
		t.prices[rows[i].Ask.Service] = &rows[i]
	}
	return t, nil
}

// SetMeter names the meter that has the vouchers. It is called once, before Run.
func (t *Till) SetMeter(m Meter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.meter = m
}

// Ask implements meter.Asks.
func (t *Till) Ask(service identity.ServiceID) (voucher.Ask, bool) {
	now := t.cfg.Clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.prices[service]
	if r == nil {
		return voucher.Ask{}, false
	}
	return r.price().At(now)
}

// Prices returns what this node asks, by service.
func (t *Till) Prices() map[identity.ServiceID]Price {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[identity.ServiceID]Price, len(t.prices))
	for service, r := range t.prices {
		if p := r.price(); p.Ask.Sequence != 0 || p.Next.Sequence != 0 {
			out[service] = p
		}
	}
	return out
}

// change changes the prices and writes them down. Nobody who holds mu waits for the
// disk: Ask is on the path of every session.
func (t *Till) change(f func() error) error {
	t.mu.Lock()
	err := f()
	t.mu.Unlock()
	if err != nil {
		return err
	}
	t.saving.Lock()
	defer t.saving.Unlock()
	b, err := t.encode()
	if err != nil {
		return err
	}
	return atomicfile.Write(t.cfg.File, b)
}

func (t *Till) encode() ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := stateFile{Version: stateVersion, Network: t.cfg.Network}
	for _, r := range t.prices {
		f.Prices = append(f.Prices, *r)
	}
	slices.SortFunc(f.Prices, func(a, b priceRow) int { return slices.Compare(a.Ask.Service[:], b.Ask.Service[:]) })
	return identity.Marshal(f)
}

func (t *Till) takeTurn(ctx context.Context) (func(), error) {
	select {
	case t.turn <- struct{}{}:
		return func() { <-t.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
