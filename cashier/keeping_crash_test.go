package cashier

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// wrap returns the disk under the cutter. No copy is taken while a file is linked,
// locked and so on: MemFS takes its lock for copies twice in some of these, and a
// copy that comes in between would wait for ever.
func (c *cutter) wrap() vfs.FS { return errorfs.Wrap(gatedFS{c.disk, &c.gate}, c) }

// gatedFS changes directories only while no copy is taken.
type gatedFS struct {
	vfs.FS
	gate *sync.RWMutex
}

func (f gatedFS) Create(path string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.FS.Create(path, category)
}

func (f gatedFS) Link(from, to string) error {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.FS.Link(from, to)
}

func (f gatedFS) OpenReadWrite(path string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.FS.OpenReadWrite(path, category, opts...)
}

func (f gatedFS) Remove(path string) error {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.FS.Remove(path)
}

func (f gatedFS) RemoveAll(path string) error {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.FS.RemoveAll(path)
}

func (f gatedFS) Rename(from, to string) error {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.FS.Rename(from, to)
}

func (f gatedFS) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.FS.ReuseForWrite(from, to, category)
}

func (f gatedFS) MkdirAll(path string, mode os.FileMode) error {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.FS.MkdirAll(path, mode)
}

func (f gatedFS) Lock(path string) (io.Closer, error) {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.FS.Lock(path)
}

// Power is cut at every write and sync of ticks, snapshots, pruning and a backup:
// every disk opens, has all that was acknowledged, verifies and goes on, and what
// was promised is never more than it has.
func TestPowerCutWhileKeeping(t *testing.T) {
	clocks := &twoClocks{wall: epoch}
	config := func(c *Config) {
		clocks.configure(c)
		c.Network, c.Tick, c.Retention, c.Promised = network, time.Hour, time.Hour, "promised"
		c.Balances = []GenesisBalance{{alice.Account(), 1000}}
	}
	disk := vfs.NewCrashableMem()
	cut := &cutter{disk: disk, random: rand.New(rand.NewPCG(2, 0))}
	running := configured(config)
	running.fs = cut.wrap()
	l, err := Open("ledger", authority, running)
	if err != nil {
		t.Fatal(err)
	}
	pay := func(n int) {
		op := Transfer{transferNumber(uint64(n)), []Move{{Kind: MovePay, To: bob.Account(), Amount: 1}}}
		signed := payment(t, alice, clocks.wall.Unix()+60, op)
		receipt := must[Receipt](t)(l.Submit(t.Context(), signed))
		cut.mu.Lock()
		cut.acknowledged = append(cut.acknowledged, acknowledged{signed, receipt})
		cut.mu.Unlock()
	}
	for i := range 4 {
		pay(2*i + 1)
		clocks.pass(20 * time.Minute)
		// A tick: the ID is forgotten in a block without transactions.
		if err := l.chore(func() error { _, err := l.makeBlock(nil); return err }); err != nil {
			t.Fatal(err)
		}
		pay(2*i + 2)
		if err := l.retain(); err != nil {
			t.Fatal(err)
		}
		if err := l.notePromise(); err != nil {
			t.Fatal(err)
		}
		clocks.pass(20 * time.Minute)
	}
	var file bytes.Buffer
	if _, err := l.Backup(t.Context(), &file, nil); err != nil {
		t.Fatal(err)
	}
	if l.begin.Load() == 0 {
		t.Error("nothing was pruned")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d crashes", len(cut.crashes))
	if len(cut.crashes) < 200 {
		t.Error("too few to mean anything")
	}
	for _, c := range cut.crashes {
		surviving := configured(config)
		surviving.CheckBlocks, surviving.fs = -1, c.fs
		after, err := Open("ledger", authority, surviving)
		if err != nil {
			t.Fatalf("%s: %v", c.op, err)
		}
		if r := after.Rollback(); r != nil {
			t.Fatalf("%s: block %d was promised and the newest is %d", c.op, r.Promised.Height, r.Height)
		}
		has := int(must[Account](t)(after.Account(t.Context(), bob.Account())).Counters.Balance())
		if n := len(c.acknowledged); has != n && has != n+1 {
			t.Errorf("%s: bob has %d, %d were acknowledged", c.op, has, n)
		}
		op := Transfer{transferNumber(999), []Move{{Kind: MovePay, To: bob.Account(), Amount: 1}}}
		if _, err := after.Submit(t.Context(), payment(t, alice, clocks.wall.Unix()+60, op)); err != nil {
			t.Errorf("%s: the next transaction: %v", c.op, err)
		}
		if err := after.retain(); err != nil {
			t.Errorf("%s: %v", c.op, err)
		}
		if err := after.Verify(t.Context(), nil); err != nil {
			t.Errorf("%s: %v", c.op, err)
		}
		if err := after.Close(); err != nil {
			t.Fatalf("%s: %v", c.op, err)
		}
		if t.Failed() {
			return
		}
	}
}

// Power is cut at every write and sync of a restore: there is the old ledger or the
// new one, whole.
func TestPowerCutWhileRestoring(t *testing.T) {
	clock := func() time.Time { return epoch }
	config := func(c *Config) {
		c.Network, c.Clock, c.Tick = network, clock, time.Hour
		c.Balances = []GenesisBalance{{alice.Account(), 1000}}
	}
	source := open(t, config)
	payMany(t, source, 1, 5, epoch.Unix()+60)
	var file bytes.Buffer
	if _, err := source.Backup(t.Context(), &file, nil); err != nil {
		t.Fatal(err)
	}
	disk := vfs.NewCrashableMem()
	old := open(t, config, func(c *Config) { c.fs = disk })
	payMany(t, old, 100, 2, epoch.Unix()+60)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	cut := &cutter{disk: disk, random: rand.New(rand.NewPCG(3, 0))}
	cfg := restoreInto(cut.wrap(), true)
	if _, err := Restore(t.Context(), "ledger", bytes.NewReader(file.Bytes()), cfg); err != nil {
		t.Fatal(err)
	}
	cut.crashes = append(cut.crashes, crash{fs: disk.CrashClone(vfs.CrashCloneCfg{}), op: "after"})
	heights := map[uint64]int{}
	for i, c := range cut.crashes {
		surviving := configured(config)
		surviving.CheckBlocks, surviving.fs = -1, c.fs
		after, err := Open("ledger", authority, surviving)
		if err != nil {
			t.Fatalf("%s: %v", c.op, err)
		}
		h := must[Status](t)(after.Status(t.Context())).Height
		heights[h]++
		if h != 5 && (h != 2 || i == len(cut.crashes)-1) {
			t.Errorf("%s: height %d", c.op, h)
		}
		if err := after.Verify(t.Context(), nil); err != nil {
			t.Errorf("%s: %v", c.op, err)
		}
		if err := after.Close(); err != nil {
			t.Fatalf("%s: %v", c.op, err)
		}
	}
	t.Log(fmt.Sprint(heights))
	if heights[2] == 0 || heights[5] < 2 {
		t.Errorf("%v: the cuts prove nothing", heights)
	}
}
