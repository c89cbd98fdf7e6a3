package portmap

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// protocol is one way to talk to one gateway.
type protocol interface {
	name() string
	// add maps an outside port to one of this host, or renews that, and returns what
	// the router made of it.
	add(ctx context.Context, internal, external uint16, life time.Duration) (netip.AddrPort, time.Duration, error)
	// remove takes a mapping back.
	remove(ctx context.Context, internal, external uint16) error
}

const (
	// leastLife is taken for what a router that grants less says: it is not asked
	// every other second.
	leastLife = 2 * time.Minute
	// firstRetry and longestRetry are the pauses while no router maps: most networks
	// have none that would, and those that have one keep it.
	firstRetry   = 30 * time.Second
	longestRetry = 15 * time.Minute
	// goodbye is how long taking mappings back may take.
	goodbye = 2 * time.Second
)

// Metrics are counters since the start, and gauges of now.
type Metrics struct {
	// Mapped are mappings that stand now.
	Mapped int
	// Mappings counts those made, Renewals those renewed, Failures times that no
	// router could be brought to it, and Lost those that could not be renewed.
	Mappings, Renewals, Failures, Lost uint64
	// Useless counts outside addresses that nobody could dial.
	Useless uint64
}

// held is a mapping and who made it.
type held struct {
	Mapping
	by protocol
}

// Mapper keeps ports of this host mapped while it runs.
type Mapper struct {
	cfg  Config
	kick chan struct{}

	mu   sync.Mutex // guards below
	held []held

	mappings, renewals, failures, lost, useless atomic.Uint64
}

// New returns a Mapper. It does nothing until Run.
func New(cfg Config) (*Mapper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Mapper{cfg: cfg.withDefaults(), kick: make(chan struct{}, 1)}, nil
}

// Kick has the gateways looked at anew: the network has changed. It returns at once.
func (m *Mapper) Kick() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// Mappings returns those that stand.
func (m *Mapper) Mappings() []Mapping {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Mapping, 0, len(m.held))
	for _, h := range m.held {
		out = append(out, h.Mapping)
	}
	return out
}

// Metrics returns a snapshot.
func (m *Mapper) Metrics() Metrics {
	return Metrics{
		Mapped: len(m.Mappings()), Mappings: m.mappings.Load(), Renewals: m.renewals.Load(),
		Failures: m.failures.Load(), Lost: m.lost.Load(), Useless: m.useless.Load(),
	}
}

