package routing

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"scn.alt/scn/routing/record"
)

// MaxAddresses is how many addresses of one node are handed on for a dial.
const MaxAddresses = 8

// unreachable are ranges no node can be reached at from elsewhere: this-network,
// loopback, link-local, the overlay's own made-up addresses, benchmarking (the
// TUN's default pool), multicast, reserved and broadcast.
var unreachable = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("fd53:434e::/32"),
	netip.MustParsePrefix("fd53:5200::/24"), // stands for a way through a relay
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// Reachable reports whether a node can be reached at an address from another
// host: it is neither loopback nor link-local, multicast, reserved, nor one of the
// overlay's own. Such addresses are neither published nor believed.
func Reachable(address netip.AddrPort) bool {
	a := address.Addr()
	if !a.IsValid() || a.Zone() != "" || a.IsLoopback() || address.Port() == 0 || address.Port() == 65535 {
		return false
	}
	a = a.Unmap()
	return !slices.ContainsFunc(unreachable, func(p netip.Prefix) bool { return p.Contains(a) })
}

// reach decides which addresses this node publishes and believes.
type reach struct {
	loopback   bool
	exclude    func(netip.Addr) bool
	containers func() []netip.Prefix
}

// believes reports whether a peer's address may be dialled.
func (r reach) believes(address netip.AddrPort) bool {
	address = netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
	if r.loopback && address.Addr().IsLoopback() {
		return address.Port() > 0 && address.Port() < 65535
	}
	if !Reachable(address) || r.exclude(address.Addr()) {
		return false
	}
	// An address inside one of this host's own container networks means some
	// container here, never the peer that wrote it.
	return !slices.ContainsFunc(r.containers(), func(p netip.Prefix) bool { return p.Contains(address.Addr()) })
}

// filter returns the believable addresses, each once, in order, at most n.
func (r reach) filter(addresses []netip.AddrPort, n int) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, min(len(addresses), n))
	for _, a := range addresses {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if len(out) < n && !slices.Contains(out, a) && r.believes(a) {
			out = append(out, a)
		}
	}
	return out
}

// publishable returns the addresses for the node's own record.
func (r reach) publishable(addresses []netip.AddrPort) []netip.AddrPort {
	return r.filter(addresses, record.MaxLocators)
}

// containerNames are how interfaces of container and virtual-machine networks
// start on common systems.
var containerNames = []string{
	"docker", "br-", "cni", "cbr", "flannel", "cali", "kube", "nodelocaldns",
	"podman", "lxcbr", "lxdbr", "incusbr", "virbr", "vmnet", "vboxnet",
}

// containerNetworks lists the prefixes of this host's container interfaces, looked
// up at most twice a minute.
func containerNetworks() func() []netip.Prefix {
	var mu sync.Mutex
	var known []netip.Prefix
	var next time.Time
	return func() []netip.Prefix {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.After(next) {
			next = now.Add(30 * time.Second)
			known = listContainerNetworks()
		}
		return known
	}
}

func listContainerNetworks() (out []netip.Prefix) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range interfaces {
		if !slices.ContainsFunc(containerNames, func(p string) bool { return strings.HasPrefix(i.Name, p) }) {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
				out = append(out, p.Masked())
			}
		}
	}
	return out
}
