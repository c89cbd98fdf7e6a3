package underlay

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"scn.alt/scn/sal/path"
)

// hostLinks is what this host's interfaces offer at one moment; constant.
type hostLinks struct {
	links []path.Link // cheapest, then best first
	costs []uint8     // of links, as sal/path has them; nil: all the same
	mtu   map[int]int // by interface index
	// By interface index: those that cost by the byte, and those never to be used.
	metered, off map[int]bool
	interfaces   []hostInterface // all of them, for Links
	// routes identifies the default routes, to notice that they changed.
	routes []string
	// gateways are the next hops of the default routes.
	gateways []netip.Addr
}

func (l *hostLinks) equal(o *hostLinks) bool {
	return slices.Equal(l.links, o.links) && slices.Equal(l.costs, o.costs) && maps.Equal(l.mtu, o.mtu) &&
		maps.Equal(l.off, o.off) && slices.Equal(l.routes, o.routes)
}

// hostInterface is one interface, used or not.
type hostInterface struct {
	name    string
	index   int
	policy  LinkPolicy
	unused  string // why it cannot be used; empty if it can
	ignored bool
	routed  bool // has a default route
	addrs   []netip.Addr
}

// watcher follows the addresses, interfaces and default routes of the network
// namespace in which it was opened.
type watcher struct {
	ignore   func(string) bool
	policy   func(string) LinkPolicy
	loopback bool
	v6       bool
	only     netip.Addr                     // the one address the socket is bound to; zero: all
	changed  func(l *hostLinks, again bool) // called from run
	metrics  *counters

	handle *netlink.Handle
	ns     netns.NsHandle
	events *nl.NetlinkSocket
	dirty  chan struct{}
	last   *hostLinks

	mu   sync.Mutex   // guards left
	left []netip.Addr // addresses taken from the host since the last reading
}

// maxLeft bounds the addresses noted between two readings.
const maxLeft = 64

// noteLeft notes an address that is taken from the host. It may be given back before
// anybody looks: networks are alike, and a host that is carried from one to another
// may get the same address from both.
func (w *watcher) noteLeft(m syscall.NetlinkMessage) {
	if m.Header.Type != unix.RTM_DELADDR || len(m.Data) < unix.SizeofIfAddrmsg {
		return
	}
	attributes, err := nl.ParseRouteAttr(m.Data[unix.SizeofIfAddrmsg:])
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range attributes {
		if a.Attr.Type != unix.IFA_ADDRESS && a.Attr.Type != unix.IFA_LOCAL || len(w.left) >= maxLeft {
			continue
		}
		if ip, ok := netip.AddrFromSlice(a.Value); ok {
			w.left = append(w.left, ip)
		}
	}
}

// returned reports whether an address left the host and is there again, since it was
// last asked.
func (w *watcher) returned(now *hostLinks) bool {
	w.mu.Lock()
	left := w.left
	w.left = nil
	w.mu.Unlock()
	has := func(l *hostLinks, ip netip.Addr) bool {
		return slices.ContainsFunc(l.links, func(k path.Link) bool { return k.Local.Unmap().WithZone("") == ip })
	}
	return slices.ContainsFunc(left, func(ip netip.Addr) bool { return has(w.last, ip) && has(now, ip) })
}

var watchedGroups = []uint{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
}

// open takes everything that belongs to the current network namespace, so that
// run may work on any thread.
func (w *watcher) open() (err error) {
	w.dirty = make(chan struct{}, 1)
	w.ns, err = netns.Get()
	if err != nil {
		w.ns = netns.None() // no /proc: events cannot be resubscribed elsewhere
	}
	w.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		w.close()
		return fmt.Errorf("underlay: open netlink: %w", err)
	}
	w.events, err = nl.Subscribe(unix.NETLINK_ROUTE, watchedGroups...)
	if err != nil {
		w.close()
		return fmt.Errorf("underlay: subscribe to address changes: %w", err)
	}
	// An overflow costs a resync, no more; a larger buffer makes it rare.
	_ = w.events.SetReceiveBufferSize(1<<20, false)
	w.last, err = w.read()
	if err != nil {
		w.close()
		return err
	}
	return nil
}

func (w *watcher) close() {
	if w.events != nil {
		w.events.Close()
	}
	if w.handle != nil {
		w.handle.Close()
	}
	if w.ns.IsOpen() {
		_ = w.ns.Close()
	}
}

