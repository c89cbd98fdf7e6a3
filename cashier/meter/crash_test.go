package meter

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"scn.alt/scn/cashier/voucher"
)

// crash is a disk as a power cut left it, with what mattered by then.
type crash struct {
	fs    *vfs.MemFS
	op    string
	truth truth
}

// truth is what had happened outside of the disk.
type truth struct {
	signed  voucher.Voucher // payer: the newest that was sent
	carried uint64          // payee: bytes carried
	window  uint64          // payee: when they were leased
}

// cutter takes a copy of the disk before every write and every sync, once with nothing
// that was not synced and once with random parts of it. What had happened is noted
// before the copy is made, so all of it must be accounted for.
//
// While Pebble opens, there is no second copy: Pebble relies on the sync of a new file
// to keep its name as well, as file systems do, and this one in memory may keep the
// marker that names a manifest and lose the manifest's own name.
type cutter struct {
	disk   *vfs.MemFS
	truth  func() truth
	random *rand.Rand
	opened atomic.Bool

	mu      sync.Mutex // guards below
	crashes []crash
}

func (c *cutter) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || op.Kind == errorfs.OpLock {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.truth()
	copies := []vfs.CrashCloneCfg{{}}
	if c.opened.Load() {
		copies = append(copies, vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: c.random})
	}
	for _, cfg := range copies {
		c.crashes = append(c.crashes, crash{
			fs: c.disk.CrashClone(cfg), truth: now,
			op: fmt.Sprintf("crash %d: op %d on %s, %d%%", len(c.crashes), op.Kind, op.Path, cfg.UnsyncedDataPercent),
		})
	}
	return nil
}

func (c *cutter) String() string { return "cutter" }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// noted is the truth of a run, which the disk's goroutines look at.
type noted struct {
	mu sync.Mutex // guards t
	t  truth
}

func (n *noted) get() truth {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.t
}

func (n *noted) set(f func(*truth)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(&n.t)
}

// cutPower runs a payer and a payee over one channel, each with its store, in which
// the power is cut at every write and sync.
func cutPower(t *testing.T) (payers, payees []crash, c Channel) {
	t.Helper()
	c = testChannel(voucher.Price{PerGiB: 1_000_000}, 1<<50)
	var payTruth, earnTruth noted
	open := func(truth *noted) (*keeper, *cutter) {
		disk := vfs.NewCrashableMem()
		cut := &cutter{disk: disk, truth: truth.get, random: rand.New(rand.NewPCG(1, 0))}
		k, err := openKeeper("meter", errorfs.Wrap(disk, cut), discard())
		if err != nil {
			t.Fatal(err)
		}
		if err := k.open(); err != nil { // otherwise the first row does
			t.Fatal(err)
		}
		cut.opened.Store(true)
		k.start()
		return k, cut
	}
	payStore, payCut := open(&payTruth)
	earnStore, earnCut := open(&earnTruth)
	put := func(k *keeper, key, row []byte) {
		done := make(chan error, 1)
		k.put(write{key, row, func(err error) { done <- err }})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	pay := newPayer(c, testNetwork, voucher.Voucher{}, 0, reservation{})
	earn := newPayee(c, testNetwork, voucher.Voucher{}, 0)
	binding := [32]byte{1}
	earn.Start(0, binding)
	for i := range 600 {
		now := time.Duration(i) * 3 * time.Millisecond
		if r, ok := pay.Reserve(now); ok {
			put(payStore, payerKey(c.ID), mustMarshal(payerRow{r.Sequence, r.Amount, pay.bytes, rowVoucher(pay.newest)}))
			pay.Reserved(r)
		}
		if pay.Due(now, true) {
			v, ok := pay.Sign(now)
			if !ok {
				t.Fatal("cannot sign")
			}
			v.Binding = binding
			v.Sign(testKey(3), testNetwork)
			pay.Signed(now, v)
			payTruth.set(func(t *truth) { t.signed = v })
			if err := earn.Accept(v); err != nil {
				t.Fatal(err)
			}
		}
		if v, carried, ok := earn.Keep(false); ok {
			put(earnStore, payeeKey(c.ID), mustMarshal(payeeRow{testKey(1).Node(), rowOf(c), carried, rowVoucher(v)}))
			earn.Kept(v)
		}
		window := earn.Window()
		if n := earn.Lease(now, 1, uint64(100_000+i*100), false); n > 0 {
			earnTruth.set(func(t *truth) { t.carried, t.window = t.carried+n, window })
			pay.Count(now, n)
		}
	}
	for _, k := range []*keeper{payStore, earnStore} {
		if err := k.close(); err != nil {
			t.Fatal(err)
		}
	}
	return payCut.crashes, earnCut.crashes, c
}

// The power is cut at every write and sync. A payer never signs again what it may have
// signed before; a payee has lost no more than one window.
func TestPowerCutEverywhere(t *testing.T) {
	payers, payees, c := cutPower(t)
	t.Logf("%d crashes of the payer, %d of the payee", len(payers), len(payees))
	if len(payers) < 8 || len(payees) < 100 {
		t.Error("too few to mean anything")
	}
	load := func(cr crash) (p payerRow, e payeeRow) {
		k, err := openKeeper("meter", cr.fs, discard())
		if err != nil {
			t.Fatalf("%s: %v", cr.op, err)
		}
		err = k.load(func(_ voucher.ChannelID, r payerRow) error { p = r; return nil }, func(_ voucher.ChannelID, r payeeRow) error { e = r; return nil })
		if err != nil {
			t.Fatalf("%s: %v", cr.op, err)
		}
		k.start()
		if err := k.close(); err != nil {
			t.Fatalf("%s: %v", cr.op, err)
		}
		return p, e
	}
	for _, cr := range payers {
		row, _ := load(cr)
		if cr.truth.signed.Sequence > row.Sequence || cr.truth.signed.Amount > row.Amount {
			t.Fatalf("%s: signed %d for %s, reserved %d and %s", cr.op, cr.truth.signed.Sequence, cr.truth.signed.Amount, row.Sequence, row.Amount)
		}
		newest, err := keptVoucher(row.Newest)
		if err != nil {
			t.Fatal(err)
		}
		p := newPayer(c, testNetwork, newest, row.Bytes, reservation{row.Sequence, row.Amount})
		if v := p.due(0); v.Sequence <= cr.truth.signed.Sequence {
			t.Fatalf("%s: goes on at %d, had signed %d", cr.op, v.Sequence, cr.truth.signed.Sequence)
		}
	}
	most := uint64(0)
	for _, cr := range payees {
		_, row := load(cr)
		newest, err := keptVoucher(row.Newest)
		if err != nil {
			t.Fatal(err)
		}
		if lost := cr.truth.carried - min(cr.truth.carried, newest.Bytes); lost > cr.truth.window {
			t.Fatalf("%s: %d bytes lost, window %d", cr.op, lost, cr.truth.window)
		} else {
			most = max(most, lost)
		}
	}
	t.Logf("a payee lost %d bytes at most", most)
}
