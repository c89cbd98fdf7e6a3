package market

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Source asks the ledger what is asked for a service now.
type Source func(ctx context.Context, service identity.ServiceID) ([]voucher.Ask, error)

// Config configures a Cache. The zero value is valid.
type Config struct {
	// Fresh is how long an answer is good. Default 1 min, at least 1 s: a price
	// changes no sooner than announced, but a service may get its first at once.
	Fresh time.Duration
	// Keep is how long an answer stands in where the ledger cannot be reached.
	// Default 1 h, at least Fresh.
	Keep time.Duration
	// MaxServices bounds what is remembered. Default 4,096, at least 1.
	MaxServices int
	// Timeout bounds one question. Default 10 s.
	Timeout time.Duration
	// Clock tells the time. Default time.Now.
	Clock func() time.Time
	// Logger receives failures. Default: discard.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Fresh == 0 {
		c.Fresh = time.Minute
	}
	if c.Keep == 0 {
		c.Keep = max(time.Hour, c.Fresh)
	}
	if c.MaxServices == 0 {
		c.MaxServices = 4096
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
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
	d := c.withDefaults()
	if d.Fresh < time.Second || d.Keep < d.Fresh {
		errs = append(errs, fmt.Errorf("market: Fresh %s is below 1s or above Keep %s", d.Fresh, d.Keep))
	}
	if d.MaxServices < 1 {
		errs = append(errs, fmt.Errorf("market: MaxServices %d is below 1", d.MaxServices))
	}
	if d.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("market: Timeout %s is not positive", d.Timeout))
	}
	return errors.Join(errs...)
}

// maxAsked bounds the services that wait for an answer; those beyond it are asked
// about in a later dial.
const maxAsked = 64

// Cache holds what is asked for services.
type Cache struct {
	source Source
	cfg    Config
	ask    chan identity.ServiceID

	mu       sync.Mutex // guards below
	services map[identity.ServiceID]*entry
}

type entry struct {
	asks  []voucher.Ask
	at    time.Time // of the answer, zero before the first
	tried time.Time // when it was last asked for
	asked bool      // it waits for an answer
}

// New returns a cache that asks nothing before Run.
func New(source Source, cfg Config) (*Cache, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Cache{
		source: source, cfg: cfg.withDefaults(), ask: make(chan identity.ServiceID, maxAsked),
		services: map[identity.ServiceID]*entry{},
	}, nil
}

// Run asks the ledger until ctx ends.
func (c *Cache) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case service := <-c.ask:
			if _, err := c.Fetch(ctx, service); err != nil && ctx.Err() == nil {
				c.cfg.Logger.Debug("prices not known", "service", service.Short(), "err", err)
			}
		}
	}
}

// Known returns what is known to be asked for a service, without waiting. The result
// must not be modified. What is not known, or not fresh, is asked for behind.
func (c *Cache) Known(service identity.ServiceID) []voucher.Ask {
	now := c.cfg.Clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.services[service]
	if e == nil {
		if len(c.services) >= c.cfg.MaxServices && !c.dropLocked(now) {
			return nil
		}
		e = &entry{}
		c.services[service] = e
	}
	age := now.Sub(e.at)
	if !e.asked && (e.tried.IsZero() || now.Sub(e.tried) >= c.cfg.Fresh) {
		select {
		case c.ask <- service:
			e.asked = true
		default:
		}
	}
	if e.at.IsZero() || age > c.cfg.Keep {
		return nil
	}
	return e.asks
}

// Fetch asks the ledger now.
func (c *Cache) Fetch(ctx context.Context, service identity.ServiceID) ([]voucher.Ask, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	asks, err := c.source(ctx, service)
	now := c.cfg.Clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.services[service]
	if e == nil {
		if len(c.services) >= c.cfg.MaxServices && !c.dropLocked(now) {
			return asks, err
		}
		e = &entry{}
		c.services[service] = e
	}
	e.asked, e.tried = false, now
	if err != nil {
		return nil, err
	}
	e.asks, e.at = asks, now
	return asks, nil
}

// Learn notes what a provider itself asked just now: what is known of it otherwise is
// out of date.
func (c *Cache) Learn(ask voucher.Ask) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.services[ask.Service]
	if e == nil || e.at.IsZero() {
		return
	}
	asks := make([]voucher.Ask, 0, len(e.asks)+1)
	for _, known := range e.asks {
		if known.Node == ask.Node {
			if known.Sequence >= ask.Sequence {
				return
			}
			continue
		}
		asks = append(asks, known)
	}
	e.asks = append(asks, ask)
}

// dropLocked makes room: services not asked about for the longest time that an answer
// is of any use.
func (c *Cache) dropLocked(now time.Time) bool {
	for service, e := range c.services {
		if !e.asked && now.Sub(e.tried) > c.cfg.Keep {
			delete(c.services, service)
		}
	}
	if len(c.services) < c.cfg.MaxServices {
		return true
	}
	for service, e := range c.services {
		if !e.asked && now.Sub(e.tried) > c.cfg.Fresh {
			delete(c.services, service)
			return true
		}
	}
	return false
}
