package tun

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun/address"
	"scn.alt/scn/tun/splice"
)

// Edge is the TUN device with all flows through it.
//
// Open returns ErrConfig and address.ErrPool (joined) for bad settings, ErrNoDevice,
// ErrPermission, ErrNameInUse and ErrConflict for a host that cannot have it, and
// address.ErrCorrupt for a damaged state file.
type Edge struct {
	// Constant after Open.
	cfg     Config
	log     *slog.Logger
	pool    *address.Pool
	dev     *device
	family4 *family
	family6 *family // nil where the host has no IPv6
	buffers *splice.Buffers
	local   *localAddresses
	tcp     *tcpTable
	udp     *packetTable
	warm    *warmPorts
	guests  *guestTable
	pings   chan struct{} // a slot for each echo request held

	ctx     context.Context // of every flow; ended by Close
	cancel  context.CancelFunc
	running atomic.Bool
	ended   chan struct{}  // closed when Run returns
	loops   sync.WaitGroup // goroutines of Run

	flowsMu  sync.Mutex // guards below, and that nothing is added while stopFlows waits
	stopping bool
	flows    sync.WaitGroup // goroutines of flows

	count    counters
	fragment atomic.Uint32 // numbers packets to devices

	closing sync.Once
	closed  error
}

// Check validates the settings and looks whether this host can have the device, without
// changing anything: the device file, the right to create devices, the name, the routes.
func Check(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	return checkHost(cfg.withDefaults())
}

// Name returns the device's name.
func (e *Edge) Name() string { return e.dev.name }

// Index returns the device's interface index.
func (e *Edge) Index() int { return e.dev.index }

// Addresses returns the device's own addresses, where a DNS server for this host
// listens. v6 is invalid where the host has no IPv6.
func (e *Edge) Addresses() (v4, v6 netip.Addr) {
	v4 = e.family4.own
	if e.family6 != nil {
		v6 = e.family6.own
	}
	return v4, v6
}

// Prefixes returns the ranges virtual addresses come from: the pool, and the network's
// IPv6 prefix where the host has IPv6.
func (e *Edge) Prefixes() []netip.Prefix {
	p := []netip.Prefix{e.pool.Prefix4()}
	if e.family6 != nil {
		p = append(p, e.pool.Prefix6())
	}
	return p
}

// Assign returns the virtual addresses of a service on this host, the same each time,
// after restarts too. Call it only for a service that was found to exist. With
// address.ErrFull the IPv6 address is valid nonetheless. v6 is invalid where the host
// has no IPv6.
func (e *Edge) Assign(ctx context.Context, service identity.ServiceID) (v4, v6 netip.Addr, err error) {
	if err := ctx.Err(); err != nil {
		return v4, v6, err
	}
	v4, v6, err = e.pool.Assign(service)
	if errors.Is(err, address.ErrClosed) {
		err = ErrClosed
	}
	if e.family6 == nil {
		v6 = netip.Addr{}
	}
	return v4, v6, err
}

// Service returns the service a virtual address belongs to.
func (e *Edge) Service(a netip.Addr) (identity.ServiceID, bool) {
	return e.pool.Service(a.Unmap())
}
