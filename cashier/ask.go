package cashier

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// MaxAskLife is how far ahead an ask may end, in seconds.
const MaxAskLife = 90 * 24 * 60 * 60

// PostAsk tells what a service costs on a node, or, with Withdraw, that it is offered
// there no longer. The account that is paid signs it; the node's key and the service's
// have consented, so nobody asks money for what is another's.
//
// The first ask of a service on a node holds at once. One that follows an ask still
// valid begins an epoch later at the earliest, so nobody is surprised while dialling.
type PostAsk struct {
	ID voucher.TransferID `cbor:"1,keyasint"`
	// Ask is the encoding of a voucher.Ask: the new one, or the one to withdraw.
	Ask []byte `cbor:"2,keyasint"`
	// Node is the node's signature, of voucher.Ask.Sign. Zero with Withdraw.
	Node Signature `cbor:"3,keyasint,omitzero"`
	// Grant is the encoding of the service's voucher.Grant. Empty with Withdraw.
	Grant    []byte `cbor:"4,keyasint,omitempty"`
	Withdraw bool   `cbor:"5,keyasint,omitzero"`
}

// Kind implements Operation.
func (PostAsk) Kind() Kind { return KindPostAsk }

func (o PostAsk) transferID() voucher.TransferID { return o.ID }

func (o PostAsk) check(tx *Transaction) *Rejection {
	if r := checkIdentified(tx, o.ID); r != nil {
		return r
	}
	ask, err := voucher.ParseAsk(o.Ask)
	switch {
	case errors.Is(err, voucher.ErrTrailing):
		return reject(TrailingBytes, "%v", err)
	case err != nil:
		return reject(Malformed, "%v", err)
	case ask.Account != tx.Account:
		return reject(NotAllowed, "an ask is signed by the account that is paid")
	case o.Withdraw && (o.Node != Signature{} || len(o.Grant) > 0):
		return reject(Malformed, "a withdrawal with what it does not take")
	case o.Withdraw:
		return nil
	}
	grant, err := voucher.ParseGrant(o.Grant)
	switch {
	case errors.Is(err, voucher.ErrTrailing):
		return reject(TrailingBytes, "%v", err)
	case err != nil:
		return reject(Malformed, "%v", err)
	case !grant.Covers(ask):
		return &Rejection{Code: NotGranted, Service: ask.Service, Detail: "the grant is for something else"}
	case !grant.Verify(tx.Network):
		return &Rejection{Code: NotGranted, Service: ask.Service}
	case !ask.Verify(tx.Network, voucher.Signature(o.Node)):
		return &Rejection{Code: NoNodeConsent, Service: ask.Service}
	}
	return nil
}

// askRow is what is asked for a service on a node. A zero ask is none.
type askRow struct {
	current, next voucher.Ask
	// withdrawn marks a row that only remembers: the next ask is announced first.
	withdrawn bool
	sequence  uint64
	until     int64 // when nothing in the row matters any more
	following reference
}

const askRowSize = 1 + 2*voucher.AskSize + 2*8 + referenceSize

// The flags of an askRow's first byte.
const (
	askCurrent   = 1
	askNext      = 2
	askWithdrawn = 4
)

func (a *askRow) append(b []byte) []byte {
	flags := len(b)
	b = append(b, 0)
	for _, v := range [...]struct {
		ask  *voucher.Ask
		flag byte
	}{{&a.current, askCurrent}, {&a.next, askNext}} {
		if *v.ask == (voucher.Ask{}) {
			b = append(b, make([]byte, voucher.AskSize)...)
			continue
		}
		b[flags] |= v.flag
		b = v.ask.Append(b)
	}
	if a.withdrawn {
		b[flags] |= askWithdrawn
	}
	return a.following.append(appendUint64(appendUint64(b, a.sequence), uint64(a.until)))
}

func decodeAsk(b []byte) (a askRow, err error) {
	if len(b) != askRowSize || b[0] > askCurrent|askNext|askWithdrawn {
		return a, fmt.Errorf("%w: ask row of %d bytes", ErrCorrupt, len(b))
	}
	flags, rest := b[0], b[1:]
	for _, v := range []struct {
		ask  *voucher.Ask
		flag byte
	}{{&a.current, askCurrent}, {&a.next, askNext}} {
		if flags&v.flag != 0 {
			if *v.ask, err = voucher.ParseAsk(rest[:voucher.AskSize]); err != nil {
				return a, fmt.Errorf("%w: ask row: %w", ErrCorrupt, err)
			}
		} else if !bytes.Equal(rest[:voucher.AskSize], make([]byte, voucher.AskSize)) {
			return a, fmt.Errorf("%w: ask row with an ask that is none", ErrCorrupt)
		}
		rest = rest[voucher.AskSize:]
	}
	a.withdrawn = flags&askWithdrawn != 0
	a.sequence, a.until = binary.BigEndian.Uint64(rest), int64(binary.BigEndian.Uint64(rest[8:]))
	a.following, err = decodeReference(rest[16:])
	return a, err
}

