package resolver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

// backend is one way to tell the host. Its methods are called one at a time.
type backend interface {
	// mode is the name of the way.
	mode() Mode
	// snapshot looks at the host before anything is changed: the host's own servers
	// and how to undo what apply will do.
	snapshot(ctx context.Context) ([]netip.AddrPort, state, error)
	// apply makes the host ask us, or makes it so again.
	apply(ctx context.Context) error
	// verify looks at the host again: whether it still asks us, the host's own
	// servers, and how to undo, which differs when others changed the host.
	verify(ctx context.Context) (ours bool, upstream []netip.AddrPort, st state, err error)
	// watch calls changed whenever verify may give something else, until ctx ends.
	watch(ctx context.Context, changed func()) error
	// close frees what the backend holds. It undoes nothing.
	close() error
}

// Resolver keeps the host asking our server until it is closed.
type Resolver struct {
	cfg     Config // constant
	run     string // constant: the number of this run
	backend backend

	mu       sync.Mutex // guards below, and orders calls of the backend
	closed   bool
	state    state
	upstream []netip.AddrPort
	reapply  int
	lastErr  error
}

// Status is what a Resolver does now.
type Status struct {
	Mode Mode
	// Upstream are the host's own servers.
	Upstream []netip.AddrPort
	// Reapplied is how often somebody else changed the host's settings since Open.
	Reapplied int
	// Err is why the host does not ask us at the moment, nil if it does.
	Err error
}

// Open repairs what an earlier run left, finds out how the host resolves names,
// and makes it ask our server.
func Open(ctx context.Context, cfg Config) (*Resolver, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("resolver: %w", err)
	}
	cfg = cfg.withDefaults()
	var number [8]byte
	_, _ = rand.Read(number[:]) // never fails
	r := &Resolver{cfg: cfg, run: hex.EncodeToString(number[:])}
	if cfg.Mode != Off {
		if err := Repair(cfg); err != nil {
			return nil, err
		}
	}
	var errs []error
	for _, b := range r.candidates(ctx) {
		err := r.start(ctx, b)
		if err == nil {
			cfg.Logger.Info("the host's resolver is set",
				slog.String("mode", string(b.mode())), slog.Any("upstream", r.upstream))
			return r, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", b.mode(), err), b.close())
		cfg.Logger.Warn("the host's resolver is not set this way",
			slog.String("mode", string(b.mode())), slog.Any("err", err))
	}
	return nil, fmt.Errorf("resolver: %w", errors.Join(errs...))
}

// candidates returns the ways to try, best first.
func (r *Resolver) candidates(ctx context.Context) []backend {
	file := &fileBackend{cfg: r.cfg, run: r.run}
	switch r.cfg.Mode {
	case Off:
		return []backend{&offBackend{cfg: r.cfg}}
	case File:
		return []backend{file}
	case Resolved:
		return []backend{&resolvedBackend{cfg: r.cfg, run: r.run}}
	case Resolvconf:
		return []backend{&resolvconfBackend{cfg: r.cfg, run: r.run}}
	}
	var found []backend
	if usesResolved(ctx, r.cfg) {
		found = append(found, &resolvedBackend{cfg: r.cfg, run: r.run})
	}
	if usesResolvconf(ctx, r.cfg) {
		found = append(found, &resolvconfBackend{cfg: r.cfg, run: r.run})
	}
	return append(found, file)
}

// start takes a snapshot, writes down how to undo, and applies.
func (r *Resolver) start(ctx context.Context, b backend) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	upstream, st, err := b.snapshot(ctx)
	if err != nil {
		return err
	}
	r.backend = b
	if err := r.noteLocked(st); err != nil {
		return err
	}
	r.upstream = withoutOwn(upstream, r.cfg.Servers)
	r.cfg.Upstream(slices.Clone(r.upstream))
	if err := b.apply(ctx); err != nil {
		return errors.Join(err, r.undoLocked())
	}
	return nil
}

