// Package upstream forwards DNS queries to the host's own servers.
//
// # Model
//
// A Forwarder asks its servers in their order: the next one when the one before
// stays silent for a while, refuses or fails, the first good answer wins. Servers
// that stay silent are asked last for a while. Equal questions under way at the
// same time are asked once.
//
// Answers are hard to forge: each query has its own socket (and so a random source
// port), a random ID and a randomly cased name (draft-vixie-dnsext-dns0x20); a
// server that does not keep the case is asked again over TCP. A truncated answer is
// fetched over TCP (RFC 7766). EDNS is hop by hop: our own OPT record goes out, the
// server's is taken off, its extended errors are passed on (RFC 8914).
//
// A query is never sent to one of our own addresses. A loop through another
// forwarder is recognised by the case of the name coming back, see Asked.
//
// # What it does not do
//
// No cache, no DNSSEC validation, no encrypted transport.
//
// # Concurrency
//
// A Forwarder is safe for concurrent use. The number of questions under way is
// bounded; Close ends them and waits.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/naming/message"
)

// Errors of Exchange.
var (
	// ErrNoServer is returned while no upstream server is known.
	ErrNoServer = errors.New("upstream: the host has no DNS server")
	// ErrBusy is returned when MaxInFlight questions are under way.
	ErrBusy = errors.New("upstream: too many questions under way")
	// ErrTimeout is returned when no server answered in time.
	ErrTimeout = errors.New("upstream: no server answered")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("upstream: closed")
)

