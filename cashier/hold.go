package cashier

import (
	"encoding/binary"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// The life of a reserved amount, a two-phase transfer:
//
//	        Hold              Post, at most the amount: the rest goes back
//	 ─────────────► pending ─────────────────────────────────► posted
//	                   │  └──────────────────────────────────► voided
//	                   │        Void by the payee
//	                   └─────────────────────────────────────► expired
//	                            its time passes
//
// It is settled once. The payee may post or void it, the payer only post it: what
// was promised is not taken back before its time.

type holdState byte

const (
	holdPending holdState = 1
	holdPosted  holdState = 2
	holdVoided  holdState = 3
)

func (s holdState) String() string {
	switch s {
	case holdPending:
		return "pending"
	case holdPosted:
		return "posted"
	case holdVoided:
		return "voided"
	}
	return fmt.Sprintf("state-%d", byte(s))
}

// holdRow is a reserved amount. It stays until its time passes even when settled,
// so that settling it again is told from settling what never was.
type holdRow struct {
	state   holdState
	to      identity.AccountID
	amount  voucher.Amount
	posted  voucher.Amount
	expires int64
	next    reference
}

const holdRowSize = 1 + 32 + 8 + 8 + 8 + referenceSize

func (h holdRow) encode() []byte {
	b := append(make([]byte, 0, holdRowSize), byte(h.state))
	b = append(b, h.to[:]...)
	b = appendUint64(b, uint64(h.amount))
	b = appendUint64(b, uint64(h.posted))
	b = appendUint64(b, uint64(h.expires))
	return h.next.append(b)
}

func decodeHold(b []byte) (holdRow, error) {
	if len(b) != holdRowSize {
		return holdRow{}, fmt.Errorf("%w: hold row of %d bytes", ErrCorrupt, len(b))
	}
	h := holdRow{
		state: holdState(b[0]), to: identity.AccountID(b[1:33]),
		amount:  voucher.Amount(binary.BigEndian.Uint64(b[33:])),
		posted:  voucher.Amount(binary.BigEndian.Uint64(b[41:])),
		expires: int64(binary.BigEndian.Uint64(b[49:])),
	}
	var err error
	h.next, err = decodeReference(b[57:])
	if err == nil && (h.state < holdPending || h.state > holdVoided) {
		err = fmt.Errorf("%w: hold in %s", ErrCorrupt, h.state)
	}
	return h, err
}

// hold loads a reserved amount.
func (x *execution) hold(r reference) (h holdRow, exists bool) {
	b := x.get(x.keyOf(r))
	if b == nil {
		return holdRow{}, false
	}
	h, err := decodeHold(b)
	x.fail(err)
	return h, true
}

// reserve makes a hold.
func (x *execution) reserve(r reference, m Move) *Rejection {
	if m.Expires <= x.time || m.Expires-x.time > maxHold {
		return &Rejection{Code: BadDeadline, Time: x.time, Detail: "a hold expires within 30 days"}
	}
	// A hold outlives the memory of its transaction's ID.
	if _, exists := x.hold(r); exists || x.err != nil {
		return &Rejection{Code: DuplicateID, Detail: "it names a reserved amount"}
	}
	if rejection := x.move(r.account, m.To, movement{reserve: m.Amount}); rejection != nil || x.err != nil {
		return rejection
	}
	x.totals.holds++
	h := holdRow{state: holdPending, to: m.To, amount: m.Amount, expires: m.Expires}
	h.next = x.fallsDue(r, m.Expires)
	x.state.set(x.keyOf(r), h.encode())
	return nil
}

// settle posts or voids a hold for an account that may.
func (x *execution) settle(by identity.AccountID, m Move) *Rejection {
	r := reference{holdRef, m.From, m.ID, m.Index}
	h, exists := x.hold(r)
	post := m.Kind == MovePost
	switch {
	case x.err != nil:
		return nil
	case !exists:
		return &Rejection{Code: NoHold, Account: m.From}
	case by != h.to && (!post || by != m.From):
		return &Rejection{Code: NotAllowed, Detail: "the hold is another's to settle"}
	case h.state != holdPending:
		return &Rejection{Code: HoldSettled, Detail: h.state.String()}
	case x.time > h.expires:
		return &Rejection{Code: HoldSettled, Time: x.time, Detail: "expired"}
	case m.Amount > h.amount:
		return &Rejection{Code: ExceedsHold, Available: h.amount}
	case post && x.payable(h.to) != nil: // reserved when that was an account like others
		return x.payable(h.to)
	}
	h.state, h.posted = holdVoided, m.Amount
	if post {
		h.state = holdPosted
	}
	if rejection := x.move(m.From, h.to, movement{release: h.amount, post: h.posted}); rejection != nil || x.err != nil {
		return rejection
	}
	x.totals.holds--
	x.state.set(x.keyOf(r), h.encode())
	return nil
}

// returnHold gives an amount back whose time has passed, and forgets it.
func (x *execution) returnHold(r reference) reference {
	h, exists := x.hold(r)
	if !exists {
		x.fail(errMissing("hold"))
		return reference{}
	}
	if h.state == holdPending {
		if rejection := x.move(r.account, h.to, movement{release: h.amount}); rejection != nil {
			x.breakInvariant("what is reserved can be given back", "%v", rejection)
		}
		x.totals.holds--
	}
	x.state.set(x.keyOf(r), nil)
	return h.next
}
