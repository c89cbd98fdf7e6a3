package netns

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"scn.alt/scn/conformance/wire"
)

// Switch is an Ethernet segment with its subnets. Attach the router first: it
// becomes the gateway of what is attached after it.
type Switch struct {
	lab    *Lab
	name   string
	v4, v6 netip.Prefix
	bridge *netlink.Bridge

	// guarded by lab.mu
	gateway4, gateway6 netip.Addr
}

// Switch adds a segment. Subnets are at most one IPv4 and one IPv6 prefix, as
// "10.1.0.0/24" and "fd10:1::/64".
func (l *Lab) Switch(name string, subnets ...string) *Switch {
	s := &Switch{lab: l, name: name}
	for _, text := range subnets {
		p, err := netip.ParsePrefix(text)
		l.must(err, "switch %s", name)
		if p.Addr().Is4() {
			s.v4 = p.Masked()
		} else {
			s.v6 = p.Masked()
		}
	}
	l.mu.Lock()
	l.switches = append(l.switches, s)
	index := len(l.switches)
	l.mu.Unlock()
	off := false
	s.bridge = &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &off}
	s.bridge.Name = fmt.Sprintf("sw%d", index)
	l.must(l.net.LinkAdd(s.bridge), "switch %s", name)
	l.must(l.net.LinkSetUp(s.bridge), "switch %s", name)
	return s
}

// Name returns the switch's name.
func (s *Switch) Name() string { return s.name }

// Addr4 returns the IPv4 address of host number n, invalid without a subnet.
func (s *Switch) Addr4(n int) netip.Addr { return nth(s.v4, n) }

// Addr6 returns the IPv6 address of host number n, invalid without a subnet.
func (s *Switch) Addr6(n int) netip.Addr { return nth(s.v6, n) }

// nth returns the n-th address of a prefix, n below 65536.
func nth(p netip.Prefix, n int) netip.Addr {
	if !p.IsValid() {
		return netip.Addr{}
	}
	if p.Addr().Is4() {
		b := p.Addr().As4()
		b[2] += byte(n >> 8)
		b[3] += byte(n)
		return netip.AddrFrom4(b)
	}
	b := p.Addr().As16()
	b[14], b[15] = byte(n>>8), byte(n)
	return netip.AddrFrom16(b)
}

// SetGateway says which IPv4 address is the gateway of what is attached from now
// on, where no router is attached: that of the other half of a joined segment.
func (s *Switch) SetGateway(a netip.Addr) {
	_, v6 := s.gateways()
	s.setGateways(a, v6)
}

func (s *Switch) gateways() (v4, v6 netip.Addr) {
	s.lab.mu.Lock()
	defer s.lab.mu.Unlock()
	return s.gateway4, s.gateway6
}

func (s *Switch) setGateways(v4, v6 netip.Addr) {
	s.lab.mu.Lock()
	defer s.lab.mu.Unlock()
	s.gateway4, s.gateway6 = v4, v6
}

// Join connects two switches by a wire of the given conditions: they become one
// segment with a bad cable between its halves. The lab closes the wire.
func (l *Lab) Join(a, b *Switch, cfg wire.Config) *wire.Wire {
	first, second := l.tap(a), l.tap(b)
	w, err := wire.Open(first, second, cfg)
	l.must(err, "join %s and %s", a.name, b.name)
	l.mu.Lock()
	l.closers = append(l.closers, w.Close)
	l.mu.Unlock()
	return w
}

// tap plugs a TAP device into a switch.
func (l *Lab) tap(s *Switch) *tapDevice {
	name := l.nextLink()
	var t *tapDevice
	var err error
	l.fabric.run(func() { t, err = openTAP(name) })
	l.must(err, "tap on %s", s.name)
	link, err := l.net.LinkByName(name)
	l.must(err, "tap on %s", s.name)
	// Frames of 64 KiB fit, so that the wire's own MTU is the one that counts.
	l.must(l.net.LinkSetMTU(link, 65_521), "tap on %s", s.name)
	l.must(l.net.LinkSetMaster(link, s.bridge), "tap on %s", s.name)
	l.must(l.net.LinkSetUp(link), "tap on %s", s.name)
	return t
}
