package daemon

import (
	"context"
	"errors"

	"scn.alt/scn/cashier"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/proofofservice/evidence"
)

// RegisterInspector implements control.Backend.
func (b backend) RegisterInspector(ctx context.Context, q control.RegisterRequest) (control.Inspector, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	operator, err1 := evidence.ParseLabel(q.Operator)
	network, err2 := evidence.ParseLabel(q.Network)
	if err := errors.Join(err1, err2, missing(q.Stake > 0 && q.ID.IsZero(), "id")); err != nil {
		return control.Inspector{}, control.Errorf(control.BadRequest, "%w", err)
	}
	if err := b.d.node.RegisterInspector(ctx, q.ID, q.Stake, operator, network); err != nil {
		return control.Inspector{}, explainInspection(err)
	}
	return b.Inspector(ctx)
}

// UnregisterInspector implements control.Backend.
func (b backend) UnregisterInspector(ctx context.Context) (control.Inspector, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	if err := b.d.node.UnregisterInspector(ctx); err != nil {
		return control.Inspector{}, explainInspection(err)
	}
	return b.Inspector(ctx)
}

// EnlistProvider implements control.Backend.
func (b backend) EnlistProvider(ctx context.Context, q control.EnlistRequest) (control.Inspector, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	nm, err := b.name(q.Name)
	if err != nil {
		return control.Inspector{}, explain(err)
	}
	if err := b.d.node.EnlistProvider(ctx, nm, q.Mobile, q.RateKiB, q.Withdraw); err != nil {
		return control.Inspector{}, explainInspection(err)
	}
	return b.Inspector(ctx)
}

// SetInspecting implements control.Backend.
func (b backend) SetInspecting(ctx context.Context, q control.InspectRequest) (control.Inspector, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	if err := b.d.node.SetInspecting(q.On); err != nil {
		return control.Inspector{}, explain(err)
	}
	return b.Inspector(ctx)
}

// Inspector implements control.Backend.
func (b backend) Inspector(ctx context.Context) (control.Inspector, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	s, err := b.d.node.InspectorStatus(ctx)
	if err != nil {
		return control.Inspector{}, explainInspection(err)
	}
	l, m := s.Ledger, s.Metrics
	out := control.Inspector{
		Epoch: l.Epoch, EpochSecs: l.Length, Inspectors: l.Inspectors, Providers: l.Providers, Needed: l.Parameters.InspectorStake,
		Registered: s.Registered, From: s.State.From, To: s.State.To, Staked: s.State.Staked, Wanted: s.Wanted, Running: s.Running,
		Visits: m.Visits, Passed: m.Passed, Failed: m.Failed, Void: m.Void, Anomalies: m.Anomalies,
		Commits: m.Commits, Reveals: m.Reveals, Answers: m.Answers, Errors: m.Errors,
	}
	if l.Began != 0 {
		out.Began = unix(l.Began)
	}
	if s.Registered {
		a, c, err := s.State.Open()
		if err != nil {
			return out, explain(err)
		}
		out.Operator, out.Network = string(a.Operator), string(a.Network)
		out.Planned, out.Done, out.UnpaidUntil = c.Planned, c.Done, c.Until
	}
	return out, nil
}

// Plan implements control.Backend.
func (b backend) Plan(ctx context.Context, epoch uint64) (control.Plan, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	epoch, rows, err := b.d.node.Plan(ctx, epoch)
	if err != nil {
		return control.Plan{}, explainInspection(err)
	}
	out := control.Plan{Epoch: epoch, Rows: []control.PlannedVisit{}}
	for i, r := range rows {
		out.Rows = append(out.Rows, control.PlannedVisit{
			Row: i, ServiceID: r.Provider.Service, NodeID: r.Provider.Node, Kind: r.Kind.String(), Size: r.Size, From: r.From.UTC(),
		})
	}
	return out, nil
}

// Reports implements control.Backend.
func (b backend) Reports(ctx context.Context, epoch uint64) (control.Reports, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	epoch, roster, list, err := b.d.node.Reports(ctx, epoch)
	if err != nil {
		return control.Reports{}, explainInspection(err)
	}
	out := control.Reports{Epoch: epoch, Reports: []control.Report{}}
	for _, r := range list {
		v := control.Report{Number: r.Number, Inspector: r.Inspector, Operator: string(r.Admission.Operator), Network: string(r.Admission.Network), Visits: []control.SeenVisit{}}
		for _, c := range r.Challenges {
			v.Challenged++
			if c.Shown {
				v.Shown++
			}
		}
		if r.Fault != nil {
			v.Fault = r.Fault.Error()
		} else {
			v.Rows = len(r.Report.Rows)
			for i, row := range r.Report.Rows {
				o := r.Report.Reveal.Outcomes[i]
				p := roster.At(int(row.Provider))
				seen := control.SeenVisit{
					ServiceID: p.Service, NodeID: p.Node, Kind: row.Kind.String(), Verdict: o.Verdict.String(),
					LatencyUS: o.Latency, RateKiB: o.Rate, GapMS: o.Gap,
				}
				switch {
				case o.Verdict == evidence.Pass:
					v.Passed++
				case o.Verdict.Failed():
					v.Failed++
				case o.Verdict == evidence.Omitted:
					v.Omitted++
				default:
					v.Void++
					seen.Reason = o.Reason.String()
				}
				v.Visits = append(v.Visits, seen)
			}
		}
		out.Reports = append(out.Reports, v)
	}
	return out, nil
}

// Scores implements control.Backend.
func (b backend) Scores(ctx context.Context, text string) (control.Scores, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	r, err := b.d.node.Resolve(ctx, text)
	if err != nil {
		return control.Scores{}, explain(err)
	}
	list, err := b.d.node.Scores(ctx, r.Service)
	if err != nil {
		return control.Scores{}, explainInspection(err)
	}
	out := control.Scores{Name: string(r.Name), ServiceID: r.Service, Scores: []control.Score{}}
	for _, s := range list {
		out.Scores = append(out.Scores, scoreOf(s))
	}
	return out, nil
}

func scoreOf(s cashier.ProviderScore) control.Score {
	t := s.Standing
	return control.Score{
		NodeID: s.Provider.Node, Paid: s.Account, Class: s.Provider.Class.String(), Kinds: s.Provider.Kinds.String(),
		Score: t.Score, Failures: t.Failures, Sample: t.Sample, Operators: t.Operators, Checks: t.Checks,
		LatencyP50MS: float64(t.Latency50) / 1000, LatencyP90MS: float64(t.Latency90) / 1000, RateKiB: t.Rate, GapMS: t.Gap,
		LastEpoch: t.Last, Wrong: t.Wrong, Suspended: s.Suspended, Until: t.Until, Probation: s.Probation, Listed: s.Listed,
	}
}

// explainInspection gives errors of inspecting the code their command exits with.
func explainInspection(err error) error {
	switch {
	case errors.Is(err, cashier.ErrNotInspector):
		return control.Errorf(control.NotFound, "%w (\"scn inspect register\" makes this node's account one)", err)
	case errors.Is(err, cashier.ErrNoPlan):
		return control.Errorf(control.NotFound, "%w", err)
	}
	return explainPay(err)
}
