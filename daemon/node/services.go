package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/daemon/access"
	"scn.alt/scn/daemon/health"
	"scn.alt/scn/naming"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal"
	"scn.alt/scn/tun/target"
)

// Service is one service this node provides, as it is asked for and kept over
// restarts.
type Service struct {
	Name name.Name          `json:"name"`
	ID   identity.ServiceID `json:"service_id"`
	// Targets are where its ports really listen.
	Targets []string `json:"targets"`
	// Allow lists who may use it on every port: "all", node IDs, account:ID or
	// group:NAME. It becomes the service's allow rules; deny rules stay. Empty: the
	// rules there are.
	Allow []string `json:"allow,omitempty"`
	// Priority and Weight are this node's among the providers (RFC 2782).
	Priority uint16 `json:"priority"`
	Weight   uint16 `json:"weight"`
	// ProxyProtocol tells the targets who called.
	ProxyProtocol bool `json:"proxy_protocol,omitempty"`
	// Check tells whether the targets work, as health.ParseCheck reads it; while they do
	// not, new sessions are refused. Default: they are taken to work.
	Check string `json:"check,omitempty"`
	// CheckInterval, CheckRise and CheckFall are of health.Config; "" and 0 its defaults.
	CheckInterval string `json:"check_interval,omitempty"`
	CheckRise     int    `json:"check_rise,omitempty"`
	CheckFall     int    `json:"check_fall,omitempty"`
	// Draining services take no new sessions.
	Draining bool `json:"draining,omitempty"`
}

// ServiceState is a Service and how it is doing.
type ServiceState struct {
	Service
	// Owned says that this node holds the service's key.
	Owned bool
	// State is "online", or what is still missing.
	State string
	// Sessions are open now.
	Sessions int64
	// Health is what its check found; nil without a check.
	Health *health.State
}

const online = "online"

// served is a running service.
type served struct {
	Service
	owned    bool
	targets  []target.Target
	provider *target.Provider
	checks   health.Config
	try      func(context.Context) error // nil without a check
	monitor  *health.Monitor             // of a started service with a check
	draining atomic.Bool
	entered  atomic.Int64 // sessions being opened, or open
	state    atomic.Pointer[string]
}

