package underlay

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/path"
	"scn.alt/scn/sal/relay"
)

// Errors of Socket and Association.
var (
	// ErrClosed is returned once the socket or the association is closed. It is
	// net.ErrClosed too.
	ErrClosed error = closedError{}
	// ErrBound is returned by a second Bind of one association.
	ErrBound = errors.New("underlay: already bound")
	// ErrUnanswered is returned by Bind before the peer's first packet.
	ErrUnanswered = errors.New("underlay: no packet of the peer yet")
	// ErrCapacity is returned when Config.MaxAssociations peers exist.
	ErrCapacity = errors.New("underlay: too many associations")
)

type closedError struct{}

func (closedError) Error() string        { return "underlay: closed" }
func (closedError) Is(target error) bool { return target == net.ErrClosed }

// Socket is one UDP port that hides moves from QUIC. Give it to a quic.Transport
// as Conn, and its ConnectionIDGenerator beside it. All methods may be called
// concurrently, but only one goroutine may read (quic-go's does).
type Socket struct {
	// Constant after Open.
	cfg      Config
	conn     *net.UDPConn
	raw      syscall.RawConn
	v6       bool
	port     uint16
	local    *net.UDPAddr
	ids      connectionIDs
	start    time.Time
	table    *table
	receiver *receiver // owned by the reading goroutine
	watch    *watcher
	// forwarder is nil unless this node is a relay.
	forwarder *forwarder

	ways    relayWays
	homes   atomic.Pointer[[]identity.NodeID]
	tunnels atomic.Pointer[[]netip.AddrPort]
	mapped  atomic.Pointer[[]netip.AddrPort]
	outside atomic.Pointer[outsideAddresses] // never nil
	wrapped sync.Pool                        // of *wrapBuffer

	pool       sync.Pool // of *outgoing
	buffers    sync.Pool // of *pathBuffer
	fragmentID atomic.Uint32
	narrow     narrowTable
	links      atomic.Pointer[hostLinks]
	policy     atomic.Pointer[func(string) LinkPolicy]
	duplicate  atomic.Bool
	metered    atomic.Bool // some peer is reached over a metered link alone
	meters     linkMeters
	metrics    counters
	closed     atomic.Bool
	told       atomic.Int32 // of what relays said or sent back, waiting to be told

	events  chan event // from the data path to the engine
	inbox   inbox
	notices notices
	stopped chan struct{} // the engine ended
	cancel  context.CancelFunc
	wg      sync.WaitGroup // engine, watcher (2), notices, wakeup
}

var _ quic.OOBCapablePacketConn = (*Socket)(nil)

// Open binds the port in the current network namespace and starts watching the
// namespace's addresses.
func Open(cfg Config) (*Socket, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	conn, v6, err := openUDP(cfg)
	if err != nil {
		return nil, err
	}
	s := &Socket{
		cfg: cfg, conn: conn, v6: v6,
		port:    uint16(conn.LocalAddr().(*net.UDPAddr).Port),
		ids:     newConnectionIDs(),
		start:   time.Now().Add(-time.Second), // so that 0 means never
		table:   newTable(),
		events:  make(chan event, eventQueue),
		stopped: make(chan struct{}),
	}
	if cfg.Relay != nil {
		if s.forwarder, err = newForwarder(s, *cfg.Relay); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	s.outside.Store(new(outsideAddresses))
	s.pool.New = newOutgoing
	s.wrapped.New = func() any { return new(wrapBuffer) }
	s.buffers.New = func() any { return new(pathBuffer) }
	s.narrow.seed = maphash.MakeSeed()
	s.inbox.wake = make(chan struct{}, 1)
	s.notices.wake = make(chan struct{}, 1)
	// A specific address keeps quic-go from asking for packet info and from
	// pinning what it then gets.
	s.local = madeUp(identity.NodeID{}, s.port)
	var seed [4]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s.fragmentID.Store(binary.BigEndian.Uint32(seed[:]))
	if s.raw, err = conn.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("underlay: open UDP socket: %w", err), conn.Close())
	}
	if err := s.attachSieve(); err != nil {
		cfg.Logger.Debug("what strangers ask to be forwarded is not dropped by the kernel", "err", err)
	}
	s.receiver = newReceiver(s)
	only := cfg.Listen.Addr().Unmap()
	if only.IsUnspecified() {
		only = netip.Addr{}
	}
	s.policy.Store(&cfg.LinkPolicy)
	s.duplicate.Store(cfg.Duplicate)
	s.watch = &watcher{
		policy: s.policyOf, only: only, ignore: cfg.IgnoreInterface, loopback: cfg.AllowLoopback, v6: v6,
		changed: s.linksChanged, metrics: &s.metrics,
	}
	if err := s.watch.open(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s.links.Store(s.watch.last)
	s.run()
	return s, nil
}

