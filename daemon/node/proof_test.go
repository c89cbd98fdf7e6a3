package node_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
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
		if len(p.Wrong) != 1 || p.Wrong[0].Node != authority.ID() {
			t.Errorf("not named: %+v", p.Wrong)
		}
		break
	}
	if again, err := os.ReadFile(path); err != nil || !bytes.Equal(seen, again) {
		t.Errorf("what was seen was replaced: %v", err)
	}
}

// The records in the DHT are older than the ledger: what the name means is proved all
// the same, and every node that serves the old record is named.
func TestStaleRecordsAreNamed(t *testing.T) {
	var held atomic.Bool
	dir, address := initNode(t, nil)
	authority := start(t, dir, address, node.HoldBack(&held))
	file, err := os.ReadFile(filepath.Join(dir, "network.toml"))
	if err != nil {
		t.Fatal(err)
	}
	dir, address = initNode(t, file)
	joined := start(t, dir, address)
	if !joined.WaitJoined(within(t, 20*time.Second)) {
		t.Fatal("no DHT peer")
	}
	l, err := joined.Listen(within(t, 20*time.Second), "echo", 7)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// Both have the record of now.
	old, err := joined.Resolve(within(t, 20*time.Second), "echo")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Resolve(within(t, 20*time.Second), "echo"); err != nil {
		t.Fatal(err)
	}

	held.Store(true)
	directory, err := node.OpenDirectory(joined.dir)
	if err != nil {
		t.Fatal(err)
	}
	account, err := directory.AccountKey()
	if err != nil {
		t.Fatal(err)
	}
	another := identity.NewKeyFromSeed([32]byte{9})
	if _, err := cashier.NewWallet(account, joined.Network().ID, authority.Ledger(), nil).Update(t.Context(), name.Name("echo"), another); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		p, err := joined.ProveName(within(t, 20*time.Second), "echo")
		if err != nil || !p.Registered || p.Record.Service != another.Service() {
			t.Fatalf("%+v, %v", p, err)
		}
		stale := map[identity.NodeID]bool{}
		for _, liar := range p.Wrong {
			stale[liar.Node] = strings.Contains(liar.What, "older record")
		}
		if stale[authority.ID()] && stale[joined.ID()] {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not named: %+v", p.Wrong)
		}
	}
	// A lookup, which takes the first answer, is misled.
	if now, err := joined.Resolve(within(t, 20*time.Second), "echo"); err != nil || now.Service != old.Service {
		t.Errorf("%+v, %v", now, err)
	}
}
