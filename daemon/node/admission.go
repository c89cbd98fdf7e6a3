package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"scn.alt/scn/daemon/access"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal"
	"scn.alt/scn/tun/target"
)

// helloPatience is how long a session waits for the words in which its peer shows
// its account. They come with the handshake: whoever stays silent shows none.
const helloPatience = 3 * time.Second

// authorize is the session layer's question whether a peer may open a session. What
// depends on the peer's account is judged by the handler, which can wait for it.
func (n *Node) authorize(peer identity.NodeID, service identity.ServiceID, port uint16, protocol record.Protocol) error {
	s := n.servedBy(service)
	if s == nil {
		return nil // the node's own service, or one of Listen
	}
	book := n.rules.Book()
	if book.Services[string(s.Name)].NeedAccount() {
		return nil
	}
	action := n.judge(book, s, access.Request{Caller: access.Caller{Node: peer}, Port: port, Protocol: protocol})
	if action == access.Deny {
		n.admissions.denied.Add(1)
	}
	return refusal(action)
}

func (n *Node) servedBy(service identity.ServiceID) *served {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.services[service]
}

// judge asks the rules. This node itself may always.
func (n *Node) judge(book *access.Book, s *served, q access.Request) access.Action {
	if q.Caller.Node == n.ID() {
		return access.Allow
	}
	action, _ := book.Decide(string(s.Name), q, n.Now())
	return action
}

func refusal(a access.Action) error {
	if a == access.Deny {
		return fs.ErrPermission
	}
	return nil
}

// admitIncoming judges a session that somebody wants to open. The caller's account is
// filled in where it matters.
func (n *Node) admitIncoming(ctx context.Context, book *access.Book, s *served, in *sal.Incoming) (access.Action, access.Caller) {
	q := access.Request{Caller: access.Caller{Node: in.Peer}, Port: in.Port, Protocol: in.Protocol}
	if book.Services[string(s.Name)].NeedAccount() {
		q.Caller = n.callerOf(ctx, in)
	}
	action := n.judge(book, s, q)
	if action == access.Ask && q.Caller.Account.IsZero() {
		q.Caller = n.callerOf(ctx, in) // whoever decides wants to know
	}
	return action, q.Caller
}

// callerOf waits for the peer's account, for a little while.
func (n *Node) callerOf(ctx context.Context, in *sal.Incoming) access.Caller {
	ctx, cancel := context.WithTimeout(ctx, helloPatience)
	defer cancel()
	return access.Caller{Node: in.Peer, Account: n.accounts.of(in.Peer, in.PeerHello(ctx))}
}

// judgeServed judges a session that is open. One that was let through after a
// question stays.
func (n *Node) judgeServed(v sal.Served) error {
	s := n.servedBy(v.Service)
	if s == nil {
		return nil
	}
	q := access.Request{
		Caller: access.Caller{Node: v.Peer, Account: n.accounts.of(v.Peer, v.Hello)}, Port: v.Port, Protocol: v.Protocol,
	}
	action := n.judge(n.rules.Book(), s, q)
	return refusal(action)
}

// rulesChanged ends the sessions that are forbidden now, and has watchGroups look at
// the new groups.
func (n *Node) rulesChanged() {
	n.endForbidden()
	select {
	case n.newRules <- struct{}{}:
	default:
	}
}

// endForbidden ends the sessions that the rules forbid now. Others notice nothing.
func (n *Node) endForbidden() {
	if sessions := n.clock.Load(); sessions != nil {
		if ended := sessions.EndServed(n.judgeServed); ended > 0 {
			n.admissions.ended.Add(uint64(ended))
			n.log.Info("sessions ended that the rules forbid now", "sessions", ended)
		}
	}
}

// admissions counts what the rules said.
type admissions struct{ allowed, denied, asked, ended atomic.Uint64 }

// AccessMetrics is a snapshot of what the rules said of sessions to this node's
// services.
type AccessMetrics struct {
	// Allowed, Denied and Asked are sessions that peers wanted to open, Ended those
	// that were open when new rules forbade them.
	Allowed, Denied, Asked, Ended uint64
}

// AccessMetrics returns the counters of the rules.
func (n *Node) AccessMetrics() AccessMetrics {
	c := &n.admissions
	return AccessMetrics{Allowed: c.allowed.Load(), Denied: c.denied.Load(), Asked: c.asked.Load(), Ended: c.ended.Load()}
}

// watchGroups ends the sessions of groups that expire, until ctx ends.
func (n *Node) watchGroups(ctx context.Context) error {
	for {
		expiry := time.NewTimer(time.Hour) // far more often than clocks are set
		if next := n.rules.Book().Roster.NextExpiry(n.Now()); !next.IsZero() {
			expiry.Reset(min(time.Hour, max(next.Sub(n.Now()), 100*time.Millisecond)))
		}
		before := fmt.Sprint(n.rules.Faults())
		select {
		case <-ctx.Done():
			expiry.Stop()
			return nil
		case <-n.newRules:
			expiry.Stop()
			continue
		case <-expiry.C:
		}
		if after := n.rules.Faults(); after != nil && before != after.Error() {
			n.log.Warn("groups not to be believed", "err", after)
		}
		n.endForbidden()
	}
}