// refresh makes run read everything again.
func (w *watcher) refresh() {
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}

// spacing is the least time between two readings: a container host may change
// interfaces hundreds of times a second.
const spacing = 2 * time.Millisecond

// run publishes changes until ctx ends.
func (w *watcher) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.dirty:
		}
		w.metrics.refreshes.Add(1)
		now, err := w.read()
		next := spacing
		returned := err == nil && w.returned(now)
		switch {
		case err != nil:
			w.metrics.watchErrors.Add(1)
			w.refresh()
			next = 100 * time.Millisecond
		case returned || !now.equal(w.last):
			again := returned || !slices.Equal(now.routes, w.last.routes)
			w.last = now
			w.changed(now, again)
		}
		pause.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// listen turns the kernel's notifications into refreshes until the subscription
// is closed by stop.
func (w *watcher) listen(ctx context.Context) {
	events := w.events
	for ctx.Err() == nil {
		messages, _, err := events.Receive()
		switch {
		case err == nil:
			for _, m := range messages {
				w.noteLeft(m)
			}
			if slices.ContainsFunc(messages, relevant) {
				w.refresh()
			}
		case errors.Is(err, unix.ENOBUFS):
			w.metrics.watchErrors.Add(1)
			w.refresh() // notifications were lost
		case errors.Is(err, fs.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded), ctx.Err() != nil:
			if ctx.Err() != nil {
				return
			}
			fallthrough
		default:
			w.metrics.watchErrors.Add(1)
			if events = w.resubscribe(ctx, events); events == nil {
				return
			}
			w.refresh()
		}
	}
}

