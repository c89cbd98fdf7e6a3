package underlay

import (
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// nudgeEvery is how often at most unanswered neighbour entries are removed.
const nudgeEvery = int64(200 * time.Millisecond)

// nudge makes the kernel ask again for the link address of a next hop that did
// not answer. Packets to it wait for an answer, and the kernel repeats its
// question only once a second (retrans_time_ms), so an outage that is over would
// seem to last that much longer: here, an entry without an answer is removed, and
// the next packet asks at once. Without CAP_NET_ADMIN nothing happens.
//
// It is called by the engine while a path is lost, before it probes.
func (w *watcher) nudge(remote netip.Addr, l *hostLinks) {
	entries, err := w.handle.NeighListExecute(netlink.Ndmsg{Family: uint8(familyOf(remote))})
	if err != nil {
		return
	}
	for _, n := range entries {
		ip, ok := netip.AddrFromSlice(n.IP)
		ip = ip.Unmap()
		if !ok || n.State&(netlink.NUD_INCOMPLETE|netlink.NUD_FAILED) == 0 ||
			ip != remote && !slices.Contains(l.gateways, ip) {
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
