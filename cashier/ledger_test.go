package cashier

import (
	"errors"
	"testing"
	"time"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

func TestLifeOfAName(t *testing.T) {
	l := open(t)
	c := serve(t, l, ServerConfig{})
	for _, s := range []struct {
		name      string
		submitter Submitter
		n         name.Name
	}{{"ledger", l, "files"}, {"client", c, "mail"}} {
		t.Run(s.name, func(t *testing.T) {
			ctx := t.Context()
			a, b := wallet(alice, s.submitter), wallet(bob, s.submitter)
			look := func() Answer { t.Helper(); return must[Answer](t)(c.Lookup(ctx, s.n)) }
			if got := look(); got.Registered || got.Signed != nil {
				t.Fatalf("a name nobody registered: %+v", got)
			}
			receipt := must[Receipt](t)(a.Register(ctx, s.n, files))
			r, err := name.Open(s.n, receipt.Record, []identity.NodeID{authority.Node()}, time.Now())
			if err != nil || r.Service != files.Service() || r.Owner != alice.Account() || r.Height != receipt.Height {
				t.Fatalf("record of the receipt: %+v, %v", r, err)
			}
			_, err = b.Register(ctx, s.n, mail)
			taken, _ := errors.AsType[*Rejection](err)
			if !errors.Is(err, ErrTaken) || taken.Owner != alice.Account() || taken.Service != files.Service() {
				t.Fatalf("second claimant: %v", err)
			}
			if _, err := b.Update(ctx, s.n, mail); !errors.Is(err, ErrNotOwner) {
				t.Fatalf("stranger's update: %v", err)
			}
			if _, err := b.Accept(ctx, s.n, mail); !errors.Is(err, ErrNotOffered) {
				t.Fatalf("accepted without an offer: %v", err)
			}
			must[Receipt](t)(a.Update(ctx, s.n, mail))
			must[Receipt](t)(a.Offer(ctx, s.n, bob.Account()))
			if got := look(); got.Offered != bob.Account() || got.Record.Owner != alice.Account() || got.Record.Service != mail.Service() {
				t.Fatalf("offered name: %+v", got)
			}
			must[Receipt](t)(b.Accept(ctx, s.n, files))
			if got := look(); !got.Registered || got.Record.Owner != bob.Account() || !got.Offered.IsZero() {
				t.Fatalf("accepted name: %+v", got)
			}
			if _, err := a.Release(ctx, s.n); !errors.Is(err, ErrNotOwner) {
				t.Fatalf("former owner's release: %v", err)
			}
			must[Receipt](t)(b.Release(ctx, s.n))
			if got := look(); got.Registered || !got.Record.Released {
				t.Fatalf("released name: %+v", got)
			}
			must[Receipt](t)(a.Register(ctx, s.n, mail))
			if got := look(); !got.Registered || got.Record.Owner != alice.Account() {
				t.Fatalf("registered again: %+v", got)
			}
			if err := l.Verify(ctx, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
}
