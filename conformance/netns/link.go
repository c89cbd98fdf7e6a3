package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link is a cable from a host to a switch.
type Link struct {
	host   *Host
	name   string // in the host
	number int    // among the host's links
	near   netlink.Link
	port   netlink.Link // the fabric's end

	// owned by the one caller at a time
	at     *Switch
	v4, v6 netip.Addr
}

// Attach connects a host to a switch as host number n of its subnets: on
// 10.1.0.0/24, number 2 is 10.1.0.2. The interfaces are eth0, eth1, …, the
// routes of earlier ones are preferred.
func (h *Host) Attach(s *Switch, n int) *Link {
	h.mu.Lock()
	link := &Link{host: h, number: len(h.links), name: fmt.Sprintf("eth%d", len(h.links))}
	h.links = append(h.links, link)
	h.mu.Unlock()
	l := h.lab
	veth := &netlink.Veth{
		LinkAttrs:        netlink.NewLinkAttrs(),
		PeerName:         link.name,
		PeerNamespace:    netlink.NsFd(h.thread.network.Fd()),
		PeerHardwareAddr: hardwareAddress(h.number, link.number),
	}
	veth.Name = l.nextLink()
	l.must(l.net.LinkAdd(veth), "link %s of %s", link.name, h.name)
	var err error
	link.port, err = l.net.LinkByName(veth.Name)
	l.must(err, "link %s of %s", link.name, h.name)
	link.near, err = h.net.LinkByName(link.name)
	l.must(err, "link %s of %s", link.name, h.name)
	l.must(l.net.LinkSetUp(link.port), "link %s of %s", link.name, h.name)
	l.must(h.net.LinkSetUp(link.near), "link %s of %s", link.name, h.name)
	link.await()
	link.plug(s, n)
	link.await()
	return link
}

// await waits until the kernel has noticed that both ends are up, which it does
// by and by: a switch loses what comes before, and a question for a neighbour that
// is lost is repeated only after a second.
func (k *Link) await() {
	h := k.host
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		near, err := h.net.LinkByName(k.name)
		h.lab.must(err, "link %s of %s", k.name, h.name)
		port, err := h.lab.net.LinkByName(k.port.Attrs().Name)
		h.lab.must(err, "link %s of %s", k.name, h.name)
		if near.Attrs().OperState == netlink.OperUp && port.Attrs().OperState == netlink.OperUp {
			return
		}
	}
	h.lab.cfg.Fatal("netns: link %s of %s does not come up", k.name, h.name)
}

// Name returns the interface's name on the host.
func (k *Link) Name() string { return k.name }

// Addr4 returns the link's IPv4 address, invalid when it has none.
func (k *Link) Addr4() netip.Addr { return k.v4 }

// Addr returns the link's IPv4 address, or its IPv6 address when it has no other.
func (k *Link) Addr() netip.Addr {
	if k.v4.IsValid() {
		return k.v4
	}
	return k.v6
}

// Addr6 returns the link's IPv6 address, invalid when it has none.
func (k *Link) Addr6() netip.Addr { return k.v6 }

// Switch returns where the link is plugged in, nil when detached.
func (k *Link) Switch() *Switch { return k.at }

// Move takes the cable to another switch (or to another number on the same one):
// the old addresses are gone before the new ones come. When it returns the new
// ones are usable.
func (k *Link) Move(s *Switch, n int) {
	k.Detach()
	k.plug(s, n)
}

// Detach pulls the cable: addresses and routes are gone, nothing arrives.
func (k *Link) Detach() {
	if k.at == nil {
		return
	}
	h := k.host
	for _, p := range k.prefixes() {
		err := h.net.AddrDel(k.near, p)
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			h.lab.must(err, "take %s from %s", p, h.name)
		}
	}
	h.lab.must(h.lab.net.LinkSetNoMaster(k.port), "unplug %s of %s", k.name, h.name)
	h.lab.logf("%s %s: left %s", h.name, k.name, k.at.name)
	k.at, k.v4, k.v6 = nil, netip.Addr{}, netip.Addr{}
}

func (k *Link) plug(s *Switch, n int) {
	h := k.host
	k.at, k.v4, k.v6 = s, s.Addr4(n), s.Addr6(n)
	h.lab.must(h.lab.net.LinkSetMaster(k.port, s.bridge), "plug %s of %s into %s", k.name, h.name, s.name)
	k.configure()
	h.lab.logf("%s %s: %s on %s", h.name, k.name, k.describe(), s.name)
}

