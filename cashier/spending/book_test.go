package spending

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func channel(n byte) voucher.ChannelID      { return voucher.ChannelID{n} }
func testService(n byte) identity.ServiceID { return identity.ServiceID{n} }

func book(t testing.TB, l Limits) *Book {
	t.Helper()
	b, err := NewBook(l)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestZeroLimitsPayForNothing(t *testing.T) {
	b := book(t, Limits{})
	if _, err := b.Grant(testService(1), 1, 0, noon); !errors.Is(err, ErrBudget) {
		t.Errorf("%v", err)
	}
	if err := b.Permit(testService(1), voucher.Price{PerGiB: 1}, 1, noon); !errors.Is(err, ErrPrice) {
		t.Errorf("%v", err)
	}
}

func TestPriceLimits(t *testing.T) {
	l := Limits{MaxPerGiB: 5, MaxPerHour: Unlimited}
	for _, c := range []struct {
		price voucher.Price
		ok    bool
	}{
		{voucher.Price{}, true},
		{voucher.Price{PerGiB: 5, PerHour: 1 << 60}, true},
		{voucher.Price{PerGiB: 6}, false},
	} {
		if err := l.Check(c.price); (err == nil) != c.ok || !c.ok && !errors.Is(err, ErrPrice) {
			t.Errorf("%v: %v", c.price, err)
		}
	}
}

// TestBudgets walks a day: deposits count at once, what a channel gives back is free
// again, the next day begins anew but for what channels hold.
func TestBudgets(t *testing.T) {
	b := book(t, Limits{MaxPerGiB: Unlimited, MaxPerHour: Unlimited, PerService: 100, PerDay: 150, Deposit: 60})
	grant := func(service byte, want, least, expect voucher.Amount, at time.Time) {
		t.Helper()
		got, err := b.Grant(testService(service), want, least, at)
		if expect == 0 && !errors.Is(err, ErrBudget) || expect != 0 && (err != nil || got != expect) {
			t.Fatalf("granted %d, %v, want %d", got, err, expect)
		}
	}
	grant(1, 60, 1, 60, noon)
	b.Open(channel(1), testService(1), 60)
	grant(1, 60, 1, 40, noon)
	grant(1, 60, 41, 0, noon)
	grant(2, 200, 1, 90, noon)
	b.Open(channel(2), testService(2), 90)
	grant(1, 60, 1, 0, noon) // all services together
	grant(3, 1, 1, 0, noon)
	for _, err := range []error{
		b.Pay(channel(1), 30, noon), b.Pay(channel(1), 20, noon), // old news
		b.Close(channel(1), 30, noon), // gives 30 back
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	grant(1, 60, 1, 30, noon) // 30 spent and 90 committed of 150
	tomorrow := noon.Add(24 * time.Hour)
	grant(1, 100, 1, 60, tomorrow)
	if s := b.Summary(noon); s.Spent != 30 || s.Committed != 90 || s.Channels != 1 {
		t.Errorf("%+v", s)
	}
	if err := b.Close(channel(9), 0, noon); !errors.Is(err, ErrChannel) {
		t.Errorf("%v", err)
	}
	if d := b.Days(noon); len(d) != 1 || d[0].Spent != 30 || d[0].Start.Hour() != 0 {
		t.Errorf("%+v", d)
	}
}

// TestUnsettledPromisesComeBack: what a provider never claimed was not spent.
func TestUnsettledPromisesComeBack(t *testing.T) {
	b := book(t, Limits{PerService: 100, PerDay: 100, Deposit: 100})
	b.Open(channel(1), testService(1), 100)
	if err := errors.Join(b.Pay(channel(1), 80, noon), b.Close(channel(1), 10, noon)); err != nil {
		t.Fatal(err)
	}
	if s := b.Summary(noon); s.Spent != 10 || s.Committed != 0 {
		t.Errorf("%+v", s)
	}
}

// TestNeverBeyondTheBudget does whatever comes, at random, restarting from the
// encoding now and then: what is spent in a day and what lies in channels never
// passes the budget, but for what lay in channels when the day began.
func TestNeverBeyondTheBudget(t *testing.T) {
	const budget = 1000
	limits := Limits{PerService: 600, PerDay: budget, Deposit: 100}
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		b, now := book(t, limits), noon
		deposits, paid := map[byte]voucher.Amount{}, map[byte]voucher.Amount{}
		for step := range 500 {
			id := byte(random.IntN(8))
			service := testService(id % 3)
			switch _, open := deposits[id]; random.IntN(6) {
			case 0, 1:
				if open {
					more, err := b.Grant(service, 50, 1, now)
					if err == nil {
						deposits[id] += more
						err = b.Deposit(channel(id), deposits[id])
					}
					if err != nil && !errors.Is(err, ErrBudget) {
						t.Fatal(err)
					}
					break
				}
				if d, err := b.Grant(service, limits.Deposit, 1, now); err == nil {
					deposits[id], paid[id] = d, 0
					b.Open(channel(id), service, d)
				}
			case 2, 3:
				if open {
					paid[id] += voucher.Amount(random.Uint64N(uint64(deposits[id]-paid[id]) + 1))
					if err := b.Pay(channel(id), paid[id], now); err != nil {
						t.Fatal(err)
					}
				}
			case 4:
				if open {
					if err := b.Close(channel(id), paid[id], now); err != nil {
						t.Fatal(err)
					}
					delete(deposits, id)
				}
			case 5:
				raw, err := b.Encode()
				if err != nil {
					t.Fatal(err)
				}
				if b, err = DecodeBook(raw, limits); err != nil {
					t.Fatal(err)
				}
				if again, _ := b.Encode(); !bytes.Equal(raw, again) {
					t.Fatal("decoded and encoded again it is another book")
				}
			}
			if s := b.Summary(now); s.Spent+s.Committed > budget {
				t.Fatalf("seed %d step %d: %+v", seed, step, s)
			}
		}
	}
}

func TestAccountsAreDerived(t *testing.T) {
	a := NewAccounts(identity.NewKeyFromSeed([32]byte{1}))
	same := NewAccounts(identity.NewKeyFromSeed([32]byte{1}))
	other := NewAccounts(identity.NewKeyFromSeed([32]byte{2}))
	n1, n2 := identity.NodeID{1}, identity.NodeID{2}
	if a.For(n1).Account() != same.For(n1).Account() {
		t.Error("the same secret and provider give another account")
	}
	keys := map[identity.AccountID]bool{}
	for _, k := range []identity.PrivateKey{
		a.For(n1), a.For(n2), other.For(n1),
		a.Session(n1, voucher.TransferID{1}), a.Session(n1, voucher.TransferID{2}), a.Session(n2, voucher.TransferID{1}),
	} {
		keys[k.Account()] = true
	}
	if len(keys) != 6 {
		t.Errorf("%d different keys of 6", len(keys))
	}
}

func FuzzDecodeBook(f *testing.F) {
	b := book(f, Limits{PerService: 100, PerDay: 100, Deposit: 100})
	empty, _ := b.Encode()
	b.Open(channel(1), testService(1), 100)
	_ = b.Pay(channel(1), 10, noon)
	full, _ := b.Encode()
	f.Add(empty)
	f.Add(full)
	f.Add(full[:len(full)-1])
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := DecodeBook(raw, Limits{})
		if err != nil {
			return
		}
		again, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeBook(again, Limits{}); err != nil {
			t.Fatal(err)
		}
	})
}