// at returns the ask that holds at a time.
func (a *askRow) at(now int64) (voucher.Ask, bool) {
	return PostedAsk{a.current, a.next}.at(now)
}

// askReference names the row of a service on a node. Half of the node's key is in it;
// the row has it whole.
func askReference(service identity.ServiceID, node identity.NodeID) reference {
	return reference{kind: askRef, account: identity.AccountID(service), id: voucher.TransferID(node[:16])}
}

// ask loads what is asked for a service on a node.
func (x *execution) ask(r reference) (a askRow, exists bool) {
	b := x.get(x.keyOf(r))
	if b == nil {
		return askRow{}, false
	}
	a, err := decodeAsk(b)
	x.fail(err)
	return a, true
}

// askFor returns the ask that a channel to be opened names, if it holds.
func (x *execution) askFor(o OpenChannel) (voucher.Ask, *Rejection) {
	row, _ := x.ask(askReference(o.Service, o.Node))
	ask, valid := row.at(x.time)
	switch {
	case !valid || ask.ID() != o.Ask:
		return ask, &Rejection{Code: NoAsk, Service: o.Service, Time: x.time}
	case ask.Account != o.Provider || ask.Node != o.Node:
		return ask, &Rejection{Code: NoAsk, Service: o.Service, Detail: "it pays another account"}
	}
	return ask, nil
}

func (o PostAsk) apply(x *execution, _ *Transaction) *Rejection {
	ask, err := voucher.ParseAsk(o.Ask)
	if err != nil {
		return reject(Malformed, "%v", err)
	}
	ref := askReference(ask.Service, ask.Node)
	row, exists := x.ask(ref)
	if x.err != nil {
		return nil
	}
	if exists && row.next != (voucher.Ask{}) && x.time >= row.next.ValidFrom {
		row.current, row.next = row.next, voucher.Ask{}
	}
	if o.Withdraw {
		if !exists || ask != row.current && ask != row.next {
			return &Rejection{Code: NoAsk, Service: ask.Service}
		}
		row.current, row.next, row.withdrawn = voucher.Ask{}, voucher.Ask{}, true
		row.until = max(row.until, x.time+x.parameters.epochSeconds())
		x.setAsk(ref, &row)
		return nil
	}
	grant, err := voucher.ParseGrant(o.Grant)
	earliest := x.time + x.parameters.epochSeconds()
	alive := row.withdrawn || x.time <= max(row.current.ValidTo, row.next.ValidTo)
	switch {
	case err != nil:
		return reject(Malformed, "%v", err)
	case ask.ValidTo < x.time || ask.ValidTo-x.time > MaxAskLife:
		return &Rejection{Code: BadDeadline, Time: x.time, Detail: "an ask ends within 90 days"}
	case x.time > grant.NotAfter:
		return &Rejection{Code: NotGranted, Service: ask.Service, Time: x.time, Detail: "the grant has ended"}
	case ask.Sequence <= row.sequence:
		return &Rejection{Code: StaleAsk, Sequence: row.sequence}
	case alive && ask.ValidFrom < earliest:
		return &Rejection{Code: TooSoon, Time: earliest, Service: ask.Service}
	case exists && (row.current.Node != identity.NodeID{} && row.current.Node != ask.Node || row.next.Node != identity.NodeID{} && row.next.Node != ask.Node):
		return reject(NotAllowed, "another node's ask stands under half of this node's key")
	}
	if !alive {
		row.current = voucher.Ask{}
	}
	row.next, row.withdrawn, row.sequence = ask, false, ask.Sequence
	row.until = max(row.until, ask.ValidTo) // remembers the sequence as long as an ask under it could come again
	if !exists {
		row.following = x.fallsDue(ref, row.until)
	}
	x.setAsk(ref, &row)
	x.listAsk(&ask)
	return nil
}

func (x *execution) setAsk(r reference, row *askRow) {
	if x.err == nil {
		x.state.set(x.keyOf(r), x.made(row.append(x.room(askRowSize))))
	}
}

// askDue forgets what is asked when nothing of it is valid any more.
func (x *execution) askDue(r reference) reference {
	row, exists := x.ask(r)
	if !exists {
		x.fail(errMissing("ask"))
		return reference{}
	}
	following := row.following
	if x.time <= row.until {
		row.following = x.fallsDue(r, row.until)
		x.setAsk(r, &row)
	} else {
		x.state.set(x.keyOf(r), nil)
		x.unlistAsk(&row)
	}
	return following
}
