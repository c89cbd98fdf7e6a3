package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/naming/guardian"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/tun"
	"scn.alt/scn/tun/guest"
)

// GatewaySettings let devices of a LAN, or containers, use the overlay through this
// host.
type GatewaySettings struct {
	// Interfaces are the links those devices are behind. Default none: no device may.
	Interfaces []string `toml:"interfaces" help:"links whose devices may use the overlay through this host"`
	// Allow says which device may use which service: "SOURCE SERVICE[:PORT]". Default
	// none: no device may use any.
	Allow []string `toml:"allow" help:"who may use what, as \"192.168.8.0/24 files:80\" or \"192.168.8.20 all\"" reload:"yes"`
	// DeviceFlows bounds the TCP connections of one device. Default 512.
	DeviceFlows int64 `toml:"device_flows" help:"connections one device may have at once"`
}

// enabled reports whether there is a gateway at all.
func (s GatewaySettings) enabled() bool { return len(s.Interfaces) > 0 }

// rules reads Allow, all faults at once.
func (s GatewaySettings) rules() ([]guest.Rule, error) {
	out := make([]guest.Rule, 0, len(s.Allow))
	var errs []error
	for _, text := range s.Allow {
		r, err := guest.ParseRule(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("gateway.allow: %w", err))
			continue
		}
		out = append(out, r)
	}
	return out, errors.Join(errs...)
}

// validate reports all faults.
func (s GatewaySettings) validate(t TUNSettings) error {
	_, err := s.rules()
	errs := []error{err}
	for _, name := range s.Interfaces {
		switch {
		case len(name) == 0 || len(name) > 15 || strings.ContainsAny(name, "/ \t\n") || name == "." || name == "..":
			errs = append(errs, fmt.Errorf("gateway.interfaces: %q is no link's name", name))
		case name == "lo" || name == t.Name:
			errs = append(errs, fmt.Errorf("gateway.interfaces: there are no devices behind %s", name))
		}
	}
	if len(s.Allow) > guest.MaxRules {
		errs = append(errs, fmt.Errorf("gateway.allow: %d rules, at most %d", len(s.Allow), guest.MaxRules))
	}
	if s.enabled() && !t.Enabled {
		errs = append(errs, errors.New("gateway.interfaces: devices reach the overlay through the TUN, which tun.enabled turns off"))
	}
	if s.DeviceFlows < 1 || s.DeviceFlows > 65536 {
		errs = append(errs, fmt.Errorf("gateway.device_flows: %d is not between 1 and 65536", s.DeviceFlows))
	}
	return errors.Join(errs...)
}

const (
	// meaningFor is how long a rule's name is believed to mean what it meant, and
	// missingFor that it means nothing.
	meaningFor = 30 * time.Second
	missingFor = 2 * time.Second
	// ensureEvery is how often the host is looked at: a container's bridge comes late,
	// and other programs change settings too.
	ensureEvery = 5 * time.Second
)

// gateway answers the edge's questions about devices. It is a tun.Guests.
type gateway struct {
	interfaces []string // constant, as these
	networks   *guest.Networks
	forwarding *guest.Forwarding
	resolve    func(ctx context.Context, text string) (node.Resolution, error)

	mu       sync.Mutex // guards below
	rules    []guest.Rule
	meanings map[string]meaning // of the rules' names
}

// meaning is what a name was found to mean.
type meaning struct {
	service identity.ServiceID
	err     error
	until   time.Time
}

var _ tun.Guests = (*gateway)(nil)

// Contains implements tun.Guests.
func (g *gateway) Contains(device netip.Addr) bool { return g.networks.Contains(device) }

// Allow implements tun.Guests: the first rule that allows it does; without one the
// device is refused.
func (g *gateway) Allow(ctx context.Context, device netip.Addr, service identity.ServiceID, port uint16, _ record.Protocol) error {
	g.mu.Lock()
	rules := g.rules
	g.mu.Unlock()
	var unknown error
	for _, r := range rules {
		switch {
		case !r.Covers(device, port):
		case r.Any, r.Name == "" && r.Service == service:
			return nil
		case r.Name != "":
			id, err := g.meaningOf(ctx, r.Name)
			if err == nil && id == service {
				return nil
			}
			if err != nil && !errors.Is(err, node.ErrNotFound) {
				unknown = err
			}
		}
	}
	if unknown != nil {
		return unknown // a rule may allow it: who asks is told to try again
	}
	return fmt.Errorf("%w: no rule of [gateway] allows %s to use it", syscall.EACCES, device)
}

