package cashier

import (
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// MaxMoves is the largest number of movements in one transfer.
const MaxMoves = 16

// MaxValidity is how far ahead the ValidUntil of a transaction about money may be,
// in seconds: its ID is remembered until then, so that it counts once.
const MaxValidity = 24 * 60 * 60

// maxHold is how long an amount may be reserved, in seconds.
const maxHold = 30 * 24 * 60 * 60

// MoveKind is what a movement does. The numbers stand in signed transactions:
// append only.
type MoveKind uint8

// The kinds of movements.
const (
	// MovePay pays at once.
	MovePay MoveKind = 1
	// MoveHold reserves an amount for a payee, which posts or voids it; else it goes
	// back when it expires.
	MoveHold MoveKind = 2
	// MovePost takes all or part of a reserved amount; the rest goes back.
	MovePost MoveKind = 3
	// MoveVoid gives a reserved amount back.
	MoveVoid MoveKind = 4
)

// String returns the kind as a word.
func (k MoveKind) String() string {
	switch k {
	case MovePay:
		return "pay"
	case MoveHold:
		return "hold"
	case MovePost:
		return "post"
	case MoveVoid:
		return "void"
	}
	return fmt.Sprintf("move-%d", uint8(k))
}

// Move is one movement of a transfer. Which fields it has depends on its kind;
// the others are zero.
type Move struct {
	Kind MoveKind `cbor:"1,keyasint"`
	// To is paid, or paid later. MovePay and MoveHold.
	To identity.AccountID `cbor:"2,keyasint,omitzero"`
	// Amount is above zero, but for MoveVoid.
	Amount voucher.Amount `cbor:"3,keyasint,omitzero"`
	// Expires is the last second at which a hold may be settled, in Unix seconds.
	Expires int64 `cbor:"4,keyasint,omitzero"`
	// From, ID and Index name the hold to settle: who made it, in which transaction,
	// and its place there. MovePost and MoveVoid.
	From  identity.AccountID `cbor:"5,keyasint,omitzero"`
	ID    voucher.TransferID `cbor:"6,keyasint,omitzero"`
	Index uint8              `cbor:"7,keyasint,omitzero"`
}

// Transfer moves money of the signer, in one or more movements: all of them or
// none. A transaction about money has no sequence number but an ID, chosen by its
// signer and unique among the signer's, and a ValidUntil within MaxValidity.
type Transfer struct {
	ID    voucher.TransferID `cbor:"1,keyasint"`
	Moves []Move             `cbor:"2,keyasint"`
}

// Issue makes money and pays it to an account. Only the issuer may, up to the cap.
type Issue struct {
	ID     voucher.TransferID `cbor:"1,keyasint"`
	To     identity.AccountID `cbor:"2,keyasint"`
	Amount voucher.Amount     `cbor:"3,keyasint"`
}

// Redeem takes money of the issuer's out of the world.
type Redeem struct {
	ID     voucher.TransferID `cbor:"1,keyasint"`
	Amount voucher.Amount     `cbor:"2,keyasint"`
}

// identified is an operation about money: it counts once by its ID.
type identified interface {
	Operation
	transferID() voucher.TransferID
}

// Kind implements Operation.
func (Transfer) Kind() Kind { return KindTransfer }

// Kind implements Operation.
func (Issue) Kind() Kind { return KindIssue }

// Kind implements Operation.
func (Redeem) Kind() Kind { return KindRedeem }

func (o Transfer) transferID() voucher.TransferID { return o.ID }
func (o Issue) transferID() voucher.TransferID    { return o.ID }
func (o Redeem) transferID() voucher.TransferID   { return o.ID }

func (o Transfer) check(tx *Transaction) *Rejection {
	if r := checkIdentified(tx, o.ID); r != nil {
		return r
	}
	switch {
	case len(o.Moves) == 0:
		return reject(Malformed, "a transfer without movements")
	case len(o.Moves) > MaxMoves:
		return reject(TooLarge, "%d movements, at most %d", len(o.Moves), MaxMoves)
	}
	for i := range o.Moves {
		if r := o.Moves[i].check(tx); r != nil {
			return r
		}
	}
	return nil
}

func (m *Move) check(tx *Transaction) *Rejection {
	settles := m.Kind == MovePost || m.Kind == MoveVoid
	switch m.Kind {
	case MovePay, MoveHold, MovePost, MoveVoid:
	default:
		return reject(UnknownOperation, "%s", m.Kind)
	}
	switch {
	case m.Amount == 0 && m.Kind != MoveVoid:
		return &Rejection{Code: ZeroAmount}
	case m.Amount != 0 && m.Kind == MoveVoid, settles && !m.To.IsZero(),
		!settles && (!m.From.IsZero() || !m.ID.IsZero() || m.Index != 0),
		(m.Kind == MoveHold) != (m.Expires != 0):
		return reject(Malformed, "%s with what it does not take", m.Kind)
	case settles && (m.From.IsZero() || m.ID.IsZero()):
		return reject(Malformed, "%s of no hold", m.Kind)
	case !settles:
		return checkPayee(tx, m.To)
	}
	return nil
}

func (o Issue) check(tx *Transaction) *Rejection {
	if r := checkIdentified(tx, o.ID); r != nil {
		return r
	}
	if o.Amount == 0 {
		return &Rejection{Code: ZeroAmount}
	}
	if o.To == tx.Account {
		return nil // the issuer may issue to itself
	}
	return checkPayee(tx, o.To)
}

func (o Redeem) check(tx *Transaction) *Rejection {
	if o.Amount == 0 {
		return &Rejection{Code: ZeroAmount}
	}
	return checkIdentified(tx, o.ID)
}

// checkIdentified refuses a transaction that could not be told from another.
func checkIdentified(tx *Transaction, id voucher.TransferID) *Rejection {
	switch {
	case id.IsZero():
		return reject(Malformed, "a transfer without an ID")
	case tx.Sequence != 0:
		return reject(Malformed, "a transfer has an ID, not a sequence number")
	case tx.ValidUntil == 0:
		return reject(BadDeadline, "a transfer says until when it is valid, at most 24 hours ahead")
	}
	return nil
}

func checkPayee(tx *Transaction, to identity.AccountID) *Rejection {
	switch to {
	case identity.AccountID{}:
		return reject(Malformed, "a payment to nobody")
	case tx.Account:
		return reject(Malformed, "a payment to its payer")
	case SupplyAccount(tx.Network):
		return reject(NotAllowed, "money goes back by being redeemed")
	}
	return nil
}

func (o Transfer) apply(x *execution, tx *Transaction) *Rejection {
	for i := range o.Moves {
		m := &o.Moves[i]
		var r *Rejection
		switch r = x.payable(m.To); {
		case r != nil:
		case m.Kind == MovePay:
			r = x.move(tx.Account, m.To, movement{post: m.Amount})
		case m.Kind == MoveHold:
			r = x.reserve(reference{holdRef, tx.Account, o.ID, uint8(i)}, *m)
		default:
			r = x.settle(tx.Account, *m)
		}
		if r != nil && len(o.Moves) > 1 {
			r.Detail = fmt.Sprintf("movement %d of %d, and so none: %s", i+1, len(o.Moves), r.Detail)
		}
		if r != nil || x.err != nil {
			return r
		}
	}
	return x.fee(tx.Account)
}

// fee takes the fee of a transfer to the treasury.
func (x *execution) fee(from identity.AccountID) *Rejection {
	p := &x.parameters
	if treasury := p.treasury(x.network); p.TransferFee > 0 && from != treasury {
		return x.move(from, treasury, movement{post: p.TransferFee})
	}
	return nil
}

func (o Issue) apply(x *execution, tx *Transaction) *Rejection {
	if tx.Account != x.parameters.issuer(x.network) {
		return reject(NotAllowed, "only the issuer makes money")
	}
	if r := x.payable(o.To); r != nil {
		return r
	}
	return x.issue(o.To, o.Amount)
}

func (o Redeem) apply(x *execution, tx *Transaction) *Rejection {
	if tx.Account != x.parameters.issuer(x.network) {
		return reject(NotAllowed, "only the issuer redeems money")
	}
	return x.redeem(tx.Account, o.Amount)
}
