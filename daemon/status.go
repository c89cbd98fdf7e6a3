package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/network"
)

// clockWarning is the offset from which the operator is told to set the clock.
const clockWarning = 30 * time.Second

// nameWarning is how long before the lease of a name ends the operator is told.
const nameWarning = 7 * 24 * time.Hour

// groupWarning is how long before a group's list expires the operator is told.
const groupWarning = 14 * 24 * time.Hour

// Status implements control.Backend.
func (b backend) Status(context.Context) (control.Status, error) {
	d := b.d
	sessions, router := d.node.Sessions(), d.node.Router().Status()
	offset, samples := sessions.ClockOffset()
	s := control.Status{
		NodeID: d.node.ID(), AccountID: d.node.Account(), Network: d.networkStatus(), Version: Version(),
		Uptime: time.Since(d.start).Seconds(), Listen: d.plan.listen.String(),
		Locators:    append([]netip.AddrPort{}, sessions.Locators()...),
		DHT:         control.DHT{Mode: router.Mode, Peers: router.Peers},
		ClockOffset: offset.Seconds(), ClockSamples: samples,
		Services: []control.Service{}, Peers: []control.Peer{},
		NAT: sessions.NAT().String(), Relays: relaysOf(sessions), Relay: relaying(sessions),
	}
	for _, m := range d.node.PortMappings() {
		s.Mapped = append(s.Mapped, control.MappedPort{Port: m.Internal, Outside: m.External, Protocol: m.Protocol})
	}
	if d.edge != nil {
		v4, v6 := d.edge.Addresses()
		s.TUN = &control.TUN{Name: d.edge.Name(), IPv4: v4, IPv6: v6}
	}
	if d.names != nil {
		s.DNS = d.names.status()
	}
	s.Gateway = d.gatewayStatus()
	s.Pay = d.payStatus()
	for _, v := range d.node.Services() {
		s.Services = append(s.Services, serviceOf(v))
	}
	for _, v := range d.node.HeldNames() {
		s.Names = append(s.Names, control.HeldName{Name: string(v.Name), Lease: unix(v.Lease), State: v.Phase.String(), Fault: v.Fault})
	}
	for _, v := range d.node.PendingNames() {
		s.Pending = append(s.Pending, pendingOf(v))
	}
	for _, p := range sessions.Peers() {
		s.Peers = append(s.Peers, control.Peer{
			NodeID:   p.Node,
			Path:     pathOf(p, sessions.NAT()),
			Sessions: p.Sessions, Moves: p.Moves, LastGapMS: milliseconds(p.LastGap),
			BytesSent: p.BytesSent, BytesReceived: p.BytesReceived,
		})
	}
	s.Warnings = d.warnings(s, offset)
	return s, nil
}

func (d *daemon) networkStatus() control.Network {
	f := d.node.Network()
	n := control.Network{
		ID: f.ID, Name: f.Name, Zone: f.Zone, Sequence: f.Sequence, Admission: string(f.Admission),
		Authority: f.IsAuthority(d.node.ID()), Authorities: f.Authorities, File: d.plan.dir.NetworkPath(),
		Parameters: f.Parameters,
	}
	if f.Admission == network.List {
		n.Members = f.Members
	}
	for _, p := range f.Bootstrap {
		n.Bootstrap = append(n.Bootstrap, control.NetworkPeer{Node: p.Node, Addresses: p.Addresses})
	}
	return n
}

func (d *daemon) warnings(s control.Status, offset time.Duration) []string {
	var out []string
	if blocked := d.blocked.Load(); blocked != nil {
		out = append(out, *blocked)
	}
	out = append(out, d.gatewayWarnings()...)
	if s.ClockSamples > 0 && offset.Abs() > clockWarning {
		out = append(out, fmt.Sprintf("this host's clock is %s off from its peers': set it (timedatectl set-ntp true)", offset.Round(time.Second)))
	}
	switch {
	case s.DHT.Peers > 0 || s.Network.Authority:
	case tunnelled(s):
		out = append(out, udpBlocked)
	default:
		out = append(out, "no peer in the DHT: \"scn doctor\" looks for the cause")
	}
	if fault := d.node.TunnelFault(); fault != "" {
		out = append(out, "hosts whose network blocks UDP cannot reach this relay: "+fault+" (set relay.tcp to a free port and tell the network with \"scn network set relay_tcp_port\", or to \"\")")
	}
	for _, v := range s.Services {
		if v.Health != nil && !v.Health.Healthy {
			out = append(out, fmt.Sprintf("service %s takes no sessions, its targets fail: %s", v.Name, v.Health.Error))
		}
	}
	for _, g := range d.node.Rules().Groups() {
		if left := time.Until(time.Unix(g.NotAfter, 0)); g.Fault != nil {
			out = append(out, fmt.Sprintf("group %s lets nobody in: %v", g.Name, g.Fault))
		} else if left < groupWarning {
			out = append(out, fmt.Sprintf("group %s expires in %s: its owner signs it anew with \"scn group add %s\"", g.Name, left.Round(time.Hour), g.Name))
		}
	}
	for _, v := range s.Names {
		switch left := time.Until(v.Lease); {
		case v.Fault != "":
			out = append(out, fmt.Sprintf("name %s could not be renewed: %s", v.Name, v.Fault))
		case v.Lease.Unix() != 0 && left < nameWarning:
			out = append(out, fmt.Sprintf("name %s is %s, and paid for until %s: renew it with \"scn name renew %s\"", v.Name, v.State, v.Lease.Local().Format(time.DateOnly), v.Name))
		}
	}
	for _, v := range s.Pending {
		if v.Fault != "" {
			out = append(out, fmt.Sprintf("name %s is not registered yet: %s", v.Name, v.Fault))
		}
	}
	if len(s.Locators) == 0 {
		out = append(out, "this host has no address others could dial")
	}
	return out
}

// udpBlocked is what a node is told that speaks to others through TCP only.
const udpBlocked = "nothing answers by UDP: sessions go through TCP to a relay, which is slower"

// tunnelled reports whether some peer is reached through TCP.
func tunnelled(s control.Status) bool {
	return slices.ContainsFunc(s.Peers, func(p control.Peer) bool { return p.Path.Way == control.Tunnelled })
}
