package routing

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
	"scn.alt/scn/routing/record"
)

// Config configures a Router. Key, Network and Listen are required.
type Config struct {
	// Key is the node's. The DHT's peer identity is the same key.
	Key identity.PrivateKey
	// Network is the newest network file known: bootstrap nodes, authorities and
	// admission come from it. It must be signed.
	Network network.File
	// Listen is the address of the node's SAL. The DHT listens on the UDP port
	// after it; an unspecified address means IPv4 and IPv6.
	Listen netip.AddrPort
	// Mobile nodes are DHT clients: they store nothing for others and are in
	// nobody's routing table. Others are servers unless they cannot be reached (see
	// Router.Unreachable).
	Mobile bool
	// Advertise are addresses at which this node is reached from elsewhere, DHT and
	// all, besides the host's own: a port forwarding of both ports. Default none.
	Advertise []netip.AddrPort
	// StateDir is where sequence numbers, own records and recently seen peers are
	// kept. It must exist. Empty: nothing is kept, for tests only.
	StateDir string
	// Region is a label for the node's record, at most 32 bytes. Default none.
	Region string
	// Load tells how busy the node is, for its record. Default 0.
	Load func() uint8
	// Exclude reports addresses neither to be published nor believed, besides
	// those Reachable refuses: the TUN's, containers'. Default none.
	Exclude func(netip.Addr) bool
	// AllowLoopback lets loopback addresses count as reachable. For tests.
	AllowLoopback bool
	// Neighbours tells where peers are with whom this node is in touch by other means,
	// their SAL addresses. They are asked for the way back into the DHT: when all
	// bootstrap nodes moved, who has a session with one still knows where it is.
	// Default none.
	Neighbours func() []record.Candidate
	// Delegate looks records up and publishes them for this node where the DHT
	// cannot: when there is no DHT peer, or none answered for a second. Its methods
	// may be called concurrently. Default none.
	Delegate Delegate
	// NetworkChanged is told of a newer network file found in the DHT, after the
	// Router adopted it, for its owner to keep. Calls do not overlap. Default none.
	NetworkChanged func(network.File)
	// Clock tells the time that records are judged by. Default time.Now.
	Clock func() time.Time
	// NodeValidity is how long a NodeRecord is valid; it is put anew at half of
	// it. Default 20m: long enough to bridge a peer's outage of some minutes,
	// short enough that a dead node is forgotten. At least 1m, at most 1h.
	NodeValidity time.Duration
	// RefreshInterval is how often service, name and network records are put
	// anew. Default 15m: a network whose nodes all restarted is whole again after
	// that. At least 10s.
	RefreshInterval time.Duration
	// RequestTimeout bounds one request to one DHT peer, dialling included.
	// Default 3s: a dead peer must not hold up a lookup, yet a satellite's round
	// trip must fit thrice. At least 100ms.
	RequestTimeout time.Duration
	// LookupTimeout bounds one lookup. Default 8s. At least RequestTimeout.
	LookupTimeout time.Duration
	// CacheSize is how many records found are remembered. Default 4096.
	CacheSize int
	// StoreSize bounds the bytes of records held for others. Default 16 MiB.
	StoreSize int
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger

	// silence, in tests, drops every packet while it reports true.
	silence func() bool
	// retry replaces the shortest pause between attempts to get back into the
	// network, in tests.
	retry time.Duration
}

// withDefaults returns a copy with defaults filled in.
func (c Config) withDefaults() Config {
	set(&c.NodeValidity, 20*time.Minute)
	set(&c.RefreshInterval, 15*time.Minute)
	set(&c.RequestTimeout, 3*time.Second)
	set(&c.LookupTimeout, 8*time.Second)
	set(&c.CacheSize, 4096)
	set(&c.StoreSize, 16<<20)
	set(&c.retry, time.Second)
	if c.Load == nil {
		c.Load = func() uint8 { return 0 }
	}
	if c.Exclude == nil {
		c.Exclude = func(netip.Addr) bool { return false }
	}
	if c.Neighbours == nil {
		c.Neighbours = func() []record.Candidate { return nil }
	}
	if c.NetworkChanged == nil {
		c.NetworkChanged = func(network.File) {}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports every fault of the configuration, defaults filled in.
func (c Config) Validate() error {
	c = c.withDefaults()
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf("routing: "+format, args...))
		}
	}
	check(!c.Key.IsZero(), "no node key")
	check(c.Network.Bytes() != nil, "no signed network file")
	check(c.Listen.IsValid() && c.Listen.Port() > 0 && c.Listen.Port() < 65535,
		"listen address %s: a port from 1 to 65534 is needed, the DHT takes the one after it", c.Listen)
	check(len(c.Region) <= 32, "region of %d bytes, at most 32", len(c.Region))
	check(c.NodeValidity >= time.Minute && c.NodeValidity <= time.Hour, "node validity %s: 1m to 1h", c.NodeValidity)
	check(c.RefreshInterval >= 10*time.Second, "refresh interval %s: at least 10s", c.RefreshInterval)
	check(c.RequestTimeout >= 100*time.Millisecond, "request timeout %s: at least 100ms", c.RequestTimeout)
	check(c.LookupTimeout >= c.RequestTimeout, "lookup timeout %s: at least the request timeout", c.LookupTimeout)
	check(c.CacheSize > 0, "cache size %d: at least 1", c.CacheSize)
	check(c.StoreSize > 0, "store size %d: at least 1", c.StoreSize)
	return errors.Join(faults...)
}
