package node

import (
	"net/netip"
	"slices"

	"scn.alt/scn/sal/portmap"
)

// openPorts makes what asks the router, where the configuration says so. The DHT's
// port is mapped too on nodes others look for.
func (n *Node) openPorts() (err error) {
	if !n.cfg.PortMapping {
		return nil
	}
	n.ports, err = portmap.New(portmap.Config{
		Port: n.cfg.Listen.Port(), Next: !n.cfg.Mobile, Changed: n.mapped, Logger: n.log.With("layer", "portmap"),
	})
	return err
}

// mapped is told where the router lets packets in.
func (n *Node) mapped(outside []netip.AddrPort) {
	if sessions := n.clock.Load(); sessions != nil {
		sessions.SetMapped(outside)
	}
}

// portsMoved has the router asked anew when this host has other addresses: it may be
// another router. What the router itself brought about does not count.
func (n *Node) portsMoved(locators []netip.AddrPort) {
	if n.ports == nil {
		return
	}
	known := n.ports.Dialable()
	own := slices.DeleteFunc(slices.Clone(locators), func(l netip.AddrPort) bool { return slices.Contains(known, l) })
	slices.SortFunc(own, netip.AddrPort.Compare)
	if old := n.lastOwn.Swap(&own); old == nil || !slices.Equal(*old, own) {
		n.ports.Kick()
	}
}

// PortMappings are the ports of this node that a router lets in.
func (n *Node) PortMappings() []portmap.Mapping {
	if n.ports == nil {
		return nil
	}
	return n.ports.Mappings()
}

// PortMetrics returns a snapshot.
func (n *Node) PortMetrics() portmap.Metrics {
	if n.ports == nil {
		return portmap.Metrics{}
	}
	return n.ports.Metrics()
}
