package cashier

import (
	"errors"
	"fmt"
)

// The versions of the rules blocks are made by. A block's header says which; a
// change of the rules is the next number, from a height stated beforehand on, so
// that every replay judges every block as it was judged then.
const (
	// rulesNames are the first rules: names and parameters.
	rulesNames = 1
	// rulesMoney add accounts, transfers and the supply of money.
	rulesMoney = 2
	// rulesMarket add payment channels and what they rest on: asks, stakes, keys that
	// change, leases of names, and roots that proofs lead to.
	rulesMarket = 3

	// RulesVersion is the newest version this program knows.
	RulesVersion = rulesMarket
)

// RulesChange says from which height on a version of the rules holds.
type RulesChange struct {
	From    uint64 `cbor:"1,keyasint"`
	Version uint64 `cbor:"2,keyasint"`
}

// schedule is the rules of a ledger's whole life, the oldest first.
type schedule []RulesChange

// at returns the version that holds at a height, 0 below the first.
func (s schedule) at(height uint64) (version uint64) {
	for _, c := range s {
		if c.From > height {
			break
		}
		version = c.Version
	}
	return version
}

func (s schedule) validate() error {
	if len(s) == 0 || s[0].From != 1 {
		return errors.New("cashier: no rules for the first block")
	}
	for i, c := range s {
		switch {
		case c.Version < 1:
			return errors.New("cashier: rules of version 0")
		case c.Version > RulesVersion:
			return fmt.Errorf("%w: rules of version %d, this program knows %d", ErrFormat, c.Version, RulesVersion)
		case i > 0 && (c.From <= s[i-1].From || c.Version <= s[i-1].Version):
			return fmt.Errorf("cashier: rules of version %d at height %d do not follow", c.Version, c.From)
		}
	}
	return nil
}
