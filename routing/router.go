package routing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"golang.org/x/sync/errgroup"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
	"scn.alt/scn/routing/record"
)

// Errors of the Router, besides those of the records' Open functions.
var (
	// ErrNotFound is returned when nodes were asked and none had a valid record.
	ErrNotFound = errors.New("routing: not found")
	// ErrTimeout is returned when a lookup ended before the network answered. It
	// says nothing about the record.
	ErrTimeout = errors.New("routing: no answer in time")
	// ErrNoPeers is returned when no DHT peer is known. What was published is kept,
	// and put as soon as there is one.
	ErrNoPeers = errors.New("routing: no DHT peers")
	// ErrNotStored is returned when no peer acknowledged a record. It is kept, and
	// tried again.
	ErrNotStored = errors.New("routing: record not stored by any peer")
	// ErrNoAddress is returned when a node has no address it could be reached at.
	ErrNoAddress = errors.New("routing: no usable address")
	// ErrBusy is returned when too many lookups are running.
	ErrBusy = errors.New("routing: too many lookups")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("routing: closed")
)

// maxRecordAge is how long a DHT node holds a record, whatever it says itself: as
// long as the longest-lived kind is valid, so that an older version cannot take its
// place before it ends.
const maxRecordAge = record.ServiceValidity + 24*time.Hour

// Router finds nodes, services and names in the network's DHT and publishes those
// of this node. All methods may be called concurrently, and before Run; without
// Run nothing is put anew and no way back is sought.
//
// Errors are ErrNotFound, ErrTimeout, ErrNoPeers, ErrNotStored, ErrNoAddress,
// ErrBusy, ErrClosed, those of record, name and network for what they refuse, and
// the context's.
type Router struct {
	// Constant after Open.
	cfg       Config
	log       *slog.Logger
	self      identity.NodeID
	host      *basichost.BasicHost
	swarm     *swarm.Swarm
	sockets   *quicreuse.ConnManager
	dht       *dht.IpfsDHT
	messenger *pb.ProtocolMessenger
	protocol  protocol.ID
	announce  event.Emitter
	// reachability tells the DHT whether to be a server.
	reachability event.Emitter
	values       *records.ValueStore
	store        *store
	validator    *validator
	cache        *cache
	sequence     *sequencer
	recent       *recentPeers
	gater        *gater
	reach        reach
	sources      *sources
	era          era

	life context.Context // ends with Close
	stop context.CancelFunc

	wake        chan struct{} // for keep
	rejoinNow   chan struct{} // for rejoin
	probeNow    chan struct{} // for rejoin
	networkNews chan struct{} // for tellNetwork

	// Atomic.
	file      atomic.Pointer[network.File]
	addresses atomic.Pointer[[]netip.AddrPort]
	// hostedAddresses are those of them at which the DHT can be reached.
	hostedAddresses atomic.Pointer[[]netip.AddrPort]
	relays          atomic.Pointer[[]identity.NodeID]
	client          atomic.Bool // of the DHT, because nobody can reach this node
	counters        counters

	adopting sync.Mutex // one network file after the other
	signing  sync.Mutex // one node record after the other, so that sequence and addresses agree

	mu       sync.Mutex // guards below
	closed   bool
	tasks    sync.WaitGroup       // Add under mu while not closed
	flights  map[string][]*flight // by key, the newest last
	flying   int
	kept     map[string]*kept
	schedule agenda
	turns    map[identity.ServiceID]chan struct{}
}

// Open binds the DHT's UDP port and starts the DHT. Records kept in StateDir are
// taken up again. The caller runs Run and ends with Close.
func Open(cfg Config) (_ *Router, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	cfg.Listen = netip.AddrPortFrom(cfg.Listen.Addr().Unmap(), cfg.Listen.Port())
	r := &Router{
		cfg: cfg, log: cfg.Logger, self: cfg.Key.Node(),
		wake: make(chan struct{}, 1), rejoinNow: make(chan struct{}, 1), probeNow: make(chan struct{}, 1), networkNews: make(chan struct{}, 1),
		flights: map[string][]*flight{}, kept: map[string]*kept{}, turns: map[identity.ServiceID]chan struct{}{},
	}
	r.sources = newSources()
	r.life, r.stop = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	file := cfg.Network
	r.file.Store(&file)
	r.reach = reach{loopback: cfg.AllowLoopback, exclude: cfg.Exclude, containers: containerNetworks()}
	r.gater = &gater{
		admits: func(n identity.NodeID) bool { return r.file.Load().Admits(n) },
		reach:  r.reach,
	}
	if r.sequence, err = openSequencer(cfg.StateDir); err != nil {
		r.log.Warn("sequence numbers start from the clock", "err", err)
	}
	if r.recent, err = openRecent(cfg.StateDir); err != nil {
		r.log.Warn("recent peers forgotten", "err", err)
	}
	if r.validator, err = newValidator(cfg.Clock, r.Network); err != nil {
		return nil, err
	}
	if r.cache, err = newCache(cfg.CacheSize); err != nil {
		return nil, err
	}
	if err := r.openDHT(); err != nil {
		return nil, err
	}
	if err := r.loadServices(); err != nil {
		return nil, fmt.Errorf("load service records: %w", err)
	}
	if r.isListed(file) {
		o, err := r.validator.open(networkKey(file.ID), file.Bytes())
		if err != nil {
			return nil, err
		}
		r.hold(networkKey(file.ID), file.Bytes(), o, identity.PrivateKey{}, time.Now())
	}
	return r, nil
}

