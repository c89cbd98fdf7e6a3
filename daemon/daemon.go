package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/naming/upstream"
	"scn.alt/scn/sal/underlay"
	"scn.alt/scn/tun"
	"scn.alt/scn/tun/address"
)

// Config configures Run and Check.
type Config struct {
	// Dir is the node's directory.
	Dir string
	// Overrides is TOML laid over the settings file: the command line's flags.
	Overrides string
	// LogOutput receives the log. Default: standard error.
	LogOutput io.Writer
	// Ready is called once everything works.
	Ready func()
	// Reload asks for the settings to be read again.
	Reload <-chan os.Signal
}

// daemon is one running node with its edge, DNS, control socket and metrics.
type daemon struct {
	plan  plan
	log   *slog.Logger
	level *slog.LevelVar
	start time.Time

	node    *node.Node
	links   *linkTable
	gateway *gateway  // nil without devices
	edge    *tun.Edge // nil without TUN
	names   *dns      // nil without TUN

	upstream atomic.Pointer[upstream.Forwarder] // the host's own DNS servers; nil until they are known
	blocked  atomic.Pointer[string]             // why packets do not come through the edge, if so

	closers []func() error // run in reverse order
}

// Run runs the node of a directory until ctx ends; nil after a clean stop. It
// validates everything before it touches the system, and leaves nothing behind.
func Run(ctx context.Context, cfg Config) (err error) {
	if cfg.LogOutput == nil {
		cfg.LogOutput = os.Stderr
	}
	p, err := prepare(cfg)
	if err != nil {
		return err
	}
	d := &daemon{plan: p, links: p.links}
	d.log, d.level = newLogger(cfg.LogOutput, p.settings.Log)
	defer func() { err = errors.Join(err, d.close()) }()
	group, ctx := errgroup.WithContext(ctx)
	if err := d.open(ctx, group); err != nil {
		// What was started must end before it is closed.
		return errors.Join(err, stop(group))
	}
	return group.Wait()
}

// errStop ends a group that is given up.
var errStop = errors.New("stop")

func stop(group *errgroup.Group) error {
	group.Go(func() error { return errStop })
	if err := group.Wait(); !errors.Is(err, errStop) {
		return err
	}
	return nil
}