// run starts the goroutines; Close ends them.
func (s *Socket) run() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	e := &engine{s: s, clock: suspendClock{read: s.cfg.clockOffset}}
	s.wg.Go(func() { e.run(ctx) })
	if w := openWakeup(); w != nil {
		s.wg.Go(func() { w.run(ctx, func() { s.call((*engine).lookAtClocks) }) })
	}
	s.wg.Go(func() { s.watch.run(ctx) })
	s.wg.Go(func() { s.watch.listen(ctx) })
	s.wg.Go(func() { s.notices.run(ctx) })
	s.announce()
	// An address may have changed between the reading and the subscription.
	s.watch.refresh()
}

// Close closes the socket, ends all associations without telling their peers,
// and waits until no callback runs any more. It is idempotent.
func (s *Socket) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		return nil
	}
	s.cancel()
	err := s.conn.Close()
	s.watch.events.Close()
	s.wg.Wait()
	s.watch.close()
	return err
}

// now is the time since a second before Open: a small number that is never 0.
func (s *Socket) now() int64 { return int64(time.Since(s.start)) }

// time turns what now returned into a time; 0 into the zero time.
func (s *Socket) time(now int64) time.Time {
	if now == 0 {
		return time.Time{}
	}
	return s.start.Add(time.Duration(now))
}

// Port returns the UDP port.
func (s *Socket) Port() uint16 { return s.port }

// ConnectionIDGenerator returns what must be the ConnectionIDGenerator of the
// quic.Transport: packets are told apart by it.
func (s *Socket) ConnectionIDGenerator() quic.ConnectionIDGenerator { return s.ids }

// Locators returns the addresses at which this host may be found: those of the
// configuration, those a router maps, those at which two independent peers see it, then the usable ones
// of its interfaces with the socket's port, the cheapest first. Those of metered
// interfaces are told only when they are needed.
func (s *Socket) Locators() []netip.AddrPort {
	return s.locators(s.outside.Load().published)
}

// advertised is what peers are told: also what only one peer sees.
func (s *Socket) advertised() []netip.AddrPort {
	o := s.outside.Load()
	return s.locators(slices.Concat(o.published, o.told))
}

func (s *Socket) locators(outside []netip.AddrPort) []netip.AddrPort {
	out := slices.Concat(s.cfg.Advertise, s.mappedAddresses(), outside)
	for _, l := range s.tellable() {
		out = append(out, netip.AddrPortFrom(l.Local, s.port))
	}
	var once []netip.AddrPort
	for _, a := range out {
		if !slices.Contains(once, a) {
			once = append(once, a)
		}
	}
	return once
}

// tellable returns the links whose addresses may be told.
func (s *Socket) tellable() []path.Link {
	host, needed := s.links.Load(), s.metered.Load()
	var out []path.Link
	for n, l := range host.links {
		if needed || !host.withheld(n) {
			out = append(out, l)
		}
	}
	return out
}

// Kick makes every association probe all its paths now: the host resumed, or the
// network changed in a way the kernel did not tell.
func (s *Socket) Kick() {
	s.watch.refresh()
	s.call(func(e *engine) { e.resumed() })
}

func (s *Socket) interfaceMTU(index int) int {
	if index == 0 {
		return 0
	}
	return s.links.Load().mtu[index]
}

