package cashier

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
)

// The ledger names itself the authority and posts for every epoch; inspectors and
// everybody else learn over the network what they need; and all of it verifies.
func TestLedgerInspects(t *testing.T) {
	var now atomic.Int64
	now.Store(epoch.Unix() / inspectedEpoch * inspectedEpoch)
	p := DefaultParameters()
	p.EpochSeconds, p.InspectorStake, p.PlanRows = inspectedEpoch, voucher.Credit, 8
	l := open(t, func(c *Config) {
		c.Parameters, c.Balances = p, []GenesisBalance{{alice.Account(), 10 * voucher.Credit}}
		c.Clock, c.Tick = func() time.Time { return time.Unix(now.Load(), 0) }, time.Millisecond
		c.elapsed = func() time.Duration { return time.Duration(now.Load()) * time.Second }
	})
	ctx := t.Context()
	c := serve(t, l, ServerConfig{RequestRate: 1e6, RequestBurst: 1e6, SubmitRate: 1e6, SubmitBurst: 1e6})
	if i := must[Inspection](t)(c.Inspection(ctx)); i.Epoch != 0 || i.Parameters != p {
		t.Fatalf("before anybody was admitted: %+v", i)
	}
	clock := func() time.Time { return time.Unix(now.Load(), 0) }
	w, provider, vrf := NewWallet(alice, network, c, clock), NewWallet(bob, network, c, clock), key(70)
	must[Receipt](t)(w.Stake(ctx, transferNumber(1), voucher.Credit))
	must[Receipt](t)(w.AdmitInspector(ctx, evidence.VRFKeyOf(vrf), "one", "as1"))
	node := key(71)
	must[Receipt](t)(provider.Bind(ctx, node, &files))
	must[Receipt](t)(provider.ListProvider(ctx, evidence.Provider{Service: files.Service(), Node: node.Node()}))
	if _, err := c.Submit(ctx, payment(t, bob, now.Load()+60, PostSeed{transferNumber(1), 1, evidence.VRFProof{}})); !errors.Is(err, ErrNotAuthority) {
		t.Errorf("a stranger's post: %v", err)
	}
	begun := must[Inspection](t)(c.Inspection(ctx)).Epoch
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for range 2000 {
			if ok() {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Fatalf("waited in vain: %s", what)
	}
	eventually("the ledger is the authority", func() bool {
		return must[Inspection](t)(c.Inspection(ctx)).Authority == authority.Account()
	})
	posted := func(e uint64) bool {
		f, err := c.InspectionEpoch(ctx, e)
		return err == nil && f.Posted != nil
	}
	for e := begun + 1; e <= begun+3; e++ {
		now.Add(inspectedEpoch)
		eventually("the output for a later epoch is posted", func() bool { return posted(e + evidence.SeedLead) })
	}
	at := must[InspectionEpoch](t)(c.InspectionEpoch(ctx, begun+3))
	frame := must[evidence.Frame](t)(at.Frame())
	if len(at.Providers) != 1 || at.Began != now.Load() {
		t.Errorf("the first planned epoch %+v", at)
	}
	_, proof, rows := frame.Plan(vrf)
	reveal := &evidence.Reveal{Epoch: frame.Epoch, Proof: proof}
	for range rows {
		reveal.Outcomes = append(reveal.Outcomes, evidence.Outcome{Verdict: evidence.Pass, Latency: 20_000})
	}
	must[Receipt](t)(w.CommitReport(ctx, frame.Epoch, evidence.CommitOf(network, alice.Account(), reveal)))
	now.Add(inspectedEpoch + 10)
	eventually("the epoch is over", func() bool { return must[Inspection](t)(c.Inspection(ctx)).Epoch == begun+4 })
	must[Receipt](t)(w.RevealReport(ctx, reveal))
	reports := must[[]EpochReport](t)(c.Reports(ctx, frame.Epoch))
	if len(reports) != 1 {
		t.Fatalf("%d reports", len(reports))
	}
	if a, r, err := reports[0].Open(&frame); err != nil || a.Operator != "one" || len(r.Rows) != len(rows) {
		t.Errorf("%+v, %v", a, err)
	}
	now.Add(inspectedEpoch)
	eventually("it is judged", func() bool {
		s := must[[]ProviderScore](t)(c.Scores(ctx, files.Service()))
		return len(s) == 1 && s[0].Standing.Last == frame.Epoch
	})
	state := must[InspectorState](t)(c.Inspector(ctx, alice.Account()))
	if _, conduct, err := state.Open(); err != nil || conduct.Done != uint64(len(rows)) || state.Staked != voucher.Credit {
		t.Errorf("the inspector %+v, %+v, %v", state, conduct, err)
	}
	if _, err := c.Inspector(ctx, bob.Account()); !errors.Is(err, ErrNotInspector) {
		t.Errorf("who is none: %v", err)
	}
	if err := l.Verify(ctx, nil); err != nil {
		t.Error(err)
	}
}
