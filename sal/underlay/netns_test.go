package underlay

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// host is a network namespace of a test's own.
type host struct {
	tb testing.TB
	ns netns.NsHandle
	nl *netlink.Handle
}

// newHost makes a namespace, or skips the test where that is not permitted.
func newHost(tb testing.TB) *host {
	tb.Helper()
	h := &host{tb: tb}
	type result struct {
		ns  netns.NsHandle
		err error
	}
	made := make(chan result)
	go func() { // its thread ends with it, and with the thread its namespace
		runtime.LockOSThread()
		ns, err := netns.New()
		made <- result{ns, err}
	}()
	r := <-made
	if r.err != nil {
		tb.Skipf("cannot make a network namespace: %v", r.err)
	}
	h.ns = r.ns
	nl, err := netlink.NewHandleAt(h.ns)
	if err != nil {
		tb.Skipf("cannot use netlink in a network namespace: %v", err)
	}
	h.nl = nl
	tb.Cleanup(func() {
		h.nl.Close()
		h.ns.Close()
	})
	// Addresses are usable at once: duplicate address detection takes a second.
	h.sysctl("net/ipv6/conf/default/accept_dad", "0")
	h.up("lo")
	return h
}

// do runs f on a thread inside the namespace.
func (h *host) do(f func() error) {
	h.tb.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(h.ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		h.tb.Fatal(err)
	}
}

func (h *host) must(err error) {
	h.tb.Helper()
	if err != nil {
		h.tb.Fatal(err)
	}
}

func (h *host) link(name string) netlink.Link {
	h.tb.Helper()
	l, err := h.nl.LinkByName(name)
	h.must(err)
	return l
}

func (h *host) up(name string)   { h.tb.Helper(); h.must(h.nl.LinkSetUp(h.link(name))) }
func (h *host) down(name string) { h.tb.Helper(); h.must(h.nl.LinkSetDown(h.link(name))) }

func addrOf(cidr string) *netlink.Addr {
	p := netip.MustParsePrefix(cidr)
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func (h *host) add(name, cidr string) {
	h.tb.Helper()
	h.must(h.nl.AddrAdd(h.link(name), addrOf(cidr)))
}

func (h *host) del(name, cidr string) {
	h.tb.Helper()
	h.must(h.nl.AddrDel(h.link(name), addrOf(cidr)))
}

// gateway sets the default route.
func (h *host) gateway(name, gw string) {
	h.tb.Helper()
	ip := netip.MustParseAddr(gw)
	zero := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	if ip.Is6() {
		zero = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	h.must(h.nl.RouteReplace(&netlink.Route{LinkIndex: h.link(name).Attrs().Index, Dst: zero, Gw: ip.AsSlice()}))
}

// cable connects two hosts by a veth pair.
func cable(a *host, nameA string, b *host, nameB string) {
	a.tb.Helper()
	a.must(a.nl.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: nameA, MTU: 1500, TxQLen: 1000},
		PeerName:      nameB,
		PeerNamespace: netlink.NsFd(b.ns),
	}))
	a.up(nameA)
	b.up(nameB)
}

func (h *host) sysctl(key, value string) {
	h.tb.Helper()
	h.do(func() error { return os.WriteFile("/proc/sys/"+key, []byte(value), 0) })
}

// router forwards between the subnets 10.x.y.0/24 and fd00:x:y::/64: x is the
// side, y the place of attachment, and it is host 1 of each.
func newRouter(tb testing.TB) *host {
	tb.Helper()
	r := newHost(tb)
	r.sysctl("net/ipv4/ip_forward", "1")
	r.sysctl("net/ipv6/conf/all/forwarding", "1")
	return r
}

const places = 4

// attach connects h to side x of a router; the host has no address yet.
func attach(h, router *host, x int, name string) {
	h.tb.Helper()
	port := fmt.Sprintf("side%d%s", x, name)
	cable(h, name, router, port)
	for y := range places {
		router.add(port, fmt.Sprintf("10.%d.%d.1/24", x, y))
		router.add(port, fmt.Sprintf("fd00:%d:%d::1/64", x, y))
	}
}

func at(x, y int) string { return fmt.Sprintf("10.%d.%d.2", x, y) }

func at6(x, y int) string { return fmt.Sprintf("fd00:%d:%d::2", x, y) }

func (h *host) join(name string, x, y int) {
	h.tb.Helper()
	h.add(name, at(x, y)+"/24")
	h.gateway(name, fmt.Sprintf("10.%d.%d.1", x, y))
}

func (h *host) leave(name string, x, y int) {
	h.tb.Helper()
	h.del(name, at(x, y)+"/24")
}

func (h *host) peer(name byte, cfg Config, listen bool) (p *peer) {
	h.tb.Helper()
	h.do(func() error { p = newPeer(h.tb, name, cfg, listen); return nil })
	return p
}

func locator(ip string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(ip), port)
}
