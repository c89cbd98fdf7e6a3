package resolver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

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
				"mode", string(b.mode()), "upstream", r.upstream)
			return r, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", b.mode(), err), b.close())
		cfg.Logger.Warn("the host's resolver is not set this way",
			"mode", string(b.mode()), "err", err)
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
	case Auto:
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
				r.cfg.Logger.Warn("changes of the host's resolver are noticed late", "err", err)
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
			r.cfg.Logger.Info("the host's own DNS servers changed", "upstream", upstream)
			r.cfg.Upstream(slices.Clone(upstream))
		}
		if !ours && pace.allow(time.Now()) {
			r.reapply++
			if err = r.noteLocked(st); err == nil {
				err = r.backend.apply(ctx)
			}
			r.cfg.Logger.Info("somebody else changed the host's resolver; set again", "err", err)
			ours = err == nil
		} else if !ours {
			err = errors.New("somebody else keeps changing the host's resolver")
		}
	}
	if err != nil && (r.lastErr == nil || err.Error() != r.lastErr.Error()) {
		r.cfg.Logger.Warn("the host's resolver does not ask us", "err", err)
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
