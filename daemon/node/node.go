package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/meter"
	"scn.alt/scn/daemon/access"
	"scn.alt/scn/daemon/verdict"
	"scn.alt/scn/naming"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing"
	"scn.alt/scn/routing/delegate"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal"
	"scn.alt/scn/sal/portmap"
	"scn.alt/scn/sal/tunnel"
)

// Node is a running node. Its methods return the errors of the layers below, which
// answer errors.Is for those of the standard library (syscall.ECONNREFUSED,
// syscall.EHOSTUNREACH, syscall.EACCES, os.ErrDeadlineExceeded, net.ErrClosed), and
// those of this package about names and services.
type Node struct {
	// constant after Open
	cfg     Config
	dir     Directory
	lock    *os.File
	key     identity.PrivateKey
	account identity.AccountID
	hello   identity.PrivateKey // the account's first key, by which peers know it
	signing identity.PrivateKey // signs for the account, at the start
	log     *slog.Logger
	sal     *sal.Node
	router  *routing.Router
	records *delegate.Server
	names   *naming.Names
	ledger  *cashier.Ledger // nil unless this node is the authority
	client  *cashier.Client // nil on the authority
	books   ledgerAPI       // whichever of the two there is
	wallet  *cashier.Wallet
	meter   *meter.Meter
	rules   *Rulebook
	gate    *verdict.Gate
	// newRules tells that the rules have changed. Its capacity is one.
	newRules chan struct{}

	pay        payment     // what pays, earns and keeps the usage
	inspection *inspection // what visits providers
	scores     scoreCache

	accounts   accountTable // which accounts the peers have proved
	admissions admissions   // what the rules said

	ports        *portmap.Mapper // nil unless a router is asked
	lastOwn      atomic.Pointer[[]netip.AddrPort]
	tunnels      *tunnels
	tunnelServer *tunnel.Server // nil unless this node takes tunnels
	tunnelFault  string         // why it does not, though it should

	clock     atomic.Pointer[sal.Node] // knows the peers' time and place; nil before it is up
	network   atomic.Pointer[network.File]
	networkMu sync.Mutex // one change of the network file at a time
	// tasks are goroutines of calls under way; Close waits for them.
	tasks sync.WaitGroup
	once  sync.Once

	servicesMu sync.Mutex // one change of the services at a time
	pending    pendingNames
	held       heldNames
	keysMu     sync.Mutex // one change of the account's keys at a time

	mu       sync.RWMutex // guards services
	services map[identity.ServiceID]*served
}

