package cashier

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"scn.alt/scn/cashier/voucher"
)

// Free transactions: so many of a funded account in an epoch, none of one without
// money, and always those of the founder and of the issuer.
func TestAllowance(t *testing.T) {
	clocks := &twoClocks{wall: epoch}
	p := DefaultParameters()
	p.FreeTransactions = 2
	l := open(t, func(c *Config) {
		clocks.configure(c)
		c.Parameters, c.Tick = p, time.Hour
		c.Balances = []GenesisBalance{{alice.Account(), 100}}
	})
	ctx := t.Context()
	n := uint64(0)
	pay := func() error {
		n++
		op := Transfer{transferNumber(n), []Move{{Kind: MovePay, To: authority.Account(), Amount: 1}}}
		_, err := l.Submit(ctx, payment(t, alice, clocks.wall.Unix()+3600, op))
		return err
	}
	if _, err := l.Submit(ctx, registration(t, bob, mail, 1, "mail")); !errors.Is(err, ErrNotFunded) {
		t.Errorf("an account without money: %v", err)
	}
	if err := errors.Join(pay(), pay()); err != nil {
		t.Fatal(err)
	}
	// The same again costs nothing more.
	op := Transfer{transferNumber(n), []Move{{Kind: MovePay, To: authority.Account(), Amount: 1}}}
	if r, err := l.Submit(ctx, payment(t, alice, clocks.wall.Unix()+3600, op)); err != nil || !r.Again {
		t.Errorf("what was accepted before: %+v, %v", r, err)
	}
	var r *Rejection
	if err := pay(); !errors.As(err, &r) || r.Code != AllowanceUsed || r.RetryAfter == 0 || r.RetryAfter > 600 {
		t.Errorf("beyond the allowance: %v", err)
	}
	until := clocks.wall.Unix() + 3600
	for i := range uint64(4) {
		must[Receipt](t)(l.Submit(ctx, payment(t, founder, until, Issue{transferNumber(i + 100), bob.Account(), voucher.Amount(5)})))
	}
	must[Receipt](t)(l.Submit(ctx, registration(t, bob, mail, 1, "mail")))
	clocks.pass(10 * time.Minute)
	if err := pay(); err != nil {
		t.Errorf("in the next epoch: %v", err)
	}
	// A fee is no gift.
	p.TransferFee = 1
	must[Receipt](t)(wallet(founder, l).SetParameters(ctx, p))
	if err := l.chore(func() error { _, err := l.makeBlock(nil); return err }); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := pay(); err != nil {
			t.Errorf("with a fee: %v", err)
		}
	}
	if m := l.Metrics(); m.Circulating != 120 || m.ByCode[AllowanceUsed] == 0 || m.Refusals()[AllowanceUsed.String()] == 0 {
		t.Errorf("metrics %+v", m)
	}
}

// One account is limited from wherever it comes, and one prefix whoever signs.
func TestSubmissionLimits(t *testing.T) {
	l := open(t, func(c *Config) { c.Balances = []GenesisBalance{{alice.Account(), 100}, {bob.Account(), 100}} })
	until := time.Now().Unix() + 3600
	many := func(c *Client, from, n int) (limited int) {
		for i := range n {
			payer, payee := alice, bob
			if i%2 == 1 {
				payer, payee = bob, alice
			}
			op := Transfer{transferNumber(uint64(from + i)), []Move{{Kind: MovePay, To: payee.Account(), Amount: 1}}}
			_, err := c.Submit(t.Context(), payment(t, payer, until, op))
			if errors.Is(err, ErrRateLimited) {
				limited++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		return limited
	}
	const slow = 1e-6
	if n := many(serve(t, l, ServerConfig{AccountRate: slow, AccountBurst: 3}), 1, 20); n != 14 {
		t.Errorf("%d of 20 limited by account, want 14", n)
	}
	if n := many(serve(t, l, ServerConfig{PrefixRate: slow, PrefixBurst: 5}), 101, 20); n != 15 {
		t.Errorf("%d of 20 limited by prefix, want 15", n)
	}
	for ip, want := range map[string]string{"192.0.2.7": "192.0.2.0/24", "::ffff:192.0.2.9": "192.0.2.0/24", "2001:db8:1:2::3": "2001:db8:1::/48"} {
		if got := PrefixOf(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s is in %s, want %s", ip, got, want)
		}
	}
}
