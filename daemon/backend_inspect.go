package daemon

import (
	"context"
	"slices"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/proofofservice/evidence"
)

// Visit implements control.Backend.
func (b backend) Visit(ctx context.Context, q control.VisitRequest) (control.Visit, error) {
	kind := slices.Index(control.Kinds(), q.Kind)
	if kind < 0 {
		return control.Visit{}, control.Errorf(control.BadRequest, "kind %q is none of %v", q.Kind, control.Kinds())
	}
	r := node.VisitRequest{Service: q.Name, Kind: evidence.Kind(kind), Size: q.Size, Mobile: q.Mobile}
	if q.Node != nil {
		r.Node = *q.Node
	}
	v, err := b.d.node.Visit(ctx, r)
	if err != nil {
		return control.Visit{}, explainPay(err)
	}
	o := v.Outcome
	out := control.Visit{
		Name: string(v.Name), ServiceID: v.Service, NodeID: v.Node, Kind: q.Kind, At: v.At.UTC(), TookMS: milliseconds(v.Took),
		Verdict: o.Verdict.String(), Content: v.Content, Anomalous: v.Anomalous,
	}
	if o.Reason != evidence.NoReason {
		out.Reason = o.Reason.String()
	}
	if o.Latency != 0 {
		ms := float64(o.Latency) / 1000
		out.LatencyMS = &ms
	}
	if o.Rate != 0 {
		out.RateKiB = &o.Rate
	}
	if r.Kind == evidence.Mobility && o.Verdict == evidence.Pass {
		out.GapMS = &o.Gap
	}
	if v.Receipt != nil {
		out.Receipt = &control.VisitReceipt{Sent: v.Receipt.Sent, Received: v.Receipt.Received, Milliseconds: v.Receipt.Duration, Final: v.Receipt.Final}
	}
	return out, nil
}

// Measured implements control.Backend.
func (b backend) Measured(context.Context) ([]control.Measured, error) {
	list, err := b.d.node.Measured()
	if err != nil {
		return nil, explain(err)
	}
	out := make([]control.Measured, 0, len(list))
	for _, s := range list {
		m := control.Measured{
			ServiceID: s.Service, NodeID: s.Node, Checks: s.Checks, Recent: s.Recent, Failed: s.Failed,
			LatencyP50MS: float64(s.Latency50) / 1000, LatencyP90MS: float64(s.Latency90) / 1000, RateKiB: s.Rate, GapMS: s.Gap,
			Last: s.Last.UTC(), Verdict: s.Verdict.String(), Anomalies: s.Anomalies, Latencies: s.Latencies,
		}
		if !s.Anomaly.IsZero() {
			t := s.Anomaly.UTC()
			m.Anomaly = &t
		}
		out = append(out, m)
	}
	return out, nil
}