// noteLocked writes down how to undo, and tells the guardian, before it is needed.
func (r *Resolver) noteLocked(st state) error {
	st.Run = r.run
	if st.Mode == Off || st.equal(r.state) {
		r.state = st
		return nil
	}
	if err := st.write(r.cfg.StateDir); err != nil {
		return err
	}
	if r.cfg.Guard != nil {
		if err := r.cfg.Guard.Set(GuardName, st.encode(r.cfg.StateDir)); err != nil {
			return err
		}
	}
	r.state = st
	return nil
}

// undoLocked puts everything back and forgets it.
func (r *Resolver) undoLocked() error {
	if r.state.Mode == Off || r.state.Mode == "" {
		return nil
	}
	if err := restore(r.cfg.StateDir, r.state); err != nil {
		return err // the guardian or the next start tries again
	}
	r.state = state{}
	if r.cfg.Guard != nil {
		return r.cfg.Guard.Clear(GuardName)
	}
	return nil
}

// Run keeps the host asking us until ctx ends, which gives nil: it verifies when
// told of a change and now and then, applies again what others undid, and learns
// the servers others set. It undoes nothing; Close does.
func (r *Resolver) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { // ends with ctx
		for wait := time.Second; ctx.Err() == nil; wait = min(2*wait, time.Minute) {
			if err := r.backend.watch(ctx, notify); err != nil && ctx.Err() == nil {
				r.cfg.Logger.Warn("changes of the host's resolver are noticed late", slog.Any("err", err))
			}
			select {
			case <-ctx.Done():
			case <-time.After(wait):
				notify() // what changed meanwhile
			}
		}
	})
	// Others that set something right after us are found at the second look.
	next := time.NewTimer(min(2*time.Second, r.cfg.Check))
	defer next.Stop()
	var pace pacer
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			// Programs write such files in several steps.
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(50 * time.Millisecond):
			}
		case <-next.C:
		}
		wait := r.cfg.Check
		if !r.check(ctx, &pace) {
			wait = min(pace.delay(), r.cfg.Check)
		}
		next.Reset(wait)
	}
}

// check verifies once and applies again if needed. It reports whether the host asks
// us.
func (r *Resolver) check(ctx context.Context, pace *pacer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return true
	}
	ours, upstream, st, err := r.backend.verify(ctx)
	if err == nil {
		if upstream = withoutOwn(upstream, r.cfg.Servers); !slices.Equal(upstream, r.upstream) {
			r.upstream = upstream
			r.cfg.Logger.Info("the host's own DNS servers changed", slog.Any("upstream", upstream))
			r.cfg.Upstream(slices.Clone(upstream))
		}
		if !ours && pace.allow(time.Now()) {
			r.reapply++
			if err = r.noteLocked(st); err == nil {
				err = r.backend.apply(ctx)
			}
			r.cfg.Logger.Info("somebody else changed the host's resolver; set again", slog.Any("err", err))
			ours = err == nil
		} else if !ours {
			err = errors.New("somebody else keeps changing the host's resolver")
		}
	}
	if err != nil && (r.lastErr == nil || err.Error() != r.lastErr.Error()) {
		r.cfg.Logger.Warn("the host's resolver does not ask us", slog.Any("err", err))
	}
	r.lastErr = err
	return ours
}

// Status returns what the Resolver does now.
func (r *Resolver) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Status{Mode: r.backend.mode(), Upstream: slices.Clone(r.upstream), Reapplied: r.reapply, Err: r.lastErr}
}

// Close puts the host's settings back. Run should have ended.
func (r *Resolver) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	return errors.Join(r.undoLocked(), r.backend.close())
}

// pacer bounds how often we fight over the settings with somebody else: five times
// in a row, then ever more slowly.
type pacer struct {
	fights int
	last   time.Time
}

func (p *pacer) allow(now time.Time) bool {
	if now.Sub(p.last) > 5*time.Minute {
		p.fights = 0
	}
	if now.Sub(p.last) < p.delay() {
		return false
	}
	p.fights, p.last = p.fights+1, now
	return true
}

func (p *pacer) delay() time.Duration {
	if p.fights < 5 {
		return 0
	}
	return min(time.Second<<min(p.fights-5, 8), time.Minute)
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
