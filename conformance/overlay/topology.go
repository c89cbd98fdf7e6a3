package overlay

import (
	"fmt"

	"scn.alt/scn/conformance/netns"
)

// Internet is the topology of demo and suite: one router and a number of
// networks, numbered from 0.
//
//	lan0 10.0.0.0/24 fd10:0::/64 ──┐
//	lan1 10.1.0.0/24 fd10:1::/64 ──┼── router (.1 of each)
//	lan2 …                       ──┘
type Internet struct {
	*netns.Lab
	Router *netns.Host
	Ports  []*netns.Link // the router's, one per network
	LANs   []*netns.Switch
}

// NewInternet builds the router and its networks.
func NewInternet(lab *netns.Lab, networks int) *Internet {
	return build(lab, networks, "10.%d.0.0/24", "fd10:%x::/64")
}

// NewInternet6 is NewInternet without IPv4.
func NewInternet6(lab *netns.Lab, networks int) *Internet {
	return build(lab, networks, "fd10:%x::/64")
}

func build(lab *netns.Lab, networks int, subnets ...string) *Internet {
	in := &Internet{Lab: lab, Router: lab.Router("router")}
	for i := range networks {
		prefixes := make([]string, 0, len(subnets))
		for _, s := range subnets {
			prefixes = append(prefixes, fmt.Sprintf(s, i))
		}
		s := lab.Switch(fmt.Sprintf("lan%d", i), prefixes...)
		in.LANs = append(in.LANs, s)
		in.Ports = append(in.Ports, in.Router.Attach(s, 1))
	}
	return in
}

// Host adds a host to a network.
func (in *Internet) Host(name string, network, number int) (*netns.Host, *netns.Link) {
	h := in.Lab.Host(name)
	return h, h.Attach(in.LANs[network], number)
}
