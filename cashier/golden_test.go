package cashier

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
)

// Only the newest version may be written anew, and only before it is released.
// What stands under an older version was written by the program of its time.
var rewrite = flag.Bool("record", false, "write the newest chain and store in testdata anew")

const newestRecording = "v3"

// recorded is a history that was recorded under a version of the rules and of the
// store.
type recorded struct {
	chain, store string
	genesis      Genesis
	history      func(*testing.T, *Ledger)
	now          *time.Time // while it was recorded
}

func recordings() map[string]recorded {
	now := epoch
	return map[string]recorded{
		"v1": {
			"testdata/chain-v1.txt", "testdata/store-v1",
			Genesis{Parameters: Parameters{MaxNames: 64}, Rules: []RulesChange{{1, rulesNames}}},
			namesHistory,
			&epoch,
		},
		"v2": {
			"testdata/chain-v2.txt", "testdata/store-v2",
			Genesis{
				Parameters: DefaultParameters(), Rules: []RulesChange{{1, rulesMoney}},
				Balances: []GenesisBalance{{bob.Account(), 5 * voucher.Credit}},
			},
			func(t *testing.T, l *Ledger) {
				namesHistory(t, l)
				moneyHistory(t, l)
			},
			&epoch,
		},
		"v3": {
			"testdata/chain-v3.txt", "testdata/store-v3",
			NewGenesis(DefaultParameters(), GenesisBalance{bob.Account(), 5 * voucher.Credit}),
			func(t *testing.T, l *Ledger) {
				namesHistory(t, l)
				moneyHistory(t, l)
				marketHistory(t, l, &now)
			},
			&now,
		},
	}
}

func (r recorded) config(c *Config) {
	c.Parameters, c.Balances, c.rules = r.genesis.Parameters, r.genesis.Balances, r.genesis.Rules
	c.Clock, c.Tick = func() time.Time { return *r.now }, time.Hour
}

// namesHistory submits a fixed history with every kind of transaction about names.
func namesHistory(t *testing.T, l *Ledger) {
	t.Helper()
	submit := func(signed []byte) { t.Helper(); must[Receipt](t)(l.Submit(t.Context(), signed)) }
	for i := range uint64(5) {
		submit(registration(t, alice, files, i+1, name.Name(fmt.Sprintf("name-%d", i))))
	}
	submit(sealed(t, alice, 10, Offer{"name-0", bob.Account()}))
	submit(sealed(t, bob, 1, Accept{"name-0", mail.Service(), Consent(mail, network, bob.Account(), 1, "name-0")}))
	submit(sealed(t, alice, 11, Update{"name-1", mail.Service(), Consent(mail, network, alice.Account(), 11, "name-1")}))
	submit(sealed(t, alice, 12, Release{"name-2"}))
	submit(sealed(t, founder, 1, SetParameters{Parameters{MaxNames: 3}}))
	submit(registration(t, bob, files, 2, "name-2"))
}

// moneyHistory submits a fixed history with every kind of movement.
func moneyHistory(t *testing.T, l *Ledger) {
	t.Helper()
	until := epoch.Unix() + 600
	submit := func(signed []byte) { t.Helper(); must[Receipt](t)(l.Submit(t.Context(), signed)) }
	submit(sealed(t, founder, 2, SetParameters{Parameters{MaxNames: 3, SupplyCap: 1000 * voucher.Credit, TransferFee: 1, Treasury: key(9).Account()}}))
	submit(payment(t, founder, until, Issue{transferNumber(1), alice.Account(), 100 * voucher.Credit}))
	submit(payment(t, founder, until, Issue{transferNumber(2), founder.Account(), 7}))
	submit(payment(t, founder, until, Redeem{transferNumber(3), 7}))
	submit(payment(t, alice, until, Transfer{transferNumber(1), []Move{{Kind: MovePay, To: bob.Account(), Amount: 1_500_000}}}))
	submit(payment(t, alice, until, Transfer{transferNumber(2), []Move{
		{Kind: MoveHold, To: bob.Account(), Amount: 10, Expires: until},
		{Kind: MoveHold, To: bob.Account(), Amount: 20, Expires: until},
		{Kind: MoveHold, To: bob.Account(), Amount: 30, Expires: until},
		{Kind: MovePay, To: key(8).Account(), Amount: 3},
	}}))
	submit(payment(t, bob, until, Transfer{transferNumber(1), []Move{
		{Kind: MovePost, From: alice.Account(), ID: transferNumber(2), Amount: 9},
		{Kind: MoveVoid, From: alice.Account(), ID: transferNumber(2), Index: 1},
	}}))
}

