package tun

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun/address"
)

// Config configures an Edge. Overlay and Network are required.
type Config struct {
	// Overlay carries the applications' flows.
	Overlay Overlay
	// Network is the overlay network; the IPv6 prefix derives from it.
	Network identity.NetworkID
	// Name is the device's name, at most 15 bytes. Default "scn0". It must be free.
	Name string
	// Pool is where IPv4 virtual addresses come from, a prefix of 8 to 27 bits.
	// Default 198.18.0.0/15, which is no one's on the Internet (RFC 2544); 100.64/10
	// collides with carriers and other overlays.
	Pool netip.Prefix
	// State is the file that keeps the virtual addresses over restarts. Its folder
	// must exist. Empty keeps them in memory only.
	State string
	// DialTimeout bounds how long a SYN or a first datagram is held. Default 30s;
	// shorter than the kernel's own patience of about two minutes, so that an
	// application gets an answer; longer than a cold resolution with dead providers.
	DialTimeout time.Duration
	// Warm is how long after a port accepted it is answered at once. Default 30s;
	// negative holds every SYN.
	Warm time.Duration
	// PacketIdle ends a UDP flow that carried nothing for so long. Default 2m, the
	// least of RFC 4787 §4.3.
	PacketIdle time.Duration
	// PingTimeout bounds how long an echo request is held. Default 10s.
	PingTimeout time.Duration
	// MaxFlows bounds the TCP flows. Default 65536, which is about 30 MB; at most
	// 786432.
	MaxFlows int
	// MaxHeld bounds the TCP flows that wait for their first answer. Default 4096.
	MaxHeld int
	// MaxPacketFlows bounds the UDP flows. Default 8192.
	MaxPacketFlows int
	// MaxPings bounds the echo requests held. Default 256.
	MaxPings int
	// Guests lets devices other than this host use the edge. Default: none may.
	Guests Guests
	// MaxDeviceFlows, MaxDevicePacketFlows and MaxDevicePings bound what one device may
	// have at once: TCP flows, UDP flows, echo requests held. Default 512, 256 and 8.
	MaxDeviceFlows, MaxDevicePacketFlows, MaxDevicePings int
	// Queues is how many queues the device has, each with its own packet loop.
	// Default 1: one loop turns far more than the overlay carries. At most 16.
	Queues int
	// Buffers bounds the memory of large splice buffers in bytes. Default 64 MiB.
	Buffers int64
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger
	// Clock tells the time for the 7 days an address rests. Default time.Now.
	Clock func() time.Time

	noSelfTest bool // for tests that count flows
}

// DefaultName is the device's default name.
const DefaultName = "scn0"

// Errors of Config.Validate beside those of package address.
var (
	// ErrConfig is returned for settings outside their bounds.
	ErrConfig = errors.New("tun: invalid setting")
)

// Validate reports every fault of the settings, joined.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...))
	}
	if c.Overlay == nil {
		fault("an overlay is needed")
	}
	if c.Network.IsZero() {
		fault("a network ID is needed")
	}
	if len(c.Name) > 15 || strings.ContainsAny(c.Name, "/: \t\n%") || c.Name == "." || c.Name == ".." {
		fault("device name %q: at most 15 bytes, none of / : %% and space", c.Name)
	}
	if err := address.ValidatePool(c.Pool); err != nil {
		errs = append(errs, err)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"dial timeout", c.DialTimeout}, {"packet idle time", c.PacketIdle}, {"ping timeout", c.PingTimeout}} {
		if d.value < 0 {
			fault("%s %v is negative", d.name, d.value)
		}
	}
	for _, n := range []struct {
		name       string
		value, max int
	}{
		{"flows", c.MaxFlows, 786432},
		{"held flows", c.MaxHeld, 65536},
		{"packet flows", c.MaxPacketFlows, 65536},
		{"pings", c.MaxPings, 65536},
		{"flows of a device", c.MaxDeviceFlows, 786432},
		{"packet flows of a device", c.MaxDevicePacketFlows, 65536},
		{"pings of a device", c.MaxDevicePings, 65536},
		{"queues", c.Queues, 16},
	} {
		if n.value < 1 || n.value > n.max {
			fault("number of %s is %d, must be 1 to %d", n.name, n.value, n.max)
		}
	}
	if c.Buffers < 0 {
		fault("buffer memory %d is negative", c.Buffers)
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	set(&c.Name, DefaultName)
	set(&c.Pool, address.DefaultPool())
	set(&c.DialTimeout, 30*time.Second)
	set(&c.Warm, 30*time.Second)
	set(&c.PacketIdle, 2*time.Minute)
	set(&c.PingTimeout, 10*time.Second)
	set(&c.MaxFlows, 65536)
	set(&c.MaxHeld, 4096)
	set(&c.MaxPacketFlows, 8192)
	set(&c.MaxPings, 256)
	set(&c.MaxDeviceFlows, 512)
	set(&c.MaxDevicePacketFlows, 256)
	set(&c.MaxDevicePings, 8)
	set(&c.Queues, 1)
	set(&c.Buffers, 64<<20)
	set(&c.Logger, slog.New(slog.DiscardHandler))
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
