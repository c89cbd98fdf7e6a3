package naming

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// Alt is the zone that is ours alone (RFC 9476) and never leaves the host.
const Alt = "scn.alt"

// DefaultZone is the overlay's zone unless the network file names another.
const DefaultZone = "top"

// WhenUnknown says what happens to a name of the zone that was never seen here
// while the authority does not answer.
type WhenUnknown string

const (
	// AskUpstream hands the name to the host's own servers.
	AskUpstream WhenUnknown = "upstream"
	// Fail answers SERVFAIL.
	Fail WhenUnknown = "servfail"
)

// NamesConfig configures Names. The zero value is valid.
type NamesConfig struct {
	// Zone is the overlay's zone, without dots at its ends. Default "top".
	Zone string
	// Petnames are local names that come before every registered one.
	Petnames map[name.Name]identity.ServiceID
	// WhenUnknown is what to do with a name never seen while the authority is
	// down. Default AskUpstream.
	WhenUnknown WhenUnknown
	// SeenFile keeps the names once seen over restarts. Default: memory only.
	SeenFile string
	// SeenLimit bounds the names remembered; the ones not asked for longest are
	// forgotten first. Default 65536 (about 3 MB), at least 16.
	SeenLimit int
	// Fresh is how long an answer of the registry is used without asking again.
	// Default 30s: a transferred name follows within that time while in use.
	Fresh time.Duration
	// Stale is how long after Fresh an answer is still given at once while it is
	// asked for anew. Default 5m.
	Stale time.Duration
	// Retry is how long an unknown name is left alone. Default 5s.
	Retry time.Duration
	// Timeout bounds one lookup. Default 3s, under the 5s a stub resolver waits.
	Timeout time.Duration
	// MaxLookups bounds lookups under way. Default 256.
	MaxLookups int
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger
	// Clock is the time. Default time.Now.
	Clock func() time.Time
}

func (c NamesConfig) withDefaults() NamesConfig {
	if c.Zone == "" {
		c.Zone = DefaultZone
	}
	c.Zone = strings.ToLower(strings.Trim(c.Zone, "."))
	setDefault(&c.WhenUnknown, AskUpstream)
	setDefault(&c.SeenLimit, 1<<16)
	setDefault(&c.Fresh, 30*time.Second)
	setDefault(&c.Stale, 5*time.Minute)
	setDefault(&c.Retry, 5*time.Second)
	setDefault(&c.Timeout, 3*time.Second)
	setDefault(&c.MaxLookups, 256)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

// Validate reports every fault of the settings.
func (c NamesConfig) Validate() error {
	c = c.withDefaults()
	var errs []error
	if err := validZone(c.Zone); err != nil {
		errs = append(errs, err)
	}
	if c.WhenUnknown != AskUpstream && c.WhenUnknown != Fail {
		errs = append(errs, fmt.Errorf("when unknown %q: want %q or %q", c.WhenUnknown, AskUpstream, Fail))
	}
	if c.SeenLimit < 16 {
		errs = append(errs, fmt.Errorf("seen limit %d: at least 16", c.SeenLimit))
	}
	if c.MaxLookups < 1 {
		errs = append(errs, fmt.Errorf("max lookups %d: at least 1", c.MaxLookups))
	}
	errs = append(errs,
		within("fresh", c.Fresh), within("stale", c.Stale), within("retry", c.Retry), within("timeout", c.Timeout))
	return errors.Join(errs...)
}

// Config configures a Server.
type Config struct {
	// Listen are the addresses served over UDP and TCP: the TUN's own, port 53.
	Listen []netip.AddrPort
	// PacketConns and Listeners are sockets to serve besides. The Server closes
	// them. The arrival filter applies to UDP and TCP sockets of the system only.
	PacketConns []net.PacketConn
	Listeners   []net.Listener
	// Interfaces are the names of the interfaces that queries may arrive on,
	// besides lo: the TUN itself, a container bridge. What arrives elsewhere is
	// dropped and counted.
	Interfaces []string
	// AnyInterface turns the arrival filter off.
	AnyInterface bool
	// Prefixes are the ranges virtual addresses come from. PTR questions within
	// them are answered here and never go upstream.
	Prefixes []netip.Prefix
	// TTL of our answers. Default 10s. A virtual address stays with its service, so
	// the TTL only bounds how long a transferred name is remembered by others.
	TTL time.Duration
	// NegativeTTL of our NXDOMAIN and NODATA (RFC 2308). Default 5s.
	NegativeTTL time.Duration
	// Fresh is how long a made answer is given before it is made anew. Default 10s.
	Fresh time.Duration
	// Stale is how long after that it is still given while being made anew.
	// Default 5m.
	Stale time.Duration
	// Timeout bounds the work on one query. Default 4500ms, under the 5s a stub
	// resolver waits, so that the reason reaches it.
	Timeout time.Duration
	// MaxQueries bounds queries under way; more are dropped and counted.
	// Default 4096.
	MaxQueries int
	// MaxConns bounds TCP connections. Default 256.
	MaxConns int
	// MaxCached bounds the answers kept in wire form. Default 8192 (about 4 MB).
	MaxCached int
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger
	// Clock is the time. Default time.Now.
	Clock func() time.Time
}

func (c Config) withDefaults() Config {
	setDefault(&c.TTL, 10*time.Second)
	setDefault(&c.NegativeTTL, 5*time.Second)
	setDefault(&c.Fresh, 10*time.Second)
	setDefault(&c.Stale, 5*time.Minute)
	setDefault(&c.Timeout, 4500*time.Millisecond)
	setDefault(&c.MaxQueries, 4096)
	setDefault(&c.MaxConns, 256)
	setDefault(&c.MaxCached, 8192)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

// Validate reports every fault of the settings.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if len(c.Listen)+len(c.PacketConns)+len(c.Listeners) == 0 {
		errs = append(errs, errors.New("no address to listen on"))
	}
	for _, a := range c.Listen {
		if !a.IsValid() || a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
			errs = append(errs, fmt.Errorf("listen %s: want one address of this host", a))
		}
	}
	for _, p := range c.Prefixes {
		if !p.IsValid() {
			errs = append(errs, fmt.Errorf("prefix %s is invalid", p))
		}
	}
	if min(c.MaxQueries, c.MaxConns, c.MaxCached) < 1 {
		errs = append(errs, fmt.Errorf("max queries %d, conns %d, cached %d: at least 1 each", c.MaxQueries, c.MaxConns, c.MaxCached))
	}
	errs = append(errs,
		within("ttl", c.TTL), within("negative ttl", c.NegativeTTL),
		within("fresh", c.Fresh), within("stale", c.Stale), within("timeout", c.Timeout))
	return errors.Join(errs...)
}

func within(what string, d time.Duration) error {
	if d < 0 || d > 24*time.Hour {
		return fmt.Errorf("%s %v: between 0 and 24h", what, d)
	}
	return nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// validZone checks a zone in lower case: one or more host name labels.
func validZone(zone string) error {
	for label := range strings.SplitSeq(zone, ".") {
		ok := len(label) > 0 && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-'
		for _, c := range []byte(label) {
			ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
		}
		if !ok {
			return fmt.Errorf("zone %q: want labels of letters, digits and hyphens", zone)
		}
	}
	if len(zone) > 128 || zone == Alt {
		return fmt.Errorf("zone %q: too long, or reserved", zone)
	}
	return nil
}