// meaningOf resolves a name of a rule.
func (g *gateway) meaningOf(ctx context.Context, text string) (identity.ServiceID, error) {
	g.mu.Lock()
	m, ok := g.meanings[text]
	g.mu.Unlock()
	if ok && time.Now().Before(m.until) {
		return m.service, m.err
	}
	r, err := g.resolve(ctx, text)
	if ctx.Err() != nil {
		return identity.ServiceID{}, ctx.Err()
	}
	m = meaning{service: r.Service, err: err, until: time.Now().Add(meaningFor)}
	if err != nil {
		m.until = time.Now().Add(missingFor)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.meanings[text] = m
	return m.service, m.err
}

// replace takes over new rules.
func (g *gateway) replace(rules []guest.Rule) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rules = slices.Clone(rules)
	g.meanings = map[string]meaning{}
}

// run keeps the host's part of it in order until ctx ends.
func (g *gateway) run(ctx context.Context, failed func(error)) error {
	tick := time.NewTicker(ensureEvery)
	defer tick.Stop()
	for {
		if err := errors.Join(g.forwarding.Ensure(), g.networks.Refresh()); err != nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// openGateway has the kernel forward what devices send, before the edge is opened, which
// asks for rules.
func (d *daemon) openGateway(ctx context.Context, group *errgroup.Group, guard *guardian.Guardian) error {
	s := d.plan.settings.Gateway
	if !s.enabled() {
		// What a daemon that was killed with its guardian may have left.
		return guest.RestoreFile(d.forwardingFile())
	}
	rules, err := s.rules()
	if err != nil {
		return err
	}
	cfg := guest.ForwardingConfig{Interfaces: s.Interfaces, File: d.forwardingFile()}
	if guard != nil {
		cfg.Guard = guard
	}
	forwarding, err := guest.OpenForwarding(cfg)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	d.onClose(forwarding.Close)
	d.gateway = &gateway{
		interfaces: s.Interfaces, networks: guest.NewNetworks(s.Interfaces), forwarding: forwarding,
		resolve: d.node.Resolve, rules: rules, meanings: map[string]meaning{},
	}
	group.Go(func() error {
		return d.gateway.run(ctx, func(err error) { d.log.Warn("gateway for devices", "err", err) })
	})
	return nil
}

func (d *daemon) forwardingFile() string { return forwardingFile(d.plan.dir) }

func forwardingFile(dir node.Directory) string {
	return filepath.Join(dir.StateDir(), "forwarding.json")
}

// reloadGateway takes over the rules of new settings, and ends the flows they forbid.
func (d *daemon) reloadGateway(ctx context.Context, s GatewaySettings) error {
	if d.gateway == nil {
		return nil
	}
	rules, err := s.rules()
	if err != nil {
		return err
	}
	d.gateway.replace(rules)
	d.edge.RecheckGuests(ctx)
	return nil
}

// gatewayStatus is nil without a gateway.
func (d *daemon) gatewayStatus() *control.Gateway {
	if d.gateway == nil {
		return nil
	}
	m := d.edge.Metrics()
	return &control.Gateway{
		Interfaces: d.gateway.interfaces, Networks: append([]netip.Prefix{}, d.gateway.networks.Prefixes()...),
		Devices: m.Devices, Packets: m.GuestPackets, Refused: m.GuestsRefused, Limited: m.GuestsLimited,
	}
}

// gatewayWarnings says what keeps devices from the overlay.
func (d *daemon) gatewayWarnings() []string {
	if d.gateway == nil {
		return nil
	}
	var out []string
	networks := d.gateway.networks.Prefixes()
	if len(networks) == 0 {
		out = append(out, fmt.Sprintf("no network is behind %s: give the link an address", strings.Join(d.gateway.interfaces, ", ")))
	}
	if d.gateway.forwarding.Missing6() && slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		out = append(out, "devices cannot use IPv6 through this host: sysctl -w net.ipv6.conf.all.forwarding=1 (and accept_ra=2 of links that learn their routes by router advertisements)")
	}
	return out
}
