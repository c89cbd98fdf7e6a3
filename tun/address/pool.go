package address

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/routing/identity"
)

// Rest is how long an address must be unused before another service gets it.
const Rest = 7 * 24 * time.Hour

// touchEvery is how often a use is written down: seldom, because every write wears
// the disk; the rest is prolonged by it, because a kill loses what was not written.
const touchEvery = time.Hour

// Errors of a Pool.
var (
	// ErrFull is returned when every address is taken and none has rested long enough.
	ErrFull = errors.New("tun: address pool is full")
	// ErrCollision is returned when two services have one IPv6 address.
	ErrCollision = errors.New("tun: two services hash to one IPv6 address")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("tun: address pool is closed")
)

// Config configures a Pool. Network is required.
type Config struct {
	// Network is the overlay network, which fixes the IPv6 prefix.
	Network identity.NetworkID
	// Prefix is the IPv4 pool. Default 198.18.0.0/15.
	Prefix netip.Prefix
	// File keeps the mapping; empty keeps it in memory.
	File string
	// Clock tells the time. Default time.Now.
	Clock func() time.Time
}

// Pool maps services to virtual addresses and back.
type Pool struct {
	// Constant after Open.
	network       identity.NetworkID
	prefix4       netip.Prefix
	prefix6       netip.Prefix
	first, usable uint32 // first address to give, and how many follow
	clock         func() time.Time

	file    sync.Mutex // held over journal I/O; taken before mu
	journal *journal   // guarded by file; nil in memory
	closed  bool       // guarded by file

	mu       sync.RWMutex // guards below, never held over I/O
	services map[identity.ServiceID]*entry
	by4      map[netip.Addr]*entry
	by6      map[netip.Addr]*entry
}

type entry struct {
	service identity.ServiceID
	v4, v6  netip.Addr // v4 invalid when the pool was full
	used    int64      // Unix seconds
	written int64      // used as in the journal
}

// Open reads the journal, or starts one.
func Open(cfg Config) (*Pool, error) {
	if !cfg.Prefix.IsValid() {
		cfg.Prefix = DefaultPool()
	}
	if err := ValidatePool(cfg.Prefix); err != nil {
		return nil, err
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	base := cfg.Prefix.Addr().As4()
	p := &Pool{
		network: cfg.Network,
		prefix4: cfg.Prefix,
		prefix6: Prefix(cfg.Network),
		first:   binary.BigEndian.Uint32(base[:]) + Reserved,
		// The last address is the broadcast address of the device's route.
		usable:   1<<(32-cfg.Prefix.Bits()) - Reserved - 1,
		clock:    cfg.Clock,
		services: make(map[identity.ServiceID]*entry),
		by4:      make(map[netip.Addr]*entry),
		by6:      make(map[netip.Addr]*entry),
	}
	if cfg.File == "" {
		return p, nil
	}
	lines, err := readJournal(cfg.File)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, l := range lines {
		p.replay(l)
	}
	if p.journal, err = writeJournal(cfg.File, p.live()); err != nil {
		return nil, err
	}
	return p, nil
}

// Close writes down when each address was last used. It is idempotent.
func (p *Pool) Close() error {
	p.file.Lock()
	defer p.file.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	if p.journal == nil {
		return nil
	}
	err := p.journal.append(p.stale(0)...)
	return errors.Join(err, p.journal.close())
}

// Prefix4 returns the IPv4 pool.
func (p *Pool) Prefix4() netip.Prefix { return p.prefix4 }

// Prefix6 returns the network's IPv6 prefix.
func (p *Pool) Prefix6() netip.Prefix { return p.prefix6 }

// Len returns how many services have addresses, and how many IPv4 addresses there are.
func (p *Pool) Len() (services, capacity int) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.services), int(p.usable)
}

// Assign returns the service's addresses, and gives it some when it has none. They
// are on disk before it returns. On ErrFull the IPv6 address is valid nonetheless.
func (p *Pool) Assign(service identity.ServiceID) (v4, v6 netip.Addr, err error) {
	now := p.clock().Unix()
	if e := p.touch(service, now); e.v4.IsValid() {
		return e.v4, e.v6, nil
	}
	p.file.Lock()
	defer p.file.Unlock()
	if p.closed {
		return v4, v6, ErrClosed
	}
	e := p.touch(service, now) // somebody else may have been faster
	if e.v4.IsValid() {
		return e.v4, e.v6, nil
	}
	v6 = IPv6(p.network, service)
	v4, full := p.choose(service, now)
	if full != nil && e.v6.IsValid() {
		return v4, e.v6, full
	}
	e = entry{service: service, v4: v4, v6: v6, used: now, written: now}
	p.mu.RLock()
	other, taken := p.by6[v6]
	room := len(p.services) < 2*int(p.usable)
	p.mu.RUnlock()
	switch {
	case taken && other.service != service:
		return netip.Addr{}, netip.Addr{}, fmt.Errorf("%w: %s and %s", ErrCollision, other.service, service)
	case full != nil && !room:
		return netip.Addr{}, v6, full
	}
	if p.journal != nil {
		if err := p.journal.append(e.line()); err != nil {
			return netip.Addr{}, netip.Addr{}, err
		}
	}
	p.insert(e)
	p.compact()
	return v4, v6, full
}

