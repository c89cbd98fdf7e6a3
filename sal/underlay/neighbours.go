package underlay

import (
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// nudgeEvery is how often at most unanswered neighbour entries are removed.
	nudgeEvery = int64(50 * time.Millisecond)
	// nudgeAge is how old a question must be to be asked anew, in the kernel's ticks
	// of 10 ms: the answer to a young one may just be coming.
	nudgeAge = 4
)

// nudge makes the kernel ask again for the link address of a next hop that did
// not answer. Packets to it wait for an answer, and the kernel repeats its
// question only once a second (retrans_time_ms), so an outage that is over would
// seem to last that much longer: here, an entry without an answer is removed, and
// the next packet asks at once. Without CAP_NET_ADMIN nothing happens.
//
// It is called by the engine while a path is lost, before it probes.
func (w *watcher) nudge(remote netip.Addr, l *hostLinks) {
	w.forget(familyOf(remote), func(ip netip.Addr, n *netlink.Neigh) bool {
		return (n.State == netlink.NUD_FAILED || n.State == netlink.NUD_INCOMPLETE && n.Updated >= nudgeAge) &&
			(ip == remote || slices.Contains(l.gateways, ip))
	})
}

// forgetRouters makes the kernel ask for the link addresses of the IPv6 routers
// anew, when this host's addresses changed. On another network a router may have the
// address the one before had, and would be sent to in vain for half a minute. And by
// asking, the host tells the router where its new address is: the router's own first
// question often comes before the kernel listens for it, and its next one a second
// later. (With the last IPv4 address the kernel forgets all neighbours by itself.)
func (w *watcher) forgetRouters(l *hostLinks) {
	if !slices.ContainsFunc(l.gateways, netip.Addr.Is6) {
		return
	}
	w.forget(unix.AF_INET6, func(ip netip.Addr, n *netlink.Neigh) bool {
		return n.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP|netlink.NUD_INCOMPLETE) == 0 && slices.Contains(l.gateways, ip)
	})
}

// forget removes the neighbour entries chosen.
func (w *watcher) forget(family int, chosen func(netip.Addr, *netlink.Neigh) bool) {
	entries, err := w.handle.NeighListExecute(netlink.Ndmsg{Family: uint8(family)})
	if err != nil {
		return
	}
	for _, n := range entries {
		ip, ok := netip.AddrFromSlice(n.IP)
		if !ok || !chosen(ip.Unmap(), &n) {
			continue
		}
		if w.handle.NeighDel(&n) == nil {
			w.metrics.nudges.Add(1)
		}
	}
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
