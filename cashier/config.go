package cashier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// RealZone tells whether a name exists in the Internet's own zone (example.top),
// and if so whether the account proved control there. The daemon looks for a TXT
// record at _scn.<name>.<zone> whose text is RealZoneProof(account). An error
// means that it could not be found out; the registration is then refused as
// Unavailable, to be tried again.
type RealZone func(ctx context.Context, n name.Name, account identity.AccountID) (exists, controlled bool, err error)

// RealZoneProof is the text of the TXT record at _scn.<name>.<zone> with which
// the holder of a real domain allows an account to register the name here.
func RealZoneProof(account identity.AccountID) string { return "scn-account=" + account.String() }

// Config configures a Ledger. Network is required.
type Config struct {
	// Network is the network the ledger belongs to.
	Network identity.NetworkID
	// Parameters are the rules a new ledger starts with; an existing one has its
	// own. Default DefaultParameters.
	Parameters Parameters
	// Balances are issued before the first block of a new ledger, under
	// Parameters.SupplyCap. Default: none.
	Balances []GenesisBalance
	// Tick is how often the ledger looks whether something has fallen due: reserved
	// amounts that go back, IDs that may be forgotten. Default: a quarter of an
	// epoch, at most 30s; at least 1ms.
	Tick time.Duration
	// MaxClockJump is how far the clock may jump while the ledger runs. The ledger's
	// time does not follow a longer jump until AcceptClock. Default 10m, at least 1s.
	MaxClockJump time.Duration
	// MaxHalt is the longest time since the newest block that Open takes for a halt.
	// If more has passed by the clock, the ledger's time goes on where it stopped
	// until AcceptClock: a clock that is years ahead must not make everything
	// expire. Default 30 days, at least MaxClockJump.
	MaxHalt time.Duration
	// Retention is how long blocks are kept. Older ones are pruned, up to a snapshot
	// of the state from which Verify begins. Default 0: all are kept, an archive;
	// else at least 1s. Disks rarely need less than 30 days.
	Retention time.Duration
	// Promised is a file outside the ledger's directory, where the newest checkpoint
	// is noted every few seconds: a ledger that was put back to an older state is
	// known by it. Default: none.
	Promised string
	// RealZone, if set, is asked before a name is registered. Default: not asked.
	RealZone RealZone
	// MaxQueue is how many transactions may wait for a block; more are answered
	// OverCapacity. Default 8192, at least 1: two full blocks, so that one fills
	// while the other is written.
	MaxQueue int
	// MaxBlock is the largest number of transactions in one block. Default 1024;
	// 1 to MaxBlockTransactions. A larger block makes everybody in it wait longer,
	// a smaller one costs more fsyncs.
	MaxBlock int
	// CheckBlocks is how many of the newest blocks Open checks the chain of.
	// Default 1024; negative checks all of them. Verify checks everything.
	CheckBlocks int
	// Clock is the time. Default time.Now.
	Clock func() time.Time
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger

	authority identity.NodeID // set by Open

	fs      vfs.FS               // tests: where the store lives
	elapsed func() time.Duration // tests: the clock that nobody sets
	rules   []RulesChange        // tests: the rules of a new ledger; nil is the newest
}

// Validate reports all that is wrong with the configuration.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if c.Network.IsZero() {
		errs = append(errs, errors.New("cashier: Network is not set"))
	}
	if c.MaxQueue < 1 {
		errs = append(errs, fmt.Errorf("cashier: MaxQueue %d, want at least 1", c.MaxQueue))
	}
	if c.MaxBlock < 1 || c.MaxBlock > MaxBlockTransactions {
		errs = append(errs, fmt.Errorf("cashier: MaxBlock %d, want 1 to %d", c.MaxBlock, MaxBlockTransactions))
	}
	if c.Tick != 0 && c.Tick < time.Millisecond {
		errs = append(errs, fmt.Errorf("cashier: Tick %s, want at least 1ms", c.Tick))
	}
	if c.MaxClockJump < time.Second || c.MaxHalt < c.MaxClockJump {
		errs = append(errs, fmt.Errorf("cashier: MaxClockJump %s and MaxHalt %s, want at least 1s and no less than the former", c.MaxClockJump, c.MaxHalt))
	}
	if c.Retention != 0 && c.Retention < time.Second {
		errs = append(errs, fmt.Errorf("cashier: Retention %s, want at least 1s, or 0 for an archive", c.Retention))
	}
	return errors.Join(append(errs, c.genesis().Validate(c.Network))...)
}

// genesis returns what a new ledger of this configuration begins with.
func (c Config) genesis() Genesis {
	g := NewGenesis(c.Parameters, c.Balances...)
	if c.rules != nil {
		g.Rules = c.rules
	}
	return g
}

func (c Config) withDefaults() Config {
	if c.Parameters == (Parameters{}) {
		c.Parameters = DefaultParameters()
	}
	if c.MaxQueue == 0 {
		c.MaxQueue = 8192
	}
	if c.MaxBlock == 0 {
		c.MaxBlock = 1024
	}
	if c.CheckBlocks == 0 {
		c.CheckBlocks = 1024
	}
	if c.MaxClockJump == 0 {
		c.MaxClockJump = 10 * time.Minute
	}
	if c.MaxHalt == 0 {
		c.MaxHalt = 30 * 24 * time.Hour
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.fs == nil {
		c.fs = vfs.Default
	}
	return c
}
