package cashier

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// The life of a stake:
//
//	        Stake             Unstake               the unbonding time passes
//	 free ─────────► staked ───────────► unbonding ─────────────────────────► free
//
// What unbonds is out of use, and still there to be judged: the time is longer than
// any window in which something can be proved against its owner. Staked money is in
// the stake account, unbonding money in the unbonding account; a row says how much
// of each is whose.

// Limits of the unbonding time and of the recovery delay, in seconds.
const (
	defaultUnbonding = 7 * 24 * 60 * 60
	defaultRecovery  = 7 * 24 * 60 * 60
	minDelay         = 60 * 60
	maxDelay         = 90 * 24 * 60 * 60
)

// validateDelays reports what is wrong with the rules about stakes and keys.
func (p Parameters) validateDelays() error {
	var errs []error
	if p.Unbonding != 0 && (p.Unbonding < minDelay || p.Unbonding > maxDelay) {
		errs = append(errs, fmt.Errorf("cashier: Unbonding %d s, want 1 hour to 90 days", p.Unbonding))
	}
	if p.RecoveryDelay != 0 && (p.RecoveryDelay < minDelay || p.RecoveryDelay > maxDelay) {
		errs = append(errs, fmt.Errorf("cashier: RecoveryDelay %d s, want 1 hour to 90 days", p.RecoveryDelay))
	}
	return errors.Join(errs...)
}

func (p Parameters) unbonding() int64 {
	if p.Unbonding == 0 {
		return defaultUnbonding
	}
	return p.Unbonding
}

// maxUnbondings is how many amounts of one account unbond at once: so that what an
// account has can be shown whole.
const maxUnbondings = 64

// Stake puts money of the signer's aside as a pledge.
type Stake struct {
	ID     voucher.TransferID `cbor:"1,keyasint"`
	Amount voucher.Amount     `cbor:"2,keyasint"`
}

// Unstake takes an amount out of the signer's stake. It comes back when the
// unbonding time has passed.
type Unstake struct {
	ID     voucher.TransferID `cbor:"1,keyasint"`
	Amount voucher.Amount     `cbor:"2,keyasint"`
}

// Kind implements Operation.
func (Stake) Kind() Kind { return KindStake }

// Kind implements Operation.
func (Unstake) Kind() Kind { return KindUnstake }

func (o Stake) transferID() voucher.TransferID   { return o.ID }
func (o Unstake) transferID() voucher.TransferID { return o.ID }

func (o Stake) check(tx *Transaction) *Rejection {
	if o.Amount == 0 {
		return &Rejection{Code: ZeroAmount}
	}
	return checkIdentified(tx, o.ID)
}

func (o Unstake) check(tx *Transaction) *Rejection {
	if o.Amount == 0 {
		return &Rejection{Code: ZeroAmount}
	}
	return checkIdentified(tx, o.ID)
}

// stakeRow is what an account has staked and what of it unbonds, in so many amounts.
// The row of all accounts together has the same form.
type stakeRow struct {
	staked, unbonding voucher.Amount
	amounts           uint64
}

const stakeRowSize = 3 * 8

func (s stakeRow) encode() []byte {
	return appendUint64(appendUint64(appendUint64(nil, uint64(s.staked)), uint64(s.unbonding)), s.amounts)
}