// Service returns the service that has the virtual address, IPv4 or IPv6.
func (p *Pool) Service(a netip.Addr) (identity.ServiceID, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	m := p.by6
	if a.Is4() {
		m = p.by4
	}
	e, ok := m[a]
	if !ok {
		return identity.ServiceID{}, false
	}
	return e.service, true
}

// Lookup returns the addresses a service has, without giving it any.
func (p *Pool) Lookup(service identity.ServiceID) (v4, v6 netip.Addr, ok bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	e, ok := p.services[service]
	if !ok {
		return v4, v6, false
	}
	return e.v4, e.v6, true
}

// Touch notes that the services are in use, and writes down the uses that the journal
// does not have for an hour or more.
func (p *Pool) Touch(services ...identity.ServiceID) error {
	now := p.clock().Unix()
	for _, s := range services {
		p.touch(s, now)
	}
	lines := p.stale(touchEvery)
	if len(lines) == 0 {
		return nil
	}
	p.file.Lock()
	defer p.file.Unlock()
	if p.journal == nil || p.closed {
		return nil
	}
	if err := p.journal.append(lines...); err != nil {
		return err
	}
	p.compact()
	return nil
}

// compact rewrites a journal that has grown to twice its need. The caller holds file.
func (p *Pool) compact() {
	if p.journal == nil {
		return
	}
	if live := p.live(); p.journal.lines > 64+2*len(live) {
		// All of it is in the old file; a failed rewrite is tried again at the next change.
		_ = p.journal.rewrite(live)
	}
}

// touch notes a use and returns a copy of the entry, zero when there is none.
func (p *Pool) touch(service identity.ServiceID, now int64) entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.services[service]
	if !ok {
		return entry{}
	}
	e.used = now
	return *e
}

// stale returns lines for the uses that are newer than the journal by at least d, and
// counts them as written.
func (p *Pool) stale(d time.Duration) []line {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lines []line
	for _, e := range p.services {
		if e.used != e.written && e.used-e.written >= int64(d/time.Second) {
			e.written = e.used
			lines = append(lines, e.line())
		}
	}
	return lines
}

// choose finds an IPv4 address: the first free one from where the service's hash
// points, else the one that rested longest.
func (p *Pool) choose(service identity.ServiceID, now int64) (netip.Addr, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if len(p.by4) < int(p.usable) {
		h := IPv6(p.network, service).As16()
		at := uint32(binary.BigEndian.Uint64(h[8:]) % uint64(p.usable))
		for range p.usable {
			if a := p.number(at); p.by4[a] == nil {
				return a, nil
			}
			at = (at + 1) % p.usable
		}
	}
	var oldest *entry
	for _, e := range p.by4 {
		if oldest == nil || e.used < oldest.used || e.used == oldest.used && e.v4.Less(oldest.v4) {
			oldest = e
		}
	}
	if oldest == nil || now-oldest.used < int64((Rest+touchEvery)/time.Second) {
		return netip.Addr{}, fmt.Errorf("%w: all %d addresses of %s were used in the last 7 days, a larger pool is needed",
			ErrFull, p.usable, p.prefix4)
	}
	return oldest.v4, nil
}

func (p *Pool) number(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, p.first+n)))
}

// insert adds or replaces an entry; whoever had its IPv4 address is forgotten.
func (p *Pool) insert(e entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, ok := p.services[e.service]; ok {
		p.remove(old)
	}
	if old, ok := p.by4[e.v4]; ok {
		p.remove(old)
	}
	p.services[e.service] = &e
	p.by6[e.v6] = &e
	if e.v4.IsValid() {
		p.by4[e.v4] = &e
	}
}

func (p *Pool) remove(e *entry) {
	delete(p.services, e.service)
	delete(p.by6, e.v6)
	if e.v4.IsValid() {
		delete(p.by4, e.v4)
	}
}

// replay applies a line of the journal. A line of another pool (the setting changed)
// keeps nothing: its address is not ours to give.
func (p *Pool) replay(l line) {
	e := entry{service: l.service, v4: l.v4, v6: IPv6(p.network, l.service), used: l.used, written: l.used}
	if e.v4.IsValid() {
		a := e.v4.As4()
		if n := binary.BigEndian.Uint32(a[:]); n < p.first || n-p.first >= p.usable {
			return
		}
	}
	if other, ok := p.by6[e.v6]; ok && other.service != e.service {
		return
	}
	p.insert(e)
}

// live returns the journal's least content, oldest use first.
func (p *Pool) live() []line {
	p.mu.RLock()
	defer p.mu.RUnlock()
	lines := make([]line, 0, len(p.services))
	for _, e := range p.services {
		lines = append(lines, e.line())
	}
	slices.SortFunc(lines, line.compare)
	return lines
}

func (e *entry) line() line { return line{used: e.used, v4: e.v4, service: e.service} }