// Open starts the node of a directory. It returns when the ports are bound and the
// services of the last run are served again; Run does the rest.
func Open(cfg Config) (_ *Node, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.Logger, services: map[identity.ServiceID]*served{}, newRules: make(chan struct{}, 1)}
	if n.dir, err = OpenDirectory(cfg.Dir); err != nil {
		return nil, err
	}
	if err := n.load(); err != nil {
		return nil, err
	}
	if n.lock, err = n.dir.Lock(); err != nil {
		return nil, err
	}
	if err := n.open(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// load reads and verifies everything the directory says.
func (n *Node) load() error {
	var errs []error
	var err error
	if n.key, err = n.dir.NodeKey(); err != nil {
		errs = append(errs, err)
	}
	if n.account, n.signing, err = n.dir.accountIdentity(); err != nil {
		errs = append(errs, err)
	}
	if n.hello, err = n.dir.AccountKey(); err != nil {
		errs = append(errs, err)
	}
	file, _, err := n.dir.Network()
	if err != nil {
		errs = append(errs, err)
	}
	n.network.Store(&file)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	n.cfg.Verdict.Clock, n.cfg.Verdict.Logger = n.Now, n.log.With("layer", "verdict")
	if n.gate, err = verdict.New(n.cfg.Verdict); err != nil {
		return err
	}
	n.rules = newRulebook(n.dir, n.ID(), n.Now, n.rulesChanged)
	return nil
}

// open starts the layers, lowest first.
func (n *Node) open() error {
	if err := os.MkdirAll(n.dir.StateDir(), 0o700); err != nil {
		return err
	}
	err := n.dir.rememberNetwork(n.Network().Bytes())
	if err != nil {
		return err
	}
	if err := n.rules.Reload(); err != nil {
		return err
	}
	if err := n.rules.Faults(); err != nil {
		n.log.Warn("groups not to be believed", "err", err)
	}
	n.router, err = routing.Open(routing.Config{
		Key: n.key, Network: n.Network(), Listen: n.cfg.Listen, Mobile: n.cfg.Mobile, Region: n.cfg.Region, Advertise: n.cfg.Advertise,
		StateDir: n.dir.StateDir(), Exclude: n.cfg.ExcludeAddress, AllowLoopback: n.cfg.AllowLoopback,
		NetworkChanged: n.adopt, Neighbours: n.neighbours, Delegate: recordDelegate{n}, Clock: n.Now, Logger: n.log.With("layer", "routing"),
	})
	if err != nil {
		return fmt.Errorf("routing: %w", explainBind(err, n.cfg.Listen))
	}
	if err := n.openRecords(); err != nil {
		return err
	}
	if n.names, err = naming.OpenNames(registry{n}, n.namesConfig()); err != nil {
		return err
	}
	hello, err := access.Hello(n.hello, n.ID())
	if err != nil {
		return err
	}
	if err := n.openPorts(); err != nil {
		return err
	}
	n.tunnels = &tunnels{n: n, state: blockage{blind: time.Now()}}
	if err := n.openPayment(); err != nil {
		return fmt.Errorf("paying: %w", err)
	}
	if err := n.openMeter(); err != nil {
		return fmt.Errorf("metering: %w", err)
	}
	n.pay.purse.SetMeter(n.meter)
	n.pay.till.SetMeter(n.meter)
	if err := n.openInspection(); err != nil {
		return err
	}
	n.sal, err = sal.Open(sal.Config{
		Key: n.key, Network: n.Network().ID, Listen: n.cfg.Listen, Advertise: n.cfg.Advertise,
		Resolver: resolver{n.router, n.tunnels}, Authorizer: n.authorize, Admit: n.admit, LocatorsChanged: n.locatorsChanged,
		IgnoreInterface: n.cfg.IgnoreInterface, AllowLoopback: n.cfg.AllowLoopback,
		Relay: n.cfg.Relay, BootstrapRelays: n.bootstrapRelays, RelaysChanged: n.router.ObserveRelays,
		LinkPolicy: n.cfg.LinkPolicy, Duplicate: n.cfg.Duplicate,
		Resumed: n.resumed, Meter: sessionMeter{n.meter}, Policy: n.order,
		MemoryBudget: n.cfg.MemoryBudget, Hello: hello, Logger: n.log.With("layer", "sal"),
	})
	if err != nil {
		return fmt.Errorf("sessions: %w", explainBind(err, n.cfg.Listen))
	}
	n.clock.Store(n.sal)
	n.openTunnelServer()
	if err := n.openLedger(); err != nil {
		return err
	}
	if err := n.openPending(); err != nil {
		return err
	}
	return n.resumeServices()
}

func (n *Node) namesConfig() naming.NamesConfig {
	c := naming.NamesConfig{
		Zone: n.Network().Zone, Petnames: n.cfg.Petnames,
		SeenFile: filepath.Join(n.dir.StateDir(), "seen-names"),
		Clock:    n.Now, Logger: n.log.With("layer", "naming"),
	}
	if n.cfg.FailUnknown {
		c.WhenUnknown = naming.Fail
	}
	return c
}

// Run keeps the node in the network until ctx ends; nil after a clean stop.
func (n *Node) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.router.Run(ctx) })
	group.Go(func() error { return n.maintain(ctx) })
	group.Go(func() error { return n.registerPending(ctx) })
	group.Go(func() error { return n.watchNAT(ctx) })
	group.Go(func() error { return n.serveRecords(ctx) })
	group.Go(func() error { return n.watchGroups(ctx) })
	group.Go(func() error { return n.tunnels.run(ctx) })
	group.Go(func() error { return n.runPayment(ctx) })
	group.Go(func() error { return n.runInspection(ctx) })
	if n.ports != nil {
		group.Go(func() error { return n.ports.Run(ctx) })
	}
	if n.tunnelServer != nil {
		group.Go(func() error { return n.serveTunnels(ctx) })
	}
	if n.ledger != nil {
		group.Go(func() error { return n.serveLedger(ctx) })
	}
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Close ends every session and leaves the network. It is idempotent and waits for
// everything the node started.
func (n *Node) Close() error {
	var errs []error
	n.once.Do(func() {
		if n.tunnelServer != nil {
			errs = append(errs, n.tunnelServer.Close())
		}
		if n.inspection != nil {
			errs = append(errs, n.inspection.close())
		}
		n.settleLast()
		if n.sal != nil {
			errs = append(errs, n.sal.Close())
		}
		if n.meter != nil {
			errs = append(errs, n.meter.Close())
		}
		if n.pay.usage != nil {
			errs = append(errs, n.pay.usage.Close())
		}
		errs = append(errs, n.gate.Close())
		n.stopServices()
		if n.client != nil {
			errs = append(errs, n.client.Close())
		}
		if n.names != nil {
			errs = append(errs, n.names.Close())
		}
		if n.ledger != nil {
			errs = append(errs, n.ledger.Close())
		}
		if n.router != nil {
			errs = append(errs, n.router.Close())
		}
		n.tasks.Wait()
		errs = append(errs, n.lock.Close())
	})
	return errors.Join(errs...)
}