// The blocks recorded under each version of the rules still lead to the same app
// hash, and the engine still makes the same blocks. A difference means that the
// rules changed under blocks that exist: that needs a new version.
func TestRecordedChain(t *testing.T) {
	for version, rec := range recordings() {
		t.Run(version, func(t *testing.T) {
			l := open(t, rec.config)
			rec.history(t, l)
			status := must[Status](t)(l.Status(t.Context()))
			var now strings.Builder
			for _, raw := range must[[][]byte](t)(l.Blocks(t.Context(), 1, 100, 1<<20)) {
				fmt.Fprintf(&now, "block %x\n", raw)
			}
			fmt.Fprintf(&now, "app %s\n", status.AppHash)
			if *rewrite && version == newestRecording {
				if err := os.WriteFile(rec.chain, []byte(now.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			recorded := string(must[[]byte](t)(os.ReadFile(rec.chain)))
			if recorded != now.String() {
				t.Error("the engine makes other blocks than it did")
			}
			r := must[*Replay](t)(NewReplay(network, rec.genesis))
			for line := range strings.Lines(recorded) {
				kind, value, _ := strings.Cut(strings.TrimSpace(line), " ")
				if kind == "app" {
					if r.AppHash().String() != value {
						t.Errorf("app hash %s, recorded %s", r.AppHash(), value)
					}
					continue
				}
				block := must[Block](t)(DecodeBlock(must[[]byte](t)(hex.DecodeString(value))))
				must[Outcome](t)(r.Apply(block))
			}
			if r.Height() != status.Height {
				t.Errorf("%d blocks recorded", r.Height())
			}
		})
	}
}

// A store written in each format there was opens, is brought to the newest one,
// verifies, goes on with money, and opens again.
func TestRecordedStore(t *testing.T) {
	for version, rec := range recordings() {
		t.Run(version, func(t *testing.T) {
			if *rewrite && version == newestRecording {
				recordStore(t, rec)
			}
			fs := vfs.NewMem()
			copyStore(t, fs, rec.store)
			var before Status
			for again := range 2 {
				l, err := Open("ledger", authority, Config{Network: network, fs: fs})
				if err != nil {
					t.Fatal(err)
				}
				if err := l.Verify(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				if a := must[Answer](t)(l.Lookup(t.Context(), "name-0")); a.Record.Owner != bob.Account() || a.Record.Service != mail.Service() {
					t.Errorf("name-0: %+v", a)
				}
				status := must[Status](t)(l.Status(t.Context()))
				if status.Rules != RulesVersion || again == 1 && status.AppHash != before.AppHash {
					t.Errorf("opened for the %d. time: %+v", again+1, status)
				}
				if again == 0 {
					p := status.Parameters
					p.MaxNames, p.SupplyCap = 64, 1000*voucher.Credit
					p.RevealDelay, p.RevealDelayBlocks = 0, 0
					must[Receipt](t)(wallet(founder, l).SetParameters(t.Context(), p))
					must[Receipt](t)(wallet(bob, l).Register(t.Context(), "more", files))
					must[Receipt](t)(wallet(founder, l).Issue(t.Context(), bob.Account(), 5*voucher.Credit))
					must[Receipt](t)(wallet(bob, l).Transfer(t.Context(), alice.Account(), voucher.Credit))
				}
				before = must[Status](t)(l.Status(t.Context()))
				if err := l.Verify(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A store of a newer format is refused, and not a byte of it is changed.
func TestNewerStoreIsNotTouched(t *testing.T) {
	fs := vfs.NewMem()
	copyStore(t, fs, "testdata/store-v2")
	s, err := openStore("ledger/store", fs, Config{}.withDefaults().Logger)
	if err != nil {
		t.Fatal(err)
	}
	b := s.db.NewBatch()
	_ = b.Set(formatKey, appendUint64(nil, formatVersion+1), nil)
	if err := errors.Join(s.commit(b), b.Close(), s.close()); err != nil {
		t.Fatal(err)
	}
	contents := func() map[string]string {
		out := map[string]string{}
		for _, n := range must[[]string](t)(fs.List("ledger/store")) {
			f := must[vfs.File](t)(fs.Open(fs.PathJoin("ledger/store", n)))
			out[n] = string(must[[]byte](t)(io.ReadAll(f)))
			_ = f.Close()
		}
		return out
	}
	before := contents()
	if _, err := Open("ledger", authority, Config{Network: network, fs: fs}); !errors.Is(err, ErrFormat) {
		t.Fatalf("got %v, want ErrFormat", err)
	}
	after := contents()
	if len(before) != len(after) {
		t.Errorf("%d files became %d", len(before), len(after))
	}
	for n, text := range before {
		if after[n] != text {
			t.Errorf("%s was touched", n)
		}
	}
}

func recordStore(t *testing.T, rec recorded) {
	t.Helper()
	if err := os.RemoveAll(rec.store); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Network: network}
	rec.config(&cfg)
	l, err := Open(rec.store, authority, cfg)
	if err != nil {
		t.Fatal(err)
	}
	rec.history(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// copyStore copies a recorded store to where opening it may change it.
func copyStore(t *testing.T, fs vfs.FS, from string) {
	t.Helper()
	to := filepath.Join("ledger", storeDir)
	if err := fs.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, entry := range must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(from, storeDir))) {
		b := must[[]byte](t)(os.ReadFile(filepath.Join(from, storeDir, entry.Name())))
		f := must[vfs.File](t)(fs.Create(filepath.Join(to, entry.Name()), vfs.WriteCategoryUnspecified))
		_, err := f.Write(b)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