// newServed checks a service's texts, all faults at once.
func (n *Node) newServed(s Service, owned bool) (*served, error) {
	targets, err := target.ParseAll(s.Targets)
	errs := []error{err}
	s.Allow = nil // the rules file says it
	out := &served{Service: s, owned: owned, targets: targets}
	out.draining.Store(s.Draining)
	errs = append(errs, out.setCheck())
	if len(targets) > record.MaxPorts {
		errs = append(errs, fmt.Errorf("%d targets, at most %d", len(targets), record.MaxPorts))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	out.provider, err = target.New(targets, target.Config{
		ProxyProtocol: s.ProxyProtocol, Network: n.Network().ID, Logger: n.log.With("service", string(s.Name)),
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	out.set("starting")
	return out, nil
}

func (s *served) set(state string) { s.state.Store(&state) }

// ports are what the service's record says this node listens on.
func (s *served) ports() []record.Port { return portsOf(s.targets) }

func portsOf(targets []target.Target) []record.Port {
	out := make([]record.Port, 0, len(targets))
	for _, t := range targets {
		out = append(out, record.Port{Number: t.Port, Protocol: t.Protocol()})
	}
	return out
}

// handle serves the sessions of one service.
func (n *Node) handle(s *served) sal.Handler {
	return func(ctx context.Context, in *sal.Incoming) {
		if err := n.handleIncoming(ctx, s, in); err != nil {
			n.log.Debug("session ended", "service", string(s.Name), "peer", in.Peer.Short(), "err", err)
		}
	}
}

func (n *Node) handleIncoming(ctx context.Context, s *served, in *sal.Incoming) error {
	s.entered.Add(1) // before it looks whether the service drains: who drains it counts us
	defer s.entered.Add(-1)
	book := n.rules.Book()
	action, caller := n.admitIncoming(ctx, book, s, in)
	switch action {
	case access.Allow:
		n.admissions.allowed.Add(1)
		if err := s.unavailable(); err != nil {
			in.Reject(err)
			return err
		}
		return s.provider.Handle(ctx, n.incoming(book, in, in.Reject, func() {}))
	case access.Ask:
		n.admissions.asked.Add(1)
		return n.handleAsked(ctx, book, s, in, caller)
	case access.Deny:
		n.admissions.denied.Add(1)
	}
	in.Reject(fs.ErrPermission)
	return fs.ErrPermission
}

// incoming is what the target's side sees of a session; accepted is called when it
// was.
func (n *Node) incoming(book *access.Book, in *sal.Incoming, reject func(error), accepted func()) target.Incoming {
	return target.Incoming{
		Peer: in.Peer, Service: in.Service, Port: in.Port, Protocol: in.Protocol, Reject: reject,
		Accept: func() (net.Conn, error) {
			accepted()
			return stillAllowed(n, book, in, in.Accept)
		},
		AcceptPacket: func() (net.Conn, error) {
			accepted()
			return stillAllowed(n, book, in, in.AcceptPacket)
		},
	}
}

// stillAllowed accepts a session, and judges it once more if the rules are not those
// of the book any more: when they changed they have not seen it among the open ones.
func stillAllowed[C interface {
	net.Conn
	End(error)
}](n *Node, book *access.Book, in *sal.Incoming, accept func() (C, error)) (net.Conn, error) {
	c, err := accept()
	if err != nil {
		return nil, err
	}
	if n.rules.Book() == book {
		return c, nil
	}
	if err := n.judgeServed(in.Served()); err != nil {
		c.End(err)
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Serve provides a service from now on, over restarts too. The name is registered
// if it is free. A name of another owner can be served only with a grant in its
// service record.
func (n *Node) Serve(ctx context.Context, s Service) (ServiceState, error) {
	n.servicesMu.Lock()
	defer n.servicesMu.Unlock()
	key, owned, err := n.claim(ctx, s.Name)
	if err != nil {
		return ServiceState{}, err
	}
	s.ID = key.id
	srv, err := n.newServed(s, owned)
	if err != nil {
		key.undo()
		return ServiceState{}, err
	}
	rules, err := n.allowRules(s)
	if err != nil {
		key.undo()
		return ServiceState{}, err
	}
	var pending error
	if owned && !key.registered {
		err := n.register(ctx, s.Name, key.secret, 0)
		if err != nil && !errors.Is(err, ErrPending) { // served under its ID until it has its name
			key.undoIfRefused(err)
			return ServiceState{}, err
		}
		pending = err
	}
	if err := rules(); err != nil {
		return ServiceState{}, err
	}
	n.start(srv)
	if err := n.saveServices(); err != nil {
		return ServiceState{}, err
	}
	n.publishService(ctx, srv)
	if pending != nil {
		srv.set("waiting: " + pending.Error())
	}
	return n.stateOf(srv), nil
}

// claimed is the identity under which a name is going to be served.
type claimed struct {
	id         identity.ServiceID
	secret     identity.PrivateKey
	registered bool
	undo       func()
}

// undoIfRefused forgets a key made for a name that was refused. Where the ledger's
// answer was lost the name may point at the key by now: it stays for the next try.
func (c claimed) undoIfRefused(err error) {
	if refused(err) {
		c.undo()
	}
}

// refused reports whether the ledger has judged, and said no.
func refused(err error) bool {
	var rejection *cashier.Rejection
	if !errors.As(err, &rejection) {
		return errors.Is(err, ErrTaken)
	}
	switch rejection.Code {
	case cashier.OverCapacity, cashier.Unavailable, cashier.Internal:
		return false
	default:
		return true
	}
}

// claim finds out under which service ID this node may serve a name.
func (n *Node) claim(ctx context.Context, nm name.Name) (claimed, bool, error) {
	none := claimed{undo: func() {}}
	key, err := n.dir.ServiceKey(string(nm))
	mine := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return none, false, err
	}
	answer, lookupErr := n.askRegistry(ctx, nm)
	switch {
	case answer.State == naming.Registered && mine && answer.Record.Service == key.Service():
		return claimed{id: key.Service(), secret: key, registered: true, undo: func() {}}, true, nil
	case answer.State == naming.Registered && answer.Record.Owner != n.account:
		// Somebody else's: a grant is what it takes.
		rec, _, err := n.router.NewestService(ctx, answer.Record.Service)
		if err == nil {
			if _, ok := rec.Granted(n.ID()); ok {
				return claimed{id: answer.Record.Service, registered: true, undo: func() {}}, false, nil
			}
		}
		return none, false, fmt.Errorf("%w: %s is held by account %s for service %s; its owner can let this node provide it: scn service grant %s %s",
			ErrTaken, nm, answer.Record.Owner, answer.Record.Service, nm, n.ID())
	case mine:
		// Ours by key; registered to us for another service, free, or not to be asked now.
		return claimed{id: key.Service(), secret: key, undo: func() {}}, true, nil
	case answer.State == naming.Unknown:
		return none, false, fmt.Errorf("%w: cannot tell whether %s is free: %w", ErrUnknownName, nm, lookupErr)
	}
	if key, err = n.dir.MakeServiceKey(string(nm)); err != nil {
		return none, false, err
	}
	return claimed{id: key.Service(), secret: key, undo: func() { n.dir.removeServiceKey(string(nm)) }}, true, nil
}

// register makes the ledger point the name at the service, whose key consents, for a
// term, 0 for the usual one. Where that takes longer, it is a *PendingError.
func (n *Node) register(ctx context.Context, nm name.Name, key identity.PrivateKey, term time.Duration) error {
	rec, raw, err := n.ledgerRegister(ctx, nm, key, term)
	var rejection *cashier.Rejection
	if errors.As(err, &rejection) && rejection.Code == cashier.NameTaken {
		return fmt.Errorf("%w: %s is held by account %s for service %s", ErrTaken, nm, rejection.Owner, rejection.Service)
	}
	if err != nil {
		return fmt.Errorf("register %s: %w", nm, err)
	}
	n.names.Forget(nm)
	n.log.Info("name registered", "name", string(nm), "height", rec.Height)
	n.keepName(nm, raw)
	return nil
}

// start puts a service into the session layer, in place of an older one.
func (n *Node) start(srv *served) {
	n.watchHealth(srv)
	n.mu.Lock()
	old := n.services[srv.ID]
	n.services[srv.ID] = srv
	n.mu.Unlock()
	if old != nil {
		n.sal.Unhandle(srv.ID)
		old.stop()
	}
	n.sal.Handle(srv.ID, n.handle(srv))
}

// publishService brings the service's record up to date. Where nobody stores it
// yet, routing goes on trying.
func (n *Node) publishService(ctx context.Context, srv *served) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if !srv.owned {
		rec, raw, err := n.router.NewestService(ctx, srv.ID)
		if err != nil {
			srv.set("waiting: no record of the service found yet")
			return
		}
		if _, ok := rec.Granted(n.ID()); !ok {
			srv.set("waiting: the owner has granted this node nothing, or took it back")
			return
		}
		srv.set(online)
		_, _ = n.router.PublishService(ctx, srv.ID, raw) // kept and tried again by routing
		return
	}
	key, err := n.dir.ServiceKey(string(srv.Name))
	if err != nil {
		srv.set("stopped: " + err.Error())
		return
	}
	_, _, err = n.router.UpdateService(ctx, key, func(rec record.ServiceRecord, sequence uint64) record.ServiceRecord {
		rec = rec.Grant(record.Grant{Node: n.ID(), Priority: srv.Priority, Weight: srv.Weight}, sequence)
		rec.Ports = mergePorts(rec.Ports, srv.ports())
		return rec
	})
	if err != nil {
		n.log.Debug("service record not yet stored by others", "service", string(srv.Name), "err", err)
	}
	srv.set(online)
}

// mergePorts joins two port lists into one in ascending order, within the limit.
func mergePorts(a, b []record.Port) []record.Port {
	set := map[record.Port]bool{}
	for _, p := range append(slices.Clone(b), a...) {
		if len(set) < record.MaxPorts {
			set[p] = true
		}
	}
	return slices.SortedFunc(maps.Keys(set), func(x, y record.Port) int {
		if x.Number != y.Number {
			return int(x.Number) - int(y.Number)
		}
		return int(x.Protocol) - int(y.Protocol)
	})
}

// Unserve stops providing a service. Its name and key stay.
func (n *Node) Unserve(ctx context.Context, nm name.Name) error {
	n.servicesMu.Lock()
	defer n.servicesMu.Unlock()
	srv := n.findService(nm)
	if srv == nil {
		return fmt.Errorf("%s: %w", nm, ErrNotServed)
	}
	n.sal.Unhandle(srv.ID)
	n.mu.Lock()
	delete(n.services, srv.ID)
	n.mu.Unlock()
	srv.stop()
	if err := n.saveServices(); err != nil {
		return err
	}
	if !srv.owned {
		n.router.ForgetService(srv.ID)
		return nil
	}
	return n.changeGrants(ctx, nm, func(rec record.ServiceRecord, sequence uint64) record.ServiceRecord {
		return rec.Revoke(n.ID(), sequence)
	})
}

// Grant lets another node provide a service this node owns.
func (n *Node) Grant(ctx context.Context, nm name.Name, g record.Grant) error {
	return n.changeGrants(ctx, nm, func(rec record.ServiceRecord, sequence uint64) record.ServiceRecord {
		return rec.Grant(g, sequence)
	})
}

// Revoke takes a grant back.
func (n *Node) Revoke(ctx context.Context, nm name.Name, peer identity.NodeID) error {
	return n.changeGrants(ctx, nm, func(rec record.ServiceRecord, sequence uint64) record.ServiceRecord {
		return rec.Revoke(peer, sequence)
	})
}

func (n *Node) changeGrants(ctx context.Context, nm name.Name, change func(record.ServiceRecord, uint64) record.ServiceRecord) error {
	key, err := n.dir.ServiceKey(string(nm))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: run this on the node that served it first", nm, ErrNotOwned)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, _, err = n.router.UpdateService(ctx, key, change)
	return ignoreUnstored(err)
}

// Services lists what this node provides, by name.
func (n *Node) Services() []ServiceState {
	n.mu.RLock()
	defer n.mu.RUnlock()
	out := make([]ServiceState, 0, len(n.services))
	for _, srv := range n.services {
		out = append(out, n.stateOf(srv))
	}
	slices.SortFunc(out, func(a, b ServiceState) int { return compareNames(a.Name, b.Name) })
	return out
}

func (n *Node) stateOf(srv *served) ServiceState {
	s := srv.Service
	s.Allow = n.rules.Book().Services[string(s.Name)].Allowing()
	s.Draining = srv.draining.Load()
	out := ServiceState{Service: s, Owned: srv.owned, State: *srv.state.Load(), Sessions: srv.provider.Metrics().Active}
	if s.Draining {
		out.Sessions = srv.entered.Load()
	}
	if srv.monitor != nil {
		state := srv.monitor.State()
		out.Health = &state
	}
	return out
}

func (n *Node) findService(nm name.Name) *served {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, srv := range n.services {
		if srv.Name == nm {
			return srv
		}
	}
	return nil
}

// saveServices writes what is served, so that the next start serves it again.
func (n *Node) saveServices() error {
	n.mu.RLock()
	list := make([]Service, 0, len(n.services))
	for _, srv := range n.services {
		kept := srv.Service
		kept.Draining = srv.draining.Load()
		list = append(list, kept)
	}
	n.mu.RUnlock()
	slices.SortFunc(list, func(a, b Service) int { return compareNames(a.Name, b.Name) })
	b, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return n.dir.write(servicesFile, append(b, '\n'), 0o600)
}

// loadServices reads what was served before.
func (d Directory) loadServices() ([]Service, error) {
	b, err := readBounded(d.join(servicesFile), 16<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Service
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", d.join(servicesFile), err)
	}
	return list, nil
}

func compareNames(a, b name.Name) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
