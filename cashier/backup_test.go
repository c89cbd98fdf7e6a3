package cashier

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func restoreInto(fs vfs.FS, force bool) RestoreConfig {
	return RestoreConfig{Network: network, Authority: authority.Node(), Force: force, fs: fs}
}

// A backup taken under load holds all that was acknowledged before it began, and
// nothing torn.
func TestBackupUnderLoad(t *testing.T) {
	l := open(t, func(c *Config) { c.Balances = []GenesisBalance{{alice.Account(), 1 << 40}} })
	ctx := t.Context()
	until := time.Now().Unix() + 3600
	var next, acknowledged atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				op := Transfer{transferNumber(uint64(next.Add(1))), []Move{{Kind: MovePay, To: bob.Account(), Amount: 1}}}
				if _, err := l.Submit(ctx, payment(t, alice, until, op)); err != nil {
					t.Error(err)
					return
				}
				acknowledged.Add(1)
			}
		})
	}
	for acknowledged.Load() < 100 {
		time.Sleep(time.Millisecond)
	}
	for range 3 {
		before := acknowledged.Load()
		var file bytes.Buffer
		var last BackupProgress
		b, err := l.Backup(ctx, &file, func(p BackupProgress) { last = p })
		if err != nil {
			t.Fatal(err)
		}
		if last.Done != last.Of || last.Of != b.Bytes || b.Files == 0 {
			t.Errorf("progress %+v of %+v", last, b)
		}
		fs := vfs.NewMem()
		r, err := Restore(ctx, "ledger", &file, restoreInto(fs, false))
		if err != nil {
			t.Fatal(err)
		}
		if r.Height != b.Height || int64(r.Transactions) < before {
			t.Errorf("restored %+v, %d were acknowledged", r, before)
		}
		restored, err := Open("ledger", authority, Config{Network: network, fs: fs})
		if err != nil {
			t.Fatal(err)
		}
		a := must[Account](t)(restored.Account(ctx, bob.Account()))
		if int64(a.Counters.Balance()) < before || uint64(a.Counters.Balance()) != r.Transactions {
			t.Errorf("bob has %d, %d were acknowledged", a.Counters.Balance(), before)
		}
		if err := restored.Close(); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	wg.Wait()
}

func TestRestore(t *testing.T) {
	source := vfs.NewMem()
	l, config, _ := pruned(t, source)
	ctx := t.Context()
	var buffer bytes.Buffer
	b, err := l.Backup(ctx, &buffer, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := buffer.Bytes()
	status := must[Status](t)(l.Status(ctx))
	if names := must[[]string](t)(source.List("ledger")); len(names) != 2 {
		t.Errorf("a backup leaves %q", names)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	other := key(77)
	for _, tt := range []struct {
		name   string
		change func(*RestoreConfig) []byte
		want   error
	}{
		{"cut short", func(*RestoreConfig) []byte { return file[:len(file)/2] }, ErrBackup},
		{"without its end", func(*RestoreConfig) []byte { return file[:len(file)-4096] }, ErrBackup},
		{"one bit", func(*RestoreConfig) []byte {
			changed := bytes.Clone(file)
			changed[bytes.Index(changed, []byte("m/genesis"))] ^= 1
			return changed
		}, ErrBackup},
		{"of another authority", func(c *RestoreConfig) []byte { c.Authority = other.Node(); return file }, ErrBackup},
		{"of another network", func(c *RestoreConfig) []byte { c.Network = other.Network(); return file }, ErrNetwork},
		{"no tar", func(*RestoreConfig) []byte { return []byte("hello") }, ErrBackup},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fs := vfs.NewMem()
			cfg := restoreInto(fs, false)
			_, err := Restore(ctx, "ledger", bytes.NewReader(tt.change(&cfg)), cfg)
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if names, _ := fs.List("ledger"); len(names) != 0 {
				t.Errorf("it leaves %q", names)
			}
		})
	}
	fs := vfs.NewMem()
	mine := open(t, func(c *Config) { config(c); c.fs = fs })
	payMany(t, mine, 1, 2, epoch.Add(30*24*time.Hour).Unix()+3600)
	if err := mine.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(ctx, "ledger", bytes.NewReader(file), restoreInto(fs, false)); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("over a ledger: %v", err)
	}
	r, err := Restore(ctx, "ledger", bytes.NewReader(file), restoreInto(fs, true))
	if err != nil {
		t.Fatal(err)
	}
	if r.Height != b.Height || r.From != status.Pruned || r.Replaced == "" {
		t.Errorf("restored %+v", r)
	}
	if _, err := fs.Stat(r.Replaced); err != nil {
		t.Errorf("the ledger that was there: %v", err)
	}
	mine = open(t, func(c *Config) { config(c); c.fs = fs })
	if s := must[Status](t)(mine.Status(ctx)); s.Block != status.Block || s.Pruned != status.Pruned {
		t.Errorf("restored %+v, want %+v", s, status)
	}
	if err := errors.Join(mine.retain(), mine.Verify(ctx, nil)); err != nil {
		t.Error(err)
	}
	payMany(t, mine, 1000, 2, mine.now().Unix()+3600)
}
