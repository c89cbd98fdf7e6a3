package naming

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// Errors of Names.Resolve. They say what a DNS server has to do with the name.
var (
	// ErrOutside is returned for a host name outside the zones, and for one of the
	// zone that cannot be a name by the grammar: it is the host's resolver's.
	ErrOutside = errors.New("naming: not an overlay name")
	// ErrNotRegistered is returned for a name that is authentically not registered:
	// in the zone it is the host's resolver's, below scn.alt it does not exist.
	ErrNotRegistered = errors.New("naming: the name is not registered")
	// ErrNotFound is returned for what cannot exist: a name below scn.alt that the
	// grammar refuses, or the zone itself.
	ErrNotFound = errors.New("naming: no such name")
	// ErrMistyped is returned for an ID with a wrong checksum or of a wrong kind;
	// the identity error is wrapped besides.
	ErrMistyped = errors.New("naming: mistyped ID")
	// ErrUnavailable is returned for a name that is ours and cannot be looked up
	// now. It must not be asked for elsewhere.
	ErrUnavailable = errors.New("naming: the name cannot be looked up now")
	// ErrUnknown is returned for a name of the zone that was never seen here, while
	// the authority is not reachable, when WhenUnknown is AskUpstream.
	ErrUnknown = errors.New("naming: the authority is not reachable and the name was never seen")
	// ErrBusy is returned when too many lookups are under way.
	ErrBusy = errors.New("naming: too many lookups under way")
)

// Source says where a Resolution came from.
type Source string

// The sources of a Resolution.
const (
	FromID       Source = "id"
	FromPetname  Source = "petname"
	FromRegistry Source = "registry"
)

// Resolution is what a host name means.
type Resolution struct {
	// Name is the registered name or petname; empty for an ID.
	Name name.Name
	// Service is what it means.
	Service identity.ServiceID
	// Record is the registered name's; zero otherwise.
	Record name.Record
	Source Source
	// Checked is when the registry last confirmed it, zero for IDs and petnames.
	Checked time.Time
	// Stale says that the registry could not confirm it when last asked.
	Stale bool
}

// Names decides what host names mean. See the package comment for the rules.
type Names struct {
	// constant after OpenNames
	cfg      NamesConfig
	registry Registry
	seen     *seen
	cache    *lookups[name.Name, finding]

	petnames   atomic.Pointer[map[name.Name]identity.ServiceID]
	generation atomic.Uint64 // raised when an answer made before may be wrong

	mu      sync.Mutex // guards below
	metrics NamesMetrics
}

// NamesMetrics are counters since OpenNames.
type NamesMetrics struct {
	// Found, Outside, NotRegistered, Mistyped, Unavailable, Unknown and Busy are
	// how Resolve ended.
	Found, Outside, NotRegistered, Mistyped, Unavailable, Unknown, Busy uint64
	// Lookups of the registry, and those of them that failed.
	Lookups, LookupErrors uint64
	// Cached names and Seen names are as of now.
	Cached, Seen int
}

// finding is what the cache keeps of a name.
type finding struct {
	state   State
	record  name.Record
	checked time.Time // when record or its absence was last confirmed
	stale   bool      // the newest lookup did not confirm it
	held    bool      // Unknown, but once seen
	why     string    // of an Unknown name
}

// OpenNames reads the names once seen and returns a Names. Close it.
func OpenNames(registry Registry, cfg NamesConfig) (*Names, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("naming: %w", err)
	}
	cfg = cfg.withDefaults()
	memory, err := openSeen(cfg.SeenFile, cfg.SeenLimit)
	if err != nil {
		return nil, fmt.Errorf("naming: %w", err)
	}
	n := &Names{cfg: cfg, registry: registry, seen: memory}
	n.cache = newLookups(cfg.Clock, cfg.Timeout, cfg.MaxLookups, 1<<14, n.ask)
	n.SetPetnames(cfg.Petnames)
	return n, nil
}

// SetPetnames replaces the petnames.
func (n *Names) SetPetnames(petnames map[name.Name]identity.ServiceID) {
	petnames = maps.Clone(petnames)
	n.petnames.Store(&petnames)
	n.generation.Add(1)
}

// Forget drops what is cached of the name, so that a change just made is seen at
// once: call it after registering, updating or releasing it.
func (n *Names) Forget(nm name.Name) {
	n.cache.Forget(nm)
	n.generation.Add(1)
}

// Zone returns the overlay's zone.
func (n *Names) Zone() string { return n.cfg.Zone }

// Resolve says what a host name means: a name with its zone, or anything below it,
// in either case and with or without final dot. The errors are those above.
func (n *Names) Resolve(ctx context.Context, host string) (Resolution, error) {
	return n.resolve(ctx, locate(textLabels(host), n.cfg.Zone))
}

func (n *Names) resolve(ctx context.Context, p place) (Resolution, error) {
	r, err := n.decide(ctx, p)
	n.mu.Lock()
	defer n.mu.Unlock()
	m := &n.metrics
	switch {
	case err == nil:
		m.Found++
	case errors.Is(err, ErrOutside):
		m.Outside++
	case errors.Is(err, ErrMistyped):
		m.Mistyped++
	case errors.Is(err, ErrUnavailable):
		m.Unavailable++
	case errors.Is(err, ErrUnknown):
		m.Unknown++
	case errors.Is(err, ErrBusy):
		m.Busy++
	default:
		m.NotRegistered++
	}
	return r, err
}

