package guest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// refreshEvery is how often at most the host's routes are read for a source that is of
// no known network.
const refreshEvery = time.Second

// Networks are the networks behind a host's interfaces, by its routes.
type Networks struct {
	interfaces []string                                     // constant
	list       func(names []string) ([]netip.Prefix, error) // constant

	known atomic.Pointer[[]netip.Prefix]

	mu   sync.Mutex // guards below
	read time.Time
}

// NewNetworks returns the networks behind the interfaces named, which need not exist
// yet. It reads nothing before it is asked.
func NewNetworks(interfaces []string) *Networks {
	return &Networks{interfaces: slices.Clone(interfaces), list: routesBehind}
}

// Contains reports whether an address belongs to one of the networks. It may read the
// host's routes, once a second.
func (n *Networks) Contains(a netip.Addr) bool { return n.contains(a, time.Now()) }

func (n *Networks) contains(a netip.Addr, now time.Time) bool {
	if n.knows(a) {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.read.IsZero() && now.Sub(n.read) < refreshEvery {
		return n.knows(a)
	}
	n.refreshLocked(now)
	return n.knows(a)
}

// Refresh reads the host's routes now: what is behind the interfaces may have become
// less.
func (n *Networks) Refresh() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.refreshLocked(time.Now())
}

func (n *Networks) refreshLocked(now time.Time) error {
	n.read = now
	found, err := n.list(n.interfaces)
	if err != nil {
		return err
	}
	n.known.Store(&found)
	return nil
}

func (n *Networks) knows(a netip.Addr) bool {
	known := n.known.Load()
	return known != nil && slices.ContainsFunc(*known, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Prefixes returns the networks as they were read last.
func (n *Networks) Prefixes() []netip.Prefix {
	if known := n.known.Load(); known != nil {
		return slices.Clone(*known)
	}
	return nil
}

// routesBehind lists what the host's main table sends out by the interfaces, but for
// default routes: those lead to the world, where devices of ours are not.
func routesBehind(names []string) ([]netip.Prefix, error) {
	indices := make(map[int]bool)
	for _, name := range names {
		if link, err := netlink.LinkByName(name); err == nil { // it may come later
			indices[link.Attrs().Index] = true
		}
	}
	var out []netip.Prefix
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			if family == netlink.FAMILY_V6 && errors.Is(err, syscall.EAFNOSUPPORT) {
				continue
			}
			return nil, fmt.Errorf("guest: list routes: %w", err)
		}
		for _, r := range routes {
			if r.Dst == nil || !indices[r.LinkIndex] || r.Type != unix.RTN_UNICAST {
				continue
			}
			a, ok := netip.AddrFromSlice(r.Dst.IP)
			bits, _ := r.Dst.Mask.Size()
			if !ok || bits == 0 || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsLoopback() {
				continue
			}
			out = append(out, netip.PrefixFrom(a.Unmap(), bits))
		}
	}
	return out, nil
}