// linksChanged publishes this host's addresses. It runs on the watcher's goroutine.
func (s *Socket) linksChanged(l *hostLinks, again bool) {
	s.watch.forgetRouters(l) // before anything is sent from the new addresses
	old := s.links.Swap(l)
	s.call(func(e *engine) { e.linksChanged(l, again) })
	s.meters.keep(func(index int) bool { _, ok := l.mtu[index]; return ok })
	if !slices.Equal(old.links, l.links) || !slices.Equal(old.costs, l.costs) {
		s.cfg.Logger.Info("host addresses changed", "links", len(l.links))
		s.announce()
	}
}

func (s *Socket) announce() {
	if f := s.cfg.LocatorsChanged; f != nil {
		s.notify(func() { f(s.Locators()) })
	}
}

// usableLocators returns the first addresses of a list at which packets can reach a
// node, relayed ones beside direct ones.
func (s *Socket) usableLocators(node identity.NodeID, locators []netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	direct, relayed := 0, 0
	for _, l := range locators {
		l = netip.AddrPortFrom(l.Addr().Unmap().WithZone(""), l.Port())
		count, limit := &direct, maxSpray
		if path.IsRelayed(l) {
			count, limit = &relayed, path.MaxRelays
		}
		if *count == limit || !s.usableLocator(node, l) || slices.Contains(out, l) {
			continue
		}
		*count++
		out = append(out, l)
	}
	return out
}

func (s *Socket) usableLocator(node identity.NodeID, l netip.AddrPort) bool {
	ip := l.Addr()
	switch {
	case !ip.IsValid(), l.Port() == 0, ip.IsUnspecified(), ip.IsMulticast(), isMadeUp(strangerAddr(l)):
		return false
	case path.IsRelayed(l):
		_, peer := path.RelayPrefix(l)
		return peer == relay.Prefix(node[:8])
	case ip.Is6() && !s.v6:
		return false
	}
	return s.allowed(l)
}

// allowed reports whether packets may go to an address: to loopback only where a
// tunnel ends, or for tests. A peer has no business with what listens there.
func (s *Socket) allowed(remote netip.AddrPort) bool {
	return !remote.Addr().IsLoopback() || s.cfg.AllowLoopback || s.isTunnel(remote)
}

// SetTunnels gives the whole list of local addresses at which a tunnel through TCP
// to some node begins. Only these loopback addresses are taken as locators, and a
// path over one is marked.
func (s *Socket) SetTunnels(ends []netip.AddrPort) {
	ends = slices.Clone(ends)
	s.tunnels.Store(&ends)
}

func (s *Socket) isTunnel(a netip.AddrPort) bool {
	p := s.tunnels.Load()
	return p != nil && slices.Contains(*p, a)
}

// tunnelled reports whether what is sent to an address goes through a tunnel; at the
// far end of one the peer's packets come from loopback.
func (s *Socket) tunnelled(remote netip.AddrPort) bool {
	return remote.Addr().IsLoopback() && (!s.cfg.AllowLoopback || s.isTunnel(remote))
}

// relayOf returns the relay of a route, as far as its ID is known here.
func (s *Socket) relayOf(r *route) (relay identity.NodeID) {
	if !r.relayed {
		return identity.NodeID{}
	}
	if way := s.ways.by(r.relay); way != nil {
		return way.a.node
	}
	copy(relay[:], r.relay[:])
	return relay
}

// Dial makes the association of a connection about to be dialled to its Addr.
// The locators are tried in order with a stagger, at most 8; path.RelayRemote of
// relays at which this node is registered may be among them, of which the first is
// tried at once, beside the first of the others. More may come by SetLocators. It
// sends nothing itself.
func (s *Socket) Dial(node identity.NodeID, locators []netip.AddrPort) (*Association, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	a := &Association{s: s, node: node, client: true, locators: s.usableLocators(node, locators)}
	a.spray.replace(s, a.locators)
	if s.table.enter(a, s.cfg.MaxAssociations) == 0 {
		return nil, ErrCapacity
	}
	return a, nil
}

