package naming

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/semaphore"

	"scn.alt/scn/naming/message"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// Server is the local DNS server. Open binds its sockets, Run answers, Close frees
// everything. Names and Upstream are the caller's to close.
type Server struct {
	// constant after Open
	cfg       Config
	names     *Names
	addresses Addresses
	upstream  Upstream
	services  *lookups[identity.ServiceID, serviceFinding]
	arrivals  *arrivals
	reverse   []string     // reverse zones of ours
	listen    []netip.Addr // own addresses
	serial    uint32
	packets   []net.PacketConn
	streams   []net.Listener
	queries   *semaphore.Weighted // answers being made
	conns     *semaphore.Weighted // TCP connections
	ctx       context.Context     // ends with Close
	cancel    context.CancelFunc
	wg        sync.WaitGroup // everything but Run's own loops
	answers   answers
	stats     counters

	flushes atomic.Uint64

	mu     sync.Mutex // guards below
	closed bool
	hosts  map[identity.ServiceID]host // the newest name of each service, for PTR
}

// host is the name a service was last asked for by.
type host struct {
	name name.Name
	zone string
}

// maxHosts bounds the names remembered for PTR.
const maxHosts = 1 << 14

// serviceFinding is what the cache keeps of a service.
type serviceFinding struct {
	service Service
	err     error
}

// Open binds the addresses and returns a Server that answers once Run runs. Every
// argument is required. On an error everything is closed, handed-in sockets too.
func Open(names *Names, addresses Addresses, services Services, upstream Upstream, cfg Config) (_ *Server, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		names: names, addresses: addresses, upstream: upstream,
		packets: slices.Clone(cfg.PacketConns), streams: slices.Clone(cfg.Listeners), ctx: ctx, cancel: cancel,
		hosts: make(map[identity.ServiceID]host),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("naming: %w", err)
	}
	s.cfg = cfg.withDefaults()
	cfg = s.cfg
	s.serial = uint32(cfg.Clock().Unix())
	s.reverse = ReverseZones(cfg.Prefixes...)
	if len(s.reverse) > 1024 {
		return nil, fmt.Errorf("naming: %v: more than 1024 reverse zones", cfg.Prefixes)
	}
	s.queries = semaphore.NewWeighted(int64(cfg.MaxQueries))
	s.conns = semaphore.NewWeighted(int64(cfg.MaxConns))
	s.answers = answers{size: cfg.MaxCached, entries: make(map[string]*prepared)}
	s.arrivals = newArrivals(cfg.Interfaces, cfg.AnyInterface)
	s.services = newLookups(cfg.Clock, cfg.Timeout*2/3, 256, 1<<13, s.find(services))
	for _, a := range cfg.Listen {
		s.listen = append(s.listen, a.Addr().Unmap())
		if err := s.bind(a); err != nil {
			return nil, err
		}
	}
	for _, c := range s.packets {
		if err := s.arrivals.preparePackets(c); err != nil {
			return nil, fmt.Errorf("naming: %s: %w", c.LocalAddr(), err)
		}
	}
	for _, l := range s.streams {
		if err := s.arrivals.prepareStreams(l); err != nil {
			return nil, fmt.Errorf("naming: %s: %w", l.Addr(), err)
		}
	}
	return s, nil
}

// bind opens one address over UDP and TCP; with port 0 both get the same one.
func (s *Server) bind(a netip.AddrPort) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // its sockets do not tell where a connection arrived
	for attempt := 0; ; attempt++ {
		l, err := lc.Listen(s.ctx, "tcp", a.String())
		if err != nil {
			return fmt.Errorf("naming: listen: %w", err)
		}
		port := uint16(l.Addr().(*net.TCPAddr).Port)
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.Addr(), port)))
		if err == nil {
			s.streams, s.packets = append(s.streams, l), append(s.packets, c)
			return nil
		}
		l.Close()
		if a.Port() != 0 || attempt == 16 {
			return fmt.Errorf("naming: listen: %w", err)
		}
	}
}

// Addrs returns the UDP addresses the Server answers on.
func (s *Server) Addrs() []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, c := range s.packets {
		if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
			p := a.AddrPort()
			addrs = append(addrs, netip.AddrPortFrom(p.Addr().Unmap(), p.Port()))
		}
	}
	return addrs
}

