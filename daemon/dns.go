package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sync/errgroup"

	"scn.alt/scn/cashier"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/naming"
	"scn.alt/scn/naming/guardian"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/naming/resolver"
	"scn.alt/scn/naming/upstream"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun/guest"
)

const dnsPort = 53

// IsGuardian reports whether this process was started to guard a daemon; it must
// then do nothing but RunGuardian.
func IsGuardian() bool { return guardian.Requested() }

// RunGuardian waits for the daemon's end, undoes what it left standing, and returns
// the exit code.
func RunGuardian() int {
	return guardian.Main(map[string]guardian.Restorer{resolver.GuardName: resolver.Restore, guest.GuardName: guest.Restore})
}

// dns is the local DNS server with what it needs of the host.
type dns struct {
	server   *naming.Server
	resolver *resolver.Resolver
}

// startGuardian starts the guardian where something of the host's is going to be set. It
// must run before capabilities are cut: it restores with all of them.
func (d *daemon) startGuardian() (*guardian.Guardian, error) {
	s := d.plan.settings
	if !s.TUN.Enabled || s.DNS.Mode == string(resolver.Off) && !s.Gateway.enabled() {
		return nil, nil
	}
	g, err := guardian.Start(guardian.Config{Logger: d.log.With("layer", "guardian")})
	if err != nil {
		return nil, fmt.Errorf("guardian: %w", err)
	}
	d.onClose(g.Close)
	return g, nil
}

// openDNS starts the DNS server on the TUN's addresses and tells the operating
// system. Without TUN there is nothing to answer with.
func (d *daemon) openDNS(ctx context.Context, group *errgroup.Group, guard *guardian.Guardian) error {
	if d.edge == nil {
		return nil
	}
	s, log := d.plan.settings.DNS, d.log.With("layer", "naming")
	listen, more := d.dnsAddresses(), servers(s.Listen)
	all := slices.Concat(listen, more)
	fixed := servers(s.Upstreams)
	forwarder, err := upstream.New(upstream.Config{Servers: fixed, Own: all, Logger: log})
	if err != nil {
		return err
	}
	d.onClose(forwarder.Close)
	d.upstream.Store(forwarder)
	server, err := naming.Open(d.node.Names(), d.edge, d.node.ServiceFinder(), forwarder, naming.Config{
		Listen: all, Interfaces: slices.Concat([]string{d.edge.Name()}, s.Interfaces, d.plan.settings.Gateway.Interfaces),
		Prefixes: d.edge.Prefixes(), Clock: d.node.Now, Logger: log,
	})
	if err != nil {
		return fmt.Errorf("%w: another DNS server listens on every address: \"scn doctor\" says what to do", err)
	}
	d.onClose(server.Close)
	group.Go(func() error { return server.Run(ctx) })
	domains := append([]string{d.node.Names().Zone(), naming.Alt}, naming.ReverseZones(d.edge.Prefixes()...)...)
	cfg := resolver.Config{
		Mode: resolver.Mode(s.Mode), Servers: listen, Interface: d.edge.Name(), Domains: domains,
		StateDir: d.plan.dir.StateDir(), Logger: log,
		Upstream: func(found []netip.AddrPort) {
			if len(fixed) == 0 {
				forwarder.SetServers(found)
			}
		},
	}
	if guard != nil {
		cfg.Guard = guard
	}
	host, err := resolver.Open(ctx, cfg)
	if err != nil {
		return fmt.Errorf("%w: set dns.mode to off to leave the host's DNS alone", err)
	}
	d.onClose(host.Close)
	group.Go(func() error { return host.Run(ctx) })
	d.names = &dns{server, host}
	return nil
}

// dnsAddresses are the TUN's own addresses, port 53.
func (d *daemon) dnsAddresses() []netip.AddrPort {
	var out []netip.AddrPort
	v4, v6 := d.edge.Addresses()
	for _, a := range []netip.Addr{v4, v6} {
		if a.IsValid() {
			out = append(out, netip.AddrPortFrom(a, dnsPort))
		}
	}
	return out
}

func (n *dns) status() *control.DNS {
	st := n.resolver.Status()
	out := &control.DNS{OS: string(st.Mode), Upstreams: []string{}}
	for _, a := range n.server.Addrs() {
		out.Listen = append(out.Listen, a.String())
	}
	for _, a := range st.Upstream {
		out.Upstreams = append(out.Upstreams, a.String())
	}
	return out
}

// servers reads addresses that Validate has checked.
func servers(texts []string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, text := range texts {
		if a, err := ParseServer(text); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// realZone asks the host's own servers about a name somebody wants to register. Where
// the authority has no such servers there is no Internet whose names could be taken.
func (d *daemon) realZone(ctx context.Context, n name.Name, account identity.AccountID) (exists, controlled bool, err error) {
	f := d.node.Network()
	up := d.upstream.Load()
	if !f.Bool(node.RealZoneProof, false) || up == nil || len(up.Servers()) == 0 {
		return false, false, nil
	}
	return naming.InRealZone(ctx, up, f.Zone, n, cashier.RealZoneProof(account))
}
