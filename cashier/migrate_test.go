package cashier

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
)

// Power is cut at every write and sync of a migration: what is left is the one
// format or the other, whole, and the next opening brings it to the newest.
func TestPowerCutWhileMigrating(t *testing.T) {
	disk := vfs.NewCrashableMem()
	copyStore(t, disk, "testdata/store-v1")
	for _, dir := range []string{"ledger/store", "ledger", ""} { // all of it is on the disk
		if err := syncAll(disk, dir); err != nil {
			t.Fatal(err)
		}
	}
	cut := &cutter{disk: disk, random: rand.New(rand.NewPCG(7, 0))}
	l, err := Open("ledger", authority, Config{Network: network, fs: errorfs.Wrap(disk, cut)})
	if err != nil {
		t.Fatal(err)
	}
	want := must[Status](t)(l.Status(t.Context()))
	cut.mu.Lock()
	crashes := cut.crashes
	cut.mu.Unlock()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if len(crashes) < 6 {
		t.Errorf("%d crashes are too few to mean anything", len(crashes))
	}
	for _, c := range crashes {
		after, err := Open("ledger", authority, Config{Network: network, CheckBlocks: -1, fs: c.fs})
		if err != nil {
			t.Fatalf("%s: %v", c.op, err)
		}
		got := must[Status](t)(after.Status(t.Context()))
		if got.Height != want.Height || got.Block != want.Block || got.AppHash != want.AppHash || got.Rules != RulesVersion {
			t.Errorf("%s: %+v, want %+v", c.op, got, want)
		}
		p := got.Parameters
		p.SupplyCap = voucher.Credit
		must[Receipt](t)(wallet(founder, after).SetParameters(t.Context(), p))
		must[Receipt](t)(wallet(founder, after).Issue(t.Context(), alice.Account(), 1))
		if err := after.Verify(t.Context(), nil); err != nil {
			t.Errorf("%s: %v", c.op, err)
		}
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// syncAll brings a directory and the files in it to the disk.
func syncAll(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		f, err := fs.Open(fs.PathJoin(dir, n))
		if err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return syncDir(fs, dir)
}

// A ledger of names alone refuses money until its rules change, and does so by
// name: the height at which they do stands in its genesis.
func TestRulesChangeAtTheirHeight(t *testing.T) {
	l := open(t, func(c *Config) {
		c.rules = []RulesChange{{1, rulesNames}, {3, rulesMoney}}
		c.Parameters = Parameters{MaxNames: 9}
	})
	ctx := t.Context()
	pay := func() Code {
		_, err := wallet(founder, l).Redeem(ctx, 1)
		if err == nil {
			return Accepted
		}
		return asRejection(err).Code
	}
	capped := func() error {
		_, err := wallet(founder, l).SetParameters(ctx, Parameters{MaxNames: 9, SupplyCap: 5})
		return err
	}
	for height := uint64(1); height <= 2; height++ {
		if code := pay(); code != UnknownOperation {
			t.Errorf("at height %d: %s", height, code)
		}
		if err := capped(); asRejection(err).Code != UnknownOperation {
			t.Errorf("at height %d: %v", height, err)
		}
		must[Receipt](t)(wallet(alice, l).Register(ctx, name.Name(fmt.Sprintf("name-%d", height)), files))
	}
	if err := capped(); err != nil {
		t.Error(err)
	}
	if code := pay(); code != InsufficientFunds {
		t.Errorf("under the new rules: %s", code)
	}
	for height, want := range []uint64{rulesNames, rulesNames, rulesMoney} {
		b := must[Block](t)(DecodeBlock(must[[][]byte](t)(l.Blocks(ctx, uint64(height)+1, 1, 1<<20))[0]))
		if b.Header.Version != want {
			t.Errorf("block %d made by rules %d", height+1, b.Header.Version)
		}
	}
	if err := l.Verify(ctx, nil); err != nil {
		t.Error(err)
	}
}
