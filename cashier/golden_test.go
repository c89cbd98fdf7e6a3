package cashier

import (
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/naming/name"
)

var rewrite = flag.Bool("record", false, "write testdata/chain-v1.txt and testdata/store-v1 anew")

const (
	goldenChain = "testdata/chain-v1.txt"
	goldenStore = "testdata/store-v1"
)

// history submits a fixed history with every kind of transaction in it.
func history(t *testing.T, l *Ledger) {
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

// The blocks recorded when this format was made still lead to the same app hash,
// and the engine still makes the same blocks. A difference means that the rules
// changed under blocks that exist: that needs a new block version.
func TestRecordedChain(t *testing.T) {
	l := open(t, func(c *Config) { c.Clock = func() time.Time { return epoch } })
	history(t, l)
	status := must[Status](t)(l.Status(t.Context()))
	var now strings.Builder
	for _, raw := range must[[][]byte](t)(l.Blocks(t.Context(), 1, 100, 1<<20)) {
		fmt.Fprintf(&now, "block %x\n", raw)
	}
	fmt.Fprintf(&now, "app %s\n", status.AppHash)
	if *rewrite {
		if err := os.WriteFile(goldenChain, []byte(now.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	recorded := string(must[[]byte](t)(os.ReadFile(goldenChain)))
	if recorded != now.String() {
		t.Error("the engine makes other blocks than it did")
	}
	r := NewReplay(network, DefaultParameters())
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
}

// A store written when this format was made still opens, verifies and goes on.
func TestRecordedStore(t *testing.T) {
	if *rewrite {
		recordStore(t)
	}
	fs := vfs.NewMem()
	copyStore(t, fs)
	l := open(t, func(c *Config) { c.fs = fs })
	if err := l.Verify(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if a := must[Answer](t)(l.Lookup(t.Context(), "name-0")); a.Record.Owner != bob.Account() || a.Record.Service != mail.Service() {
		t.Errorf("name-0: %+v", a)
	}
	must[Receipt](t)(wallet(bob, l).Register(t.Context(), "more", files))
}

func recordStore(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(goldenStore); err != nil {
		t.Fatal(err)
	}
	l, err := Open(goldenStore, authority, Config{Network: network, Clock: func() time.Time { return epoch }})
	if err != nil {
		t.Fatal(err)
	}
	history(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// copyStore copies the recorded store to where opening it may change it.
func copyStore(t *testing.T, fs vfs.FS) {
	t.Helper()
	to := filepath.Join("ledger", storeDir)
	if err := fs.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, entry := range must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(goldenStore, storeDir))) {
		from, err := os.Open(filepath.Join(goldenStore, storeDir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		f := must[vfs.File](t)(fs.Create(filepath.Join(to, entry.Name()), vfs.WriteCategoryUnspecified))
		if _, err := io.Copy(f, from); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		_ = from.Close()
	}
}