// Config configures a Forwarder. The zero value is valid.
type Config struct {
	// Servers are asked in this order. Those among Own are left out.
	Servers []netip.AddrPort
	// Own are the addresses we answer on ourselves. A port of 0 means every port.
	Own []netip.AddrPort
	// Timeout bounds one question over all servers. Default 4s, under the 5s a stub
	// resolver waits.
	Timeout time.Duration
	// Stagger is how long one server may stay silent before the next is asked too.
	// Default 600ms: more than a round trip round the world, and three servers are
	// asked within what a person takes for one delay.
	Stagger time.Duration
	// MaxInFlight bounds the questions under way. Default 512: each holds a socket.
	MaxInFlight int
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = 4 * time.Second
	}
	if c.Stagger == 0 {
		c.Stagger = 600 * time.Millisecond
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 512
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every fault of the settings.
func (c Config) Validate() error {
	var errs []error
	if c.Timeout < 0 || c.Stagger < 0 {
		errs = append(errs, errors.New("timeout and stagger: not negative"))
	}
	if c.MaxInFlight < 0 {
		errs = append(errs, fmt.Errorf("max in flight %d: not negative", c.MaxInFlight))
	}
	for _, s := range c.Servers {
		if !s.IsValid() || s.Port() == 0 {
			errs = append(errs, fmt.Errorf("server %s: want an address and a port", s))
		}
	}
	return errors.Join(errs...)
}

// Forwarder asks the host's servers.
type Forwarder struct {
	cfg    Config
	ctx    context.Context // ends with Close; every flight derives from it
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex // guards below
	closed  bool
	servers []*server
	flights map[string]*flight
	asked   map[string]int // exact wire name ‖ type of queries now out
	metrics Metrics
}

// flight is one question under way, for everybody who asks it. response and err
// are constant once done is closed.
type flight struct {
	done     chan struct{}
	response message.Forwarded
	err      error
}

// Metrics are counters since New.
type Metrics struct {
	// Questions were asked of us; Joined of them while the same one was under way.
	Questions, Joined uint64
	// Sent queries, over UDP and TCP; TCP of them over TCP.
	Sent, TCP uint64
	// Answered, Failed (SERVFAIL and the like from every server) and TimedOut are
	// how questions ended; Busy ones were turned away.
	Answered, Failed, TimedOut, Busy uint64
	// Dropped datagrams matched no question.
	Dropped uint64
	// CaseLost answers came back in another case and were asked again over TCP.
	CaseLost uint64
	// Loops are our own queries that came back to us.
	Loops uint64
	// InFlight questions and Servers are as of now.
	InFlight, Servers int
}

// New returns a Forwarder for the settings.
func New(cfg Config) (*Forwarder, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	f := &Forwarder{
		cfg: cfg, ctx: ctx, cancel: cancel,
		flights: make(map[string]*flight), asked: make(map[string]int),
	}
	f.SetServers(cfg.Servers)
	return f, nil
}

// SetServers replaces the servers. What is under way goes on with the old ones.
func (f *Forwarder) SetServers(addrs []netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var servers []*server
	for _, a := range addrs {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if !a.IsValid() || a.Port() == 0 || f.own(a) || slices.ContainsFunc(servers, func(s *server) bool { return s.addr == a }) {
			continue
		}
		i := slices.IndexFunc(f.servers, func(s *server) bool { return s.addr == a })
		if i >= 0 {
			servers = append(servers, f.servers[i]) // keeps what is known of it
		} else {
			servers = append(servers, &server{addr: a})
		}
		if len(servers) == 8 {
			break
		}
	}
	f.servers = servers
}

func (f *Forwarder) own(a netip.AddrPort) bool {
	return slices.ContainsFunc(f.cfg.Own, func(o netip.AddrPort) bool {
		return o.Addr().Unmap().WithZone("") == a.Addr().WithZone("") && (o.Port() == 0 || o.Port() == a.Port())
	})
}

// Servers returns the servers in their order.
func (f *Forwarder) Servers() []netip.AddrPort {
	f.mu.Lock()
	defer f.mu.Unlock()
	addrs := make([]netip.AddrPort, len(f.servers))
	for i, s := range f.servers {
		addrs[i] = s.addr
	}
	return addrs
}

// Exchange answers a standard query. The response has the query's ID and the case
// of its question; it may be longer than the client takes over UDP.
func (f *Forwarder) Exchange(ctx context.Context, query []byte) ([]byte, error) {
	q, err := message.Parse(query)
	if err != nil {
		return nil, err
	}
	fl, err := f.join(q)
	if err != nil {
		return nil, err
	}
	select {
	case <-fl.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if fl.err != nil {
		return nil, fl.err
	}
	return fl.response.AppendTo(nil, query, q), nil
}

// join returns the flight of the question, a new one if none is under way.
func (f *Forwarder) join(q message.Query) (*flight, error) {
	flags := q.Flags & (message.FlagRecursionDesired | message.FlagAuthenticData | message.FlagCheckingDisabled)
	key := make([]byte, 0, 264)
	key = message.AppendLower(key, q.Name)
	key = append(key, byte(q.Type>>8), byte(q.Type), byte(q.Class>>8), byte(q.Class), byte(flags>>8), byte(flags), 0)
	if q.DO {
		key[len(key)-1] = 1
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.metrics.Questions++
	if fl := f.flights[string(key)]; fl != nil {
		f.metrics.Joined++
		return fl, nil
	}
	switch {
	case f.closed:
		return nil, ErrClosed
	case len(f.flights) >= f.cfg.MaxInFlight:
		f.metrics.Busy++
		return nil, ErrBusy
	case len(f.servers) == 0:
		return nil, ErrNoServer
	}
	fl := &flight{done: make(chan struct{})}
	f.flights[string(key)] = fl
	ask := question{
		name: slices.Clone(q.Name), typ: q.Type, class: q.Class, flags: flags, do: q.DO,
	}
	servers := f.orderLocked(time.Now())
	// Ends by itself after Timeout, or with Close.
	f.wg.Go(func() {
		fl.response, fl.err = f.fly(ask, servers)
		f.mu.Lock()
		delete(f.flights, string(key))
		f.mu.Unlock()
		close(fl.done)
	})
	return fl, nil
}

// Asked reports whether the query has the very case of one that is out now, which
// a client hits by chance only if it randomises too: our own query came back.
// Names of few letters are not told.
func (f *Forwarder) Asked(query []byte) bool {
	q, err := message.Parse(query)
	if err != nil || letters(q.Name) < minLetters {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked[string(askedKey(q.Name, q.Type))] == 0 {
		return false
	}
	f.metrics.Loops++
	return true
}

// Metrics returns a snapshot.
func (f *Forwarder) Metrics() Metrics {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.metrics
	m.InFlight, m.Servers = len(f.flights), len(f.servers)
	return m
}

// Close ends what is under way with ErrClosed and waits for it.
func (f *Forwarder) Close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	f.wg.Wait()
	return nil
}