func (n *Names) decide(ctx context.Context, p place) (Resolution, error) {
	if p.zone == "" {
		return Resolution{}, ErrOutside
	}
	if p.label == "" {
		return Resolution{}, ErrNotFound
	}
	if len(p.label) == identity.TextSize && alphanumeric(p.label) {
		id, err := identity.ParseServiceID(p.label)
		if err != nil {
			return Resolution{}, fmt.Errorf("%w: %w", ErrMistyped, err)
		}
		return Resolution{Service: id, Source: FromID}, nil
	}
	nm, err := name.Parse(p.label)
	if err != nil {
		if p.zone == Alt {
			return Resolution{}, fmt.Errorf("%w: %w", ErrNotFound, err)
		}
		return Resolution{}, fmt.Errorf("%w: %w", ErrOutside, err)
	}
	if id, ok := (*n.petnames.Load())[nm]; ok {
		return Resolution{Name: nm, Service: id, Source: FromPetname}, nil
	}
	f, ok := n.cache.Get(ctx, nm)
	if !ok {
		if ctx.Err() == nil {
			return Resolution{}, ErrBusy
		}
		f = finding{held: n.seen.Has(nm), why: "no answer in time"}
	}
	return n.judge(nm, p.zone, f)
}

// judge applies the rules of the package comment to a finding.
func (n *Names) judge(nm name.Name, zone string, f finding) (Resolution, error) {
	switch {
	case f.state == Registered && n.cfg.Clock().Unix() <= f.record.NotAfter:
		return Resolution{
			Name: nm, Service: f.record.Service, Record: f.record, Source: FromRegistry,
			Checked: f.checked, Stale: f.stale,
		}, nil
	case f.state == Registered:
		return Resolution{}, fmt.Errorf("%w: %s: its record has expired", ErrUnavailable, nm)
	case f.state == NotRegistered:
		return Resolution{}, fmt.Errorf("%w: %s", ErrNotRegistered, nm)
	case f.held:
		return Resolution{}, fmt.Errorf("%w: %s was seen here before: %s", ErrUnavailable, nm, f.why)
	case zone == Alt || n.cfg.WhenUnknown == Fail:
		return Resolution{}, fmt.Errorf("%w: %s: %s", ErrUnavailable, nm, f.why)
	}
	return Resolution{}, fmt.Errorf("%w: %s: %s", ErrUnknown, nm, f.why)
}

// ask looks the name up and says how long the finding is good for.
func (n *Names) ask(ctx context.Context, nm name.Name, old finding, had bool) (f finding, fresh, stale time.Duration) {
	a, err := n.registry.Lookup(ctx, nm)
	now := n.cfg.Clock()
	n.count(func(m *NamesMetrics) {
		m.Lookups++
		if err != nil {
			m.LookupErrors++
		}
	})
	expired := a.State == Registered && now.Unix() > a.Record.NotAfter
	switch {
	case err == nil && a.State == Registered && a.Record.Name == nm && !expired:
		n.keep(n.seen.Add(nm))
		if had && old.state != Registered || had && old.record.Service != a.Record.Service {
			n.generation.Add(1)
		}
		// Never beyond the record's own end.
		left := time.Unix(a.Record.NotAfter+1, 0).Sub(now)
		fresh = min(n.cfg.Fresh, left)
		return finding{state: Registered, record: a.Record, checked: now}, fresh, min(n.cfg.Stale, left-fresh)
	case err == nil && a.State == NotRegistered:
		n.keep(n.seen.Remove(nm))
		if had && old.state == Registered {
			n.generation.Add(1)
		}
		return finding{state: NotRegistered, checked: now}, n.cfg.Fresh, n.cfg.Stale
	}
	why := "the authority is not reachable"
	switch {
	case err != nil:
		why = clip(err.Error(), 120)
	case expired:
		why = "its record has expired"
	}
	if had && old.state == Registered && now.Unix() <= old.record.NotAfter {
		// Still true until its authority says otherwise or the record ends (RFC 8767).
		old.stale = true
		return old, n.cfg.Retry, n.cfg.Stale
	}
	if had && old.state == NotRegistered && now.Sub(old.checked) < n.cfg.Fresh+n.cfg.Stale && !a.Seen {
		old.stale = true
		return old, n.cfg.Retry, n.cfg.Stale
	}
	held := a.Seen || expired || n.seen.Has(nm)
	if a.Seen || expired {
		n.keep(n.seen.Add(nm))
	}
	if held {
		return finding{held: true, why: why}, n.cfg.Retry, 0
	}
	// Asked again behind the client's back for a while, so that an authority that is
	// down does not slow the zone's namesake on the Internet.
	return finding{why: why}, n.cfg.Retry, min(n.cfg.Stale, time.Minute)
}

// keep logs that the memory of names could not be written: degraded, not fatal.
func (n *Names) keep(err error) {
	if err != nil {
		n.cfg.Logger.Warn("names once seen are not kept", "err", err)
	}
}

func (n *Names) count(add func(*NamesMetrics)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	add(&n.metrics)
}

// Metrics returns a snapshot.
func (n *Names) Metrics() NamesMetrics {
	n.mu.Lock()
	m := n.metrics
	n.mu.Unlock()
	m.Cached, _, _ = n.cache.Stats()
	m.Seen = n.seen.Len()
	return m
}

// Close ends the lookups under way, waits for them and writes the names once seen.
func (n *Names) Close() error {
	n.cache.Close()
	return n.seen.Close()
}

func alphanumeric(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}
