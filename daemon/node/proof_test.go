package node_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"scn.alt/scn/cashier"
)

// What the ledger says of a name is proved, over a session, that it exists and that
// it does not; what was seen is kept, and a ledger that goes back is caught and named.
func TestProveName(t *testing.T) {
	authority, joined := pair(t)
	l, err := joined.Listen(within(t, 20*time.Second), "echo", 7)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, n := range []*running{authority, joined} {
		p, err := n.ProveName(within(t, 20*time.Second), "echo")
		if err != nil || !p.Registered || p.Record.Owner != joined.Account() || p.Checkpoint.Height == 0 {
			t.Fatalf("%+v, %v", p, err)
		}
		if p, err = n.ProveName(within(t, 20*time.Second), "nothing"); err != nil || p.Registered || p.Checkpoint.Network != joined.Network().ID {
			t.Errorf("a name nobody has: %+v, %v", p, err)
		}
	}
	path := filepath.Join(joined.dir, "state", "checkpoint")
	seen, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cp, err := cashier.OpenCheckpoint(joined.Network().ID, joined.Network().Authorities, seen)
	if err != nil || cp.Height == 0 {
		t.Fatalf("kept: %+v, %v", cp, err)
	}

	// The authority's ledger as it was on the first day.
	dir := authority.dir
	address := authority.Network().Bootstrap[0].Addresses[0]
	authority.stop()
	if err := os.RemoveAll(filepath.Join(dir, "ledger")); err != nil {
		t.Fatal(err)
	}
	authority = start(t, dir, address)
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		p, err := joined.ProveName(within(t, 20*time.Second), "echo")
		if err == nil {
			t.Fatalf("believed: %+v", p)
		}
		if !errors.Is(err, cashier.ErrRollback) {
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			continue // not there again yet
		}
		if len(p.Liars) != 1 || p.Liars[0].Node != authority.ID() {
			t.Errorf("not named: %+v", p.Liars)
		}
		break
	}
	if again, err := os.ReadFile(path); err != nil || !bytes.Equal(seen, again) {
		t.Errorf("what was seen was replaced: %v", err)
	}
}
