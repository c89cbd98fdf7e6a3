package cashier

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// A name is held for a term that is paid for, its lease:
//
//	       lease              expired            suspended
//	 ├──────────────────┼──────────────────┼──────────────────┤ free
//	 registered       Lease           30 days later       Lease + grace
//
// Once it has ended the name still resolves for 30 days, marked as expired, then no
// more; until the grace is over its owner, and nobody else, may renew it. Then it is
// free. Which of these a name is in follows from the time alone, so nothing hangs on
// when the row is cleared: the list of what falls due does it some time after.

// Terms of a lease in seconds. Time is counted in years of 365 days.
const (
	year = 365 * 24 * 60 * 60
	// MinTerm and MaxTerm bound what a registration or renewal adds, and MaxTerm how
	// far ahead a lease may end.
	MinTerm = 28 * 24 * 60 * 60
	MaxTerm = 3 * year
	// resolveGrace is how long a name resolves after its lease has ended.
	resolveGrace = 30 * 24 * 60 * 60
	defaultGrace = 90 * 24 * 60 * 60
)

// maxRent keeps rent × term within reason; see Parameters.
const maxRent = 1_000_000 * voucher.Credit

// validateNames reports what is wrong with the rules about names.
func (p Parameters) validateNames() error {
	var errs []error
	for i, rent := range [...]voucher.Amount{p.RentThree, p.RentFour, p.Rent} {
		if rent > maxRent {
			errs = append(errs, fmt.Errorf("cashier: rent of %d letters %s, want at most %s", i+3, rent, maxRent))
		}
	}
	if p.RevealDelay < 0 || p.RevealDelay > commitLife/2 {
		errs = append(errs, fmt.Errorf("cashier: RevealDelay %d s, want 0 to %d", p.RevealDelay, commitLife/2))
	}
	if p.RevealDelayBlocks > 10_000 {
		errs = append(errs, fmt.Errorf("cashier: RevealDelayBlocks %d, want at most 10000", p.RevealDelayBlocks))
	}
	if p.CommitDeposit > 1000*voucher.Credit {
		errs = append(errs, fmt.Errorf("cashier: CommitDeposit %s, want at most %s", p.CommitDeposit, 1000*voucher.Credit))
	}
	if p.NameGrace != 0 && (p.NameGrace < 24*60*60 || p.NameGrace > year) {
		errs = append(errs, fmt.Errorf("cashier: NameGrace %d s, want 1 day to 1 year", p.NameGrace))
	}
	return errors.Join(errs...)
}

func (p Parameters) nameGrace() int64 {
	if p.NameGrace == 0 {
		return defaultGrace
	}
	return p.NameGrace
}

// RentFor is what a name costs for a term in seconds, rounded up to a micro-credit.
func (p Parameters) RentFor(n name.Name, term int64) voucher.Amount {
	rate := p.Rent
	switch len(n) {
	case 3:
		rate = p.RentThree
	case 4:
		rate = p.RentFour
	}
	if term <= 0 {
		return 0
	}
	high, low := bits.Mul64(uint64(rate), uint64(term))
	low, carry := bits.Add64(low, year-1, 0)
	if high += carry; high >= year {
		return math.MaxUint64 // rents are bounded, and terms: no ledger asks for this
	}
	q, _ := bits.Div64(high, low, year)
	return voucher.Amount(q)
}

// NamePhase is where in its life a name is.
type NamePhase uint8

// The phases.
const (
	// NameFree may be registered by anybody.
	NameFree NamePhase = iota
	// NameHeld is paid for.
	NameHeld
	// NameExpired is not paid for any more, and still resolves.
	NameExpired
	// NameSuspended resolves no more; its owner may still renew it.
	NameSuspended
)

// String returns the phase as a word.
func (p NamePhase) String() string {
	switch p {
	case NameFree:
		return "free"
	case NameHeld:
		return "held"
	case NameExpired:
		return "expired"
	case NameSuspended:
		return "suspended"
	}
	return fmt.Sprintf("phase-%d", uint8(p))
}

// leases is what the life of names depends on besides their rows.
type leases struct {
	grace int64
	// legacy is when the lease of names ends that were registered before there were
	// leases; 0 while there are none.
	legacy int64
}

