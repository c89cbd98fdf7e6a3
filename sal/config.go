package sal

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal/relay"
)

// Resolver finds who provides a service, and where a node is now.
type Resolver interface {
	// Resolve yields the candidates of a service: at once what is known, then
	// better answers as they come. Each answer replaces the one before. The
	// sequence ends when nothing better is to be expected.
	Resolve(ctx context.Context, service identity.ServiceID) iter.Seq2[[]record.Candidate, error]
	// ResolveNode yields the newest addresses of one node, better ones as they
	// come. It is used when both sides have moved.
	ResolveNode(ctx context.Context, node identity.NodeID) iter.Seq2[record.Candidate, error]
}

// Authorizer decides whether peer may open a session; nil allows it. It runs on
// the provider, before the handler, and must not block.
type Authorizer func(peer identity.NodeID, service identity.ServiceID, port uint16, protocol record.Protocol) error

// Config configures a Node. Key and Network are required.
type Config struct {
	// Key is the node's key.
	Key identity.PrivateKey
	// Network is the network the node belongs to: nodes of other networks are
	// refused in the handshake.
	Network identity.NetworkID
	// Listen is the one UDP address. Default: every address, a free port.
	Listen netip.AddrPort
	// Advertise are locators to publish beside (before) those found on this host,
	// such as the outer address of a port forwarding.
	Advertise []netip.AddrPort
	// Resolver finds services and nodes. Default: nothing is found; only peers
	// that are connected already can be dialled.
	Resolver Resolver
	// Policy orders the providers of a service beyond their grants. Default: the
	// grants' priorities and weights alone decide.
	Policy Policy
	// Meter sees the sessions, for payment. Default: nobody does.
	Meter Meter
	// Authorizer decides who may open what. Default: everybody everything.
	Authorizer Authorizer
	// Admit decides whether a node may connect or be connected to at all; an error
	// refuses it. It must not block. Default: every node of the network.
	Admit func(identity.NodeID) error
	// LocatorsChanged receives the node's locators soon after Open and at each
	// change. It must return soon. Default: nobody is told.
	LocatorsChanged func([]netip.AddrPort)
	// Relay makes the node a relay for others. Default: it is none.
	Relay *RelayConfig
	// BootstrapRelays returns nodes that may be relays and where they are: the
	// bootstrap nodes of the network. It is asked now and then and must return soon.
	// Default: only relays that others tell of are used.
	BootstrapRelays func() []record.Candidate
	// RelaysChanged receives this node's home relays, to be published, whenever they
	// change. It must return soon. Default: nobody is told.
	RelaysChanged func([]identity.NodeID)
	// IgnoreInterface reports network interfaces never to be used. Default:
	// virtual ones, as underlay.IgnoreVirtual says.
	IgnoreInterface func(name string) bool
	// LinkPolicy says what each network interface may be used for. It must return soon.
	// Default: all may be used alike.
	LinkPolicy func(interfaceName string) LinkPolicy
	// Duplicate sends small datagrams over a second link too, where there is one.
	Duplicate bool
	// Resumed is told soon after the host woke up, and how long it slept. Default:
	// nobody is told.
	Resumed func(slept time.Duration)
	// AllowLoopback uses loopback addresses too. For tests.
	AllowLoopback bool
	// MemoryBudget bounds, in bytes, what sessions whose reader has stopped may
	// hold in receive buffers. Beyond it new sessions are answered "over
	// capacity". Default 1 GiB: 8,192 sessions that nobody reads. At least
	// InitialWindow.
	MemoryBudget int64
	// InitialWindow is the receive window of a new session in bytes. Default
	// 128 KiB, as TCP on Linux; it grows with use. 16 KiB to MaxWindow.
	InitialWindow int
	// MaxWindow is the largest receive window of a session in bytes. Default
	// 16 MiB: 1.3 Gb/s over a round trip of 100 ms. At most 256 MiB.
	MaxWindow int
	// MaxSessionsPerPeer bounds the sessions one peer may have open at this node.
	// Default 65,536: one packet of a peer may create that many empty streams,
	// which is 80 MB; a gateway needs one for each flow. 1 to 1<<20.
	MaxSessionsPerPeer int
	// MaxPeers bounds the connections. Default 8,192, at a relay 1,024 more than may
	// register if that is more.
	MaxPeers int
	// Stagger is how long a provider has before the next is tried beside it
	// (RFC 8305 §5). Default 250 ms, 10 ms to 10 s.
	Stagger time.Duration
	// OpenTimeout is how long one provider has to answer a session open.
	// Default 20 s.
	OpenTimeout time.Duration
	// HandshakeTimeout is how long the first connection to a node may take.
	// Default 10 s.
	HandshakeTimeout time.Duration
	// IdleTimeout is how long a connection without sessions stays. Default 60 s.
	IdleTimeout time.Duration
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger
	// Hello is opaque: every peer gets it with the first words of a connection, and
	// shows it as PeerInfo.Hello. At most MaxExtension bytes. Default: nothing.
	Hello []byte
	// Clock tells the time; peers compare their clocks with it. Default time.Now.
	Clock func() time.Time

	// openCarrier replaces the underlay in tests.
	openCarrier func(Config, carrierCallbacks) (carrier, error)
	// retryAfter replaces the threshold of QUIC Retry in tests.
	retryAfter int
	// parkAfter replaces how long the connection of a registration stays.
	parkAfter time.Duration
	// loseRelayed makes a relay lose datagrams, by their size, in tests.
	loseRelayed func(size int) bool
	// drainGrace replaces how long a retired connection without sessions stays.
	drainGrace time.Duration
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("sal: "+format, args...)) }
	if c.Key.IsZero() {
		fault("Key is missing")
	}
	if c.MaxWindow < 0 || c.MaxWindow > 256<<20 {
		fault("MaxWindow %d is outside 0 to 256 MiB", c.MaxWindow)
	}
	d := c.withDefaults()
	if d.InitialWindow < 16<<10 || d.InitialWindow > d.MaxWindow {
		fault("InitialWindow %d is outside 16 KiB to MaxWindow (%d)", d.InitialWindow, d.MaxWindow)
	}
	if d.MemoryBudget < int64(d.InitialWindow) {
		fault("MemoryBudget %d is below InitialWindow (%d)", d.MemoryBudget, d.InitialWindow)
	}
	if d.MaxSessionsPerPeer < 1 || d.MaxSessionsPerPeer > 1<<20 {
		fault("MaxSessionsPerPeer %d is outside 1 to %d", d.MaxSessionsPerPeer, 1<<20)
	}
	if d.MaxPeers < 1 {
		fault("MaxPeers %d is below 1", d.MaxPeers)
	}
	if d.Stagger < 10*time.Millisecond || d.Stagger > 10*time.Second {
		fault("Stagger %s is outside 10ms to 10s", d.Stagger)
	}
	for name, t := range map[string]time.Duration{
		"OpenTimeout": d.OpenTimeout, "HandshakeTimeout": d.HandshakeTimeout, "IdleTimeout": d.IdleTimeout,
	} {
		if t <= 0 {
			fault("%s %s is not positive", name, t)
		}
	}
	if c.Relay != nil {
		if err := c.Relay.Limits.Validate(); err != nil {
			errs = append(errs, err)
		}
	}
	if len(c.Hello) > MaxExtension {
		fault("Hello of %d bytes is above %d", len(c.Hello), MaxExtension)
	}
	for _, a := range c.Advertise {
		if !a.IsValid() || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
			fault("cannot advertise %s", a)
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.MemoryBudget == 0 {
		c.MemoryBudget = 1 << 30
	}
	if c.MaxWindow == 0 {
		c.MaxWindow = 16 << 20
	}
	if c.InitialWindow == 0 {
		c.InitialWindow = min(128<<10, c.MaxWindow)
	}
	if c.MaxSessionsPerPeer == 0 {
		c.MaxSessionsPerPeer = 1 << 16
	}
	if c.MaxPeers == 0 {
		c.MaxPeers = 8192
		if c.Relay != nil {
			registrations := c.Relay.Limits.Registrations
			if registrations == 0 {
				registrations = relay.DefaultRegistrations
			}
			c.MaxPeers = max(c.MaxPeers, registrations+1024)
		}
	}
	if c.Stagger == 0 {
		c.Stagger = 250 * time.Millisecond
	}
	if c.OpenTimeout == 0 {
		c.OpenTimeout = 20 * time.Second
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = 10 * time.Second
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Admit == nil {
		c.Admit = func(identity.NodeID) error { return nil }
	}
	if c.openCarrier == nil {
		c.openCarrier = openUnderlay
	}
	if c.retryAfter == 0 {
		c.retryAfter = defaultRetryAfter
	}
	if c.drainGrace == 0 {
		c.drainGrace = 3 * time.Second
	}
	return c
}
