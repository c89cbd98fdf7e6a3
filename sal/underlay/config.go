package underlay

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/relay"
)

// Config configures a Socket. The zero value is valid: any port, every address
// of this host, no callbacks.
//
// The callbacks are called one at a time from one goroutine of the socket, so
// each must return soon; each may call any method of Socket and Association
// except Socket.Close.
type Config struct {
	// Listen is the address of the one UDP socket. An invalid or unspecified
	// address means every address of this host, IPv6 and IPv4 (only IPv4 if the
	// kernel has no IPv6). With a specific address the socket cannot follow
	// moves. Port 0 asks the kernel for a port. Default: [::]:0.
	Listen netip.AddrPort

	// IgnoreInterface reports interfaces whose addresses are neither used as
	// paths nor reported as locators: our own TUN device, container bridges,
	// other VPNs. Default: IgnoreVirtual.
	IgnoreInterface func(name string) bool

	// LinkPolicy says what each interface may be used for. It must return soon.
	// SetLinkPolicy replaces it. Default: PolicyNone for all.
	LinkPolicy func(interfaceName string) LinkPolicy

	// Duplicate sends small datagrams, such as keystrokes, over a second link too,
	// where there is one that is not metered: the peer takes what comes first. At most
	// 200 a second and peer are. SetDuplicate changes it. Default: false.
	Duplicate bool

	// AllowLoopback makes the loopback addresses usable as paths and locators.
	// For tests. Default: false.
	AllowLoopback bool

	// Advertise holds further addresses at which this host may be found, such as
	// the outside of a port forwarding. They come first in what peers are told.
	Advertise []netip.AddrPort

	// Resolve asks for the newest locators of a node, because no path to it is
	// left. The answer comes by Association.SetLocators, at any time or never.
	// Default: nobody is asked.
	Resolve func(identity.NodeID)

	// LocatorsChanged receives what Socket.Locators returns, once soon after Open
	// and then at each change of this host's addresses, inside or as peers see them. The receiver owns
	// the slice. Default: nobody is told.
	LocatorsChanged func([]netip.AddrPort)

	// Resumed is told soon after the host woke up, and how long it slept. All paths are
	// being probed by then. Default: nobody is told.
	Resumed func(slept time.Duration)

	// Observed receives the address under which a peer sees this host, when it
	// differs from the local one: with every answer to a probe, and nothing but the
	// peer's word. Default: nobody is told.
	Observed func(peer identity.NodeID, address netip.AddrPort)

	// Relay lets this node forward datagrams between peers to which it was granted
	// (Association.GrantRelay). Default: nil, nothing is forwarded.
	Relay *relay.Limits

	// RelayKey marks the tokens of this node as a relay, so that the kernel can drop
	// what bears none. It is secret. If it is the same after a restart, those who were
	// registered before are heard and can be told that they are not. Default: random.
	RelayKey [16]byte

	// LoseRelayed, when set, says of each datagram to be forwarded, by its size,
	// whether to lose it. It must not wait. For tests of those who depend on a relay
	// that does not do its work. Default: none is lost on purpose.
	LoseRelayed func(size int) bool

	// RelayUnknown is called when a peer asked for forwarding to a node that is not
	// registered here: once a minute for each such pair, and of at most 8 nodes a
	// minute for each peer. Default: nobody is told.
	RelayUnknown func(sender identity.NodeID, destination [8]byte)

	// Node is this node, to which ProbeRelay sends. Default: no probe comes back.
	Node identity.NodeID

	// RelayEcho is called when a probe came back from a relay. Default: nobody is
	// told.
	RelayEcho func(relay identity.NodeID, serial uint64)

	// RelayWord receives what a relay says to this node, and the node it says it
	// about, if any. Default: nobody is told.
	RelayWord func(relay identity.NodeID, word RelayWord, about [8]byte)

	// RelaysTold receives the relays at which a peer says it can be reached: at most
	// path.MaxRelays, nothing but its word. The receiver owns the slice. Default:
	// nobody is told.
	RelaysTold func(peer identity.NodeID, relays []identity.NodeID)

	// Dead is called once for an association that has had no path for the whole
	// of its patience: 15 minutes with sessions open, 60 seconds without. Its
	// owner closes it. Default: nobody is told.
	Dead func(*Association)

	// ReceiveBuffer and SendBuffer are the sizes of the socket's buffers in
	// bytes. The kernel may grant less without CAP_NET_ADMIN. Default: 8 MiB, at
	// least 64 KiB: one burst of a fast sender at 1 Gb/s lasts a few
	// milliseconds more than this process may be off the CPU.
	ReceiveBuffer, SendBuffer int

	// MaxAssociations bounds how many peers may be bound at once. Default and
	// maximum: 32768.
	MaxAssociations int

	// Logger receives state changes. Default: discard.
	Logger *slog.Logger

	disableGRO  bool                         // tests: force one datagram per read
	clockOffset func() (time.Duration, bool) // tests: what suspendClock reads
}

const (
	defaultBuffer   = 8 << 20
	maxAssociations = 32768
)

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var errs []error
	if a := c.Listen.Addr(); a.IsValid() && (a.IsMulticast() || a.Zone() != "") {
		errs = append(errs, fmt.Errorf("underlay: cannot listen on %s", a))
	}
	if c.ReceiveBuffer != 0 && c.ReceiveBuffer < 64<<10 {
		errs = append(errs, fmt.Errorf("underlay: ReceiveBuffer of %d bytes is below 64 KiB", c.ReceiveBuffer))
	}
	if c.SendBuffer != 0 && c.SendBuffer < 64<<10 {
		errs = append(errs, fmt.Errorf("underlay: SendBuffer of %d bytes is below 64 KiB", c.SendBuffer))
	}
	if c.MaxAssociations < 0 || c.MaxAssociations > maxAssociations {
		errs = append(errs, fmt.Errorf("underlay: MaxAssociations %d is outside 0 to %d", c.MaxAssociations, maxAssociations))
	}
	if c.Relay != nil {
		errs = append(errs, c.Relay.Validate())
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.IgnoreInterface == nil {
		c.IgnoreInterface = IgnoreVirtual
	}
	if c.LinkPolicy == nil {
		c.LinkPolicy = noPolicy
	}
	if c.ReceiveBuffer == 0 {
		c.ReceiveBuffer = defaultBuffer
	}
	if c.SendBuffer == 0 {
		c.SendBuffer = defaultBuffer
	}
	if c.MaxAssociations == 0 {
		c.MaxAssociations = maxAssociations
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
