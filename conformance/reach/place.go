package reach

import (
	"fmt"
	"net/netip"
	"time"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/conformance/wire"
)

// Place is where a host can be plugged in.
type Place struct {
	Kind Kind
	// LAN is the switch to attach a host to.
	LAN *netns.Switch
	// NATs are from the Internet inwards, none at a public place.
	NATs []*netns.Host
	// Wire is the uplink, nil where it is perfect.
	Wire *wire.Wire
	// Public is the subnet the Internet knows the place by.
	Public netip.Prefix

	name  string
	hosts int
}

// Place builds a place. With conditions, its uplink is a wire of them.
func (w *World) Place(kind Kind, conditions ...wire.Conditions) *Place {
	w.places++
	n := w.places
	p := &Place{Kind: kind, name: fmt.Sprintf("p%d", n), Public: netip.PrefixFrom(netip.AddrFrom4([4]byte{51, byte(n), 0, 0}), 24)}
	subnet := p.Public.String()
	near := w.Lab.Switch(p.name+"-uplink", subnet)
	w.Internet.Attach(near, 1)
	outside := near
	if len(conditions) > 0 {
		// The other half of the same segment, with the wire between.
		outside = w.Lab.Switch(p.name+"-access", subnet)
		outside.SetGateway(near.Addr4(1))
		p.Wire = w.Lab.Join(near, outside, wire.Both(uint64(n), conditions[0]))
	}
	p.LAN = outside
	nats := kind.nats()
	for i, nat := range nats {
		r := w.Lab.NAT(fmt.Sprintf("%s-nat%d", p.name, i), nat)
		r.Attach(outside, 2)
		inside := "192.168.1.0/24"
		if i < len(nats)-1 {
			inside = fmt.Sprintf("100.64.%d.0/24", n)
		}
		p.LAN = w.Lab.Switch(fmt.Sprintf("%s-inside%d", p.name, i), inside)
		r.Attach(p.LAN, 1)
		p.NATs = append(p.NATs, r)
		outside = p.LAN
	}
	return p
}

// SetUDPTimeout sets how long the place's NATs keep an idle mapping.
func (p *Place) SetUDPTimeout(d time.Duration) {
	for _, n := range p.NATs {
		n.SetUDPTimeout(d)
	}
}

// Rebind gives everything behind the place's NATs other public ports.
func (p *Place) Rebind() {
	for _, n := range p.NATs {
		n.RebindNAT()
	}
}

// next returns the number of a new host in the LAN. The first is the same at
// every place: homes look alike.
func (p *Place) next() int {
	p.hosts++
	return 9 + p.hosts
}

// String names the place and its kind.
func (p *Place) String() string { return p.name + " (" + p.Kind.String() + ")" }