// resumeServices serves again what the last run served.
func (n *Node) resumeServices() error {
	list, err := n.dir.loadServices()
	if err != nil {
		return err
	}
	older := false // a file of before there were rules
	for _, s := range list {
		if err := n.adoptAllow(s); err != nil {
			return fmt.Errorf("service %s: %w", s.Name, err)
		}
		older = older || len(s.Allow) > 0
		_, keyErr := n.dir.ServiceKey(string(s.Name))
		srv, err := n.newServed(s, keyErr == nil)
		if err != nil {
			return fmt.Errorf("service %s: %w", s.Name, err)
		}
		n.start(srv)
	}
	if older {
		return n.saveServices()
	}
	return nil
}

// adoptAllow makes rules of what an older services file says of who may use a
// service, unless it has rules already.
func (n *Node) adoptAllow(s Service) error {
	if _, known := n.rules.Book().Services[string(s.Name)]; known || len(s.Allow) == 0 {
		return nil
	}
	commit, err := n.allowRules(s)
	if err != nil {
		return err
	}
	return commit()
}

// ID returns the node's ID.
func (n *Node) ID() identity.NodeID { return n.key.Node() }

// Account returns the account that owns this node's names.
func (n *Node) Account() identity.AccountID { return n.account }

// Sessions returns the session layer.
func (n *Node) Sessions() *sal.Node { return n.sal }

// Router returns the routing layer.
func (n *Node) Router() *routing.Router { return n.router }

// Verdicts returns what holds sessions until somebody has decided.
func (n *Node) Verdicts() *verdict.Gate { return n.gate }

// Names returns the naming layer's rules.
func (n *Node) Names() *naming.Names { return n.names }

// ServiceFinder returns what finds services' records, for a DNS server.
func (n *Node) ServiceFinder() naming.Services { return serviceFinder{n} }

// Ledger returns the ledger, nil unless this node is the network's authority.
func (n *Node) Ledger() *cashier.Ledger { return n.ledger }