// Run answers until ctx ends, which gives nil, or a socket fails. It may be called
// once.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make(chan error, len(s.packets)*maxReaders+len(s.streams)) // never blocks a sender
	for _, c := range s.packets {
		for range readers(c) {
			wg.Go(func() { errs <- s.servePackets(c) }) // ends when the socket is closed
		}
	}
	for _, l := range s.streams {
		wg.Go(func() { errs <- s.serveStreams(l) }) // ends when the listener is closed
	}
	s.cfg.Logger.Info("answering DNS", "listen", s.Addrs(), "zone", s.names.Zone())
	var err error
	select {
	case <-ctx.Done():
	case <-s.ctx.Done():
	case err = <-errs:
	}
	cerr := s.Close()
	wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return errors.Join(err, cerr)
}

// Close closes the sockets, ends the answers being made and waits for them.
func (s *Server) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	var errs []error
	if !closed {
		for _, c := range s.packets {
			errs = append(errs, c.Close())
		}
		for _, l := range s.streams {
			errs = append(errs, l.Close())
		}
	}
	if s.services != nil {
		s.services.Close()
	}
	s.wg.Wait()
	return errors.Join(errs...)
}

// Flush drops every answer made: call it when the virtual addresses changed.
func (s *Server) Flush() { s.flushes.Add(1) }

func (s *Server) generation() uint64 { return s.flushes.Load()<<32 + s.names.generation.Load() }

// Answer answers a query like one that arrived over TCP, however long. It is nil
// for what deserves no answer.
func (s *Server) Answer(ctx context.Context, query []byte) []byte {
	q, err := message.Parse(query)
	if b, done := s.refuse(nil, query, q, err); done {
		return b
	}
	if b := s.prepared(nil, query, q, make([]byte, 0, 260), message.MaxSize); b != nil {
		return b
	}
	return s.compose(ctx, query, q, message.MaxSize)
}

// refuse answers, or drops with nil, what is not a question for the code behind
// it. done says that the query is dealt with.
func (s *Server) refuse(b, query []byte, q message.Query, err error) (_ []byte, done bool) {
	rcode, why := 0, message.Error{}
	switch {
	case errors.Is(err, message.ErrShort), errors.Is(err, message.ErrResponse):
		s.stats.malformed.Add(1)
		return nil, true
	case q.Opcode() != dns.OpcodeQuery:
		rcode = message.NotImplemented
	case err != nil:
		s.stats.malformed.Add(1)
		rcode = message.FormatError
	case q.Version != 0:
		rcode = message.BadVersion // RFC 6891 §6.1.3
	case q.Class != dns.ClassINET:
		rcode, why = message.Refused, message.Error{Code: edeNotSupported, Text: "only class IN"}
	case q.Type == dns.TypeOPT || q.Type == 0:
		rcode = message.FormatError
	case q.Type >= 249 && q.Type <= 254: // TKEY, TSIG, IXFR, AXFR, MAILB, MAILA
		rcode, why = message.Refused, message.Error{Code: edeNotSupported, Text: "no transfers here"}
	default:
		return nil, false
	}
	s.stats.refused.Add(1)
	return message.AppendReply(b, query, q, 0, rcode, why), true
}

// edeNotSupported is RFC 8914 §4.22, Not Supported.
const edeNotSupported = 21

// prepared appends the kept answer to the question to b, or returns nil. It
// allocates nothing when b has room. key is scratch space.
func (s *Server) prepared(b, query []byte, q message.Query, key []byte, limit int) []byte {
	key = appendKey(key[:0], q)
	p, renew := s.answers.get(key, s.generation(), s.cfg.Clock())
	if p == nil {
		return nil
	}
	s.stats.hits.Add(1)
	if renew {
		s.renew(p, query)
	}
	return message.AppendAnswer(b, p.response, query, q, p.ede, limit)
}

// renew makes a stale answer anew behind the client's back, if there is capacity.
func (s *Server) renew(p *prepared, query []byte) {
	query = append([]byte(nil), query...)
	if !s.spawn(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeout)
		defer cancel()
		q, _ := message.Parse(query) // parsed before
		s.compose(ctx, query, q, message.MaxSize)
		p.renewing.Store(false) // only matters if it was not replaced
	}) {
		p.renewing.Store(false)
	}
}

// spawn runs f unless MaxQueries are under way or the Server is closed.
func (s *Server) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.queries.TryAcquire(1) {
		return false
	}
	s.wg.Go(func() { // bounded by the query's timeout
		defer s.queries.Release(1)
		f()
	})
	return true
}

