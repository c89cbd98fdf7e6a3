package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// Where the network has a reveal delay a name is registered in two steps, with a wait
// between them. What is under way is on the disk before the first step leaves the
// node, salt included: so it goes on by itself whatever happens to the daemon.

// ErrPending is matched by *PendingError.
var ErrPending = errors.New("name is being registered")

// PendingError says that a name will be registered, but is not yet. The node goes on
// by itself.
type PendingError struct{ PendingName }

// Error says how long it will take.
func (e *PendingError) Error() string {
	s := fmt.Sprintf("%s is being registered", e.Name)
	if e.Ready.After(e.Since) {
		s += fmt.Sprintf(", which takes until %s", e.Ready.Local().Format(time.DateTime))
	}
	if e.Fault != "" {
		s += ": " + e.Fault
	}
	return s
}

// Is makes errors.Is true for ErrPending.
func (e *PendingError) Is(target error) bool { return target == ErrPending }

// PendingName is a name being registered.
type PendingName struct {
	Name name.Name
	// Since is when it was asked for, Ready when it can be had, as far as is known.
	Since, Ready time.Time
	// Fault is what the last try met. Over says that there will be no other.
	Fault string
	Over  bool
}

// pendingName is one as it is kept on the disk.
type pendingName struct {
	Name    name.Name          `json:"name"`
	Service identity.ServiceID `json:"service_id"`
	Salt    []byte             `json:"salt"`
	Term    time.Duration      `json:"term,omitempty"`
	Since   time.Time          `json:"since"`
	Ready   time.Time          `json:"ready,omitzero"`
	// Committed says that the ledger has the commit.
	Committed bool   `json:"committed,omitempty"`
	Fault     string `json:"fault,omitempty"`
	Over      bool   `json:"over,omitempty"`

	next time.Time // of the next try
}

func (p *pendingName) view() PendingName {
	return PendingName{Name: p.Name, Since: p.Since, Ready: p.Ready, Fault: p.Fault, Over: p.Over}
}

// pendingNames are all of them.
type pendingNames struct {
	// turn holds one token: who has it may speak to the ledger about them.
	turn chan struct{}
	// wake tells the loop that there is something new. Its capacity is one.
	wake chan struct{}

	mu   sync.Mutex // guards list
	list map[name.Name]*pendingName
}

const (
	pendingFile = "pending-names.json" // in the state folder; it holds salts
	// pendingSlow is the wait after a refusal that may pass, such as too little money,
	// pendingLost that after an answer that did not come.
	pendingSlow = time.Minute
	pendingLost = 3 * time.Second
	// pendingBlocks is the longest wait between two tries while blocks are awaited.
	pendingBlocks = 15 * time.Second
	// pendingShort is how long whoever asks for a name waits rather than be told that
	// it takes longer.
	pendingShort = 2 * time.Second
	// pendingKept is how long one that failed is shown.
	pendingKept = time.Hour
)

func (n *Node) openPending() error {
	p := &n.pending
	p.turn, p.wake, p.list = make(chan struct{}, 1), make(chan struct{}, 1), map[name.Name]*pendingName{}
	b, err := readBounded(n.dir.join(stateDir+"/"+pendingFile), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var list []*pendingName
	if err := json.Unmarshal(b, &list); err != nil {
		return fmt.Errorf("%s: %w", n.dir.join(stateDir+"/"+pendingFile), err)
	}
	for _, v := range list {
		if v != nil && len(v.Salt) == len(cashier.Salt{}) {
			p.list[v.Name] = v
		}
	}
	return nil
}

// savePending writes the list; p.mu is held.
func (n *Node) savePendingLocked() error {
	list := make([]*pendingName, 0, len(n.pending.list))
	for _, v := range n.pending.list {
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b *pendingName) int { return compareNames(a.Name, b.Name) })
	b, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return n.dir.write(stateDir+"/"+pendingFile, append(b, '\n'), 0o600)
}

// PendingNames returns the names being registered, and those that failed lately.
func (n *Node) PendingNames() []PendingName {
	n.pending.mu.Lock()
	defer n.pending.mu.Unlock()
	out := make([]PendingName, 0, len(n.pending.list))
	for _, v := range n.pending.list {
		out = append(out, v.view())
	}
	slices.SortFunc(out, func(a, b PendingName) int { return compareNames(a.Name, b.Name) })
	return out
}

