package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal"
)

// ledgerAPI is the ledger as the node uses it: its own, or the authority's over a
// session.
type ledgerAPI interface {
	cashier.Submitter
	Lookup(ctx context.Context, n name.Name) (cashier.Answer, error)
	Status(ctx context.Context) (cashier.Status, error)
	Account(ctx context.Context, id identity.AccountID) (cashier.Account, error)
	Channel(ctx context.Context, id voucher.ChannelID) (cashier.Channel, error)
	Channels(ctx context.Context, account identity.AccountID, after voucher.ChannelID, limit int) ([]cashier.Channel, error)
	Asks(ctx context.Context, service identity.ServiceID) ([]cashier.PostedAsk, error)
	Bindings(ctx context.Context, node identity.NodeID) (cashier.Bindings, error)
	Inspection(ctx context.Context) (cashier.Inspection, error)
	InspectionEpoch(ctx context.Context, epoch uint64) (cashier.InspectionEpoch, error)
	Inspector(ctx context.Context, account identity.AccountID) (cashier.InspectorState, error)
	Scores(ctx context.Context, service identity.ServiceID) ([]cashier.ProviderScore, error)
	Reports(ctx context.Context, epoch uint64) ([]cashier.EpochReport, error)
}

// NameInfo is what is known of a name.
type NameInfo struct {
	Name       name.Name
	Registered bool
	Record     name.Record
	// Phase is where in its life the name is; a suspended one is registered, and does
	// not resolve.
	Phase cashier.NamePhase
	// Pending is set while this node is registering it, or failed to lately.
	Pending *PendingName
	// Source is "authority", or "dht" while the authority is down.
	Source string
}

// openLedger opens the ledger on an authority, and a client of it elsewhere.
func (n *Node) openLedger() error {
	file := n.Network()
	if file.IsAuthority(n.ID()) {
		balances, err := parseGenesis(file.Text(genesisParameter, ""))
		if err != nil {
			return err
		}
		l, err := cashier.Open(n.dir.join(ledgerDir), n.key, cashier.Config{
			Network: file.ID, Balances: balances, RealZone: n.cfg.RealZone, Clock: n.Now, Logger: n.log.With("layer", "cashier"),
			Retention: n.cfg.KeepBlocks, Promised: n.dir.join(promisedFile),
		})
		if err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		n.ledger, n.books = l, l
	} else {
		c, err := cashier.NewClient(cashier.ClientConfig{
			Network: file.ID, Authorities: file.Authorities, Dial: n.dialAuthority,
			Timeout: 5 * time.Second, Attempts: 2, Clock: n.Now,
			Checkpoints: seenCheckpoint{n.dir, n.log.With("layer", "cashier")},
		})
		if err != nil {
			return err
		}
		n.client, n.books = c, c
	}
	return nil
}

// dialAuthority opens a session to the first authority that answers. Their node IDs
// and addresses stand in the network file: no resolution is needed to reach them.
func (n *Node) dialAuthority(ctx context.Context) (net.Conn, error) {
	var errs []error
	for _, id := range n.Network().Authorities {
		c, err := n.sal.DialNode(ctx, id, LedgerPort)
		if err == nil {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("authority %s: %w", id.Short(), err))
	}
	return nil, errors.Join(errs...)
}

// serveLedger answers for names and keeps their records in the DHT until ctx ends.
func (n *Node) serveLedger(ctx context.Context) error {
	l, err := n.sal.Listen(identity.ServiceOf(n.ID()), LedgerPort)
	if err != nil {
		return fmt.Errorf("ledger service: %w", err)
	}
	server, err := cashier.NewServer(n.ledger, cashier.ServerConfig{Prefix: n.prefixOf, Logger: n.log.With("layer", "cashier")})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, l) })
	group.Go(func() error {
		return n.ledger.Publish(ctx, cashier.Publisher{Put: func(ctx context.Context, nm name.Name, signed []byte) error {
			ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			if held := n.cfg.unpublished; held != nil && held.Load() {
				return errors.New("held back")
			}
			_, err := n.router.PublishName(ctx, nm, signed)
			return ignoreUnstored(err)
		}})
	})
	return group.Wait()
}

// prefixOf tells the part of the Internet a peer of a session comes from. Behind a
// relay that is not known.
func (n *Node) prefixOf(a net.Addr) string {
	peer, ok := a.(sal.Addr)
	if !ok {
		return ""
	}
	for _, p := range n.sal.Peers() {
		if p.Node == peer.Node && p.Relay.IsZero() && p.Remote.IsValid() {
			return cashier.PrefixOf(p.Remote.Addr())
		}
	}
	return ""
}

// ledgerLookup asks the ledger for a name's record; cashier.ErrNotRegistered when
// the ledger says that it is free.
func (n *Node) ledgerLookup(ctx context.Context, nm name.Name) (name.Record, error) {
	a, err := n.books.Lookup(ctx, nm)
	if err != nil {
		return name.Record{}, err
	}
	if !a.Registered {
		return name.Record{}, cashier.ErrNotRegistered
	}
	return a.Record, nil
}

