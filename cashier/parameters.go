package cashier

import (
	"errors"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Parameters are the rules of a ledger its founder sets: at its first block, and
// later by SetParameters. They are part of the state, so every replay follows the
// same rules at the same height.
//
// Rules for adding a field: next integer key, omitzero, and the zero value means
// what was true before the field existed.
type Parameters struct {
	// MaxNames is how many names one account may hold, offers not counted.
	// Default 64; 1 to 1,000,000. Fewer would stop an honest operator, more would
	// let one account fill the books.
	MaxNames uint32 `cbor:"1,keyasint"`
	// SupplyCap is the most money there may be at once. 0: none may be issued.
	// Default 1,000,000,000 credits.
	SupplyCap voucher.Amount `cbor:"2,keyasint,omitzero"`
	// TransferFee is what a transfer costs its signer besides, paid to the treasury.
	// Default 0, at most one credit.
	TransferFee voucher.Amount `cbor:"3,keyasint,omitzero"`
	// Issuer is the account that issues and redeems money, Treasury the one fees go
	// to. Zero: the network's own key.
	Issuer   identity.AccountID `cbor:"4,keyasint,omitzero"`
	Treasury identity.AccountID `cbor:"5,keyasint,omitzero"`
}

// DefaultParameters returns the parameters of a new ledger. Nothing costs
// anything, so a newcomer needs no money.
func DefaultParameters() Parameters {
	return Parameters{MaxNames: 64, SupplyCap: 1_000_000_000 * voucher.Credit}
}

// Validate reports all that is wrong with the parameters.
func (p Parameters) Validate() error {
	var errs []error
	if p.MaxNames < 1 || p.MaxNames > 1_000_000 {
		errs = append(errs, fmt.Errorf("cashier: MaxNames %d, want 1 to 1000000", p.MaxNames))
	}
	if p.TransferFee > voucher.Credit {
		errs = append(errs, fmt.Errorf("cashier: TransferFee %s, want at most %s", p.TransferFee, voucher.Credit))
	}
	return errors.Join(errs...)
}

// rules returns the first version of the rules that knows all that is set.
func (p Parameters) rules() uint64 {
	switch p {
	case Parameters{MaxNames: p.MaxNames}:
		return rulesNames
	case Parameters{MaxNames: p.MaxNames, SupplyCap: p.SupplyCap, TransferFee: p.TransferFee, Issuer: p.Issuer, Treasury: p.Treasury}:
		return rulesMoney
	}
	return rulesMarket
}

func (p Parameters) issuer(network identity.NetworkID) identity.AccountID {
	if p.Issuer.IsZero() {
		return identity.AccountID(network)
	}
	return p.Issuer
}

func (p Parameters) treasury(network identity.NetworkID) identity.AccountID {
	if p.Treasury.IsZero() {
		return identity.AccountID(network)
	}
	return p.Treasury
}