// until returns when a name's lease ends; 0 is never.
func (l leases) until(row *nameRow) int64 {
	if row.Lease != 0 {
		return row.Lease
	}
	return l.legacy
}

// free returns the first second at which a name whose lease ended is free.
func (l leases) free(until int64) int64 { return until + l.grace + 1 }

// resolves returns the last second at which it resolves.
func (l leases) resolves(until int64) int64 { return until + min(resolveGrace, l.grace) }

// phase returns where a registered name is at a time.
func (l leases) phase(row *nameRow, now int64) NamePhase {
	until := l.until(row)
	switch {
	case row.Released:
		return NameFree
	case until == 0 || now <= until:
		return NameHeld
	case now <= l.resolves(until):
		return NameExpired
	case now < l.free(until):
		return NameSuspended
	}
	return NameFree
}

// leaseStartKey is the row of when leases began: the time of the first block under
// rules that know them.
var leaseStartKey = []byte{leaseRef}

// readLeases reads what leases depend on.
func readLeases(s State, p Parameters) (leases, error) {
	l := leases{grace: p.nameGrace()}
	b, err := s.Get(leaseStartKey)
	switch {
	case err != nil || b == nil:
		return l, err
	case len(b) != 8:
		return l, fmt.Errorf("%w: start of leases of %d bytes", ErrCorrupt, len(b))
	}
	l.legacy = int64(binary.BigEndian.Uint64(b)) + MaxTerm
	return l, nil
}

// leases returns what the life of names depends on. Before there are leases no
// name's ends.
func (x *execution) leases() leases {
	if x.rules < rulesMarket {
		return leases{}
	}
	l, err := readLeases(x.state, x.parameters)
	x.fail(err)
	return l
}

// leaseRow is a name's place in the list of what falls due. There is one for each
// time a name was registered; a renewal leaves it where it is, and it moves on when
// it is met too early.
type leaseRow struct {
	name name.Name
	next reference
}

func (r leaseRow) encode() []byte {
	return r.next.append(append(append(make([]byte, 0, 1+len(r.name)+referenceSize), byte(len(r.name))), r.name...))
}

func decodeLease(b []byte) (leaseRow, error) {
	if len(b) == 0 || len(b) != 1+int(b[0])+referenceSize {
		return leaseRow{}, fmt.Errorf("%w: lease row of %d bytes", ErrCorrupt, len(b))
	}
	n := name.Name(b[1 : 1+b[0]])
	if checkName(n) != nil {
		return leaseRow{}, fmt.Errorf("%w: lease of the name %q", ErrCorrupt, n)
	}
	next, err := decodeReference(b[1+b[0]:])
	return leaseRow{n, next}, err
}

// leaseReference names the row of a name registered at a height.
func leaseReference(n name.Name, registered uint64) reference {
	r := reference{kind: leaseRef, account: identity.AccountID(sha256.Sum256([]byte(n)))}
	binary.BigEndian.PutUint64(r.id[8:], registered)
	return r
}

// keepLease sets until when a name is paid for, and makes sure that somebody looks
// when it ends. Nothing may reject the transaction after it.
func (x *execution) keepLease(n name.Name, row *nameRow, until int64) {
	row.Lease = until
	r := leaseReference(n, row.Registered)
	if x.get(x.keyOf(r)) != nil {
		return
	}
	lease := leaseRow{name: n}
	lease.next = x.fallsDue(r, until+x.parameters.nameGrace()+1)
	x.state.set(x.keyOf(r), lease.encode())
}

// endLease clears a name whose grace is over; one that was renewed moves on.
func (x *execution) endLease(r reference) reference {
	b := x.get(x.keyOf(r))
	if b == nil {
		x.fail(fmt.Errorf("%w: a lease that falls due does not exist", ErrCorrupt))
		return reference{}
	}
	due, err := decodeLease(b)
	x.fail(err)
	var row nameRow
	exists := load(x, nameKey(due.name), &row)
	if x.err != nil {
		return reference{}
	}
	next := due.next
	if !exists || row.Released || leaseReference(due.name, row.Registered) != r {
		x.state.set(x.keyOf(r), nil) // released, or registered anew, meanwhile
		return next
	}
	l := x.leases()
	if free := l.free(l.until(&row)); free > x.time {
		due.next = x.fallsDue(r, free)
		x.state.set(x.keyOf(r), due.encode())
		return next
	}
	x.state.set(x.keyOf(r), nil)
	x.clearName(due.name, row)
	return next
}

