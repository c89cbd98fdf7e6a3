package cashier

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// maxGenesisBalances bounds the accounts a ledger can begin with: a Genesis must fit
// an envelope.
const maxGenesisBalances = 1024

// Genesis is what a ledger begins with. Together with the blocks it is all there
// is to know: everything else follows.
//
// Rules for adding a field: next integer key, omitzero, and the zero value means
// what was true before the field existed.
type Genesis struct {
	Parameters Parameters `cbor:"1,keyasint"`
	// Rules say from which height on which rules hold.
	Rules []RulesChange `cbor:"2,keyasint"`
	// Balances are issued before the first block, in ascending order of accounts.
	Balances []GenesisBalance `cbor:"3,keyasint,omitempty"`
}

// GenesisBalance is what one account begins with.
type GenesisBalance struct {
	Account identity.AccountID `cbor:"1,keyasint"`
	Amount  voucher.Amount     `cbor:"2,keyasint"`
}

// NewGenesis returns the beginning of a ledger under the newest rules. Balances
// come in any order, one per account.
func NewGenesis(p Parameters, balances ...GenesisBalance) Genesis {
	sorted := slices.Clone(balances)
	slices.SortFunc(sorted, func(a, b GenesisBalance) int { return slices.Compare(a.Account[:], b.Account[:]) })
	return Genesis{Parameters: p, Rules: []RulesChange{{1, RulesVersion}}, Balances: sorted}
}

// Validate reports all that is wrong with the beginning of a ledger of a network.
func (g Genesis) Validate(network identity.NetworkID) error {
	errs := []error{g.Parameters.Validate(), schedule(g.Rules).validate()}
	if len(g.Balances) > maxGenesisBalances {
		errs = append(errs, fmt.Errorf("cashier: %d genesis balances, at most %d", len(g.Balances), maxGenesisBalances))
	}
	special := specialAccounts(network)
	if slices.Contains(special, g.Parameters.Treasury) || slices.Contains(special, g.Parameters.Issuer) {
		errs = append(errs, errors.New("cashier: treasury or issuer is an account of the ledger's own"))
	}
	var sum voucher.Amount
	for i, b := range g.Balances {
		next, fits := sum.Add(b.Amount)
		sum = next
		switch {
		case b.Account.IsZero() || b.Account == SupplyAccount(network) || slices.Contains(special, b.Account):
			errs = append(errs, errors.New("cashier: genesis balance of an account nobody has"))
		case b.Amount == 0:
			errs = append(errs, fmt.Errorf("cashier: genesis balance of %s is zero", b.Account))
		case i > 0 && slices.Compare(g.Balances[i-1].Account[:], b.Account[:]) >= 0:
			errs = append(errs, fmt.Errorf("cashier: genesis balance of %s twice or out of order", b.Account))
		case !fits:
			return errors.Join(append(errs, errors.New("cashier: genesis balances overflow"))...)
		}
	}
	if sum > g.Parameters.SupplyCap {
		errs = append(errs, fmt.Errorf("cashier: genesis balances of %s together, above the cap of %s", sum, g.Parameters.SupplyCap))
	}
	return errors.Join(errs...)
}

// hash identifies the beginning as it stands in a store.
func genesisHash(encoded []byte) (out Hash) {
	s := sha256.New()
	s.Write([]byte("scn/ledger/v1 genesis"))
	s.Write(encoded)
	s.Sum(out[:0])
	return out
}

// start returns the rows before the first block and their app hash. The schedule
// of the rules is no row: blocks carry their version.
func (g Genesis) start(network identity.NetworkID) ([]Change, Hash, error) {
	if err := g.Validate(network); err != nil {
		return nil, Hash{}, err
	}
	base := newOverlay(memory{}, len(g.Balances))
	base.set(parametersKey, mustEncode(g.Parameters))
	if len(g.Balances) > 0 {
		x, err := begin(base, Header{Network: network, Version: rulesMoney}, len(g.Balances))
		if err != nil {
			return nil, Hash{}, err
		}
		for _, b := range g.Balances {
			if r := x.issue(b.Account, b.Amount); r != nil || x.err != nil {
				return nil, Hash{}, errors.Join(x.err, r.orNil())
			}
		}
		for _, c := range x.finish() {
			base.set(c.Key, c.Value)
		}
	}
	changes := base.sorted()
	return changes, chainChanges(allRows, Hash(network), 0, changes), nil
}
