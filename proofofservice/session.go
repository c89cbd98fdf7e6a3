package proofofservice

import (
	"context"
	"errors"
	"net"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// What a Dialer or a Session returns when a visit fails for a reason that is not
// the provider's. They are wrapped.
var (
	// ErrCarrier: no node would carry the visit.
	ErrCarrier = errors.New("proofofservice: no node carries this visit")
	// ErrFunds: there is nothing to pay with.
	ErrFunds = errors.New("proofofservice: nothing to pay this visit with")
)

// Target is where a visit goes, and how.
type Target struct {
	Service identity.ServiceID
	Node    identity.NodeID
	Port    uint16
	// Nonce is the session's, in place of one drawn at random.
	Nonce [32]byte
	// Account and Carrier choose the account to pay from, used for this visit and never
	// again, and the node to leave through: both modulo how many there are.
	Account, Carrier uint16
}

// Dialer opens sessions the way every client does. It is the daemon's.
type Dialer interface {
	Dial(ctx context.Context, t Target) (Session, error)
}

// Session is one session with a provider, metered and paid like any other.
type Session interface {
	net.Conn
	// Receipt closes the session for writing, waits for the provider's last receipt,
	// and returns the newest there is; voucher.Receipt's zero value if there is none.
	Receipt(ctx context.Context) (voucher.Receipt, error)
	// Bill returns what the provider demanded and what it was paid.
	Bill() Bill
}

// Bill is what a session cost.
type Bill struct {
	// Asked is the price on the ledger when the session was opened, Demanded the one by
	// which the provider charged.
	Asked, Demanded voucher.Price
	Paid            voucher.Amount
	// Bytes and Milliseconds were paid for.
	Bytes, Milliseconds uint64
}

// Honoured reports whether the provider kept to its ask.
func (b Bill) Honoured() bool {
	if b.Demanded.PerGiB > b.Asked.PerGiB || b.Demanded.PerHour > b.Asked.PerHour {
		return false
	}
	cost, ok := b.Asked.Cost(b.Bytes, b.Milliseconds)
	return ok && b.Paid <= cost
}

// Catalog knows what services offer to everybody, so that it can be asked for. It is
// the daemon's.
type Catalog interface {
	// Content returns what can be asked of a service, and false if nothing is known
	// but its port.
	Content(ctx context.Context, service identity.ServiceID) (Content, bool, error)
}

// Anchors are nodes that are known to be good.
type Anchors interface {
	// Nodes returns some of them, the best first.
	Nodes() []identity.NodeID
	// Reach returns nil when one of them answers.
	Reach(ctx context.Context, node identity.NodeID) error
}

// troubleOf returns the reason when an error is none of the provider's doing.
func troubleOf(err error) evidence.Reason {
	switch {
	case errors.Is(err, ErrCarrier):
		return evidence.Carrier
	case errors.Is(err, ErrFunds):
		return evidence.Funds
	}
	return evidence.NoReason
}
