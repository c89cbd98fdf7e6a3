package resolver

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Mode is how the host is told.
type Mode string

// The modes. See the package comment.
const (
	Auto       Mode = "auto"
	Resolved   Mode = "resolved"
	Resolvconf Mode = "resolvconf"
	File       Mode = "file"
	Off        Mode = "off"
)

// ParseMode reads a mode from settings.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case Auto, Resolved, Resolvconf, File, Off:
		return m, nil
	}
	return "", fmt.Errorf("resolver mode %q: want auto, resolved, resolvconf, file or off", s)
}

// GuardName is what the state is called at the guardian.
const GuardName = "resolver"

// Errors of Open and Repair.
var (
	// ErrUnavailable is returned when the host has not what the mode needs.
	ErrUnavailable = errors.New("resolver: not available on this host")
	// ErrPort is returned when the mode cannot name a port other than 53.
	ErrPort = errors.New("resolver: this mode needs port 53")
)

// Guard remembers how to undo what is done, as *guardian.Guardian does.
type Guard interface {
	Set(name string, state []byte) error
	Clear(name string) error
}

// Config configures a Resolver.
type Config struct {
	// Mode is how to tell the host. Default Auto.
	Mode Mode
	// Servers is where our DNS server listens, best first. Required unless off.
	Servers []netip.AddrPort
	// Interface is the name of the link the servers' addresses are on. Required for
	// resolved.
	Interface string
	// Domains are the names to route to us, without dots at their ends: the zone,
	// scn.alt, and the reverse zones. At most 128.
	Domains []string
	// StateDir is where the state file lies. Required unless off; absolute.
	StateDir string
	// Fallback keeps the host's servers behind ours in the file. Default false; see
	// the package comment for what it costs.
	Fallback bool
	// Upstream is told the host's own servers: once in Open, before anything is
	// changed, and whenever they change. It must not call the Resolver.
	Upstream func([]netip.AddrPort)
	// Guard remembers what to undo when the daemon is killed. Default: nobody.
	Guard Guard
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger

	// Path is the resolver's settings file. Default /etc/resolv.conf.
	Path string
	// Uplink is where resolved lists the real servers behind its stub. Default
	// /run/systemd/resolve/resolv.conf.
	Uplink string
	// Command is the resolvconf program. Default resolvconf, looked for in PATH and
	// the sbin directories.
	Command string
	// Bus is the D-Bus address of the system bus. Default: the system's.
	Bus string
	// Check is how often everything is verified without being told of a change.
	// Default 30s.
	Check time.Duration
}

func (c Config) withDefaults() Config {
	def := func(s *string, d string) {
		if *s == "" {
			*s = d
		}
	}
	if c.Mode == "" {
		c.Mode = Auto
	}
	def(&c.Path, "/etc/resolv.conf")
	def(&c.Uplink, "/run/systemd/resolve/resolv.conf")
	def(&c.Command, "resolvconf")
	if c.Check == 0 {
		c.Check = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Upstream == nil {
		c.Upstream = func([]netip.AddrPort) {}
	}
	return c
}

// Validate reports every fault of the settings.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if _, err := ParseMode(string(c.Mode)); err != nil {
		errs = append(errs, err)
	}
	for _, s := range c.Servers {
		if !s.IsValid() || s.Port() == 0 || s.Addr().IsUnspecified() {
			errs = append(errs, fmt.Errorf("server %s: want an address and a port", s))
		}
	}
	for _, d := range c.Domains {
		if d == "" || len(d) > 253 || strings.Trim(d, ".") != d || strings.ContainsAny(d, " \t\n~") {
			errs = append(errs, fmt.Errorf("domain %q is invalid", d))
		}
	}
	if len(c.Domains) > 128 {
		errs = append(errs, fmt.Errorf("%d domains: at most 128", len(c.Domains)))
	}
	if c.Mode != Off {
		if len(c.Servers) == 0 {
			errs = append(errs, errors.New("no server to tell the host about"))
		}
		if !filepath.IsAbs(c.StateDir) {
			errs = append(errs, fmt.Errorf("state directory %q: want an absolute path", c.StateDir))
		}
	}
	if c.Mode == Resolved && c.Interface == "" {
		errs = append(errs, errors.New("resolved needs the name of our interface"))
	}
	if !filepath.IsAbs(c.Path) {
		errs = append(errs, fmt.Errorf("path %q: want an absolute one", c.Path))
	}
	return errors.Join(errs...)
}

// withoutOwn leaves out our own servers, whatever their port.
func withoutOwn(servers, own []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(servers), func(s netip.AddrPort) bool {
		return slices.ContainsFunc(own, func(o netip.AddrPort) bool {
			return o.Addr().Unmap().WithZone("") == s.Addr().Unmap().WithZone("")
		})
	})
}

// port53 returns the addresses of the servers, all of which must use port 53.
func port53(servers []netip.AddrPort) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, s := range servers {
		if s.Port() != 53 {
			return nil, fmt.Errorf("%w: %s", ErrPort, s)
		}
		addrs = append(addrs, s.Addr().Unmap())
	}
	return addrs, nil
}
