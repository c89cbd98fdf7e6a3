package cashier

import (
	"errors"
	"fmt"

	"scn.alt/scn/routing/identity"
)

// ErrInvariant is matched by *InvariantError.
var ErrInvariant = errors.New("cashier: a rule that always holds is broken")

// InvariantError is a fault of the ledger's own: after a movement of money a rule
// that always holds did not. The ledger stops, since whatever it did next would
// rest on wrong sums. It matches ErrInvariant and ErrCorrupt.
type InvariantError struct {
	// Rule says what does not hold.
	Rule string
	// Height is the block in the making; Transaction and Signed the one judged.
	Height      uint64
	Transaction Hash
	Signed      []byte
	// Evidence holds the rows concerned, as they were found and as they became.
	Evidence string
}

// Error tells all, so that a log has the evidence.
func (e *InvariantError) Error() string {
	return fmt.Sprintf("%v: %s; block %d, transaction %s: %s; signed %x", ErrInvariant, e.Rule, e.Height, e.Transaction, e.Evidence, e.Signed)
}

// Is makes errors.Is true for ErrInvariant and ErrCorrupt.
func (e *InvariantError) Is(target error) bool { return target == ErrInvariant || target == ErrCorrupt }

// breakInvariant stops the execution with what is known, unless it stopped before.
func (x *execution) breakInvariant(rule, format string, args ...any) {
	if x.err != nil {
		return
	}
	e := &InvariantError{Rule: rule, Height: x.height, Evidence: fmt.Sprintf(format, args...)}
	if x.tx != nil {
		e.Transaction, e.Signed = x.tx.id, x.tx.signed
	}
	x.err = e
}

// record takes the change of one account into the totals and asserts what must
// hold of it. The totals are kept from the rows as they became, not from what the
// movement meant to do: so a movement that did something else is found out.
func (x *execution) record(id identity.AccountID, was, is Counters) {
	t := &x.totals
	t.debitsPending = t.debitsPending.change(was.DebitsPending, is.DebitsPending)
	t.debitsPosted = t.debitsPosted.change(was.DebitsPosted, is.DebitsPosted)
	t.creditsPending = t.creditsPending.change(was.CreditsPending, is.CreditsPending)
	t.creditsPosted = t.creditsPosted.change(was.CreditsPosted, is.CreditsPosted)
	if is.DebitsPosted < was.DebitsPosted || is.CreditsPosted < was.CreditsPosted {
		x.breakInvariant("what was posted never falls", "account %s: %+v became %+v", id, was, is)
	}
	if id == x.supply {
		if is.DebitsPending != 0 || is.CreditsPending != 0 || is.DebitsPosted != t.issued || is.CreditsPosted != t.redeemed {
			x.breakInvariant("the supply account is what was issued and redeemed", "account %+v, issued %d, redeemed %d", is, t.issued, t.redeemed)
		}
		return
	}
	if _, ok := is.available(); !ok {
		x.breakInvariant("no account is below zero, what it has reserved included", "account %s: %+v became %+v", id, was, is)
	}
}

// assertBalanced asserts what must hold after every movement.
func (x *execution) assertBalanced() {
	t := &x.totals
	switch {
	case t.debitsPosted != t.creditsPosted:
		x.breakInvariant("debits and credits are equal", "debits %s, credits %s", t.debitsPosted, t.creditsPosted)
	case t.debitsPending != t.creditsPending:
		x.breakInvariant("reserved debits and credits are equal", "debits %s, credits %s", t.debitsPending, t.creditsPending)
	case t.redeemed > t.issued:
		x.breakInvariant("no more is redeemed than was issued", "issued %d, redeemed %d", t.issued, t.redeemed)
	}
}
