package cashier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
)

// crash is a disk as a power cut left it, and what had been acknowledged by then.
type crash struct {
	fs           *vfs.MemFS
	op           string
	acknowledged []acknowledged
}

// acknowledged is a transaction the ledger said yes to.
type acknowledged struct {
	signed  []byte
	receipt Receipt
}

// cutter takes a copy of the disk before every write and every sync, as if the
// power went there: once with nothing that was not synced, once with random parts
// of it.
type cutter struct {
	disk *vfs.MemFS
	gate sync.RWMutex // held while a copy is taken; see wrap

	mu           sync.Mutex
	acknowledged []acknowledged
	crashes      []crash
	random       *rand.Rand
}

func (c *cutter) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || op.Kind == errorfs.OpLock {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	acknowledged := slices.Clone(c.acknowledged) // before the copy: all of it must be in it
	c.gate.Lock()
	defer c.gate.Unlock()
	for _, cfg := range []vfs.CrashCloneCfg{{}, {UnsyncedDataPercent: 50, RNG: c.random}} {
		c.crashes = append(c.crashes, crash{
			c.disk.CrashClone(cfg), fmt.Sprintf("%d: op %d on %s, %d%%", len(c.crashes), op.Kind, op.Path, cfg.UnsyncedDataPercent), acknowledged,
		})
	}
	return nil
}

func (c *cutter) String() string { return "cutter" }

