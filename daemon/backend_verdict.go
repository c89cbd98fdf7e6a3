package daemon

import (
	"context"
	"fmt"
	"time"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/daemon/verdict"
)

// Verdicts implements control.Backend.
func (b backend) Verdicts(context.Context) (control.Verdicts, error) {
	gate := b.d.node.Verdicts()
	out := control.Verdicts{Open: []control.Question{}, Missed: []control.Question{}, Remembered: []control.Question{}}
	open, missed := gate.Questions()
	for _, q := range open {
		out.Open = append(out.Open, questionOf(q))
	}
	for _, q := range missed {
		out.Missed = append(out.Missed, questionOf(q))
	}
	for _, r := range gate.Answers() {
		q := questionOf(r.Question)
		q.Verdict, q.Reason, q.Until = r.Kind.String(), r.Reason, &r.Until
		out.Remembered = append(out.Remembered, q)
	}
	return out, nil
}

func questionOf(q verdict.Question) control.Question {
	out := control.Question{ID: q.ID, Service: q.Service, NodeID: q.Node, Port: q.Port, Protocol: q.Protocol.String(), Since: q.Since}
	if !q.Account.IsZero() {
		out.AccountID = &q.Account
	}
	return out
}

// Decide implements control.Backend.
func (b backend) Decide(_ context.Context, q control.VerdictRequest) error {
	gate := b.d.node.Verdicts()
	if q.Verdict == "" {
		return explain(gate.Forget(q.ID))
	}
	kind, err := verdict.ParseKind(q.Verdict)
	if err != nil {
		return explain(err)
	}
	life := time.Duration(q.ForSeconds) * time.Second
	if kind == verdict.Wake || kind == verdict.AskUser || life < 0 || life > verdict.MaxCache {
		return explain(fmt.Errorf("%w: the user says allow, deny or pay, for 0 to %s", node.ErrRequest, verdict.MaxCache))
	}
	return explain(gate.Decide(q.ID, verdict.Answer{Kind: kind, Cache: life, Reason: "the user said so"}))
}