// Rules returns the node's access rules and groups.
func (n *Node) Rules() *Rulebook { return n.rules }

// AccountOf returns the account that a connected peer has proved to speak for.
func (n *Node) AccountOf(peer identity.NodeID) (identity.AccountID, bool) {
	for _, p := range n.sal.Peers() {
		if p.Node == peer {
			a := n.accounts.of(peer, p.Hello)
			return a, !a.IsZero()
		}
	}
	return identity.AccountID{}, false
}

// accountTable remembers which account a peer's first words prove: to verify a
// signature for each session would be slow. The zero value is ready.
type accountTable struct {
	mu    sync.Mutex // guards below
	known map[[sha256.Size]byte]identity.AccountID
}

// maxAccounts bounds what is remembered: as many peers as may be connected.
const maxAccounts = 8192

// of returns the account proved, zero if none is.
func (t *accountTable) of(peer identity.NodeID, hello []byte) identity.AccountID {
	if len(hello) == 0 {
		return identity.AccountID{}
	}
	key := sha256.Sum256(slices.Concat(peer[:], hello))
	t.mu.Lock()
	account, ok := t.known[key]
	t.mu.Unlock()
	if ok {
		return account
	}
	account, err := access.ParseHello(hello, peer)
	if err != nil {
		account = identity.AccountID{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil || len(t.known) >= maxAccounts {
		t.known = make(map[[sha256.Size]byte]identity.AccountID)
	}
	t.known[key] = account
	return account
}

// Explained is what the rules say of one port of a service.
type Explained struct {
	Port     uint16
	Protocol record.Protocol
	access.Decision
}

// Explain says what would become of sessions of a caller to a service, and why. Of
// no port (0), every port is explained that the service has here.
func (b *Rulebook) Explain(nm name.Name, caller access.Caller, port uint16, protocol record.Protocol) ([]Explained, error) {
	ports, err := b.portsOf(nm)
	if err != nil {
		return nil, err
	}
	ports = slices.DeleteFunc(ports, func(p record.Port) bool {
		return port != 0 && p.Number != port || protocol != 0 && p.Protocol != protocol
	})
	if len(ports) == 0 {
		if port == 0 {
			return nil, fmt.Errorf("%w: %s is not served here: name a port with --port", ErrRequest, nm)
		}
		if protocol == 0 {
			protocol = record.TCP
		}
		ports = []record.Port{{Number: port, Protocol: protocol}}
	}
	book := b.Book()
	out := make([]Explained, 0, len(ports))
	for _, p := range ports {
		e := Explained{Port: p.Number, Protocol: p.Protocol}
		if caller.Node == b.self {
			e.Decision = access.Decision{Action: access.Allow, Rule: access.Default, Reason: "it is this node itself, which no rule is about"}
		} else {
			e.Decision = book.Explain(string(nm), access.Request{Caller: caller, Port: p.Number, Protocol: p.Protocol}, b.now())
		}
		out = append(out, e)
	}
	return out, nil
}

// portsOf returns the ports at which a service is served here.
func (b *Rulebook) portsOf(nm name.Name) ([]record.Port, error) {
	list, err := b.dir.loadServices()
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		if s.Name != nm {
			continue
		}
		targets, err := target.ParseAll(s.Targets)
		if err != nil {
			return nil, err
		}
		return portsOf(targets), nil
	}
	return nil, nil
}

// allowRules checks what a service's Allow says, and returns what puts it into the
// rules file: exactly those are allowed, while the deny rules there are stay.
func (n *Node) allowRules(s Service) (commit func() error, err error) {
	var who []access.Who
	var errs []error
	for _, text := range s.Allow {
		w, err := access.ParseWho(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("allow: %w", err))
			continue
		}
		who = append(who, w)
	}
	if _, known := n.rules.Book().Services[string(s.Name)]; !known && len(s.Allow) == 0 {
		errs = append(errs, fmt.Errorf("who may use %s? Say --allow all, or --allow ID,... with the node IDs of its users (\"scn status\" prints a node's own), account:ID or group:NAME", s.Name))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if len(who) == 0 {
		return func() error { return nil }, nil
	}
	edit := func(rs access.Rules) (access.Rules, error) {
		next := rs.AllowOnly(who)
		return next, next.Validate()
	}
	if err := n.rules.CheckRules(s.Name, edit); err != nil {
		return nil, err
	}
	return func() error {
		_, err := n.rules.SetRules(s.Name, edit)
		return err
	}, nil
}
