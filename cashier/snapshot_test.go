package cashier

import (
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/routing/identity"
)

// payMany makes so many payments of alice to bob, each in a block of its own.
func payMany(t testing.TB, l *Ledger, from, n int, until int64) {
	t.Helper()
	for i := range n {
		op := Transfer{transferNumber(uint64(from + i)), []Move{{Kind: MovePay, To: bob.Account(), Amount: 1}}}
		must[Receipt](t)(l.Submit(t.Context(), payment(t, alice, until, op)))
	}
}

// pruned returns a ledger of 30 days, of which blocks older than ten are pruned.
func pruned(t testing.TB, fs vfs.FS, change ...func(*Config)) (*Ledger, func(*Config), *twoClocks) {
	t.Helper()
	clocks := &twoClocks{wall: epoch}
	config := func(c *Config) {
		clocks.configure(c)
		c.fs, c.Tick, c.Retention = fs, time.Hour, 10*24*time.Hour
		c.Balances = []GenesisBalance{{alice.Account(), 1 << 40}}
		for _, f := range change {
			f(c)
		}
	}
	l := open(t, config)
	for day := range 30 {
		payMany(t, l, day*3+1, 3, clocks.wall.Unix()+3600)
		if err := l.retain(); err != nil {
			t.Fatal(err)
		}
		clocks.pass(24 * time.Hour)
	}
	return l, config, clocks
}

func TestPrune(t *testing.T) {
	fs := vfs.NewMem()
	l, config, _ := pruned(t, fs)
	ctx := t.Context()
	status := must[Status](t)(l.Status(ctx))
	if status.Pruned == 0 || status.Pruned >= status.Height {
		t.Fatalf("pruned up to %d of %d", status.Pruned, status.Height)
	}
	if _, err := l.Blocks(ctx, status.Pruned, 10, 1<<20); !errors.Is(err, ErrPruned) {
		t.Errorf("a pruned block: %v", err)
	}
	if blocks := must[[][]byte](t)(l.Blocks(ctx, status.Pruned+1, 10, 1<<20)); len(blocks) == 0 {
		t.Error("the first block that is kept is not given")
	}
	check := func(l *Ledger) {
		t.Helper()
		var last Progress
		if err := l.Verify(ctx, func(p Progress) { last = p }); err != nil {
			t.Fatal(err)
		}
		if last.From != status.Pruned || last.Height != status.Height || last.Transactions == 0 {
			t.Errorf("verified %+v", last)
		}
	}
	check(l)
	if have := must[[]baseRow](t)(listSnapshots(fs, "ledger", authority.Node(), network)); len(have) < 2 || len(have) > 4 || have[0].Height != status.Pruned {
		t.Errorf("snapshots %+v", have)
	}
	c := serve(t, l, ServerConfig{})
	var audited Progress
	must[Status](t)(c.Audit(ctx, func(p Progress) { audited = p }))
	if audited.From != status.Pruned || audited.Height != status.Height {
		t.Errorf("audit of a pruned ledger: %+v", audited)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, config, func(c *Config) { c.CheckBlocks = -1 })
	check(l)
	payMany(t, l, 1000, 3, l.now().Unix()+3600)
	// An archive from now on keeps what there still is.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, config, func(c *Config) { c.Retention = 0 })
	if s := must[Status](t)(l.Status(ctx)); s.Pruned != status.Pruned {
		t.Errorf("pruned up to %d, was %d", s.Pruned, status.Pruned)
	}
	if err := l.Verify(ctx, nil); err != nil {
		t.Error(err)
	}
}