// open starts everything, lowest layer first.
func (d *daemon) open(ctx context.Context, group *errgroup.Group) error {
	guard, err := d.startGuardian()
	if err != nil {
		return err
	}
	if d.node, err = node.Open(d.nodeConfig()); err != nil {
		return err
	}
	d.onClose(d.node.Close)
	group.Go(func() error { return d.node.Run(ctx) })
	if d.plan.settings.TUN.Enabled {
		if err := d.openGateway(ctx, group, guard); err != nil {
			return err
		}
		if d.edge, err = tun.Open(d.edgeConfig()); err != nil {
			return explainTUN(err)
		}
		d.onClose(d.edge.Close)
		group.Go(func() error { return d.edge.Run(ctx) })
		group.Go(func() error { d.testEdge(ctx); return nil })
	}
	if err := d.openDNS(ctx, group, guard); err != nil {
		return err
	}
	if err := d.openMetrics(ctx, group); err != nil {
		return err
	}
	d.start = time.Now() // before anybody can ask for it
	if err := d.openControl(ctx, group); err != nil {
		return err
	}
	if err := cutCapabilities(); err != nil {
		return err
	}
	d.awaitNetwork(ctx)
	d.log.Info("ready", "node", d.node.ID().Short(), "version", Version())
	if _, err := sd.SdNotify(false, sd.SdNotifyReady); err != nil {
		d.log.Warn("systemd not told", "err", err)
	}
	if d.plan.cfg.Ready != nil {
		d.plan.cfg.Ready()
	}
	group.Go(func() error { return d.watchReload(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		_, err := sd.SdNotify(false, sd.SdNotifyStopping)
		return err
	})
	return nil
}

// joinPatience is how long "ready" waits for a first peer. A host without network
// gets ready nonetheless: it joins when it can.
const joinPatience = 10 * time.Second

// awaitNetwork waits until this node has joined the DHT. The network's own
// bootstrap node has nobody to wait for.
func (d *daemon) awaitNetwork(ctx context.Context) {
	if d.node.Network().IsBootstrap(d.node.ID()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	if !d.node.WaitJoined(ctx) {
		d.log.Warn("no peer reached yet; the node joins as soon as one answers (scn doctor looks for the cause)")
	}
}

// testEdge finds out whether this host's firewall lets packets through the device.
func (d *daemon) testEdge(ctx context.Context) {
	if err := d.edge.SelfTest(ctx); errors.Is(err, tun.ErrBlocked) {
		text := err.Error()
		d.blocked.Store(&text)
	}
}

func (d *daemon) onClose(f func() error) { d.closers = append(d.closers, f) }

func (d *daemon) close() error {
	var errs []error
	for _, f := range slices.Backward(d.closers) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

func (d *daemon) nodeConfig() node.Config {
	s := d.plan.settings
	decides, wake, _ := s.Verdict.config() // Validate has reported its faults
	pay, _ := s.Pay.config()               // and of these
	inspect, _ := s.Inspect.config()       // and of these
	tunName, pool, prefix := s.TUN.Name, d.plan.pool, address.Prefix(d.plan.network.ID)
	keep, _ := s.Ledger.keep() // Validate has checked it
	return node.Config{
		Dir: d.plan.cfg.Dir, Listen: d.plan.listen, Advertise: addrPorts(s.Advertise), Mobile: s.Mobile, Region: s.Region,
		AllowLoopback: s.AllowLoopback, MemoryBudget: s.MemoryBudget << 20,
		IgnoreInterface: func(link string) bool {
			return link == tunName || underlay.IgnoreVirtual(link) || slices.ContainsFunc(s.IgnoreInterfaces, func(pattern string) bool {
				ok, _ := filepath.Match(pattern, link) // Validate has checked the pattern
				return ok
			})
		},
		Relay: s.Relay.config(), TunnelListen: s.Relay.tunnelListen(),
		KeepNames:   !s.RenewNames,
		KeepBlocks:  keep,
		PortMapping: s.NAT.PortMapping && !s.AllowLoopback,
		LinkPolicy:  d.links.policy, Duplicate: d.links.rules.duplicate,
		ExcludeAddress: func(a netip.Addr) bool { return pool.Contains(a) || prefix.Contains(a) },
		Petnames:       d.plan.petnames, FailUnknown: s.DNS.Unknown == "servfail",
		Pay: pay, Inspect: inspect, Verdict: decides, WakeTimeout: wake, RealZone: d.realZone, Logger: d.log,
	}
}

func (d *daemon) edgeConfig() tun.Config {
	c := d.plan.tunConfig(overlay{d.node.Sessions()})
	c.Logger = d.log.With("layer", "tun")
	if d.gateway != nil {
		c.Guests, c.MaxDeviceFlows = d.gateway, int(d.plan.settings.Gateway.DeviceFlows)
	}
	return c
}

// openMetrics listens for Prometheus where the settings say so.
func (d *daemon) openMetrics(ctx context.Context, group *errgroup.Group) error {
	if d.plan.settings.Metrics.Listen == "" {
		return nil
	}
	l, err := net.Listen("tcp", d.plan.settings.Metrics.Listen)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	layers := map[string]func() any{
		"sal":     func() any { return d.node.Sessions().Metrics() },
		"meter":   func() any { return d.node.Meter().Metrics() },
		"purse":   func() any { return d.node.Purse().Metrics() },
		"till":    func() any { return d.node.Till().Metrics() },
		"usage":   func() any { return d.node.UsageMetrics() },
		"routing": func() any { return d.node.Router().Metrics() },
		"naming":  func() any { return d.node.Names().Metrics() },
		"access":  func() any { return d.node.AccessMetrics() },
		"verdict": func() any { return d.node.Verdicts().Metrics() },
		"portmap": func() any { return d.node.PortMetrics() },
		"tunnel":  func() any { return d.node.TunnelMetrics() },
		"records": func() any { return d.node.Records().Metrics() },
		"inspect": func() any { return d.node.InspectMetrics() },
	}
	if d.edge != nil {
		layers["tun"] = func() any { return d.edge.Metrics() }
	}
	if ledger := d.node.Ledger(); ledger != nil {
		layers["cashier"] = func() any { return ledger.Metrics() }
	}
	if d.names != nil {
		layers["dns"] = func() any { return d.names.server.Metrics() }
	}
	group.Go(func() error { return serveMetrics(ctx, l, layers) })
	return nil
}

// openControl listens on the control socket, for its owner and group.
func (d *daemon) openControl(ctx context.Context, group *errgroup.Group) error {
	path := d.plan.socket
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	// The directory's lock says that no daemon runs on it: a socket here is a dead one's.
	if c, err := net.Dial("unix", path); err == nil {
		return errors.Join(fmt.Errorf("control socket %s: another daemon answers on it: stop it, or set control.socket", path), c.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if err := shareSocket(path, d.plan.settings.Control.Group); err != nil {
		return errors.Join(err, l.Close())
	}
	group.Go(func() error { return serveHTTP(ctx, l, control.Handler(d.backend())) })
	return nil
}

// shareSocket opens the socket to its owner and to a group where there is one of
// that name.
func shareSocket(path, groupName string) error {
	if err := os.Chmod(path, 0o660); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	g, err := user.LookupGroup(groupName)
	if err != nil || os.Geteuid() != 0 {
		return nil //nolint:nilerr // no such group: the owner alone
	}
	id, err := strconv.Atoi(g.Gid)
	if err != nil {
		return fmt.Errorf("group %s: %w", groupName, err)
	}
	return os.Chown(path, -1, id)
}

// watchReload reads the settings again at each signal, and changes what can change
// without dropping sessions: petnames, link policies, log level, access and gateway rules. Sessions
// that the rules forbid now are ended.
func (d *daemon) watchReload(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.plan.cfg.Reload:
			if err := d.reload(ctx); err != nil {
				d.log.Error("settings not reloaded; the old ones stay", "err", err)
			}
		}
	}
}

func (d *daemon) reload(ctx context.Context) error {
	s, err := ReadSettings(d.plan.dir.SettingsFile())
	if err != nil {
		return err
	}
	if err := errors.Join(s.Overlay([]byte(d.plan.cfg.Overrides)), s.Validate()); err != nil {
		return err
	}
	level, err := s.Log.level()
	if err != nil {
		return err
	}
	if err := d.node.Rules().Reload(); err != nil {
		return err
	}
	d.level.Set(level)
	d.node.Names().SetPetnames(s.petnames())
	if err := d.reloadLinks(s.Links); err != nil {
		return err
	}
	if err := d.reloadGateway(ctx, s.Gateway); err != nil {
		return err
	}
	if err := d.reloadPay(s.Pay); err != nil {
		return err
	}
	changed := s.needRestart(d.plan.settings)
	d.log.Info("settings reloaded", "need_restart", changed)
	return nil
}

func addrPorts(texts []string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, text := range texts {
		if a, err := netip.ParseAddrPort(text); err == nil { // Validate has reported the others
			out = append(out, a)
		}
	}
	return out
}
