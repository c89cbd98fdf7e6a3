package cashier

import (
	"crypto/sha256"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Some accounts hold what belongs to many: their IDs are hashes of a text, nobody can
// sign for them, and nobody pays into them but by the operations they are for. What
// such an account has is always the sum of the rows that say whose it is.

// StakeAccount is the account that holds what is staked.
func StakeAccount(network identity.NetworkID) identity.AccountID {
	return specialAccount("stake", network)
}

// UnbondingAccount is the account that holds what was taken out of stakes and is on
// its way back.
func UnbondingAccount(network identity.NetworkID) identity.AccountID {
	return specialAccount("unbonding", network)
}

// NamesAccount is the account that holds the deposits of commits.
func NamesAccount(network identity.NetworkID) identity.AccountID {
	return specialAccount("names", network)
}

func specialAccount(what string, network identity.NetworkID) identity.AccountID {
	s := sha256.New()
	s.Write([]byte("scn/ledger/v1 " + what + " account"))
	s.Write(network[:])
	return identity.AccountID(s.Sum(nil))
}

// specialAccounts are all of them but the supply account.
func specialAccounts(network identity.NetworkID) []identity.AccountID {
	return []identity.AccountID{
		EscrowAccount(network), VestingAccount(network), StakeAccount(network), UnbondingAccount(network), NamesAccount(network),
		InspectionAccount(network),
	}
}

// payable refuses a payment into a special account.
func (x *execution) payable(to identity.AccountID) *Rejection {
	for i := range x.special { // none under rules that do not know them
		if x.special[i] == to {
			return reject(NotAllowed, "an account of the ledger's own, which nobody pays into")
		}
	}
	return nil
}

// beginMarket does what has to be done once, in the first block under the rules that
// know special accounts: whatever was paid into one before goes to the treasury.
func (x *execution) beginMarket() {
	x.special = specialAccounts(x.network)
	if x.get(leaseStartKey) != nil || x.err != nil {
		return
	}
	x.state.set(leaseStartKey, appendUint64(nil, uint64(x.time)))
	treasury := x.parameters.treasury(x.network)
	for _, id := range x.special {
		if c, _ := x.counters(id); c.Available() > 0 && treasury != id {
			if r := x.move(id, treasury, movement{post: c.Available()}); r != nil {
				x.breakInvariant("what an account has can be paid", "%v", r)
			}
		}
	}
}

// sum loads a row that is one amount, 0 where there is none.
func (x *execution) sum(key []byte) voucher.Amount {
	b := x.get(key)
	if b == nil {
		return 0
	}
	v, err := decodeSum(b)
	x.fail(err)
	return v
}

// assertHolds asserts that a special account has what the rows say.
func (x *execution) assertHolds(id identity.AccountID, want voucher.Amount, what string) {
	if c, _ := x.counters(id); x.err == nil && (c.Balance() != want || c.DebitsPending != 0) {
		x.breakInvariant("a special account has what its rows add up to", "%s: %d, account %s has %+v", what, want, id, c)
	}
}