// compose answers a query that refuse let pass, keeps the answer if it is ours, and
// returns it at most limit bytes long.
func (s *Server) compose(ctx context.Context, query []byte, q message.Query, limit int) []byte {
	generation := s.generation() // before looking: a change meanwhile voids the answer
	text, _, err := dns.UnpackDomainName(message.AppendLower(nil, q.Name), 0)
	if err != nil {
		s.stats.malformed.Add(1)
		return message.AppendReply(nil, query, q, 0, message.FormatError, message.Error{})
	}
	o := s.own(ctx, question{name: text, labels: wireLabels(q.Name), typ: q.Type})
	if o.forward {
		s.answers.drop(appendKey(nil, q))
		return s.forward(ctx, query, q, limit)
	}
	s.stats.overlay.Add(1)
	switch o.msg.Rcode {
	case dns.RcodeNameError:
		s.stats.nxdomain.Add(1)
	case dns.RcodeServerFailure:
		s.stats.servfail.Add(1)
	}
	packed, err := o.msg.Pack()
	if err != nil || len(packed) < q.End {
		s.cfg.Logger.Error("answer cannot be packed", "name", text, "err", err)
		return message.AppendReply(nil, query, q, 0, message.ServerFailure, message.Error{})
	}
	if o.fresh+o.stale > 0 {
		now := s.cfg.Clock().UnixNano()
		fresh := now + int64(o.fresh)
		s.answers.put(appendKey(nil, q), &prepared{
			response: packed, ede: o.ede, generation: generation, fresh: fresh, stale: fresh + int64(o.stale),
		})
	}
	return message.AppendAnswer(nil, packed, query, q, o.ede, limit)
}

// forward hands a query to the host's own servers.
func (s *Server) forward(ctx context.Context, query []byte, q message.Query, limit int) []byte {
	s.stats.forwarded.Add(1)
	fail := func(code uint16, why string) []byte {
		s.stats.servfail.Add(1)
		return message.AppendReply(nil, query, q, 0, message.ServerFailure, message.Error{Code: code, Text: why})
	}
	if s.upstream.Asked(query) {
		s.stats.loops.Add(1)
		return fail(edeOther, "loop: this server is its own upstream")
	}
	b, err := s.upstream.Exchange(ctx, query)
	switch {
	case err != nil:
		return fail(edeUnreachable, clip(err.Error(), 150))
	case len(b) < q.End:
		return fail(edeNetwork, "upstream answered with less than the question")
	}
	return message.Truncate(b, query, q, limit)
}

// find returns the fetch function of the services' cache.
func (s *Server) find(services Services) func(context.Context, identity.ServiceID, serviceFinding, bool) (serviceFinding, time.Duration, time.Duration) {
	return func(ctx context.Context, id identity.ServiceID, old serviceFinding, had bool) (serviceFinding, time.Duration, time.Duration) {
		service, err := services.Lookup(ctx, id)
		switch {
		case err == nil:
			return serviceFinding{service: service}, s.cfg.Fresh, s.cfg.Stale
		case errors.Is(err, ErrNoService):
			return serviceFinding{err: err}, time.Second, 0
		case had && old.err == nil:
			return old, time.Second, s.cfg.Stale // it was there; whoever dials finds out
		}
		return serviceFinding{err: err}, time.Second, 0
	}
}

// lookup returns what is known of the service's record.
func (s *Server) lookup(ctx context.Context, id identity.ServiceID) (Service, error) {
	f, ok := s.services.Get(ctx, id)
	switch {
	case ok:
		return f.service, f.err
	case ctx.Err() != nil:
		return Service{}, ctx.Err()
	}
	return Service{}, ErrBusy
}

// remember keeps the name for PTR.
func (s *Server) remember(r Resolution, zone string) {
	if r.Name == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.hosts[r.Service]
	if old.name == r.Name && old.zone == s.names.Zone() {
		return // the one people know it by
	}
	if !ok && len(s.hosts) >= maxHosts {
		for id := range s.hosts { // any one: it then goes by its ID
			delete(s.hosts, id)
			break
		}
	}
	s.hosts[r.Service] = host{name: r.Name, zone: zone}
}

// hostName returns the host name of a service for PTR, without final dot.
func (s *Server) hostName(id identity.ServiceID) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := s.hosts[id]; ok {
		return string(h.name) + "." + h.zone
	}
	return id.String() + "." + s.names.Zone()
}