// Accepted makes the association of a connection that quic-go accepted; stranger
// is its RemoteAddr. Call it once the handshake is done, then Bind.
func (s *Socket) Accepted(stranger net.Addr, node identity.NodeID) (*Association, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	u, ok := stranger.(*net.UDPAddr)
	if !ok {
		return nil, fmt.Errorf("underlay: accepted from a %T", stranger)
	}
	remote, ok := realAddr(u)
	if !ok {
		return nil, fmt.Errorf("underlay: accepted from %s, which is no stranger", stranger)
	}
	a := s.table.accept(remote)
	if a == nil {
		// Forgotten in a flood of handshakes: the kernel chooses the source until
		// the path machine knows better.
		link, _ := s.firstLink(remote)
		a = s.newStranger(&arrival{from: remote, link: link, now: s.now()})
		s.table.prove(a, remote)
	}
	a.node = node
	if s.table.enter(a, s.cfg.MaxAssociations) == 0 {
		s.table.forget(a)
		return nil, ErrCapacity
	}
	return a, nil
}

// Bind starts the path machine, once the handshake is done on this side: from
// here on the association follows moves. secret is exported from the handshake
// (ExporterLabel, SecretSize); initiator is whether this side dialled. On the
// accepting side quic-go then moves the connection to Addr by itself.
func (a *Association) Bind(secret []byte, initiator bool) error {
	a.mu.Lock()
	again := a.binding
	a.binding = true
	remotes := slices.Clone(a.locators)
	a.mu.Unlock()
	switch {
	case a.dead.Load() || a.s.closed.Load():
		return ErrClosed
	case again:
		return ErrBound
	}
	r := a.route.Load()
	if r == nil {
		return ErrUnanswered
	}
	host := a.s.links.Load()
	cfg := path.Config{
		Initiator: initiator,
		Secret:    secret,
		Start:     time.Now(),
		First:     r.path,
		Links:     host.links,
		Costs:     host.costs,
		Locators:  a.s.advertised(),
		Relays:    a.s.homeRelays(),
		Remotes:   remotes,
	}
	if _, err := rand.Read(cfg.Seed[:]); err != nil {
		return err
	}
	var err error
	if failed := a.s.callWait(func(e *engine) {
		var m *path.Machine
		cfg.Scratch = &e.plain
		if m, err = path.New(cfg); err == nil {
			e.bind(a, m)
		}
	}); failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("bind %s: %w", a.node.Short(), err)
	}
	return nil
}

// Close forgets the association: nothing is sent to find the peer any more, and
// packets of it go up to quic-go as from a stranger for a while. Close the QUIC
// connection first. It is idempotent and does not wait.
func (a *Association) Close() error {
	if !a.dead.CompareAndSwap(false, true) {
		return nil
	}
	a.RevokeRelay()
	a.s.ways.remove(a)
	a.s.table.generation.Add(1)
	a.s.call(func(e *engine) { e.bury(a) })
	return nil
}

// LocalAddr returns a made-up address with the real port.
func (s *Socket) LocalAddr() net.Addr { return s.local }

// SyscallConn implements quic.OOBCapablePacketConn.
func (s *Socket) SyscallConn() (syscall.RawConn, error) { return s.conn.SyscallConn() }

// SetReadBuffer implements quic.OOBCapablePacketConn. It never makes the buffer
// smaller than the configuration says.
func (s *Socket) SetReadBuffer(n int) error { return s.conn.SetReadBuffer(max(n, s.cfg.ReceiveBuffer)) }

// SetWriteBuffer is SetReadBuffer for sending.
func (s *Socket) SetWriteBuffer(n int) error { return s.conn.SetWriteBuffer(max(n, s.cfg.SendBuffer)) }

// SetDeadline implements net.PacketConn.
func (s *Socket) SetDeadline(t time.Time) error { return s.conn.SetDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (s *Socket) SetReadDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn.
func (s *Socket) SetWriteDeadline(t time.Time) error { return s.conn.SetWriteDeadline(t) }