// clearName frees a name whose grace is over.
func (x *execution) clearName(n name.Name, row nameRow) {
	if r := x.addNames(row.Owner, n, -1); r != nil {
		x.breakInvariant("an account can have fewer names", "%v", r)
	}
	row.Released, row.Offered, row.Transaction = true, identity.AccountID{}, nil
	row.Height, row.Time = x.height, x.time
	x.write(nameKey(n), row)
}

// takeFree makes a name free whose grace is over and that nobody cleared yet. It
// reports whether the name is free then; the row is as loaded.
func (x *execution) takeFree(n name.Name, row *nameRow, exists bool) bool {
	if !exists || row.Released {
		return true
	}
	l := x.leases()
	if x.err != nil || l.phase(row, x.time) != NameFree {
		return false
	}
	x.clearName(n, *row)
	return true
}

// leaseTerm returns the end of a lease that begins or goes on at from, and its price.
// A term of 0 is what is usual: as long as possible while that costs nothing, else a
// year.
func (x *execution) leaseTerm(n name.Name, from, term int64) (until int64, rent voucher.Amount, r *Rejection) {
	latest := x.time + MaxTerm
	until = from + term // from is at most MaxTerm ahead, and term at most that
	switch {
	case term != 0:
	case x.parameters.RentFor(n, year) == 0:
		until = latest
	default:
		until = min(from+year, latest)
	}
	switch {
	case until > latest:
		return 0, 0, &Rejection{Code: BadTerm, Name: n, Time: x.time, Detail: "a name is paid for at most three years ahead"}
	case until <= from || until <= x.time:
		return 0, 0, &Rejection{Code: BadTerm, Name: n, Time: x.time, Detail: "it would be paid for no longer than it is"}
	}
	return until, x.parameters.RentFor(n, until-from), nil
}

// checkTerm refuses a term no state can make valid.
func checkTerm(n name.Name, term int64) *Rejection {
	if term != 0 && (term < MinTerm || term > MaxTerm) {
		return &Rejection{Code: BadTerm, Name: n, Detail: fmt.Sprintf("%d s, want 28 days to 3 years", term)}
	}
	return nil
}

// payRent takes a rent to the treasury.
func (x *execution) payRent(from identity.AccountID, rent voucher.Amount) *Rejection {
	if treasury := x.parameters.treasury(x.network); rent > 0 && from != treasury {
		return x.move(from, treasury, movement{post: rent})
	}
	return nil
}

// RenewName extends the lease of a name by a term in seconds, 0 for the usual one: as
// long as possible while that costs nothing, else a year. Anybody may pay for it; once the lease has ended only its owner.
type RenewName struct {
	Name name.Name `cbor:"1,keyasint"`
	Term int64     `cbor:"2,keyasint,omitzero"`
}

// Kind implements Operation.
func (RenewName) Kind() Kind { return KindRenewName }

func (o RenewName) check(*Transaction) *Rejection {
	if r := checkName(o.Name); r != nil {
		return r
	}
	return checkTerm(o.Name, o.Term)
}

// A renewal is no new state of the name: its record stays that of the owner's last
// transaction, and is signed for longer.
func (o RenewName) apply(x *execution, tx *Transaction) *Rejection {
	var row nameRow
	if !load(x, nameKey(o.Name), &row) || row.Released || x.err != nil {
		return &Rejection{Code: NotRegistered, Name: o.Name}
	}
	l := x.leases()
	switch l.phase(&row, x.time) {
	case NameFree:
		return &Rejection{Code: NotRegistered, Name: o.Name}
	case NameExpired, NameSuspended:
		if row.Owner != tx.Account {
			return &Rejection{Code: NotOwner, Name: o.Name, Owner: row.Owner, Service: row.Service, Detail: "its lease has ended, and only its owner may renew it"}
		}
	case NameHeld:
	}
	until, rent, r := x.leaseTerm(o.Name, l.until(&row), o.Term)
	if r != nil || x.err != nil {
		return r
	}
	if r := x.payRent(tx.Account, rent); r != nil || x.err != nil {
		return r
	}
	x.keepLease(o.Name, &row, until)
	x.write(nameKey(o.Name), row)
	return nil
}
