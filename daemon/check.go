package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"scn.alt/scn/daemon/node"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
	"scn.alt/scn/tun"
)

// plan is everything Run has read and validated before it touches the system.
type plan struct {
	cfg      Config
	dir      node.Directory
	settings Settings
	network  network.File
	socket   string
	listen   netip.AddrPort
	pool     netip.Prefix
	petnames map[name.Name]identity.ServiceID
	links    *linkTable
}

// Check reads and validates everything Run would, and touches nothing. All faults
// are reported together.
func Check(cfg Config) error {
	p, err := prepare(cfg)
	if p.dir.Path() == "" {
		return err
	}
	// Groups that are not believed do not keep the daemon from running: they expire.
	_, groups := p.dir.CheckAccess(time.Now())
	return errors.Join(err, groups)
}

func prepare(cfg Config) (plan, error) {
	p := plan{cfg: cfg}
	var err error
	if p.dir, err = node.OpenDirectory(cfg.Dir); err != nil {
		return p, err
	}
	if p.settings, err = ReadSettings(p.dir.SettingsFile()); err != nil {
		return p, err
	}
	if err := p.settings.Overlay([]byte(cfg.Overrides)); err != nil {
		return p, fmt.Errorf("flags: %w", err)
	}
	errs := []error{p.settings.Validate()}
	for _, read := range []func() (identity.PrivateKey, error){p.dir.NodeKey, p.dir.AccountKey} {
		_, err := read()
		errs = append(errs, err)
	}
	p.network, _, err = p.dir.Network()
	errs = append(errs, err)
	access, _ := p.dir.CheckAccess(time.Now())
	errs = append(errs, access)
	if p.socket, err = p.settings.socket(cfg.Dir); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return p, err
	}
	rules, err := p.settings.Links.rules()
	if err != nil {
		return p, err
	}
	if p.links, err = readLinkTable(filepath.Join(p.dir.StateDir(), "links.json"), rules); err != nil {
		return p, err
	}
	p.listen = netip.MustParseAddrPort(p.settings.Listen)
	p.pool = netip.MustParsePrefix(p.settings.TUN.IPv4Pool).Masked()
	p.petnames = p.settings.petnames()
	errs = []error{checkPorts(p.listen)}
	if p.settings.TUN.Enabled {
		errs = append(errs, explainTUN(tun.Check(p.tunConfig(nil))))
		if f := checkPort53(); f.State == Bad {
			errs = append(errs, fmt.Errorf("port 53: %s: %s", f.Found, f.Advice))
		}
	}
	return p, errors.Join(errs...)
}

// tunConfig is the edge's configuration.
func (p plan) tunConfig(o tun.Overlay) tun.Config {
	if o == nil {
		o = overlay{}
	}
	return tun.Config{
		Overlay: o, Network: p.network.ID, Name: p.settings.TUN.Name, Pool: p.pool,
		State: filepath.Join(p.dir.StateDir(), "addresses"),
	}
}

// explainTUN adds the way round a TUN that cannot be had.
func explainTUN(err error) error {
	if errors.Is(err, tun.ErrPermission) || errors.Is(err, tun.ErrNoDevice) {
		return fmt.Errorf("%w; or go without: scn up --no-tun, and scn proxy", err)
	}
	return err
}

func (s Settings) petnames() map[name.Name]identity.ServiceID {
	out := map[name.Name]identity.ServiceID{}
	for pet, text := range s.Petnames {
		nm, nameErr := name.Parse(pet)
		id, idErr := identity.ParseServiceID(text)
		if nameErr == nil && idErr == nil { // Validate has reported the others
			out[nm] = id
		}
	}
	return out
}