// configure gives the interface its addresses and routes; those it has stay.
func (k *Link) configure() {
	h := k.host
	for _, p := range k.prefixes() {
		if err := h.net.AddrAdd(k.near, p); err != nil && !errors.Is(err, unix.EEXIST) {
			h.lab.must(err, "give %s to %s", p, h.name)
		}
	}
	gateway4, gateway6 := k.at.gateways()
	if h.router && !gateway4.IsValid() && !gateway6.IsValid() {
		k.at.setGateways(k.v4, k.v6)
		return
	}
	for _, g := range []netip.Addr{gateway4, gateway6} {
		if !g.IsValid() || g == k.v4 || g == k.v6 {
			continue
		}
		h.lab.must(h.net.RouteReplace(&netlink.Route{
			LinkIndex: k.near.Attrs().Index,
			Gw:        g.AsSlice(),
			Priority:  100 + k.number,
		}), "default route of %s by %s", h.name, g)
	}
}

// prefixes returns the link's addresses as the kernel wants them. Duplicate
// address detection would keep an IPv6 address unusable for a second.
func (k *Link) prefixes() []*netlink.Addr {
	var list []*netlink.Addr
	if k.v4.IsValid() {
		list = append(list, &netlink.Addr{IPNet: ipNet(k.v4, k.at.v4.Bits())})
	}
	if k.v6.IsValid() {
		list = append(list, &netlink.Addr{IPNet: ipNet(k.v6, k.at.v6.Bits()), Flags: unix.IFA_F_NODAD})
	}
	return list
}

func ipNet(a netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}
}

func (k *Link) describe() string {
	text := ""
	for _, a := range []netip.Addr{k.v4, k.v6} {
		if a.IsValid() {
			text += a.String() + " "
		}
	}
	if text == "" {
		return "no address"
	}
	return text[:len(text)-1]
}

// Cut loses every packet from now on; the host notices nothing.
func (k *Link) Cut() {
	k.host.lab.must(k.host.lab.net.LinkSetNoMaster(k.port), "cut %s of %s", k.name, k.host.name)
	k.host.lab.logf("%s %s: cut", k.host.name, k.name)
}

// Mend undoes Cut.
func (k *Link) Mend() {
	k.host.lab.must(k.host.lab.net.LinkSetMaster(k.port, k.at.bridge), "mend %s of %s", k.name, k.host.name)
	k.host.lab.logf("%s %s: mended", k.host.name, k.name)
}

// Down takes the host's interface down: its routes and IPv6 addresses are gone.
func (k *Link) Down() {
	k.host.lab.must(k.host.net.LinkSetDown(k.near), "%s of %s down", k.name, k.host.name)
	k.host.lab.logf("%s %s: down", k.host.name, k.name)
}

// Up undoes Down, addresses and routes included.
func (k *Link) Up() {
	k.host.lab.must(k.host.net.LinkSetUp(k.near), "%s of %s up", k.name, k.host.name)
	if k.at != nil {
		k.configure()
	}
	k.host.lab.logf("%s %s: up", k.host.name, k.name)
}

// SetCarrier takes the carrier away, as a cable pulled at the far end does, or
// gives it back: addresses stay.
func (k *Link) SetCarrier(on bool) {
	set := k.host.lab.net.LinkSetDown
	if on {
		set = k.host.lab.net.LinkSetUp
	}
	k.host.lab.must(set(k.port), "carrier of %s of %s", k.name, k.host.name)
	k.host.lab.logf("%s %s: carrier %v", k.host.name, k.name, on)
}

// SetMTU sets the MTU of both ends. On a router, packets that are larger get the
// ICMP answer a router gives. Below 1280 the kernel takes IPv6 off the interface.
func (k *Link) SetMTU(mtu int) {
	k.host.lab.must(k.host.lab.net.LinkSetMTU(k.port, mtu), "MTU of %s of %s", k.name, k.host.name)
	k.host.lab.must(k.host.net.LinkSetMTU(k.near, mtu), "MTU of %s of %s", k.name, k.host.name)
	if k.at != nil && mtu >= 1280 {
		k.configure()
	}
	k.host.lab.logf("%s %s: MTU %d", k.host.name, k.name, mtu)
}

// Configure gives an interface a program made on the host, such as a tunnel, an
// address and an MTU, and takes it up.
func (h *Host) Configure(name, prefix string, mtu int) error {
	link, err := h.net.LinkByName(name)
	if err != nil {
		return fmt.Errorf("netns: %s of %s: %w", name, h.name, err)
	}
	address, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	return errors.Join(h.net.LinkSetMTU(link, mtu), h.net.AddrAdd(link, address), h.net.LinkSetUp(link))
}
