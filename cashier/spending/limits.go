package spending

import (
	"errors"
	"fmt"

	"scn.alt/scn/cashier/voucher"
)

// Unlimited is the limit that none exceeds.
const Unlimited = voucher.MaxAmount

// Limits are what a node may spend by itself. The zero value pays for nothing.
type Limits struct {
	// MaxPerGiB and MaxPerHour are the dearest prices accepted. Unlimited: any.
	MaxPerGiB, MaxPerHour voucher.Amount
	// PerService is what one service may cost in a day, PerDay what all of them may
	// together. Unlimited: anything; 0: nothing.
	PerService, PerDay voucher.Amount
	// Deposit goes into a new channel, less if the budget has less. Above 0 where
	// there is a budget.
	Deposit voucher.Amount
}

// Validate reports every fault of the limits.
func (l Limits) Validate() error {
	var errs []error
	if l.Pays() && l.Deposit == 0 {
		errs = append(errs, errors.New("spending: a deposit of 0 pays for nothing"))
	}
	return errors.Join(errs...)
}

// Pays reports whether anything may be spent at all.
func (l Limits) Pays() bool { return l.PerService > 0 && l.PerDay > 0 }

// Check says whether a price is accepted: nil, or a *PriceError.
func (l Limits) Check(p voucher.Price) error {
	switch {
	case p.PerGiB > l.MaxPerGiB:
		return &PriceError{Asked: p.PerGiB, Max: l.MaxPerGiB, Unit: "GiB"}
	case p.PerHour > l.MaxPerHour:
		return &PriceError{Asked: p.PerHour, Max: l.MaxPerHour, Unit: "hour"}
	}
	return nil
}

// ErrPrice is what every *PriceError is.
var ErrPrice = errors.New("spending: dearer than the settings allow")

// ErrBudget is what every *BudgetError is.
var ErrBudget = errors.New("spending: beyond the budget")

// PriceError is returned for a price above the settings'.
type PriceError struct {
	Asked, Max voucher.Amount
	Unit       string // "GiB" or "hour"
}

// Error implements error.
func (e *PriceError) Error() string {
	return fmt.Sprintf("the provider asks %s per %s, the settings allow %s", e.Asked, e.Unit, e.Max)
}

// Is makes it ErrPrice.
func (e *PriceError) Is(target error) bool { return target == ErrPrice }

// BudgetError is returned where the budget leaves less than is needed.
type BudgetError struct {
	// Scope is "this service" or "all services".
	Scope string
	// Spent was spent today, Committed lies in open channels, Needed is asked for.
	Budget, Spent, Committed, Needed voucher.Amount
}

// Error implements error.
func (e *BudgetError) Error() string {
	if e.Budget == 0 {
		return fmt.Sprintf("the budget for %s is 0 credits a day", e.Scope)
	}
	return fmt.Sprintf("the budget for %s is %s credits a day; %s are spent and %s lie in open channels, %s more are needed",
		e.Scope, e.Budget, e.Spent, e.Committed, e.Needed)
}

// Is makes it ErrBudget.
func (e *BudgetError) Is(target error) bool { return target == ErrBudget }