// Power is cut at every write and sync of a run with names, money and channels: no
// acknowledged transaction is ever lost, none counts twice, and the chain always
// verifies and goes on.
func TestPowerCutEverywhere(t *testing.T) {
	const seed = 1
	now := epoch
	clock := func() time.Time { return now }
	config := Config{Network: network, Clock: clock, Tick: time.Hour, Balances: []GenesisBalance{{alice.Account(), 1000}}}
	config.Parameters = DefaultParameters()
	config.Parameters.CloseGrace = 20
	disk := vfs.NewCrashableMem()
	cut := &cutter{disk: disk, random: rand.New(rand.NewPCG(uint64(seed), 0))}
	running := config
	running.fs = errorfs.Wrap(disk, cut)
	l, err := Open("ledger", authority, running)
	if err != nil {
		t.Fatal(err)
	}
	var channel voucher.ChannelID
	var opening OpenChannel
	for i := range uint64(32) {
		var signed []byte
		until := now.Unix() + 60
		switch i % 8 {
		case 0:
			signed = registration(t, alice, files, i+1, name.Name(fmt.Sprintf("name-%d", i)))
		case 1:
			signed = payment(t, alice, until, Transfer{transferNumber(i), []Move{{Kind: MovePay, To: bob.Account(), Amount: 1}}})
		case 2:
			signed = payment(t, alice, until, Transfer{transferNumber(i), []Move{
				{Kind: MoveHold, To: bob.Account(), Amount: 2, Expires: until}, {Kind: MoveHold, To: bob.Account(), Amount: 3, Expires: until},
			}})
		case 3:
			signed = payment(t, bob, until, Transfer{transferNumber(i), []Move{{Kind: MovePost, From: alice.Account(), ID: transferNumber(i - 1), Amount: 1}}})
			now = now.Add(20 * time.Second) // so that lists fall due on the way
		case 4:
			ask := testAsk(epoch, i, func(a *voucher.Ask) { a.Node = key(uint16(300 + i)).Node() })
			g := testGrant(ask)
			signed = payment(t, bob, until, PostAsk{
				ID: transferNumber(i), Ask: ask.Append(nil), Node: Signature(ask.Sign(key(uint16(300+i)), network)), Grant: g.Append(nil),
			})
			op := OpenChannel{
				ID: transferNumber(i + 1), Provider: bob.Account(), Node: ask.Node, Service: files.Service(), Ask: ask.ID(),
				Session: session.Public(), Deposit: 10, Expires: now.Unix() + 60,
			}
			opening, channel = op, op.Channel(network, alice.Account())
		case 5:
			signed = payment(t, alice, until, opening)
		case 6:
			signed = payment(t, bob, until, SettleBatch{transferNumber(i), bob.Account(), promise(channel, 1, 1).Append(nil)})
		case 7:
			signed = payment(t, alice, until, RequestClose{transferNumber(i), channel})
			now = now.Add(25 * time.Second)
		}
		receipt := must[Receipt](t)(l.Submit(t.Context(), signed))
		cut.mu.Lock()
		cut.acknowledged = append(cut.acknowledged, acknowledged{signed, receipt})
		cut.mu.Unlock()
		if i == 6 { // a flush in between, so that tables and the manifest are written as well
			if err := l.store.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d, %d crashes", seed, len(cut.crashes))
	if len(cut.crashes) < 50 {
		t.Error("too few to mean anything")
	}
	for _, c := range cut.crashes {
		surviving := config
		surviving.CheckBlocks, surviving.fs = -1, c.fs
		after, err := Open("ledger", authority, surviving)
		if err != nil {
			t.Fatalf("%s: %v", c.op, err)
		}
		checkSurvivor(t, after, c)
		if err := after.Close(); err != nil {
			t.Fatalf("%s: %v", c.op, err)
		}
		if t.Failed() {
			return
		}
	}
}

// checkSurvivor checks what a ledger remembers after a crash, and that it goes on.
func checkSurvivor(t *testing.T, l *Ledger, c crash) {
	t.Helper()
	ctx := t.Context()
	// At most the one transaction that was being written is there besides.
	if s, err := l.Status(ctx); err != nil || s.Height < uint64(len(c.acknowledged)) || s.Height > uint64(len(c.acknowledged))+1 {
		t.Errorf("%s: height %d with %d acknowledged, %v", c.op, s.Height, len(c.acknowledged), err)
	}
	paid := voucher.Amount(0)
	for _, a := range c.acknowledged {
		tx := must[Transaction](t)(OpenTransaction(network, a.signed))
		if n, ok := nameOf(tx.Operation); ok {
			answer, err := l.Lookup(ctx, n)
			if err != nil || !answer.Registered || answer.Record.Owner != alice.Account() || answer.Record.Height != a.receipt.Height {
				t.Errorf("%s: %s was acknowledged: %+v, %v", c.op, n, answer, err)
			}
		}
		if op, ok := tx.Operation.(Transfer); ok && op.Moves[0].Kind != MoveHold {
			paid += op.Moves[0].Amount
		}
		paid += a.receipt.Paid
		// What may be forgotten is refused as expired, and what is remembered is not
		// done again.
		again, err := l.Submit(ctx, a.signed)
		expired := tx.ValidUntil != 0 && errors.Is(err, ErrExpired)
		if !expired && (err != nil || !again.Again || again.Height != a.receipt.Height) {
			t.Errorf("%s: not remembered: %+v, %v", c.op, again, err)
		}
	}
	has := must[Account](t)(l.Account(ctx, bob.Account())).Counters.Balance()
	if has != paid && has != paid+1 {
		t.Errorf("%s: bob has %d, %d were acknowledged", c.op, has, paid)
	}
	if _, err := l.Submit(ctx, registration(t, bob, mail, 1, "afterwards")); err != nil {
		t.Errorf("%s: the next transaction: %v", c.op, err)
	}
	if err := l.Verify(ctx, nil); err != nil {
		t.Errorf("%s: %v", c.op, err)
	}
}

// Many submitters, power cut at random moments.
func TestPowerCutUnderLoad(t *testing.T) {
	for seed := range int64(8) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(seed), 0))
			disk := vfs.NewCrashableMem()
			l, err := Open("ledger", authority, Config{Network: network, fs: disk})
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			acknowledged := map[name.Name]Receipt{}
			var stop atomic.Bool
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					w := wallet(key(uint16(100+i)), l)
					for j := 0; j < 60 && !stop.Load(); j++ {
						n := name.Name(fmt.Sprintf("n-%d-%d", i, j))
						r, err := w.Register(t.Context(), n, files)
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						acknowledged[n] = r
						mu.Unlock()
					}
				})
			}
			time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
			mu.Lock()
			before := map[name.Name]Receipt{}
			for n, r := range acknowledged {
				before[n] = r
			}
			mu.Unlock()
			survivor := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(100), RNG: random})
			stop.Store(true)
			wg.Wait()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			after, err := Open("ledger", authority, Config{Network: network, CheckBlocks: -1, fs: survivor})
			if err != nil {
				t.Fatal(err)
			}
			defer after.Close()
			for n, r := range before {
				if a, err := after.Lookup(t.Context(), n); err != nil || !a.Registered || a.Record.Height != r.Height {
					t.Errorf("%s was acknowledged: %+v, %v", n, a, err)
				}
			}
			if err := after.Verify(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// faulty fails writes and syncs of the log once it is switched on.
type faulty struct {
	on   atomic.Bool
	kind errorfs.OpKind
}

func (f *faulty) MaybeError(op errorfs.Op) error {
	if f.on.Load() && op.Kind == f.kind && strings.HasSuffix(op.Path, ".log") {
		return errors.New("no space left on device")
	}
	return nil
}

func (f *faulty) String() string { return "faulty" }

// A disk that fails stops the ledger: nothing is acknowledged any more, reading
// goes on, and after a restart all that was acknowledged is there.
func TestDiskFails(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData} {
		t.Run(fmt.Sprintf("op %d", kind), func(t *testing.T) {
			disk := vfs.NewCrashableMem()
			fault := &faulty{kind: kind}
			l, err := Open("ledger", authority, Config{Network: network, fs: errorfs.Wrap(disk, fault)})
			if err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			must[Receipt](t)(l.Submit(ctx, registration(t, alice, files, 1, "before")))
			fault.on.Store(true)
			failed := 0
			for i := range uint64(3) {
				_, err := l.Submit(ctx, registration(t, alice, files, i+2, name.Name(fmt.Sprintf("after-%d", i))))
				if errors.Is(err, ErrUnavailable) {
					failed++
				} else if err != nil {
					t.Errorf("%v, want ErrUnavailable", err)
				}
			}
			if failed == 0 {
				t.Skip("this operation is not used on the log here")
			}
			if failed != 3 {
				t.Errorf("%d of 3 failed: the ledger went on after a failure", failed)
			}
			if a, err := l.Lookup(ctx, "before"); err != nil || !a.Registered {
				t.Errorf("lookup on a failed ledger: %+v, %v", a, err)
			}
			if err := l.Close(); !errors.Is(err, ErrUnavailable) {
				t.Errorf("Close tells nothing: %v", err)
			}
			after, err := Open("ledger", authority, Config{Network: network, fs: disk.CrashClone(vfs.CrashCloneCfg{})})
			if err != nil {
				t.Fatal(err)
			}
			defer after.Close()
			if a := must[Answer](t)(after.Lookup(ctx, "before")); !a.Registered {
				t.Error("an acknowledged name is lost")
			}
			if err := after.Verify(ctx, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// Every kind of live row changed by one bit is noticed by Verify, and a broken
// chain or head by Open as well.
func TestVerifyNoticesEveryRow(t *testing.T) {
	parameters := DefaultParameters()
	parameters.VestingShare, parameters.VestingEpochs = 500_000, 1
	build := func() *vfs.MemFS {
		fs := vfs.NewMem()
		l, err := Open("ledger", authority, Config{Network: network, fs: fs, Clock: func() time.Time { return epoch }, Parameters: parameters})
		if err != nil {
			t.Fatal(err)
		}
		must[Receipt](t)(l.Submit(t.Context(), registration(t, alice, files, 1, "aaa")))
		must[Receipt](t)(l.Submit(t.Context(), registration(t, alice, files, 2, "bbb")))
		must[Receipt](t)(l.Submit(t.Context(), sealed(t, alice, 3, Offer{"aaa", bob.Account()})))
		until := epoch.Unix() + 600
		must[Receipt](t)(l.Submit(t.Context(), payment(t, founder, until, Issue{transferNumber(1), alice.Account(), 1000})))
		must[Receipt](t)(l.Submit(t.Context(), payment(t, alice, until, Transfer{transferNumber(1), []Move{
			{Kind: MovePay, To: bob.Account(), Amount: 5}, {Kind: MoveHold, To: bob.Account(), Amount: 6, Expires: until},
		}})))
		must[Receipt](t)(l.Submit(t.Context(), payment(t, bob, until, posting(2, testAsk(epoch, 1)))))
		opening := OpenChannel{
			ID: transferNumber(3), Provider: bob.Account(), Node: node.Node(), Service: files.Service(), Ask: testAsk(epoch, 1).ID(),
			Session: session.Public(), Deposit: 100, Expires: until,
		}
		must[Receipt](t)(l.Submit(t.Context(), payment(t, alice, until, opening)))
		must[Receipt](t)(l.Submit(t.Context(), payment(t, bob, until, SettleChannel{
			transferNumber(4), promise(opening.Channel(network, alice.Account()), 1, 50).Append(nil),
		})))
		if err := l.Verify(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return fs
	}
	alter := func(fs *vfs.MemFS, f func(*pebble.DB)) {
		db, err := pebble.Open("ledger/store", &pebble.Options{FS: fs, FormatMajorVersion: pebbleFormat, Logger: quiet{}})
		if err != nil {
			t.Fatal(err)
		}
		f(db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	alter(build(), func(db *pebble.DB) {
		it, err := db.NewIter(nil)
		if err != nil {
			t.Fatal(err)
		}
		for it.First(); it.Valid(); it.Next() {
			keys = append(keys, string(it.Key()))
		}
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
	})
	kinds := map[string]bool{}
	for _, k := range keys {
		kinds[k[:3]] = true
	}
	if len(keys) < 40 || len(kinds) < 15 {
		t.Fatalf("only %d rows: %q", len(keys), keys)
	}
	for _, k := range keys {
		for _, damage := range []string{"value", "gone", "key"} {
			fs := build()
			alter(fs, func(db *pebble.DB) {
				v, err := get(db, []byte(k))
				if err != nil {
					t.Fatal(err)
				}
				b := db.NewBatch()
				switch damage {
				case "value":
					if len(v) == 0 {
						v = []byte{0}
					}
					v[len(v)/2] ^= 0x10
					_ = b.Set([]byte(k), v, nil)
				case "gone":
					_ = b.Delete([]byte(k), nil)
				case "key":
					other := []byte(k)
					other[len(other)-1] ^= 1
					_ = b.Delete([]byte(k), nil)
					_ = b.Set(other, v, nil)
				}
				if err := b.Commit(pebble.Sync); err != nil {
					t.Fatal(err)
				}
			})
			l, err := Open("ledger", authority, Config{Network: network, fs: fs})
			if err == nil {
				err = l.Verify(t.Context(), nil)
				_ = l.Close()
			}
			if err == nil {
				t.Errorf("row %q, %s: nobody noticed", k, damage)
				continue
			}
			// What is wrong is named: the row itself, or the block, head, genesis or format.
			named := damage != "value" || strings.Contains(err.Error(), fmt.Sprintf("%q", k))
			for prefix, word := range map[string]string{"b/": "block", "m/format": "format", "m/head": "head", "m/genesis": "genesis"} {
				if strings.HasPrefix(k, prefix) {
					named = strings.Contains(err.Error(), word)
				}
			}
			if !named {
				t.Errorf("row %q, %s: not named: %v", k, damage, err)
			}
		}
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(f string, a ...any) {
	panic(fmt.Sprintf(f, a...))
}

func TestOpenRefuses(t *testing.T) {
	fs := vfs.NewMem()
	l := open(t, func(c *Config) { c.fs = fs })
	must[Receipt](t)(wallet(alice, l).Register(t.Context(), "files", files))
	if _, err := Open("ledger", authority, Config{Network: network, fs: fs}); err == nil {
		t.Error("opened twice")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("ledger", authority, Config{Network: bob.Network(), fs: fs}); !errors.Is(err, ErrNetwork) {
		t.Errorf("another network: %v", err)
	}
	set := func(format uint64) {
		s, err := openStore("ledger/store", fs, Config{}.withDefaults().Logger)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.db.Set(formatKey, binary.BigEndian.AppendUint64(nil, format), pebble.Sync); err != nil {
			t.Fatal(err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
	set(formatVersion + 1)
	if _, err := Open("ledger", authority, Config{Network: network, fs: fs}); !errors.Is(err, ErrFormat) {
		t.Errorf("newer format: %v", err)
	}
	set(formatVersion)
	l, err := Open("ledger", authority, Config{Network: network, fs: fs, Parameters: Parameters{MaxNames: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if s := must[Status](t)(l.Status(t.Context())); s.Parameters != DefaultParameters() {
		t.Error("the settings changed the rules of a ledger that exists")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []Config{
		{},
		{Network: network, MaxQueue: -1},
		{Network: network, MaxBlock: MaxBlockTransactions + 1},
		{Network: network, Parameters: Parameters{MaxNames: 1_000_001}},
	} {
		if _, err := Open("ledger", authority, cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
