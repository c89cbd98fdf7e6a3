package cashier

import (
	"sync"
	"sync/atomic"

	"scn.alt/scn/routing/identity"
)

// allowance counts what accounts do for free in an epoch, where the parameters
// limit that. It decides who is heard, not what is right: blocks know nothing of
// it. Its memory is bounded by the accounts that have money.
type allowance struct {
	parameters atomic.Pointer[Parameters] // the newest; set by the engine

	mu    sync.Mutex
	epoch int64                         // guarded by mu
	used  map[identity.AccountID]uint32 // guarded by mu: in the epoch
}

// take takes one of an account's free transactions of the epoch at a time, in Unix
// seconds. It returns how many seconds to wait when there is none left.
func (a *allowance) take(account identity.AccountID, free uint32, seconds, now int64) (wait int64, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := now / seconds; a.used == nil || e != a.epoch {
		a.epoch, a.used = e, map[identity.AccountID]uint32{}
	}
	if a.used[account] >= free {
		return seconds - now%seconds, false
	}
	a.used[account]++
	return 0, true
}

// giveBack undoes take for a transaction that had been accepted before.
func (a *allowance) giveBack(account identity.AccountID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := a.used[account]; n > 0 {
		a.used[account] = n - 1
	}
}

// admit refuses a transaction beyond its account's allowance. What pays a fee is not
// free, and the founder and the issuer are always heard: without them nobody would
// ever have money. It reports whether one was taken.
func (l *Ledger) admit(tx *Transaction) (taken bool, err error) {
	p := l.allowance.parameters.Load()
	if p == nil || p.FreeTransactions == 0 {
		return false, nil
	}
	founder := identity.AccountID(l.cfg.Network)
	if tx.Account == founder || tx.Account == p.issuer(l.cfg.Network) {
		return false, nil
	}
	if _, transfer := tx.Operation.(Transfer); transfer && p.TransferFee > 0 {
		return false, nil
	}
	var funded, again bool
	err = l.read(func(s rows) error {
		if op, ok := tx.Operation.(identified); ok {
			b, err := s.Get(transferKey(tx.Account, op.transferID()))
			if again = b != nil; again || err != nil {
				return err
			}
		}
		c, err := readCounters(s, tx.Account)
		funded = c.Balance() > 0
		return err
	})
	if err != nil || again { // what was accepted before gets its first answer
		return false, err
	}
	if !funded {
		return false, &Rejection{Code: NotFunded, Account: tx.Account}
	}
	if wait, ok := l.allowance.take(tx.Account, p.FreeTransactions, p.epochSeconds(), l.now().Unix()); !ok {
		return false, &Rejection{Code: AllowanceUsed, Account: tx.Account, RetryAfter: uint32(wait)}
	}
	return true, nil
}