// openDHT makes the libp2p host and the DHT on it.
func (r *Router) openDHT() (err error) {
	if r.host, r.sockets, err = newHost(r.cfg, r.gater, &roaming{era: &r.era, sources: r.sources}, r.dhtAddresses); err != nil {
		return err
	}
	r.swarm = r.host.Network().(*swarm.Swarm)
	if r.announce, err = r.host.EventBus().Emitter(new(event.EvtLocalAddressesUpdated)); err != nil {
		return err
	}
	if r.reachability, err = r.host.EventBus().Emitter(new(event.EvtLocalReachabilityChanged)); err != nil {
		return err
	}
	r.host.Network().Notify(r.notifiee())
	r.store = newStore(string(r.host.ID()), r.cfg.StoreSize, r.validator.open, r.heard)
	r.values = records.NewValueStore(r.store, r.validator, maxRecordAge)
	mode := dht.ModeAutoServer // ModeAuto stays a client until told otherwise, and finds nobody
	if r.cfg.Mobile {
		mode = dht.ModeClient
	}
	var requests *sender
	r.dht, err = dht.New(r.host,
		dht.ProtocolPrefix(protocol.ID("/scn/"+r.Network().ID.String())),
		dht.Mode(mode),
		dht.Validator(r.validator),
		dht.Datastore(r.store),
		dht.DisableProviders(),
		dht.MaxRecordAge(maxRecordAge),
		dht.ValueGCInterval(0), // the store drops what is expired by the records' own terms
		dht.BucketSize(replicas),
		dht.AddressFilter(r.gater.believed),
		dht.RoutingTableRefreshQueryTimeout(r.cfg.LookupTimeout),
		dht.WithCustomMessageSender(func(h host.Host, protocols []protocol.ID) pb.MessageSenderWithDisconnect {
			r.protocol = protocols[0]
			requests = &sender{host: h, protocols: protocols, timeout: r.cfg.RequestTimeout}
			return requests
		}),
	)
	if err != nil {
		return fmt.Errorf("start the DHT: %w", err)
	}
	r.messenger, err = pb.NewProtocolMessenger(requests)
	return err
}

// Run keeps the node in the network and its records in the DHT until ctx ends, and
// then returns nil.
func (r *Router) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()
	group, ctx := errgroup.WithContext(ctx)
	for _, task := range []func(context.Context) error{
		r.rejoin, r.keep, r.arrivals, r.watchNetwork, r.tellNetwork, r.tidy,
	} {
		group.Go(func() error { return task(ctx) })
	}
	return group.Wait()
}

// tidy drops expired records and writes down the peers seen, now and then.
func (r *Router) tidy(ctx context.Context) error {
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.store.sweep(r.cfg.Clock())
			r.rememberPeers()
			r.savePeers()
		case <-ctx.Done():
			return nil
		}
	}
}

// Close leaves the network and waits for everything the Router started. It is
// idempotent.
func (r *Router) Close() error {
	r.mu.Lock()
	closed := r.closed
	r.closed = true
	r.mu.Unlock()
	if closed {
		return nil
	}
	var errs []error
	if r.dht != nil {
		r.rememberPeers()
		errs = append(errs, r.recent.save())
	}
	r.stop()
	r.tasks.Wait()
	if r.dht != nil {
		errs = append(errs, r.dht.Close())
	}
	for _, e := range []event.Emitter{r.announce, r.reachability} {
		if e != nil {
			errs = append(errs, e.Close())
		}
	}
	if r.host != nil {
		errs = append(errs, r.host.Close(), r.sockets.Close())
	}
	return errors.Join(errs...)
}

// spawn runs a task that Close ends and waits for. After Close it does nothing.
func (r *Router) spawn(task func(context.Context)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.tasks.Go(func() { task(r.life) })
	}
}