func (n *Node) pendingName(nm name.Name) (PendingName, bool) {
	n.pending.mu.Lock()
	defer n.pending.mu.Unlock()
	v, ok := n.pending.list[nm]
	if !ok {
		return PendingName{}, false
	}
	return v.view(), true
}

func (n *Node) pendingError(v *pendingName) *PendingError {
	n.pending.mu.Lock()
	defer n.pending.mu.Unlock()
	return &PendingError{v.view()}
}

// commitFirst begins to register a name in two steps, or goes on where it was begun.
// It waits for what is short; what takes longer is a *PendingError, and goes on.
func (n *Node) commitFirst(ctx context.Context, nm name.Name, service identity.ServiceID, term time.Duration) error {
	p := &n.pending
	p.mu.Lock()
	v := p.list[nm]
	if v == nil || v.Over || v.Service != service {
		salt, err := cashier.NewSalt()
		if err != nil {
			p.mu.Unlock()
			return err
		}
		v = &pendingName{Name: nm, Service: service, Salt: salt[:], Term: term, Since: n.Now()}
		p.list[nm] = v
		if err := n.savePendingLocked(); err != nil {
			delete(p.list, nm)
			p.mu.Unlock()
			return err
		}
	}
	p.mu.Unlock()
	for end := time.Now().Add(pendingShort); ; {
		err := n.advance(ctx, v)
		wait := time.Until(v.nextTry(p))
		if err != nil && !errors.Is(err, ErrPending) { // whoever asked is told, and nobody else
			return errors.Join(err, n.finish(v))
		}
		if err == nil || time.Now().Add(wait).After(end) {
			n.wakePending()
			return err
		}
		select {
		case <-ctx.Done():
			n.wakePending()
			return err
		case <-time.After(wait):
		}
	}
}

func (p *pendingName) nextTry(all *pendingNames) time.Time {
	all.mu.Lock()
	defer all.mu.Unlock()
	return p.next
}

func (n *Node) wakePending() {
	select {
	case n.pending.wake <- struct{}{}:
	default:
	}
}

// advance does what can be done now for a name being registered: nil when it is,
// *PendingError while it is not.
func (n *Node) advance(ctx context.Context, v *pendingName) error {
	select {
	case n.pending.turn <- struct{}{}:
		defer func() { <-n.pending.turn }()
	case <-ctx.Done():
		return n.pendingError(v)
	}
	n.pending.mu.Lock()
	current := n.pending.list[v.Name] == v
	n.pending.mu.Unlock()
	if !current {
		return n.settled(ctx, v) // somebody else was quicker to finish it
	}
	key, err := n.serviceKey(v.Service)
	if err != nil {
		return n.giveUp(v, err)
	}
	const tries = 3 // a commit that lapsed is made anew
	for range tries {
		if !v.Committed {
			_, err := n.wallet.Commit(ctx, v.Name, cashier.Salt(v.Salt))
			if err != nil && !errors.Is(err, cashier.ErrCommitExists) {
				return n.fault(v, err)
			}
			if err := n.change(func() { v.Committed, v.Fault = true, "" }); err != nil {
				return err
			}
		}
		_, err = n.wallet.Reveal(ctx, v.Name, cashier.Salt(v.Salt), key, v.Term)
		var r *cashier.Rejection
		switch {
		case err == nil:
			return n.finish(v)
		case errors.As(err, &r) && r.Code == cashier.CommitImmature:
			wait := time.Duration(max(r.RetryAfter, 1)) * time.Second
			if past := n.Now().Sub(time.Unix(r.Time, 0)); past > 0 { // for blocks, which may take long
				wait = min(max(wait, past/4), pendingBlocks)
			}
			err = n.change(func() {
				v.Ready, v.Fault, v.next = time.Unix(r.Time, 0), "", time.Now().Add(wait)
			})
			return errors.Join(n.pendingError(v), err)
		case errors.Is(err, cashier.ErrNoCommit), errors.Is(err, cashier.ErrCommitLapsed):
			// Revealed before, if the answer was lost; lapsed, if this node was away.
			if n.settled(ctx, v) == nil {
				return n.finish(v)
			}
			salt, err := cashier.NewSalt()
			if err != nil {
				return n.fault(v, err)
			}
			if err := n.change(func() { v.Salt, v.Committed, v.Ready = salt[:], false, time.Time{} }); err != nil {
				return err
			}
		case errors.Is(err, cashier.ErrTaken):
			if n.settled(ctx, v) == nil {
				return n.finish(v)
			}
			return n.giveUp(v, err)
		default:
			return n.fault(v, err)
		}
	}
	return n.fault(v, err)
}

