package cashier

import (
	"math"
	"strings"
	"testing"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

const day = 24 * 60 * 60

func TestRents(t *testing.T) {
	p := Parameters{RentThree: 100, RentFour: 10, Rent: 1}
	for _, tt := range []struct {
		n    name.Name
		term int64
		want voucher.Amount
	}{
		{"abc", year, 100},
		{"abcd", year, 10},
		{"abcde", year, 1},
		{"abcdefgh", 3 * year, 3},
		{"abc", MinTerm, 8},   // 7.67 rounded up
		{"abcde", MinTerm, 1}, // 0.08 rounded up
		{"abc", 0, 0},
		{"abc", -1, 0},
	} {
		if got := p.RentFor(tt.n, tt.term); got != tt.want {
			t.Errorf("%s for %d s: %d, want %d", tt.n, tt.term, got, tt.want)
		}
	}
	if got := (Parameters{Rent: maxRent}).RentFor("abcde", MaxTerm); got != 3*maxRent {
		t.Errorf("the highest rent: %s", got)
	}
	if got := (Parameters{Rent: math.MaxUint64}).RentFor("abcde", math.MaxInt64); got != math.MaxUint64 {
		t.Errorf("beyond all bounds: %s", got)
	}
}

// A name's whole life by a fake clock: paid, expired, suspended, free.
func TestExpiryAndGrace(t *testing.T) {
	p := DefaultParameters()
	p.Rent = 365 * voucher.Credit // a credit a day
	b := newBook(t, p, GenesisBalance{alice.Account(), 1000 * voucher.Credit}, GenesisBalance{bob.Account(), 1000 * voucher.Credit})
	b.want("register", b.do(alice, registering(alice, files, "files", 28*day)), Accepted)
	if got := b.account(alice.Account()).Balance(); got != 972*voucher.Credit {
		t.Errorf("28 days cost %s", 1000*voucher.Credit-got)
	}
	row, phase := b.name("files")
	if until := b.time + 28*day; row.Lease != until || phase != NameHeld {
		t.Fatalf("%s until %d, want %d", phase, row.Lease, until)
	}
	b.want("renewed by anybody", b.do(bob, operation(RenewName{"files", 28 * day})), Accepted)
	end := row.Lease + 28*day
	if row, _ = b.name("files"); row.Lease != end {
		t.Errorf("renewed until %d, want %d", row.Lease, end)
	}

	b.time = end
	if _, phase := b.name("files"); phase != NameHeld {
		t.Errorf("in its last second %s", phase)
	}
	b.time++
	if _, phase := b.name("files"); phase != NameExpired {
		t.Errorf("a second later %s", phase)
	}
	b.want("registered by another", b.do(bob, registering(bob, mail, "files", 0)), NameTaken)
	b.want("renewed by another", b.do(bob, operation(RenewName{"files", 28 * day})), NotOwner)
	b.want("offered", b.do(alice, operation(Offer{"files", bob.Account()})), LeaseEnded)

	b.time = end + 30*day + 1
	if _, phase := b.name("files"); phase != NameSuspended {
		t.Errorf("after 30 days %s", phase)
	}
	b.want("for too short a term", b.do(alice, operation(RenewName{"files", 28 * day})), BadTerm)
	b.want("by its owner", b.do(alice, operation(RenewName{"files", 60 * day})), Accepted)
	end += 60 * day
	if row, phase := b.name("files"); phase != NameHeld || row.Lease != end {
		t.Errorf("renewed: %s until %d, want %d", phase, row.Lease, end)
	}

	b.time = end + 90*day
	b.block()
	b.want("in the last second of grace", b.do(bob, registering(bob, mail, "files", 0)), NameTaken)
	b.time++
	b.want("renewed too late", b.do(alice, operation(RenewName{"files", 365 * day})), NotRegistered)
	b.want("registered by another in the first", b.do(bob, registering(bob, mail, "files", 365*day)), Accepted)
	if row, phase := b.name("files"); row.Owner != bob.Account() || phase != NameHeld {
		t.Errorf("%s, of %s", phase, row.Owner)
	}
	if _, ok := b.state[string(ownedKey(alice.Account(), "files"))]; ok {
		t.Error("it is still alice's")
	}
}

// Names nobody asks for are cleared by the list of what falls due, and their owners
// may have others instead.
func TestLapsedNamesAreCleared(t *testing.T) {
	p := DefaultParameters()
	p.MaxNames = 2
	b := newBook(t, p)
	for _, n := range []name.Name{"one", "two"} {
		b.want("register", b.do(alice, registering(alice, files, n, MinTerm)), Accepted)
	}
	b.want("a third", b.do(alice, registering(alice, files, "three", 0)), TooManyNames)
	b.want("renew", b.do(alice, operation(RenewName{"two", 0})), Accepted)
	b.pass(MinTerm + defaultGrace + 2*16)
	if row, _ := b.name("one"); !row.Released || row.Height != b.height || len(row.Transaction) != 0 {
		t.Errorf("one: %+v", row)
	}
	if _, phase := b.name("two"); phase != NameHeld {
		t.Errorf("two is %s", phase)
	}
	b.want("a third now", b.do(alice, registering(alice, files, "three", 0)), Accepted)
	b.pass(MaxTerm + defaultGrace + 2*16)
	var row accountRow
	must[bool](t)(read(b.state, accountKey(alice.Account()), &row))
	if row.Names != 0 {
		t.Errorf("alice has %d names", row.Names)
	}
	for key := range b.state {
		if key[0] == leaseRef && len(key) > 1 || key[0] == 'd' {
			t.Errorf("left: %s", rowName([]byte(key)))
		}
	}
}

// Releasing and registering anew begins a lease of its own: what the first one left in
// the lists does not end the second.
func TestReleasedNameBeginsAnew(t *testing.T) {
	b := newBook(t, DefaultParameters())
	b.want("register", b.do(alice, registering(alice, files, "files", MinTerm)), Accepted)
	b.want("release", b.do(alice, operation(Release{"files"})), Accepted)
	b.want("register anew", b.do(bob, registering(bob, mail, "files", MaxTerm)), Accepted)
	b.pass(MinTerm + defaultGrace + 2*16)
	if row, phase := b.name("files"); phase != NameHeld || row.Owner != bob.Account() {
		t.Errorf("%s, of %s", phase, row.Owner)
	}
}

func TestRenewalRefusals(t *testing.T) {
	p := DefaultParameters()
	p.Rent = voucher.Credit
	b := newBook(t, p, GenesisBalance{alice.Account(), 3 * voucher.Credit})
	b.want("register without money", b.do(bob, registering(bob, files, "files", year)), InsufficientFunds)
	b.want("register", b.do(alice, registering(alice, files, "files", year)), Accepted)
	b.want("of nobody's name", b.do(alice, operation(RenewName{"free", year})), NotRegistered)
	b.want("too short", b.do(alice, operation(RenewName{"files", MinTerm - 1})), BadTerm)
	b.want("negative", b.do(alice, operation(RenewName{"files", -MinTerm})), BadTerm)
	b.want("beyond three years", b.do(alice, operation(RenewName{"files", MaxTerm})), BadTerm)
	b.want("no name", b.do(alice, operation(RenewName{"-", year})), Malformed)
	b.want("without money", b.do(bob, operation(RenewName{"files", year})), InsufficientFunds)
	for range 2 {
		b.want("a year", b.do(alice, operation(RenewName{"files", 0})), Accepted)
	}
	if got := b.account(alice.Account()).Balance(); got != 0 {
		t.Errorf("three years left %s of three credits", got)
	}
	b.want("no longer than it is", b.do(alice, operation(RenewName{"files", 0})), BadTerm)
	b.time += 10
	b.want("ten seconds for a micro-credit more", b.do(alice, operation(RenewName{"files", 0})), InsufficientFunds)
}

// Names of before there were leases have one of the longest term from the first block
// on that knows of leases, and end like others.
func TestOldNamesGetALease(t *testing.T) {
	p := Parameters{MaxNames: 9}
	b := newBook(t, p)
	b.rules = rulesNames
	b.want("old name", b.do(alice, registering(alice, files, "older", 0)), Accepted)
	b.want("another", b.do(alice, registering(alice, files, "other", 0)), Accepted)
	b.want("a term", b.do(alice, registering(alice, files, "termed", year)), UnknownOperation)
	b.want("renewal", b.do(alice, operation(RenewName{"older", year})), UnknownOperation)
	b.time += 10 * year
	if _, phase := b.name("older"); phase != NameHeld {
		t.Errorf("under the old rules: %s", phase)
	}
	b.rules = rulesMarket
	b.block()
	began := b.time
	b.time += MaxTerm
	b.want("update", b.do(alice, func(seq uint64) Operation {
		return Update{"older", mail.Service(), Consent(mail, network, alice.Account(), seq, "older")}
	}), Accepted)
	if row, phase := b.name("older"); phase != NameHeld || row.Lease != began+MaxTerm {
		t.Errorf("%s until %d, want %d", phase, row.Lease, began+MaxTerm)
	}
	b.time++
	for _, n := range []name.Name{"older", "other"} {
		if _, phase := b.name(n); phase != NameExpired {
			t.Errorf("%s is %s", n, phase)
		}
	}
	b.time += defaultGrace
	b.want("taken over", b.do(bob, registering(bob, mail, "other", 0)), Accepted)
	b.pass(32)
	if row, phase := b.name("older"); phase != NameFree || !row.Released {
		t.Errorf("older is %s, released %v", phase, row.Released)
	}
	var row accountRow
	must[bool](t)(read(b.state, accountKey(alice.Account()), &row))
	if row.Names != 0 {
		t.Errorf("alice has %d names", row.Names)
	}
}

// Records say what the time says, and none of a held name outlives its lease.
func TestRecordsEndWithTheLease(t *testing.T) {
	now := epoch
	l := open(t, func(c *Config) { c.Clock, c.Tick = func() time.Time { return now }, time.Hour })
	ctx := t.Context()
	must[Receipt](t)(NewWallet(alice, network, l, c(&now)).RegisterFor(ctx, "files", files, 28*24*time.Hour))
	end := now.Add(28 * 24 * time.Hour)
	look := func() Answer {
		t.Helper()
		a := must[Answer](t)(l.Lookup(ctx, "files"))
		if a.Signed != nil {
			r, err := name.Open("files", a.Signed, []identity.NodeID{authority.Node()}, now)
			if err != nil || r.NotAfter != a.Record.NotAfter {
				t.Errorf("at %s: %+v, %v", now, r, err)
			}
		}
		return a
	}
	if a := look(); a.Phase != NameHeld || a.Record.Lease != end.Unix() || time.Unix(a.Record.NotAfter, 0).Sub(now) > name.Validity {
		t.Errorf("new: %+v", a)
	}
	now = end.Add(-time.Hour)
	held := look()
	if held.Record.NotAfter != end.Unix() {
		t.Errorf("an hour before the end: valid until %d, want %d", held.Record.NotAfter, end.Unix())
	}
	now = end.Add(29 * 24 * time.Hour)
	expired := look()
	if r := expired.Record; expired.Phase != NameExpired || !r.Expired(now) || r.Suspended || r.NotAfter != end.Add(30*24*time.Hour).Unix() {
		t.Errorf("expired: %+v", expired)
	}
	now = end.Add(31 * 24 * time.Hour)
	suspended := look()
	if r := suspended.Record; suspended.Phase != NameSuspended || !r.Suspended || !suspended.Registered {
		t.Errorf("suspended: %+v", suspended)
	}
	names := must[[]OwnedName](t)(l.Names(ctx, alice.Account(), "", 9))
	if len(names) != 1 || names[0].Phase != NameSuspended || names[0].Lease != end.Unix() {
		t.Errorf("alice's names: %+v", names)
	}
	for _, pair := range [][2]Answer{{expired, held}, {suspended, expired}} {
		if !name.Newer(pair[0].Record, pair[0].Signed, pair[1].Record, pair[1].Signed) {
			t.Error("a later record does not replace the earlier one")
		}
	}
	must[Receipt](t)(NewWallet(alice, network, l, c(&now)).Renew(ctx, "files", 0))
	renewed := look()
	if renewed.Phase != NameHeld || !name.Newer(renewed.Record, renewed.Signed, suspended.Record, suspended.Signed) {
		t.Errorf("renewed: %+v", renewed)
	}
	now = now.Add(MaxTerm*time.Second + (90*24+1)*time.Hour)
	if a := look(); a.Registered || a.Signed != nil {
		t.Errorf("free: %+v", a)
	}
	if names := must[[]OwnedName](t)(l.Names(ctx, alice.Account(), "", 9)); len(names) != 0 {
		t.Errorf("alice's names: %+v", names)
	}
	if err := l.Verify(ctx, nil); err != nil {
		t.Error(err)
	}
	if _, err := NewWallet(bob, network, l, c(&now)).Register(ctx, "files", mail); err != nil {
		t.Error(err)
	}
	if a := look(); !a.Registered || a.Record.Owner != bob.Account() {
		t.Errorf("taken over: %+v", a)
	}
	if err := l.Verify(ctx, nil); err != nil {
		t.Error(err)
	}
}

// c is a clock that shows a variable.
func c(now *time.Time) func() time.Time { return func() time.Time { return *now } }

func TestParametersOfNames(t *testing.T) {
	bad := Parameters{
		MaxNames: 1, RentThree: maxRent + 1, RentFour: maxRent + 1, Rent: maxRent + 1, RevealDelay: -1, RevealDelayBlocks: 10_001,
		CommitDeposit: 1001 * voucher.Credit, Unbonding: 5, RecoveryDelay: maxDelay + 1, NameGrace: 1,
	}
	if err := bad.Validate(); err == nil || strings.Count(err.Error(), "\n") != 8 {
		t.Errorf("want nine faults: %v", err)
	}
	if bad.rules() != rulesMarket || DefaultParameters().rules() != rulesMoney || (Parameters{MaxNames: 3, Rent: 1}).rules() != rulesMarket {
		t.Error("parameters belong to other rules")
	}
	p := DefaultParameters()
	p.Rent, p.RevealDelay, p.RevealDelayBlocks, p.CommitDeposit, p.Unbonding, p.RecoveryDelay, p.NameGrace = 1, 60, 2, 1, day, day, day
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
}
