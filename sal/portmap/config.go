package portmap

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// Mapping is a port of this host that a router lets in.
type Mapping struct {
	// Internal is the UDP port of this host.
	Internal uint16
	// External is where others reach it, as the router says.
	External netip.AddrPort
	// Gateway is the router, Protocol what it speaks: "pcp", "nat-pmp" or "upnp".
	Gateway  netip.Addr
	Protocol string
	// Expires is when it ends unless it is renewed.
	Expires time.Time
}

// Config configures a Mapper. Port is required.
type Config struct {
	// Port is the UDP port to map.
	Port uint16
	// Next maps the port after it too, if that can be had right after Port's outside
	// as well; nodes take that for granted of a DHT's port.
	Next bool
	// Gateways returns the routers to ask, the best first; at most two are. Default:
	// the next hops of the IPv4 default routes.
	Gateways func() ([]netip.Addr, error)
	// Lifetime is what is asked for. Default 1h: a host that vanishes leaves its
	// mapping behind for so long. 2m to 24h.
	Lifetime time.Duration
	// Changed receives what Mapper.Dialable returns, whenever that changed. It must
	// return soon. Default: nobody is told.
	Changed func([]netip.AddrPort)
	// AnyAddress takes outside addresses that only a private network could dial, as
	// one's that others can. For tests.
	AnyAddress bool
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger

	patience time.Duration // for one protocol; shorter in tests
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Port == 0 || c.Next && c.Port == 65535 {
		errs = append(errs, fmt.Errorf("portmap: cannot map port %d", c.Port))
	}
	if c.Lifetime != 0 && (c.Lifetime < 2*time.Minute || c.Lifetime > 24*time.Hour) {
		errs = append(errs, fmt.Errorf("portmap: lifetime %s is outside 2m to 24h", c.Lifetime))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Gateways == nil {
		c.Gateways = defaultGateways
	}
	if c.Lifetime == 0 {
		c.Lifetime = time.Hour
	}
	if c.Changed == nil {
		c.Changed = func([]netip.AddrPort) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.patience == 0 {
		c.patience = 2 * time.Second
	}
	return c
}
