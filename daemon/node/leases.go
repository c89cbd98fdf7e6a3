package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/naming/name"
)

// renewEarly is how long before the end of its lease a name that costs something is
// renewed: the owner can still do something about a renewal that fails, and pays no
// earlier than needed. A name that costs nothing is renewed when half of the longest
// term is over.
const renewEarly = 14 * 24 * time.Hour

// HeldName is a name of this node's account.
type HeldName struct {
	cashier.OwnedName
	// Fault is why it could not be renewed.
	Fault string
}

// heldNames are the names of this node's account, as of when they were last asked for.
type heldNames struct {
	mu   sync.Mutex // guards list
	list []HeldName
}

// HeldNames returns the names of this node's account, as of some hours ago at most.
func (n *Node) HeldNames() []HeldName {
	n.held.mu.Lock()
	defer n.held.mu.Unlock()
	return slices.Clone(n.held.list)
}

// noteHeld remembers what became of a name just now, before all are asked for again.
func (n *Node) noteHeld(nm name.Name, a cashier.Answer) {
	n.held.mu.Lock()
	defer n.held.mu.Unlock()
	n.held.list = slices.DeleteFunc(n.held.list, func(v HeldName) bool { return v.Name == nm })
	if !a.Registered || a.Record.Owner != n.Account() {
		return
	}
	v := HeldName{OwnedName: cashier.OwnedName{
		Name: nm, Service: a.Record.Service, Offered: a.Offered, Height: a.Record.Height, Since: a.Since, Lease: a.Record.Lease, Phase: a.Phase,
	}}
	at, _ := slices.BinarySearchFunc(n.held.list, nm, func(v HeldName, nm name.Name) int { return compareNames(v.Name, nm) })
	n.held.list = slices.Insert(n.held.list, at, v)
}

// ownNames asks for the names of this node's account.
func (n *Node) ownNames(ctx context.Context) ([]cashier.OwnedName, error) {
	var out []cashier.OwnedName
	if n.client != nil {
		for owned, err := range n.client.Names(ctx, n.Account()) {
			if err != nil {
				return nil, err
			}
			out = append(out, owned)
		}
		return out, nil
	}
	var after name.Name
	for {
		const page = 256
		names, err := n.ledger.Names(ctx, n.Account(), after, page)
		if err != nil {
			return nil, err
		}
		out = append(out, names...)
		if len(names) < page {
			return out, nil
		}
		after = names[page-1].Name
	}
}

// refreshNames renews what is to be renewed of this account's names, fetches the
// newest signed records and has them kept in the DHT: owner and authority both do.
func (n *Node) refreshNames(ctx context.Context) error {
	names, err := n.ownNames(ctx)
	if err != nil {
		return err
	}
	held := make([]HeldName, len(names))
	for i, owned := range names {
		held[i].OwnedName = owned
	}
	err = n.renewNames(ctx, held)
	n.held.mu.Lock()
	n.held.list = held
	n.held.mu.Unlock()
	if err != nil || n.client == nil {
		return err // the authority publishes every name by itself
	}
	for _, owned := range held {
		a, err := n.books.Lookup(ctx, owned.Name)
		if err != nil {
			return err
		}
		if a.Signed != nil {
			n.keepName(owned.Name, a.Signed)
		}
	}
	return nil
}

// renewNames renews the names whose leases end soon. That one cannot be renewed is
// noted; only the ledger's not being there is an error.
func (n *Node) renewNames(ctx context.Context, held []HeldName) error {
	if n.cfg.KeepNames || len(held) == 0 {
		return nil
	}
	status, err := n.books.Status(ctx)
	if err != nil {
		return err
	}
	for i := range held {
		v := &held[i]
		if !renewable(v.OwnedName, status.Parameters, n.Now()) {
			continue
		}
		switch _, err := n.wallet.Renew(ctx, v.Name, 0); {
		case err == nil:
			if a, err := n.books.Lookup(ctx, v.Name); err == nil {
				v.Lease, v.Phase = a.Record.Lease, a.Phase
			}
			n.names.Forget(v.Name)
			n.log.Info("name renewed", "name", string(v.Name))
		case refused(err):
			v.Fault = err.Error()
			n.log.Warn("name not renewed", "name", string(v.Name), "err", err)
		default:
			return err
		}
	}
	return nil
}

// renewable reports whether a name is to be renewed now.
func renewable(v cashier.OwnedName, p cashier.Parameters, now time.Time) bool {
	if v.Lease == 0 {
		return false // a ledger without leases
	}
	const year = 365 * 24 * 60 * 60
	early := renewEarly
	if p.RentFor(v.Name, year) == 0 {
		early = cashier.MaxTerm * time.Second / 2
	}
	return time.Unix(v.Lease, 0).Sub(now) < early
}
