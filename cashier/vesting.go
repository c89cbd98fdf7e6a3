package cashier

import (
	"encoding/binary"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// A share of every settlement may be paid out later, to leave something to lose while
// a provider's work is judged. What one account earns within an epoch is one row,
// released when so many whole epochs have passed after that one.

// vestingRow is what is released to an account at a time.
type vestingRow struct {
	amount voucher.Amount
	next   reference
}

const vestingRowSize = 8 + referenceSize

func (v vestingRow) append(b []byte) []byte {
	return v.next.append(appendUint64(b, uint64(v.amount)))
}

func decodeVesting(b []byte) (vestingRow, error) {
	if len(b) != vestingRowSize {
		return vestingRow{}, fmt.Errorf("%w: vesting row of %d bytes", ErrCorrupt, len(b))
	}
	next, err := decodeReference(b[8:])
	return vestingRow{voucher.Amount(binary.BigEndian.Uint64(b)), next}, err
}

// vestingReference names the row of an account and a time, which stands in the last 8
// bytes of the ID.
func vestingReference(a identity.AccountID, at int64) reference {
	r := reference{kind: vestingRef, account: a}
	binary.BigEndian.PutUint64(r.id[8:], uint64(at))
	return r
}

// vestsAt returns when what is earned now is released.
func (p Parameters) vestsAt(now int64) int64 {
	return (now/p.epochSeconds() + 1 + int64(p.VestingEpochs)) * p.epochSeconds()
}

// vest puts an amount from escrow aside for an account.
func (x *execution) vest(to identity.AccountID, amount voucher.Amount) *Rejection {
	if r := x.fromEscrow(x.vesting, amount); r != nil || x.err != nil {
		return r
	}
	at := x.parameters.vestsAt(x.time)
	ref := vestingReference(to, at)
	var row vestingRow
	if b := x.get(x.keyOf(ref)); b != nil {
		var err error
		row, err = decodeVesting(b)
		x.fail(err)
	} else {
		row.next = x.fallsDue(ref, at)
	}
	row.amount += amount // no more than the vesting account has, which fits
	x.market.vesting += amount
	x.state.set(x.keyOf(ref), x.made(row.append(x.room(vestingRowSize))))
	return nil
}

// release pays out what has vested: the part the account's score earns it, and the
// rest to the treasury.
func (x *execution) release(r reference) reference {
	b := x.get(x.keyOf(r))
	if b == nil {
		x.fail(errMissing("vesting row"))
		return reference{}
	}
	row, err := decodeVesting(b)
	x.fail(err)
	earned := share(row.amount, x.vestingScore(r.account))
	for _, m := range [...]struct {
		to     identity.AccountID
		amount voucher.Amount
	}{{r.account, earned}, {x.parameters.treasury(x.network), row.amount - earned}} {
		if m.amount == 0 || x.err != nil {
			continue
		}
		if rejection := x.move(x.vesting, m.to, movement{post: m.amount}); rejection != nil {
			x.breakInvariant("what vests can be paid out", "%v", rejection)
		}
	}
	rest, ok := x.market.vesting.Sub(row.amount)
	if !ok {
		x.breakInvariant("what vests is the sum over all rows", "%d in all, %d in a row", x.market.vesting, row.amount)
	}
	x.market.vesting = rest
	x.state.set(x.keyOf(r), nil)
	x.assertMarket()
	return row.next
}

// vestingScore is which part of what vests an account gets, in parts per million. It
// depends on the state alone. Nothing judges a provider's work yet, so it is all.
func (x *execution) vestingScore(identity.AccountID) uint32 { return million }