func decodeStake(b []byte) (stakeRow, error) {
	if len(b) != stakeRowSize {
		return stakeRow{}, fmt.Errorf("%w: stake row of %d bytes", ErrCorrupt, len(b))
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	return stakeRow{voucher.Amount(n(0)), voucher.Amount(n(1)), n(2)}, nil
}

// unbondingRow is an amount on its way back.
type unbondingRow struct {
	amount voucher.Amount
	since  int64
	due    int64
	next   reference
}

const unbondingRowSize = 3*8 + referenceSize

func (u unbondingRow) encode() []byte {
	b := appendUint64(make([]byte, 0, unbondingRowSize), uint64(u.amount))
	return u.next.append(appendUint64(appendUint64(b, uint64(u.since)), uint64(u.due)))
}

func decodeUnbonding(b []byte) (unbondingRow, error) {
	if len(b) != unbondingRowSize {
		return unbondingRow{}, fmt.Errorf("%w: unbonding row of %d bytes", ErrCorrupt, len(b))
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	next, err := decodeReference(b[24:])
	return unbondingRow{voucher.Amount(n(0)), int64(n(1)), int64(n(2)), next}, err
}

// stakesKey is the row of all stakes together.
var stakesKey = []byte{stakeRef}

func stakeKey(a identity.AccountID) []byte { return append([]byte{stakeRef}, a[:]...) }

// stakeOf loads a row of stakes, zeros where there is none.
func (x *execution) stakeOf(key []byte) stakeRow {
	b := x.get(key)
	if b == nil {
		return stakeRow{}
	}
	s, err := decodeStake(b)
	x.fail(err)
	return s
}

// stakeChange is what an operation does to the stake of an account.
type stakeChange struct {
	stake, unstake, unbond, release voucher.Amount
}

// changeStake takes a change into the account's row and the row of all, and asserts
// that they are what the special accounts have. What is taken out must be there.
func (x *execution) changeStake(account identity.AccountID, c stakeChange) {
	for _, key := range [...][]byte{stakeKey(account), stakesKey} {
		s := x.stakeOf(key)
		fits := true
		change := func(v *voucher.Amount, add, sub voucher.Amount) {
			sum, ok := v.Add(add)
			rest, enough := sum.Sub(sub)
			*v, fits = rest, fits && ok && enough
		}
		change(&s.staked, c.stake, c.unstake)
		change(&s.unbonding, c.unbond, c.release)
		if c.unbond > 0 {
			s.amounts++
		}
		if c.release > 0 {
			s.amounts--
		}
		if !fits {
			x.breakInvariant("what is taken out of a stake was staked", "account %s: %+v by %+v", account, s, c)
			return
		}
		if s == (stakeRow{}) {
			x.state.set(key, nil)
		} else {
			x.state.set(key, s.encode())
		}
	}
	all := x.stakeOf(stakesKey)
	x.assertHolds(StakeAccount(x.network), all.staked, "stakes")
	x.assertHolds(UnbondingAccount(x.network), all.unbonding, "stakes that unbond")
}

func (o Stake) apply(x *execution, tx *Transaction) *Rejection {
	if r := x.move(tx.Account, StakeAccount(x.network), movement{post: o.Amount}); r != nil || x.err != nil {
		return r
	}
	x.changeStake(tx.Account, stakeChange{stake: o.Amount})
	return nil
}

func (o Unstake) apply(x *execution, tx *Transaction) *Rejection {
	s := x.stakeOf(stakeKey(tx.Account))
	self := reference{kind: stakeRef, account: tx.Account, id: o.ID}
	switch {
	case x.err != nil:
		return nil
	case s.staked < o.Amount:
		return &Rejection{Code: NotStaked, Account: tx.Account, Available: s.staked}
	case s.amounts >= maxUnbondings:
		return reject(TooManyUnbondings, "at most %d at once", maxUnbondings)
	case x.get(x.keyOf(self)) != nil: // it outlives the memory of its transaction's ID
		return &Rejection{Code: DuplicateID, Detail: "it names an amount that unbonds"}
	}
	if r := x.move(StakeAccount(x.network), UnbondingAccount(x.network), movement{post: o.Amount}); r != nil || x.err != nil {
		return r
	}
	x.changeStake(tx.Account, stakeChange{unstake: o.Amount, unbond: o.Amount})
	u := unbondingRow{amount: o.Amount, since: x.time, due: x.time + x.parameters.unbonding()}
	u.next = x.fallsDue(self, u.due)
	x.state.set(x.keyOf(self), u.encode())
	return nil
}

// endUnbonding gives an amount back whose time has passed.
func (x *execution) endUnbonding(r reference) reference {
	b := x.get(x.keyOf(r))
	if b == nil {
		x.fail(fmt.Errorf("%w: an unbonding that falls due does not exist", ErrCorrupt))
		return reference{}
	}
	u, err := decodeUnbonding(b)
	x.fail(err)
	if x.err != nil {
		return reference{}
	}
	if rejection := x.move(UnbondingAccount(x.network), r.account, movement{post: u.amount}); rejection != nil {
		x.breakInvariant("what unbonds can be given back", "%v", rejection)
	}
	x.changeStake(r.account, stakeChange{release: u.amount})
	x.state.set(x.keyOf(r), nil)
	return u.next
}

// sumStakes adds up what every account has staked and what unbonds, and compares the
// sums with those kept from block to block and with the special accounts.
func sumStakes(s rows, network identity.NetworkID) error {
	var all, sum, each stakeRow
	var failure error
	err := s.scan([]byte{stakeRef}, nil, func(key, value []byte) bool {
		switch len(key) {
		case 1:
			all, failure = decodeStake(value)
		case 1 + identity.Size:
			var row stakeRow
			row, failure = decodeStake(value)
			sum.staked, sum.unbonding, sum.amounts = sum.staked+row.staked, sum.unbonding+row.unbonding, sum.amounts+row.amounts
		default:
			var row unbondingRow
			row, failure = decodeUnbonding(value)
			each.unbonding, each.amounts = each.unbonding+row.amount, each.amounts+1
		}
		return failure == nil
	})
	if err := errors.Join(failure, err); err != nil {
		return err
	}
	staked, err := readCounters(s, StakeAccount(network))
	if err != nil {
		return err
	}
	unbonding, err := readCounters(s, UnbondingAccount(network))
	if err != nil {
		return err
	}
	each.staked = staked.Balance()
	if sum != all || each != all || unbonding.Balance() != all.unbonding {
		return fmt.Errorf("%w: stakes add up to %+v, amounts that unbond to %+v, the sums are %+v, unbonding money %d", ErrCorrupt, sum, each, all, unbonding.Balance())
	}
	return nil
}

// readStake reads what an account has staked, and what of it unbonds.
func readStake(s rows, id identity.AccountID) (staked voucher.Amount, out []UnbondingAmount, err error) {
	b, err := s.Get(stakeKey(id))
	if b == nil || err != nil {
		return 0, nil, err
	}
	row, err := decodeStake(b)
	if err != nil || row.amounts == 0 {
		return row.staked, nil, err
	}
	var failure error
	prefix := stakeKey(id)
	err = s.scan(prefix, prefix, func(key, value []byte) bool {
		var u unbondingRow
		if u, failure = decodeUnbonding(value); failure == nil {
			out = append(out, UnbondingAmount{voucher.TransferID(key[len(prefix):]), u.amount, u.since, u.due})
		}
		return failure == nil
	})
	slices.SortStableFunc(out, func(a, b UnbondingAmount) int { return cmp.Compare(a.Due, b.Due) })
	return row.staked, out, errors.Join(failure, err)
}
