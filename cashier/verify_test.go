package cashier

import (
	"errors"
	"flag"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"scn.alt/scn/cashier/voucher"
)

var verifyTransactions = flag.Int("verify-transactions", 2_000, "transactions of the ledger in which TestVerifyNoticesOneBit changes bits")

// One bit changed in the key or in the value of one live row of each kind, in a
// ledger of many transactions, is noticed, and nothing is where nothing changed.
func TestVerifyNoticesOneBit(t *testing.T) {
	l := open(t, func(c *Config) {
		c.MaxBlock, c.Tick = MaxBlockTransactions, 24*time.Hour // a tick would stop at a damaged row
		c.Balances = []GenesisBalance{{alice.Account(), 1 << 40}, {bob.Account(), 1 << 40}}
	})
	ctx := t.Context()
	until := time.Now().Unix() + 12*3600
	must[Receipt](t)(l.Submit(ctx, registration(t, alice, files, 1, "files")))
	must[Receipt](t)(l.Submit(ctx, payment(t, alice, until, Transfer{transferNumber(1 << 40), []Move{
		{Kind: MoveHold, To: bob.Account(), Amount: 6, Expires: until},
	}})))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(*verifyTransactions); i = next.Add(1) {
				payer, payee := alice, key(uint16(1000+i%500)).Account()
				if i%2 == 0 {
					payer = bob
				}
				op := Transfer{transferNumber(uint64(i)), []Move{{Kind: MovePay, To: payee, Amount: voucher.Amount(i%7 + 1)}}}
				if _, err := l.Submit(ctx, payment(t, payer, until, op)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	start := time.Now()
	var last Progress
	if err := l.Verify(ctx, func(p Progress) { last = p }); err != nil {
		t.Fatal(err)
	}
	if last.Transactions != uint64(*verifyTransactions)+2 {
		t.Fatalf("%d transactions verified", last.Transactions)
	}
	t.Logf("%d transactions in %d blocks verified in %s", last.Transactions, last.Height, time.Since(start))

	// A row of each kind: the middle one of those that begin alike.
	kinds := map[string][]string{}
	err := eachRow(l.store.db, "", func(k, _ []byte) error {
		kind := string(k[:2])
		switch {
		case kind == "m/":
			kind = string(k)
		case kind == statePrefix:
			kind = string(k[:3])
		}
		kinds[kind] = append(kinds[kind], string(k))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(kinds) < 13 {
		t.Fatalf("only %d kinds of rows", len(kinds))
	}
	for kind, keys := range kinds {
		k := []byte(keys[len(keys)/2])
		v := must[[]byte](t)(get(l.store.db, k))
		for _, damage := range []string{"value", "key"} {
			b := l.store.db.NewBatch()
			var overwritten []byte // a row that had the other key, if any
			other, changed := append([]byte(nil), k...), append([]byte(nil), v...)
			if damage == "value" {
				if len(changed) == 0 {
					continue
				}
				changed[len(changed)/2] ^= 0x04
				_ = b.Set(k, changed, nil)
			} else {
				other[len(other)-1] ^= 0x01
				overwritten = must[[]byte](t)(get(l.store.db, other))
				_ = b.Delete(k, nil)
				_ = b.Set(other, v, nil)
			}
			if err := b.Commit(pebble.Sync); err != nil {
				t.Fatal(err)
			}
			err := l.Verify(ctx, nil)
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
				t.Errorf("%q, %s: %v", kind, damage, err)
			}
			if err != nil {
				t.Logf("%-12q %-5s %s", kind, damage, strings.SplitN(err.Error(), "\n", 2)[0])
			}
			b = l.store.db.NewBatch()
			if overwritten != nil {
				_ = b.Set(other, overwritten, nil)
			} else if damage == "key" {
				_ = b.Delete(other, nil)
			}
			_ = b.Set(k, v, nil)
			if err := b.Commit(pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Verify(ctx, nil); err != nil {
		t.Errorf("all as it was: %v", err)
	}
}