// Run keeps the ports mapped until ctx ends, takes the mappings back and returns
// nil.
func (m *Mapper) Run(ctx context.Context) error {
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
		defer cancel()
		m.drop(last, func(held) bool { return true })
	}()
	retry := firstRetry
	for {
		pause := m.step(ctx)
		if pause == 0 {
			pause = retry
			retry = min(2*retry, longestRetry)
		} else {
			retry = firstRetry
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-m.kick:
			retry = firstRetry
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// step looks at the gateways, renews what is mapped and maps what is not. It
// returns when to come again, 0 when nothing is mapped.
func (m *Mapper) step(ctx context.Context) time.Duration {
	gateways, err := m.cfg.Gateways()
	if err != nil {
		m.cfg.Logger.Debug("no gateways", "err", err)
	}
	gateways = gateways[:min(len(gateways), maxGateways)]
	short, cancel := context.WithTimeout(ctx, goodbye)
	m.drop(short, func(h held) bool { return !slices.Contains(gateways, h.Gateway) })
	cancel()
	for _, g := range gateways {
		local, err := localFor(g)
		if err != nil || dialable(local) {
			continue // not reached, or this host needs no help
		}
		if !m.renew(ctx, g) {
			m.mapAt(ctx, g, local)
		}
	}
	now := time.Now()
	var pause time.Duration
	for _, h := range m.Mappings() {
		left := max(h.Expires.Sub(now)/2, time.Second)
		if pause == 0 || left < pause {
			pause = left
		}
	}
	return pause
}

// mapAt maps the ports at one gateway, by the first protocol that does.
func (m *Mapper) mapAt(ctx context.Context, gateway, local netip.Addr) {
	var errs []error
	for _, open := range []func(context.Context) (protocol, error){
		func(context.Context) (protocol, error) { return newPCP(gateway, local), nil },
		func(context.Context) (protocol, error) { return newNATPMP(gateway, m.cfg.patience), nil },
		func(ctx context.Context) (protocol, error) { return findUPnP(ctx, gateway, local) },
	} {
		if ctx.Err() != nil {
			return
		}
		err := m.try(ctx, gateway, open)
		if err == nil {
			return
		}
		errs = append(errs, err)
	}
	m.failures.Add(1)
	m.cfg.Logger.Debug("the gateway maps no port", "local", local.String(), "remote", gateway.String(), "err", errors.Join(errs...))
}

// try maps the ports by one protocol.
func (m *Mapper) try(ctx context.Context, gateway netip.Addr, open func(context.Context) (protocol, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 2*m.cfg.patience)
	defer cancel()
	by, err := open(ctx)
	if err != nil {
		return err
	}
	first, err := m.add(ctx, by, gateway, m.cfg.Port, m.cfg.Port)
	if err != nil {
		return err
	}
	made := []held{first}
	if m.cfg.Next && first.External.Port() < 65535 {
		next, err := m.add(ctx, by, gateway, m.cfg.Port+1, first.External.Port()+1)
		switch {
		case err != nil:
			m.cfg.Logger.Debug("the next port is not mapped", "err", err)
		case next.External.Port() != first.External.Port()+1:
			_ = by.remove(ctx, m.cfg.Port+1, next.External.Port()) // nobody would look for it there
		default:
			made = append(made, next)
		}
	}
	if !m.cfg.AnyAddress && !dialable(first.External.Addr()) {
		m.useless.Add(1)
	}
	m.mappings.Add(uint64(len(made)))
	m.cfg.Logger.Info("port mapped", "local", first.Internal, "remote", first.External.String(), "protocol", by.name())
	m.change(func(all []held) []held { return append(all, made...) })
	return nil
}

// add makes or renews one mapping.
func (m *Mapper) add(ctx context.Context, by protocol, gateway netip.Addr, internal, external uint16) (held, error) {
	where, life, err := by.add(ctx, internal, external, m.cfg.Lifetime)
	if err != nil {
		return held{}, err
	}
	if where.Port() == 0 || life <= 0 {
		return held{}, errMalformed
	}
	life = min(max(life, leastLife), m.cfg.Lifetime)
	return held{Mapping{
		Internal: internal, External: where, Gateway: gateway, Protocol: by.name(), Expires: time.Now().Add(life),
	}, by}, nil
}

// renew renews the mappings at a gateway, and reports whether there are any.
func (m *Mapper) renew(ctx context.Context, gateway netip.Addr) bool {
	m.mu.Lock()
	all := slices.Clone(m.held)
	m.mu.Unlock()
	any := false
	for _, h := range all {
		if h.Gateway != gateway {
			continue
		}
		short, cancel := context.WithTimeout(ctx, m.cfg.patience)
		next, err := m.add(short, h.by, gateway, h.Internal, h.External.Port())
		cancel()
		if err != nil && ctx.Err() == nil && time.Until(h.Expires) <= 0 || errors.Is(err, errRefused) {
			m.lost.Add(1)
			m.cfg.Logger.Info("port not mapped any more", "local", h.Internal, "err", err)
			m.change(func(all []held) []held { return without(all, h) })
			continue
		}
		any = true
		if err == nil {
			m.renewals.Add(1)
			m.change(func(all []held) []held { return append(without(all, h), next) })
		}
	}
	return any
}

func without(all []held, h held) []held {
	return slices.DeleteFunc(slices.Clone(all), func(o held) bool { return o.Gateway == h.Gateway && o.Internal == h.Internal })
}

// drop takes mappings back.
func (m *Mapper) drop(ctx context.Context, which func(held) bool) {
	m.mu.Lock()
	all := slices.Clone(m.held)
	m.mu.Unlock()
	var wg sync.WaitGroup
	for _, h := range all {
		if !which(h) {
			continue
		}
		m.change(func(all []held) []held { return without(all, h) })
		wg.Go(func() {
			if err := h.by.remove(ctx, h.Internal, h.External.Port()); err != nil {
				m.cfg.Logger.Debug("mapping not taken back", "err", err)
			}
		})
	}
	wg.Wait()
}

// change makes another list of mappings, and tells if others can dial something else
// now.
func (m *Mapper) change(f func([]held) []held) {
	before := m.Dialable()
	m.mu.Lock()
	m.held = f(m.held)
	m.mu.Unlock()
	if after := m.Dialable(); !slices.Equal(before, after) {
		m.cfg.Changed(after)
	}
}

// Dialable returns the outside addresses of Config.Port that others could dial.
func (m *Mapper) Dialable() []netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []netip.AddrPort
	for _, h := range m.held {
		if h.Internal == m.cfg.Port && (m.cfg.AnyAddress || dialable(h.External.Addr())) {
			out = append(out, h.External)
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}