// ledgerRegister registers a name for the service, or points it there when it is
// this account's already, and returns its record.
func (n *Node) ledgerRegister(ctx context.Context, nm name.Name, service identity.PrivateKey, term time.Duration) (name.Record, []byte, error) {
	_, err := n.wallet.RegisterFor(ctx, nm, service, term)
	if errors.Is(err, cashier.ErrCommitFirst) {
		err = n.commitFirst(ctx, nm, service.Service(), term)
	}
	var taken *cashier.Rejection
	if errors.As(err, &taken) && taken.Code == cashier.NameTaken && taken.Owner == n.Account() {
		err = nil
		if taken.Service != service.Service() {
			_, err = n.wallet.Update(ctx, nm, service)
		}
	}
	if err != nil {
		return name.Record{}, nil, err
	}
	a, err := n.books.Lookup(ctx, nm)
	if err == nil {
		n.noteHeld(nm, a)
	}
	return a.Record, a.Signed, err
}

// NameInfo says who holds a name: by the authority's word, or while it is down by
// the newest record in the DHT.
func (n *Node) NameInfo(ctx context.Context, nm name.Name) (NameInfo, error) {
	info := NameInfo{Name: nm}
	if p, ok := n.pendingName(nm); ok {
		info.Pending = &p
	}
	a, err := n.books.Lookup(ctx, nm)
	if err == nil {
		info.Registered, info.Record, info.Phase, info.Source = a.Registered, a.Record, a.Phase, "authority"
		return info, nil
	}
	rec, _, dhtErr := n.router.LookupName(ctx, nm)
	if dhtErr != nil {
		return info, fmt.Errorf("%w: %w", ErrUnknownName, err)
	}
	info.Registered, info.Record, info.Source = !rec.Released, rec, "dht"
	switch {
	case rec.Released:
	case rec.Suspended:
		info.Phase = cashier.NameSuspended
	case rec.Expired(n.Now()):
		info.Phase = cashier.NameExpired
	default:
		info.Phase = cashier.NameHeld
	}
	return info, nil
}

// RegisterName registers a name for a service of this node, nil for a service under
// the name's own key, which is made on first use. The term is how long it is held, 0 for
// the usual time. Where a registration takes longer, the error is a *PendingError, and
// the node goes on by itself.
func (n *Node) RegisterName(ctx context.Context, nm name.Name, service *identity.ServiceID, term time.Duration) (NameInfo, error) {
	key, made, err := n.keyFor(nm, service)
	if err != nil {
		return NameInfo{Name: nm}, err
	}
	if err := n.register(ctx, nm, key, term); err != nil {
		if made && refused(err) && !errors.Is(err, ErrPending) {
			n.dir.removeServiceKey(string(nm))
		}
		return NameInfo{Name: nm}, err
	}
	return n.NameInfo(ctx, nm)
}

// keyFor finds the key of a service this node owns. made says that it is new.
func (n *Node) keyFor(nm name.Name, service *identity.ServiceID) (key identity.PrivateKey, made bool, err error) {
	if service == nil {
		_, err := n.dir.ServiceKey(string(nm))
		made := errors.Is(err, fs.ErrNotExist)
		key, err = n.dir.MakeServiceKey(string(nm))
		return key, made, err
	}
	for _, other := range n.dir.serviceKeys() {
		if key, err := n.dir.ServiceKey(other); err == nil && key.Service() == *service {
			return key, false, nil
		}
	}
	return key, false, fmt.Errorf("service %s: %w: its key is not in this node's directory, and a name needs the service's consent", service, ErrNotOwned)
}

// OfferName offers a name of this node to another account.
func (n *Node) OfferName(ctx context.Context, nm name.Name, to identity.AccountID) (NameInfo, error) {
	if _, err := n.wallet.Offer(ctx, nm, to); err != nil {
		return NameInfo{Name: nm}, err
	}
	return n.NameInfo(ctx, nm)
}

// AcceptName takes a name offered to this node's account.
func (n *Node) AcceptName(ctx context.Context, nm name.Name) (NameInfo, error) {
	key, err := n.dir.MakeServiceKey(string(nm))
	if err != nil {
		return NameInfo{Name: nm}, err
	}
	if _, err := n.wallet.Accept(ctx, nm, key); err != nil {
		return NameInfo{Name: nm}, err
	}
	n.names.Forget(nm)
	return n.NameInfo(ctx, nm)
}

// RenewName pays for a name, whoever's it is, for a term longer, 0 for the usual one.
func (n *Node) RenewName(ctx context.Context, nm name.Name, term time.Duration) (NameInfo, error) {
	if _, err := n.wallet.Renew(ctx, nm, term); err != nil {
		return NameInfo{Name: nm}, err
	}
	n.names.Forget(nm)
	if a, err := n.books.Lookup(ctx, nm); err == nil && a.Signed != nil {
		n.noteHeld(nm, a)
		n.keepName(nm, a.Signed)
	}
	return n.NameInfo(ctx, nm)
}

// ReleaseName gives a name up. A service still served under it goes on under its ID.
func (n *Node) ReleaseName(ctx context.Context, nm name.Name) error {
	if _, err := n.wallet.Release(ctx, nm); err != nil {
		return err
	}
	n.names.Forget(nm)
	if a, err := n.books.Lookup(ctx, nm); err == nil && a.Signed != nil {
		n.noteHeld(nm, a)
		n.keepName(nm, a.Signed) // the tombstone replaces the record in the DHT
	}
	return nil
}
