package meter

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/routing/identity"
)

// Config configures a Meter. Key, Network and Dir are required.
type Config struct {
	// Key is the node's; it signs receipts.
	Key identity.PrivateKey
	// Network is the network of ledger and receipts.
	Network identity.NetworkID
	// Dir is where vouchers and reservations are kept. It is made when the first
	// session has a price.
	Dir string
	// Send gives a frame to the meter of a node, unreliably and at once; it reports
	// false where it cannot, and keeps nothing of the frame. Default: nothing is sent.
	Send func(peer identity.NodeID, frame []byte) bool
	// Channels opens and looks up channels. Default: this node pays for nothing, and
	// asks for nothing.
	Channels Channels
	// Asks says what services cost here. Default: all are free.
	Asks Asks
	// Usage gets the records of sessions. Default: nobody does.
	Usage Usage
	// UsageInterval is the time between two records of a session. Default 1 min, at
	// least 10 s.
	UsageInterval time.Duration
	// PaymentTimeout is how long a session may wait to be paid for before it is ended:
	// opening a channel has to fit. Default 30 s, at least 1 s.
	PaymentTimeout time.Duration
	// ExpiryMargin is how long before its channel expires a session gets no credit on
	// it any more, so that there is time to settle. Default 10 min, at least 1 min.
	ExpiryMargin time.Duration
	// ReceiptMemory is how many sessions' receipts are kept. Default 8192, some 4 MB.
	ReceiptMemory int
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger
	// Clock tells the time of records and of expiry. Default time.Now.
	Clock func() time.Time

	fs vfs.FS // of tests
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("meter: "+format, args...)) }
	if c.Key.IsZero() {
		fault("Key is missing")
	}
	if c.Network == (identity.NetworkID{}) {
		fault("Network is missing")
	}
	if c.Dir == "" {
		fault("Dir is missing")
	}
	d := c.withDefaults()
	if d.UsageInterval < sweepRound {
		fault("UsageInterval %s is below %s", d.UsageInterval, sweepRound)
	}
	if d.PaymentTimeout < time.Second {
		fault("PaymentTimeout %s is below 1s", d.PaymentTimeout)
	}
	if d.ExpiryMargin < time.Minute {
		fault("ExpiryMargin %s is below 1m", d.ExpiryMargin)
	}
	if d.ReceiptMemory < 1 || d.ReceiptMemory > 1<<20 {
		fault("ReceiptMemory %d is outside 1 to %d", d.ReceiptMemory, 1<<20)
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Send == nil {
		c.Send = func(identity.NodeID, []byte) bool { return false }
	}
	if c.UsageInterval == 0 {
		c.UsageInterval = time.Minute
	}
	if c.PaymentTimeout == 0 {
		c.PaymentTimeout = 30 * time.Second
	}
	if c.ExpiryMargin == 0 {
		c.ExpiryMargin = 10 * time.Minute
	}
	if c.ReceiptMemory == 0 {
		c.ReceiptMemory = 8192
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.fs == nil {
		c.fs = vfs.Default
	}
	return c
}