// settled asks whether the name is this account's and means the service.
func (n *Node) settled(ctx context.Context, v *pendingName) error {
	a, err := n.books.Lookup(ctx, v.Name)
	switch {
	case err != nil:
		return err
	case a.Registered && a.Record.Owner == n.Account() && a.Record.Service == v.Service:
		return nil
	}
	return n.pendingError(v)
}

// serviceKey finds the key of a service this node owns.
func (n *Node) serviceKey(service identity.ServiceID) (identity.PrivateKey, error) {
	for _, nm := range n.dir.serviceKeys() {
		if key, err := n.dir.ServiceKey(nm); err == nil && key.Service() == service {
			return key, nil
		}
	}
	return identity.PrivateKey{}, fmt.Errorf("service %s: %w: its key is gone", service, ErrNotOwned)
}

// change changes the list and writes it.
func (n *Node) change(f func()) error {
	n.pending.mu.Lock()
	defer n.pending.mu.Unlock()
	f()
	return n.savePendingLocked()
}

// finish forgets one that is done.
func (n *Node) finish(v *pendingName) error {
	return n.change(func() {
		if n.pending.list[v.Name] == v {
			delete(n.pending.list, v.Name)
		}
	})
}

// fault notes what went wrong; it may go better later, unless it was refused for good.
func (n *Node) fault(v *pendingName, err error) error {
	var r *cashier.Rejection
	lost := !errors.As(err, &r)
	if !lost && !v.Committed && refused(err) {
		return n.giveUp(v, err) // nothing was put down for it
	}
	if !lost {
		switch r.Code {
		case cashier.TooManyNames, cashier.ExistsElsewhere, cashier.WrongKey, cashier.BadTerm, cashier.NoConsent, cashier.Malformed:
			return n.giveUp(v, err)
		default: // it may pass
		}
	}
	saved := n.change(func() {
		v.Fault, v.next = err.Error(), time.Now().Add(pendingSlow)
		if lost || !refused(err) {
			v.next = time.Now().Add(pendingLost)
		}
	})
	return errors.Join(n.pendingError(v), err, saved)
}

// giveUp ends one that cannot be had. It is shown for a while.
func (n *Node) giveUp(v *pendingName, err error) error {
	saved := n.change(func() { v.Fault, v.Over, v.next = err.Error(), true, time.Now().Add(pendingKept) })
	return errors.Join(err, saved)
}

// registerPending goes on with the names being registered until ctx ends.
func (n *Node) registerPending(ctx context.Context) error {
	for {
		wait := time.Hour
		for _, v := range n.duePending() {
			switch err := n.advance(ctx, v); {
			case err == nil:
				n.registered(ctx, v.Name)
			case !errors.Is(err, ErrPending):
				n.log.Warn("name not registered", "name", string(v.Name), "err", err)
			}
		}
		n.pending.mu.Lock()
		for _, v := range n.pending.list {
			wait = min(wait, max(time.Until(v.next), 50*time.Millisecond))
		}
		n.pending.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-n.pending.wake:
		case <-time.After(wait):
		}
	}
}

// duePending returns what is to be tried now, and forgets what failed long ago.
func (n *Node) duePending() (out []*pendingName) {
	n.pending.mu.Lock()
	defer n.pending.mu.Unlock()
	now := time.Now()
	for nm, v := range n.pending.list {
		switch {
		case v.next.After(now):
		case v.Over:
			delete(n.pending.list, nm)
			if err := n.savePendingLocked(); err != nil {
				n.log.Warn("names being registered not saved", "err", err)
			}
		default:
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *pendingName) int { return compareNames(a.Name, b.Name) })
	return out
}

// registered tells the rest of the node that a name is its own now.
func (n *Node) registered(ctx context.Context, nm name.Name) {
	n.names.Forget(nm)
	n.log.Info("name registered", "name", string(nm))
	if a, err := n.books.Lookup(ctx, nm); err == nil && a.Signed != nil {
		n.noteHeld(nm, a)
		n.keepName(nm, a.Signed)
	}
	if srv := n.findService(nm); srv != nil {
		n.bringOnline(ctx, srv)
	}
}