// Any byte of a snapshot that blocks are pruned up to is noticed when it changes.
func TestVerifyNoticesSnapshot(t *testing.T) {
	fs := vfs.NewMem()
	l, config, _ := pruned(t, fs)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	have := must[[]baseRow](t)(listSnapshots(fs, "ledger", authority.Node(), network))
	path := snapshotPath(fs, "ledger", have[0].Height)
	names := must[[]string](t)(fs.List(path))
	noticed, same := 0, 0
	for _, n := range names {
		file := fs.PathJoin(path, n)
		before := must[[]byte](t)(readFile(fs, file, 64<<20))
		for at := 0; at < len(before); at += max(1, len(before)/16) {
			// The file may be a hard link of one the ledger needs: this is a file of its own.
			changed := append([]byte(nil), before...)
			changed[at] ^= 0x10
			if err := errors.Join(fs.Remove(file), writeFile(fs, file, changed)); err != nil {
				t.Fatal(err)
			}
			l, err := Open("ledger", authority, configured(config))
			if err == nil {
				err = errors.Join(l.Verify(t.Context(), nil), l.Close())
			}
			switch {
			case err != nil:
				noticed++
			case n == manifestFile:
				t.Errorf("byte %d of the manifest: nobody noticed", at)
			default:
				same++ // a byte that says nothing about a live row, like the properties of a table
			}
		}
		if err := errors.Join(fs.Remove(file), writeFile(fs, file, before)); err != nil {
			t.Fatal(err)
		}
	}
	if noticed < 30 {
		t.Errorf("only %d changes noticed, %d not", noticed, same)
	}
	// Live rows, one by one: the same digest is of the same rows only.
	db := must[*store](t)(openStore(path, fs, Config{}.withDefaults().Logger))
	var keys []string
	if err := eachRow(db.db, "", func(k, _ []byte) error { keys = append(keys, string(k)); return nil }); err != nil {
		t.Fatal(err)
	}
	was := must[Hash](t)(digestRows(db.db, nil))
	kinds := map[byte]bool{}
	for _, k := range keys {
		if k[:2] != statePrefix && k[:2] != logPrefix || kinds[k[2]] && k[:2] == statePrefix {
			continue
		}
		kinds[k[2]] = true
		v := must[[]byte](t)(get(db.db, []byte(k)))
		changed := append([]byte(nil), v...)
		if len(changed) == 0 {
			changed = []byte{0}
		}
		changed[len(changed)/2] ^= 1
		if err := db.db.Set([]byte(k), changed, nil); err != nil {
			t.Fatal(err)
		}
		if must[Hash](t)(digestRows(db.db, nil)) == was {
			t.Errorf("row %q changed, the digest did not", k)
		}
		if err := db.db.Set([]byte(k), v, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.close(); err != nil {
		t.Fatal(err)
	}
}

func configured(change ...func(*Config)) Config {
	cfg := Config{Network: network}
	for _, f := range change {
		f(&cfg)
	}
	return cfg
}

// A ledger put back to an older state is known by what it noted, and by what others
// hold; after its operator's word it goes on, and what was signed before is excused.
func TestRollback(t *testing.T) {
	fs := vfs.NewMem()
	clocks := &twoClocks{wall: epoch}
	config := func(c *Config) {
		clocks.configure(c)
		c.fs, c.Tick, c.Promised = fs, time.Hour, "promised"
		c.Balances = []GenesisBalance{{alice.Account(), 1000}}
	}
	until := epoch.Unix() + 3600
	ctx := t.Context()
	l := open(t, config)
	payMany(t, l, 1, 3, until)
	var old vfs.FS = vfs.NewMem()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	copyTree(t, fs, old, "ledger")
	l = open(t, config)
	payMany(t, l, 4, 3, until)
	early := must[SignedCheckpoint](t)(l.Checkpoint(ctx))
	if err := errors.Join(l.notePromise(), l.Witness(ctx, early.Signed), l.Close()); err != nil {
		t.Fatal(err)
	}
	other := open(t, func(c *Config) { config(c); c.fs, c.Promised = vfs.NewMem(), "" })
	foreign := must[SignedCheckpoint](t)(other.Checkpoint(ctx))

	if err := fs.RemoveAll("ledger"); err != nil {
		t.Fatal(err)
	}
	copyTree(t, old, fs, "ledger")
	refuses := func(l *Ledger) {
		t.Helper()
		op := Transfer{transferNumber(7), []Move{{Kind: MovePay, To: bob.Account(), Amount: 1}}}
		if _, err := l.Submit(ctx, payment(t, alice, until, op)); !errors.Is(err, ErrRolledBack) {
			t.Fatalf("a transaction on a ledger put back: %v", err)
		}
		if s := must[Status](t)(l.Status(ctx)); s.Height != 3 {
			t.Errorf("height %d", s.Height)
		}
	}
	l = open(t, config)
	refuses(l)
	f := must[Fork](t)(l.AcceptRollback())
	if f.Height != 3 || f.PromisedHeight != 6 || !f.Excuses(early.Checkpoint) {
		t.Errorf("fork %+v", f)
	}
	payMany(t, l, 7, 5, until)
	if err := l.Witness(ctx, early.Signed); err != nil {
		t.Errorf("a checkpoint excused by a fork: %v", err)
	}
	signed := must[[][]byte](t)(l.Forks(ctx))
	if len(signed) != 1 || must[Fork](t)(OpenFork(network, []identity.NodeID{authority.Node()}, signed[0])) != f {
		t.Error("the fork is not stated")
	}
	if _, err := l.AcceptRollback(); !errors.Is(err, ErrNotFound) {
		t.Errorf("accepted twice: %v", err)
	}
	if err := errors.Join(l.Verify(ctx, nil), l.Close()); err != nil {
		t.Fatal(err)
	}
	l = open(t, config)
	payMany(t, l, 12, 1, until)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	// Without the note, another's checkpoint tells; it is then noted.
	if err := errors.Join(fs.RemoveAll("ledger"), fs.Remove("promised")); err != nil {
		t.Fatal(err)
	}
	copyTree(t, old, fs, "ledger")
	l = open(t, config)
	if err := l.Witness(ctx, foreign.Signed); err != nil {
		t.Errorf("the beginning, promised by another ledger under the same key: %v", err)
	}
	forged := append([]byte(nil), early.Signed...)
	forged[len(forged)-1] ^= 1
	if err := l.Witness(ctx, forged); !errors.Is(err, ErrSignature) {
		t.Errorf("forged: %v", err)
	}
	payMany(t, l, 4, 1, until)
	if err := l.Witness(ctx, early.Signed); !errors.Is(err, ErrRolledBack) {
		t.Errorf("a checkpoint of what is lost: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, config)
	if l.Rollback() == nil {
		t.Error("forgotten by a restart")
	}
}

// copyTree copies a folder from one file system to another.
func copyTree(t testing.TB, from, to vfs.FS, path string) {
	t.Helper()
	info, err := from.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		if err := to.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, n := range must[[]string](t)(from.List(path)) {
			copyTree(t, from, to, from.PathJoin(path, n))
		}
		return
	}
	if err := writeFile(to, path, must[[]byte](t)(readFile(from, path, 1<<30))); err != nil {
		t.Fatal(err)
	}
}
