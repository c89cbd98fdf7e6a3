package cashier

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// A share of every settlement may be paid out later, to leave something to lose while
// a provider's work is judged. What one account earns within an epoch is one row,
// released when so many whole epochs have passed after that one; where providers are
// inspected, what it earns with each of them.

// providerID is a node that provides a service.
type providerID struct {
	service identity.ServiceID
	node    identity.NodeID
}

// vestingRow is what is released to an account at a time. of is zero for what was
// earned while nobody was inspected.
type vestingRow struct {
	amount voucher.Amount
	of     providerID
	next   reference
}

// A row is that size where it names a provider, and without the provider where not.
const vestingRowSize = 8 + referenceSize + 2*identity.Size

func (v vestingRow) append(b []byte) []byte {
	b = v.next.append(appendUint64(b, uint64(v.amount)))
	if v.of == (providerID{}) {
		return b
	}
	return append(append(b, v.of.service[:]...), v.of.node[:]...)
}

func decodeVesting(b []byte) (vestingRow, error) {
	const plain = vestingRowSize - 2*identity.Size
	var of providerID
	switch len(b) {
	case vestingRowSize:
		of = providerID{identity.ServiceID(b[plain : plain+identity.Size]), identity.NodeID(b[plain+identity.Size:])}
		if of == (providerID{}) {
			return vestingRow{}, fmt.Errorf("%w: vesting row of no provider", ErrCorrupt)
		}
	case plain:
	default:
		return vestingRow{}, fmt.Errorf("%w: vesting row of %d bytes", ErrCorrupt, len(b))
	}
	next, err := decodeReference(b[8:plain])
	return vestingRow{voucher.Amount(binary.BigEndian.Uint64(b)), of, next}, err
}

// vestingReference names the row of an account, a provider and a time, which stands in
// the last 8 bytes of the ID.
func vestingReference(a identity.AccountID, of providerID, at int64) reference {
	r := reference{kind: vestingRef, account: a}
	if of != (providerID{}) {
		h := sha256.Sum256(append(append([]byte("scn/ledger/v1 vesting"), of.service[:]...), of.node[:]...))
		copy(r.id[:8], h[:])
	}
	binary.BigEndian.PutUint64(r.id[8:], uint64(at))
	return r
}

// vestsAt returns when what is earned now is released.
func (p Parameters) vestsAt(now int64) int64 {
	return (now/p.epochSeconds() + 1 + int64(p.VestingEpochs)) * p.epochSeconds()
}

// vest puts an amount from escrow aside for an account.
func (x *execution) vest(to identity.AccountID, of providerID, amount voucher.Amount) *Rejection {
	if r := x.fromEscrow(x.vesting, amount); r != nil || x.err != nil {
		return r
	}
	at := x.parameters.vestsAt(x.time)
	ref := vestingReference(to, of, at)
	row := vestingRow{of: of}
	for {
		b := x.get(x.keyOf(ref))
		if b == nil {
			row.next = x.fallsDue(ref, at)
			break
		}
		had, err := decodeVesting(b)
		x.fail(err)
		if had.of == of || x.err != nil {
			row = had
			break
		}
		// Another provider's, whose hash begins alike.
		binary.BigEndian.PutUint64(ref.id[:], binary.BigEndian.Uint64(ref.id[:])+1)
	}
	row.amount += amount // no more than the vesting account has, which fits
	x.market.vesting += amount
	x.state.set(x.keyOf(ref), x.made(row.append(x.room(vestingRowSize))))
	return nil
}

// release pays out what has vested: the part the provider's score earns it. The rest
// leaves the world: nobody is to gain by another's bad score.
func (x *execution) release(r reference) reference {
	b := x.get(x.keyOf(r))
	if b == nil {
		x.fail(errMissing("vesting row"))
		return reference{}
	}
	row, err := decodeVesting(b)
	x.fail(err)
	paid, burnt := evidence.Release(uint64(row.amount), x.vestingScore(row.of))
	if paid > 0 && x.err == nil {
		if rejection := x.move(x.vesting, r.account, movement{post: voucher.Amount(paid)}); rejection != nil {
			x.breakInvariant("what vests can be paid out", "%v", rejection)
		}
	}
	if burnt > 0 && x.err == nil {
		if rejection := x.redeem(x.vesting, voucher.Amount(burnt)); rejection != nil {
			x.breakInvariant("what vests can be taken out of the world", "%v", rejection)
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

// vestingScore is which part of what vests a provider gets, in parts per million: its
// score, or that of a newcomer where it was never listed. While there are no inspectors
// it is all.
func (x *execution) vestingScore(of providerID) uint32 {
	if of == (providerID{}) || !x.inspecting || x.inspection.Inspectors == 0 {
		return million
	}
	var row listingRow
	if load(x, listingKey(of.service, of.node), &row) {
		_, standing, err := row.open()
		x.fail(err)
		return standing.Score
	}
	rules := x.parameters.inspection()
	return evidence.NewStanding(&rules, evidence.Provider{Service: of.service, Node: of.node}, x.inspection.Epoch).Score
}
