package cashier

import (
	"errors"
	"fmt"
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
}

// DefaultParameters returns the parameters of a new ledger.
func DefaultParameters() Parameters { return Parameters{MaxNames: 64} }

// Validate reports all that is wrong with the parameters.
func (p Parameters) Validate() error {
	var errs []error
	if p.MaxNames < 1 || p.MaxNames > 1_000_000 {
		errs = append(errs, fmt.Errorf("cashier: MaxNames %d, want 1 to 1000000", p.MaxNames))
	}
	return errors.Join(errs...)
}
