package node_test

import (
	"errors"
	"testing"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/naming/name"
)

// A name that takes its time is asked for once, goes on over a restart of the node, and
// is told as being registered until it is.
func TestRegistrationGoesOnOverARestart(t *testing.T) {
	authority, joined := pair(t)
	set := func(change func(*cashier.Parameters)) {
		t.Helper()
		_, err := authority.SetLedgerParameters(within(t, 10*time.Second), func(p *cashier.Parameters) error {
			change(p)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	set(func(p *cashier.Parameters) { p.RevealDelay = 4 })
	_, err := joined.RegisterName(within(t, 10*time.Second), "patient", nil, 0)
	var pending *node.PendingError
	if !errors.As(err, &pending) || !errors.Is(err, node.ErrPending) || !pending.Ready.After(pending.Since) {
		t.Fatalf("got %v", err)
	}
	if _, err := joined.RegisterName(within(t, 10*time.Second), "patient", nil, 0); !errors.Is(err, node.ErrPending) {
		t.Errorf("asked again: %v", err)
	}
	if got := joined.PendingNames(); len(got) != 1 || got[0].Name != "patient" || got[0].Over {
		t.Errorf("pending: %+v", got)
	}
	account := joined.Account()
	joined.stop()
	again := start(t, joined.dir, freeAddress(t))
	waitFor(t, "the name", func() bool {
		info, err := again.NameInfo(within(t, 5*time.Second), "patient")
		return err == nil && info.Registered && info.Record.Owner == account && len(again.PendingNames()) == 0 && len(again.HeldNames()) == 1
	})
	held := again.HeldNames()
	if len(held) != 1 || held[0].Name != "patient" || time.Until(time.Unix(held[0].Lease, 0)) < 2*365*24*time.Hour {
		t.Errorf("held: %+v", held)
	}

	// Who cannot pay is told at once, and nothing is left of it.
	set(func(p *cashier.Parameters) { p.CommitDeposit = voucher.Credit })
	if _, err := again.RegisterName(within(t, 10*time.Second), "dear", nil, 0); !errors.Is(err, cashier.ErrFunds) || errors.Is(err, node.ErrPending) {
		t.Errorf("without the deposit: %v", err)
	}
	if got := again.PendingNames(); len(got) != 0 {
		t.Errorf("pending: %+v", got)
	}
	// A name somebody else has is refused at once, deposit or not.
	set(func(p *cashier.Parameters) { p.CommitDeposit = 0 })
	if _, err := authority.RegisterName(within(t, 10*time.Second), "patient", nil, 0); !errors.Is(err, node.ErrTaken) {
		t.Errorf("a name that is taken: %v", err)
	}
}

// An account whose key was rotated goes on under its ID, over a restart as well.
func TestRotatedAccountGoesOn(t *testing.T) {
	_, joined := pair(t)
	id := joined.Account()
	register := func(n *running, nm name.Name) {
		t.Helper()
		info, err := n.RegisterName(within(t, 10*time.Second), nm, nil, 0)
		if err != nil || info.Record.Owner != id {
			t.Errorf("%s: %+v, %v", nm, info, err)
		}
	}
	register(joined, "before")
	key, err := joined.RotateAccountKey(within(t, 10*time.Second))
	if err != nil || key == id {
		t.Fatalf("rotate: %s, %v", key, err)
	}
	register(joined, "after")
	joined.stop()
	again := start(t, joined.dir, freeAddress(t))
	if again.Account() != id {
		t.Errorf("account %s, want %s", again.Account(), id)
	}
	waitFor(t, "the ledger", func() bool {
		_, err := again.LedgerStatus(within(t, 5*time.Second))
		return err == nil
	})
	register(again, "later")
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not in time", what)
		}
	}
}
