package cashier

import (
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// The life of a name:
//
//	             Register                    Offer
//	  free ───────────────────► owned ◄────────────────► offered
//	   ▲                        │   ▲   Offer to nobody,    │
//	   │        Release         │   │   Update              │
//	   ├────────────────────────┘   │                       │
//	   │                            └───────────────────────┤
//	   │                              Accept (new owner)    │
//	   └────────────────────────────────────────────────────┘
//	                            Release
//
// A name changes at most once in a block: its record is ordered by height, and
// two records of one height would have no order.

func (o Register) apply(x *execution, tx *Transaction) *Rejection {
	var row nameRow
	p := &x.parameters
	switch exists := load(x, nameKey(o.Name), &row); {
	case x.err != nil:
		return nil
	case x.rules < rulesMarket && o.Term != 0:
		return reject(UnknownOperation, "a term, under rules of version %d", x.rules)
	case !x.takeFree(o.Name, &row, exists):
		return &Rejection{Code: NameTaken, Name: o.Name, Owner: row.Owner, Service: row.Service}
	case p.RevealDelay > 0 || p.RevealDelayBlocks > 0:
		return &Rejection{Code: CommitFirst, Name: o.Name}
	}
	if r := x.busy(o.Name); r != nil {
		return r
	}
	_, r := x.registerName(tx, nameRow{Service: o.Service}, o.Name, o.Term)
	return r
}

func (o Update) apply(x *execution, tx *Transaction) *Rejection {
	row, r := x.owned(o.Name, tx.Account)
	if r != nil {
		return r
	}
	if r := x.paid(o.Name, &row); r != nil {
		return r
	}
	row.Service, row.Offered = o.Service, identity.AccountID{}
	x.put(o.Name, tx, row)
	return nil
}

func (o Offer) apply(x *execution, tx *Transaction) *Rejection {
	row, r := x.owned(o.Name, tx.Account)
	if r != nil {
		return r
	}
	if r := x.paid(o.Name, &row); r != nil {
		return r
	}
	row.Offered = o.To
	x.put(o.Name, tx, row)
	return nil
}

func (o Accept) apply(x *execution, tx *Transaction) *Rejection {
	var row nameRow
	switch {
	case !load(x, nameKey(o.Name), &row) || x.lapsed(&row):
		return &Rejection{Code: NotRegistered, Name: o.Name}
	case row.Offered != tx.Account:
		return &Rejection{Code: NotOffered, Name: o.Name, Owner: row.Owner, Service: row.Service}
	}
	if r := x.paid(o.Name, &row); r != nil {
		return r
	}
	if r := x.busy(o.Name); r != nil {
		return r
	}
	if r := x.addNames(tx.Account, o.Name, +1); r != nil {
		return r
	}
	if r := x.addNames(row.Owner, o.Name, -1); r != nil {
		return r
	}
	row.Owner, row.Service, row.Offered = tx.Account, o.Service, identity.AccountID{}
	x.put(o.Name, tx, row)
	return nil
}

func (o Release) apply(x *execution, tx *Transaction) *Rejection {
	row, r := x.owned(o.Name, tx.Account)
	if r != nil {
		return r
	}
	if r := x.addNames(tx.Account, o.Name, -1); r != nil {
		return r
	}
	row.Released, row.Offered = true, identity.AccountID{}
	x.put(o.Name, tx, row)
	return nil
}

func (o SetParameters) apply(x *execution, _ *Transaction) *Rejection {
	if x.rules < o.Parameters.rules() {
		return reject(UnknownOperation, "parameters of later rules, under rules of version %d", x.rules)
	}
	for _, id := range [...]identity.AccountID{o.Parameters.Issuer, o.Parameters.Treasury} {
		if r := x.payable(id); r != nil {
			return r
		}
	}
	x.parameters = o.Parameters
	x.write(parametersKey, o.Parameters)
	return nil
}

// owned returns the row of a name that the account owns and that was not changed
// in this block yet.
func (x *execution) owned(n name.Name, account identity.AccountID) (nameRow, *Rejection) {
	var row nameRow
	switch {
	case !load(x, nameKey(n), &row) || x.lapsed(&row):
		return nameRow{}, &Rejection{Code: NotRegistered, Name: n}
	case row.Owner != account:
		return nameRow{}, &Rejection{Code: NotOwner, Name: n, Owner: row.Owner, Service: row.Service}
	}
	return row, x.busy(n)
}

// lapsed reports whether a name with a row is free.
func (x *execution) lapsed(row *nameRow) bool {
	l := x.leases()
	return l.phase(row, x.time) == NameFree
}

// paid refuses a name whose lease has ended: all its owner can do then is to renew or
// to release it.
func (x *execution) paid(n name.Name, row *nameRow) *Rejection {
	l := x.leases()
	if l.phase(row, x.time) == NameHeld {
		return nil
	}
	return &Rejection{Code: LeaseEnded, Name: n, Owner: row.Owner, Time: l.until(row)}
}

// busy refuses a name that changed in this block already.
func (x *execution) busy(n name.Name) *Rejection {
	if _, ok := x.touched[n]; ok {
		return &Rejection{Code: NameBusy, Name: n}
	}
	return nil
}

// put writes the name's row as made by tx. Nothing may reject tx after it.
func (x *execution) put(n name.Name, tx *Transaction, row nameRow) {
	x.touched[n] = struct{}{}
	if x.rules >= rulesMarket && row.Lease == 0 && !row.Released { // of before there were leases
		l := x.leases()
		x.keepLease(n, &row, l.legacy)
	}
	row.Sequence, row.Height, row.Time, row.Transaction = tx.Sequence, x.height, x.time, tx.signed
	x.write(nameKey(n), row)
}
