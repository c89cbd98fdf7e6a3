package cashier

import (
	"bytes"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// rowsOf returns every row of a ledger's state.
func rowsOf(t *testing.T, l *Ledger) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := l.read(func(s rows) error {
		return s.scan(nil, nil, func(k, v []byte) bool {
			out[string(k)] = string(v)
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Bad input of every kind: its own code, by the ledger and through the wire, and
// not a row of the state touched.
func TestMoneyRefusals(t *testing.T) {
	now := epoch
	l := open(t, func(c *Config) {
		c.Clock, c.Tick = func() time.Time { return now }, time.Hour
		c.Parameters = Parameters{MaxNames: 1, SupplyCap: 1000}
		c.Balances = []GenesisBalance{{alice.Account(), 500}, {bob.Account(), 50}}
	})
	client := serve(t, l, ServerConfig{})
	ctx := t.Context()
	until := now.Unix() + 600
	pay := func(amount voucher.Amount) []Move {
		return []Move{{Kind: MovePay, To: bob.Account(), Amount: amount}}
	}
	must[Receipt](t)(l.Submit(ctx, payment(t, alice, until, Transfer{transferNumber(1), pay(10)})))
	must[Receipt](t)(l.Submit(ctx, payment(t, alice, until, Transfer{transferNumber(2), []Move{
		{Kind: MoveHold, To: bob.Account(), Amount: 20, Expires: until}, {Kind: MoveHold, To: bob.Account(), Amount: 30, Expires: now.Unix() + 1},
	}})))
	must[Receipt](t)(l.Submit(ctx, payment(t, bob, until, Transfer{transferNumber(2), []Move{{Kind: MovePost, From: alice.Account(), ID: transferNumber(2), Amount: 20}}})))
	now = now.Add(2 * time.Second)

	transfer := func(moves ...Move) []byte {
		return payment(t, alice, until, Transfer{transferNumber(99), moves})
	}
	settle := func(by identity.PrivateKey, m Move) []byte {
		m.From = alice.Account()
		return payment(t, by, until, Transfer{transferNumber(99), []Move{m}})
	}
	good := transfer(pay(1)...)
	forged := func() []byte {
		var e identity.Envelope
		if err := identity.Unmarshal(good, &e); err != nil {
			t.Fatal(err)
		}
		e.Signer = bob.Public() // bob has no such signature
		return mustEncode(e)
	}
	raw := func(kind Kind, op []byte) []byte {
		return must[[]byte](t)(alice.Seal(domain, typeTransaction, mustEncode(payload{Network: network, ValidUntil: until, Kind: kind, Operation: op})))
	}
	negative := bytes.Replace(mustEncode(Redeem{transferNumber(9), 5}), []byte{0x02, 0x05}, []byte{0x02, 0x24}, 1)
	for _, tt := range []struct {
		name   string
		signed []byte
		want   error
	}{
		{"overdraft", transfer(pay(10_000)...), ErrFunds},
		{"overdraft by what is reserved", transfer(pay(500 - 10 - 20)...), ErrFunds},
		{"overdraft in a chain", transfer(pay(300)[0], pay(300)[0]), ErrFunds},
		{"overdraft of an account nobody knows", payment(t, key(77), until, Transfer{transferNumber(1), pay(1)}), ErrFunds},
		{"same ID, another amount", payment(t, alice, until, Transfer{transferNumber(1), pay(11)}), ErrDuplicateID},
		{"same ID, another payee", payment(t, alice, until, Transfer{transferNumber(1), []Move{{Kind: MovePay, To: key(8).Account(), Amount: 10}}}), ErrDuplicateID},
		{"wrong chain", must[[]byte](t)(Transaction{Network: bob.Network(), ValidUntil: until, Operation: Transfer{transferNumber(99), pay(1)}}.Sign(alice)), ErrWrongNetwork},
		{"wrong key", forged(), ErrSignature},
		{"stale: past its deadline", payment(t, alice, now.Unix()-1, Transfer{transferNumber(99), pay(1)}), ErrExpired},
		{"deadline too far", payment(t, alice, now.Unix()+MaxValidity+1, Transfer{transferNumber(99), pay(1)}), ErrDeadline},
		{"no deadline", payment(t, alice, 0, Transfer{transferNumber(99), pay(1)}), ErrDeadline},
		{"a sequence number", sealed(t, alice, 5, Transfer{transferNumber(99), pay(1)}), ErrMalformed},
		{"no ID", payment(t, alice, until, Transfer{Moves: pay(1)}), ErrMalformed},
		{"zero", transfer(pay(0)...), ErrZeroAmount},
		{"zero of an issue", payment(t, founder, until, Issue{transferNumber(99), bob.Account(), 0}), ErrZeroAmount},
		{"zero of a redemption", payment(t, founder, until, Redeem{transferNumber(99), 0}), ErrZeroAmount},
		{"negative", raw(KindRedeem, negative), ErrMalformed},
		{"overflowing chain", transfer(Move{Kind: MoveHold, To: bob.Account(), Amount: math.MaxUint64, Expires: until}), ErrFunds},
		{"to nobody", transfer(Move{Kind: MovePay, Amount: 1}), ErrMalformed},
		{"to itself", transfer(Move{Kind: MovePay, To: alice.Account(), Amount: 1}), ErrMalformed},
		{"to the supply", transfer(Move{Kind: MovePay, To: SupplyAccount(network), Amount: 1}), ErrNotAllowed},
		{"unknown kind", raw(99, nil), ErrUnknown},
		{"unknown movement", transfer(Move{Kind: 9, To: bob.Account(), Amount: 1}), ErrUnknown},
		{"field a movement does not take", transfer(Move{Kind: MovePay, To: bob.Account(), Amount: 1, Expires: until}), ErrMalformed},
		{"no movements", transfer(), ErrMalformed},
		{"oversized batch", transfer(slices.Repeat(pay(1), MaxMoves+1)...), ErrTooLarge},
		{"oversized", bytes.Repeat([]byte{0}, MaxTransaction+1), ErrTooLarge},
		{"trailing byte", append(slices.Clone(good), 0), ErrTrailing},
		{"trailing byte in the operation", raw(KindRedeem, append(mustEncode(Redeem{transferNumber(9), 5}), 0)), ErrTrailing},
		{"cut", good[:len(good)-1], ErrMalformed},
		{"issue by anybody", payment(t, alice, until, Issue{transferNumber(99), alice.Account(), 1}), ErrNotAllowed},
		{"redemption by anybody", payment(t, alice, until, Redeem{transferNumber(99), 1}), ErrNotAllowed},
		{"issue above the cap", payment(t, founder, until, Issue{transferNumber(99), bob.Account(), 451}), ErrCap},
		{"issue of everything", payment(t, founder, until, Issue{transferNumber(99), bob.Account(), math.MaxUint64}), ErrCap},
		{"redemption of nothing owned", payment(t, founder, until, Redeem{transferNumber(99), 1}), ErrFunds},
		{"hold that ends before it begins", transfer(Move{Kind: MoveHold, To: bob.Account(), Amount: 1, Expires: now.Unix()}), ErrDeadline},
		{"hold for too long", transfer(Move{Kind: MoveHold, To: bob.Account(), Amount: 1, Expires: now.Unix() + maxHold + 1}), ErrDeadline},
		{"no such hold", settle(bob, Move{Kind: MovePost, ID: transferNumber(3), Amount: 1}), ErrNoHold},
		{"hold settled before", settle(bob, Move{Kind: MovePost, ID: transferNumber(2), Amount: 1}), ErrHoldSettled},
		{"hold expired", settle(bob, Move{Kind: MovePost, ID: transferNumber(2), Index: 1, Amount: 1}), ErrHoldSettled},
		{"hold of another", settle(key(8), Move{Kind: MovePost, ID: transferNumber(2), Index: 1, Amount: 1}), ErrNotAllowed},
		{"promise taken back", settle(alice, Move{Kind: MoveVoid, ID: transferNumber(2), Index: 1}), ErrNotAllowed},
		{"stale sequence", sealed(t, founder, 0, SetParameters{DefaultParameters()}), ErrStaleSequence},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, status := rowsOf(t, l), must[Status](t)(l.Status(ctx))
			for who, s := range map[string]Submitter{"ledger": l, "client": client} {
				_, err := s.Submit(ctx, tt.signed)
				if !errors.Is(err, tt.want) {
					t.Errorf("%s: %v, want %v", who, err, tt.want)
				}
			}
			if after := must[Status](t)(l.Status(ctx)); !maps.Equal(before, rowsOf(t, l)) || after.Height != status.Height || after.AppHash != status.AppHash {
				t.Error("the state was touched")
			}
		})
	}
	// And the good one still works: nothing above stood in its way.
	must[Receipt](t)(l.Submit(ctx, good))
	if err := l.Verify(ctx, nil); err != nil {
		t.Error(err)
	}
}

// A payment counts once: again by itself, again with a later deadline, again after
// it was forgotten, and from many at once.
func TestPaymentCountsOnce(t *testing.T) {
	var mu sync.Mutex
	now := epoch
	l := open(t, func(c *Config) {
		c.Clock = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		c.Tick, c.Balances = time.Hour, []GenesisBalance{{alice.Account(), 500}}
	})
	ctx := t.Context()
	op := Transfer{transferNumber(1), []Move{{Kind: MovePay, To: bob.Account(), Amount: 10}}}
	signed := payment(t, alice, epoch.Unix()+600, op)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := l.Submit(ctx, signed); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if r := must[Receipt](t)(l.Submit(ctx, payment(t, alice, epoch.Unix()+700, op))); !r.Again || r.Height != 1 {
		t.Errorf("signed again with a later deadline: %+v", r)
	}
	check := func() {
		t.Helper()
		if a := must[Account](t)(l.Account(ctx, bob.Account())); a.Counters.Balance() != 10 {
			t.Errorf("bob has %s", a.Counters.Balance())
		}
	}
	check()
	mu.Lock()
	now = now.Add(20 * time.Minute)
	mu.Unlock()
	must[Receipt](t)(wallet(bob, l).Register(ctx, "any-block", files)) // forgets what fell due
	if _, ok := rowsOf(t, l)[string(transferKey(alice.Account(), transferNumber(1)))]; ok {
		t.Error("the ID is remembered for ever")
	}
	if _, err := l.Submit(ctx, signed); !errors.Is(err, ErrExpired) {
		t.Errorf("after it was forgotten: %v", err)
	}
	check()
	if err := l.Verify(ctx, nil); err != nil {
		t.Error(err)
	}
}

// An amount reserved goes back when its time passes, without anybody asking.
func TestHoldsGoBackByThemselves(t *testing.T) {
	var mu sync.Mutex
	now := epoch
	l := open(t, func(c *Config) {
		c.Clock = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		c.Tick, c.Balances = 5*time.Millisecond, []GenesisBalance{{alice.Account(), 500}}
	})
	ctx := t.Context()
	must[Receipt](t)(NewWallet(alice, network, l, l.cfg.Clock).Hold(ctx, transferNumber(1), bob.Account(), 100, epoch.Add(30*time.Second)))
	if a := must[Account](t)(l.Account(ctx, alice.Account())).Counters; a.Available() != 400 || a.Balance() != 500 {
		t.Errorf("with 100 reserved: %+v", a)
	}
	mu.Lock()
	now = now.Add(time.Minute)
	mu.Unlock()
	deadline := time.Now().Add(20 * time.Second)
	for must[Account](t)(l.Account(ctx, alice.Account())).Counters.Available() != 500 {
		if time.Now().After(deadline) {
			t.Fatal("the amount never came back")
		}
		time.Sleep(5 * time.Millisecond)
	}
	s := must[Status](t)(l.Status(ctx))
	if s.Supply.Holds != 0 || s.Supply.Pending != 0 {
		t.Errorf("%+v", s.Supply)
	}
	if err := l.Verify(ctx, nil); err != nil {
		t.Error(err)
	}
}

// A broken sum stops the ledger: the evidence is kept, nothing more is written, and
// reading goes on.
func TestBrokenInvariantStopsTheLedger(t *testing.T) {
	fs := vfs.NewMem()
	l, err := Open("ledger", authority, Config{Network: network, fs: fs, Balances: []GenesisBalance{{alice.Account(), 500}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	b := l.store.db.NewBatch()
	broken := totals{}
	broken.debitsPosted.low = 1
	if err := errors.Join(setRows(b, []Change{{totalsKey, broken.encode()}}), l.store.commit(b), b.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := wallet(alice, l).Transfer(ctx, bob.Account(), 1); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
	if a := must[Account](t)(l.Account(ctx, alice.Account())); a.Counters.Balance() != 500 {
		t.Errorf("alice has %s", a.Counters.Balance())
	}
	if err := l.Close(); !errors.Is(err, ErrInvariant) {
		t.Errorf("Close tells %v", err)
	}
	names := must[[]string](t)(fs.List("ledger"))
	if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "evidence-") }) {
		t.Errorf("no evidence in %v", names)
	}
}

// Genesis balances that make no sense are all refused.
func TestGenesisRefuses(t *testing.T) {
	p := Parameters{MaxNames: 1, SupplyCap: 100}
	a, b := alice.Account(), bob.Account()
	for name, g := range map[string]Genesis{
		"above the cap":   NewGenesis(p, GenesisBalance{a, 60}, GenesisBalance{b, 60}),
		"twice":           NewGenesis(p, GenesisBalance{a, 1}, GenesisBalance{a, 1}),
		"nothing":         NewGenesis(p, GenesisBalance{a, 0}),
		"nobody":          NewGenesis(p, GenesisBalance{Amount: 1}),
		"the supply":      NewGenesis(p, GenesisBalance{SupplyAccount(network), 1}),
		"overflow":        NewGenesis(Parameters{MaxNames: 1, SupplyCap: math.MaxUint64}, GenesisBalance{a, math.MaxUint64}, GenesisBalance{b, 1}),
		"no rules":        {Parameters: p},
		"rules too new":   {Parameters: p, Rules: []RulesChange{{1, RulesVersion + 1}}},
		"rules backwards": {Parameters: p, Rules: []RulesChange{{1, 2}, {5, 1}}},
		"parameters":      NewGenesis(Parameters{}),
	} {
		if err := g.Validate(network); err == nil {
			t.Errorf("%s was taken", name)
		}
		if _, err := NewReplay(network, g); err == nil {
			t.Errorf("%s was replayed", name)
		}
	}
	if err := NewGenesis(p, GenesisBalance{b, 40}, GenesisBalance{a, 60}).Validate(network); err != nil {
		t.Error(err)
	}
}