// resubscribe replaces a broken subscription. It returns nil when ctx ended.
func (w *watcher) resubscribe(ctx context.Context, old *nl.NetlinkSocket) *nl.NetlinkSocket {
	old.Close()
	for ctx.Err() == nil {
		here, err := netns.Get()
		if err == nil {
			same := !w.ns.IsOpen() || here.Equal(w.ns)
			_ = here.Close()
			var events *nl.NetlinkSocket
			if same {
				events, err = nl.Subscribe(unix.NETLINK_ROUTE, watchedGroups...)
			} else {
				events, err = nl.SubscribeAt(w.ns, netns.None(), unix.NETLINK_ROUTE, watchedGroups...)
			}
			if err == nil {
				context.AfterFunc(ctx, events.Close)
				return events
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

// relevant tells notifications that can change what read returns.
func relevant(m syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return true
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		// struct rtmsg: family, destination length, … table. Only default routes.
		return len(m.Data) >= unix.SizeofRtMsg && m.Data[1] == 0
	}
	return false
}

// read asks the kernel for everything.
func (w *watcher) read() (*hostLinks, error) {
	var lastErr error
	for range 5 {
		l, err := w.readOnce()
		if err == nil {
			return l, nil
		}
		lastErr = err
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return nil, fmt.Errorf("underlay: read this host's addresses: %w", lastErr)
}

func (w *watcher) readOnce() (*hostLinks, error) {
	links, err := w.handle.LinkList()
	if err != nil {
		return nil, err
	}
	addrs, err := w.handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	l := &hostLinks{mtu: make(map[int]int), metered: make(map[int]bool), off: make(map[int]bool)}
	metric, err := w.defaultRoutes(l)
	if err != nil {
		return nil, err
	}
	at := make(map[int]int) // into l.interfaces
	for _, link := range links {
		a := link.Attrs()
		l.mtu[a.Index] = a.MTU
		i := hostInterface{name: a.Name, index: a.Index, policy: w.policy(a.Name), ignored: w.ignored(a)}
		i.unused = w.unusable(a, i)
		_, i.routed = metric[a.Index]
		switch i.policy {
		case PolicyOff:
			l.off[a.Index] = true
		case PolicyMetered:
			l.metered[a.Index] = true
		default:
		}
		at[a.Index] = len(l.interfaces)
		l.interfaces = append(l.interfaces, i)
	}
	for _, a := range addrs {
		n, ok := at[a.LinkIndex]
		if !ok || !w.usableAddr(a) {
			continue
		}
		ip, _ := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); w.only.IsValid() && w.only != ip {
			continue
		}
		i := &l.interfaces[n]
		i.addrs = append(i.addrs, ip)
		if i.unused == "" {
			l.links = append(l.links, path.Link{Local: ip, Interface: a.LinkIndex})
		}
	}
	// The cheapest first, among equals those with a default route, in its order.
	rank := func(i int) int {
		if m, ok := metric[i]; ok {
			return m
		}
		return 1 << 40
	}
	cost := func(link path.Link) uint8 { return l.interfaces[at[link.Interface]].policy.cost() }
	slices.SortStableFunc(l.links, func(a, b path.Link) int {
		return cmp.Or(cmp.Compare(cost(a), cost(b)),
			cmp.Compare(rank(a.Interface), rank(b.Interface)), cmp.Compare(a.Interface, b.Interface))
	})
	if slices.ContainsFunc(l.links, func(a path.Link) bool { return cost(a) != PolicyNone.cost() }) {
		for _, link := range l.links {
			l.costs = append(l.costs, cost(link))
		}
	}
	return l, nil
}

// defaultRoutes fills in what l says of routes and returns the preference of each
// interface that has a default route.
func (w *watcher) defaultRoutes(l *hostLinks) (metric map[int]int, err error) {
	metric = make(map[int]int)
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
		routes, err := w.handle.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if r.Dst != nil && !isDefault(r.Dst) {
				continue
			}
			indices := []int{r.LinkIndex}
			gateways := []net.IP{r.Gw}
			for _, hop := range r.MultiPath {
				indices = append(indices, hop.LinkIndex)
				gateways = append(gateways, hop.Gw)
			}
			for _, gw := range gateways {
				if ip, ok := netip.AddrFromSlice(gw); ok {
					l.gateways = append(l.gateways, ip.Unmap())
				}
			}
			for _, i := range indices {
				if m, ok := metric[i]; i != 0 && (!ok || r.Priority < m) {
					metric[i] = r.Priority
				}
			}
			l.routes = append(l.routes, fmt.Sprint(family, r.LinkIndex, r.Gw, r.Priority, len(r.MultiPath)))
		}
	}
	slices.Sort(l.routes)
	return metric, nil
}

func isDefault(n *net.IPNet) bool {
	ones, _ := n.Mask.Size()
	return ones == 0 && (n.IP == nil || n.IP.IsUnspecified())
}

// ignored reports interfaces that are no link to other nodes.
func (w *watcher) ignored(a *netlink.LinkAttrs) bool {
	if a.Flags&net.FlagLoopback != 0 {
		return !w.loopback
	}
	return w.ignore(a.Name)
}

// unusable says why an interface cannot be used, empty if it can.
func (w *watcher) unusable(a *netlink.LinkAttrs, i hostInterface) string {
	switch {
	case i.ignored:
		return "ignored: not a link to other hosts"
	case i.policy == PolicyOff:
		return "its policy is off"
	case a.Flags&net.FlagUp == 0:
		return "it is down"
	case a.Flags&net.FlagLoopback != 0:
		return ""
	}
	switch a.OperState {
	case netlink.OperDown, netlink.OperLowerLayerDown, netlink.OperNotPresent:
		return "it has no carrier"
	default: // up, or a device that does not tell
		return ""
	}
}

func (w *watcher) usableAddr(a netlink.Addr) bool {
	if a.IPNet == nil || a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED|unix.IFA_F_DEPRECATED) != 0 {
		return false
	}
	ip, ok := netip.AddrFromSlice(a.IP)
	ip = ip.Unmap()
	switch {
	case !ok, ip.IsUnspecified(), ip.IsMulticast(), ip.Is6() && !w.v6:
		return false
	case bytes.HasPrefix(a.IP, madeUpPrefix[:]), path.IsRelayed(netip.AddrPortFrom(ip, 1)):
		return false
	case ip.IsLoopback():
		return w.loopback
	}
	return !ip.IsLinkLocalUnicast()
}

// IgnoreVirtual reports the usual names of interfaces of containers, virtual
// machines and VPNs: an address there is either not reachable from elsewhere or
// would carry our packets inside another tunnel. It is the default of
// Config.IgnoreInterface.
func IgnoreVirtual(name string) bool {
	for _, prefix := range [...]string{
		"docker", "br-", "podman", "cni", "flannel", "cali", "cilium", "lxc", "lxd", "incusbr",
		"virbr", "vnet", "vmnet", "vboxnet", "tailscale", "wg", "zt", "nebula", "utun", "tun", "scn", "ppp-vpn",
	} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
