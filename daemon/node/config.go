package node

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/daemon/verdict"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal"
)

// LedgerPort is the port of the authority's own service that answers for names.
const LedgerPort = 1

// Config configures a Node. Dir is required.
type Config struct {
	// Dir is the node's directory, made by Init.
	Dir string
	// Listen is the UDP address of the sessions; the DHT uses the port after it.
	// Default [::]:47700.
	Listen netip.AddrPort
	// Advertise are addresses others reach this node at besides the host's own.
	Advertise []netip.AddrPort
	// Mobile makes the node a client of the DHT.
	Mobile bool
	// Relay makes the node a relay for others. Default: it is none.
	Relay *sal.RelayConfig
	// Region is a free label in the node's record, at most 32 bytes.
	Region string
	// AllowLoopback lets loopback addresses be published and dialled.
	AllowLoopback bool
	// IgnoreInterface reports links that must not carry sessions, besides
	// containers' and VPNs'. Default: none.
	IgnoreInterface func(name string) bool
	// LinkPolicy says what each link may be used for. Default: all alike.
	LinkPolicy func(name string) sal.LinkPolicy
	// Duplicate sends small packets over a second link too, where there is one.
	Duplicate bool
	// ExcludeAddress reports addresses neither published nor believed, such as the
	// TUN's. Default: none.
	ExcludeAddress func(netip.Addr) bool
	// TunnelListen is the TCP address at which this node takes tunnels from nodes
	// without UDP, such as ":443". A port that cannot be had is only warned of.
	// Default: none.
	TunnelListen string
	// PortMapping asks the router to let packets in to the node's UDP ports (PCP,
	// NAT-PMP, UPnP).
	PortMapping bool
	// MemoryBudget bounds the buffers of all sessions in bytes. Default 1 GiB.
	MemoryBudget int64
	// Petnames are this host's own names; they override registered ones.
	Petnames map[name.Name]identity.ServiceID
	// FailUnknown makes names never seen fail while the authority is down, instead
	// of going to the host's own DNS servers.
	FailUnknown bool
	// RealZone tells an authority whether a name exists in the Internet's own zone,
	// where the network asks for proof of control there. Default: nobody asks.
	RealZone cashier.RealZone
	// KeepNames leaves the leases of this account's names alone. Default: they are
	// renewed before they end, whatever that costs.
	KeepNames bool
	// KeepBlocks is how long an authority's ledger keeps blocks. Default 0: for ever.
	KeepBlocks time.Duration
	// Verdict decides about the sessions that a service's rules ask about. Default:
	// the user alone does. Its Clock and Logger are the node's.
	Verdict verdict.Config
	// Pay says what the node may pay for by itself. Default: nothing.
	Pay PayConfig
	// Inspect says how it inspects providers. Default: when its operator asks.
	Inspect InspectConfig
	// WakeTimeout is how long a session waits for a target that is being woken.
	// Default 20 s.
	WakeTimeout time.Duration
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger

	unpublished *atomic.Bool // tests: while true, what changes in the ledger does not get into the DHT
}

func (c Config) withDefaults() Config {
	if !c.Listen.IsValid() {
		c.Listen = netip.AddrPortFrom(netip.IPv6Unspecified(), DefaultPort)
	}
	if c.IgnoreInterface == nil {
		c.IgnoreInterface = func(string) bool { return false }
	}
	if c.ExcludeAddress == nil {
		c.ExcludeAddress = func(netip.Addr) bool { return false }
	}
	if c.WakeTimeout == 0 {
		c.WakeTimeout = 20 * time.Second
	}
	if c.MemoryBudget == 0 {
		c.MemoryBudget = 1 << 30
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every fault of the configuration. It touches nothing.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("node: no directory"))
	}
	if c.MemoryBudget < 0 {
		errs = append(errs, errors.New("node: negative memory budget"))
	}
	if c.Relay != nil {
		if err := c.Relay.Limits.Validate(); err != nil {
			errs = append(errs, err)
		}
	}
	if err := c.Inspect.Validate(); err != nil {
		errs = append(errs, err)
	}
	if len(c.Region) > 32 {
		errs = append(errs, errors.New("node: region longer than 32 bytes"))
	}
	if c.WakeTimeout < 0 {
		errs = append(errs, errors.New("node: negative wake timeout"))
	}
	errs = append(errs, c.Verdict.Validate(), c.Pay.Validate())
	return errors.Join(errs...)
}