// Dial opens a session to a port of a service, given by name ("files.top",
// "files", "files.scn.alt", a petname) or by the text form of its ID.
func (n *Node) Dial(ctx context.Context, nameOrID string, port uint16) (*sal.Conn, error) {
	r, err := n.Resolve(ctx, nameOrID)
	if err != nil {
		return nil, err
	}
	return n.sal.Dial(ctx, r.Service, port)
}

// DialPacket opens a packet flow to a port of a service.
func (n *Node) DialPacket(ctx context.Context, nameOrID string, port uint16) (*sal.PacketConn, error) {
	r, err := n.Resolve(ctx, nameOrID)
	if err != nil {
		return nil, err
	}
	return n.sal.DialPacket(ctx, r.Service, port)
}

// Ping measures one round trip to the provider that sessions would use.
func (n *Node) Ping(ctx context.Context, nameOrID string) (time.Duration, identity.NodeID, error) {
	r, err := n.Resolve(ctx, nameOrID)
	if err != nil {
		return 0, identity.NodeID{}, err
	}
	return n.sal.Ping(ctx, r.Service)
}

// clockTrust is the offset above which peers' time is believed over the host's:
// a gateway without a battery clock starts years off; a few seconds do no harm.
const clockTrust = 2 * time.Minute

// Now is the host's time, corrected by what authenticated peers say when it is far
// off.
func (n *Node) Now() time.Time {
	t := time.Now()
	peers := n.clock.Load()
	if peers == nil {
		return t
	}
	if offset, samples := peers.ClockOffset(); samples > 0 && offset.Abs() > clockTrust {
		return t.Add(offset)
	}
	return t
}

// explainBind says what to do about a port in use.
func explainBind(err error, listen netip.AddrPort) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "listen" {
		return fmt.Errorf("%w: another program uses UDP port %d or %d: stop it, or set listen in the settings", err, listen.Port(), listen.Port()+1)
	}
	return err
}

// locatorsChanged is told where this node may be found now.
func (n *Node) locatorsChanged(locators []netip.AddrPort) {
	n.router.Observe(locators)
	n.tunnels.moved(locators)
	n.portsMoved(locators)
	n.inspectorMoved()
}

// resumed is told that the host woke up: the network may be another one, and what
// TCP still holds for alive is gone.
func (n *Node) resumed(time.Duration) {
	n.router.Kick()
	n.tunnels.kick()
	if n.ports != nil {
		n.ports.Kick()
	}
}

// neighbours are the peers with whom there are sessions, where they are now.
func (n *Node) neighbours() []record.Candidate {
	sessions := n.clock.Load()
	if sessions == nil {
		return nil
	}
	var out []record.Candidate
	for _, p := range sessions.Peers() {
		if p.Remote.IsValid() && p.Relay.IsZero() {
			out = append(out, record.Candidate{Node: p.Node, Locators: []netip.AddrPort{p.Remote}})
		}
	}
	return out
}

// keepName has routing keep a signed name record alive.
func (n *Node) keepName(nm name.Name, raw []byte) {
	n.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if _, err := n.router.PublishName(ctx, nm, raw); err != nil {
			n.log.Debug("name record not yet stored by others", "name", string(nm), "err", err)
		}
	})
}

// ignoreUnstored passes the errors that need the caller; a record that nobody else
// stores yet is kept and tried again by routing.
func ignoreUnstored(err error) error {
	if errors.Is(err, routing.ErrNoPeers) || errors.Is(err, routing.ErrNotStored) || errors.Is(err, routing.ErrTimeout) {
		return nil
	}
	return err
}

// WaitJoined waits until the node knows a DHT peer, or reaches a relay through TCP,
// or ctx ends, and reports whether it does. The network's first node has nobody to wait for until others join.
func (n *Node) WaitJoined(ctx context.Context) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n.router.Status().Peers == 0 && n.sal.Ways().Tunnelled == 0 {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}
