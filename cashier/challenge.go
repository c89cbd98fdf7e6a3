package cashier

import (
	"encoding/binary"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// ChallengeReport asks for the detail of one row of a report. What is shown tells which
// session a probe was, so it is for inspectors to ask, and few rows of a report are asked
// for; besides them everybody expects those that are drawn.
type ChallengeReport struct {
	ID voucher.TransferID `cbor:"1,keyasint"`
	// Challenge is the encoding of an evidence.Challenge.
	Challenge []byte `cbor:"2,keyasint"`
}

// AnswerChallenge shows the detail of a row of the signer's that was asked for. A row
// that is not shown in time is void, and its inspector found out.
type AnswerChallenge struct {
	ID voucher.TransferID `cbor:"1,keyasint"`
	// Answer is the encoding of an evidence.Answer.
	Answer []byte `cbor:"2,keyasint"`
}

// maxChallenges is how many rows of one report are asked for besides the drawn ones, and
// maxChallengesBy how many by one account.
const (
	maxChallenges   = 4
	maxChallengesBy = 1
)

// Kind implements Operation.
func (ChallengeReport) Kind() Kind { return KindChallengeReport }

// Kind implements Operation.
func (AnswerChallenge) Kind() Kind { return KindAnswerChallenge }

func (o ChallengeReport) transferID() voucher.TransferID { return o.ID }
func (o AnswerChallenge) transferID() voucher.TransferID { return o.ID }

func (o ChallengeReport) check(tx *Transaction) *Rejection {
	if _, err := evidence.ParseChallenge(o.Challenge); err != nil {
		return refuseEvidence(err)
	}
	return checkIdentified(tx, o.ID)
}

func (o AnswerChallenge) check(tx *Transaction) *Rejection {
	a, err := evidence.ParseAnswer(o.Answer)
	switch {
	case err != nil:
		return refuseEvidence(err)
	case a.Inspector != tx.Account:
		return reject(NotAllowed, "an inspector answers for itself")
	}
	return checkIdentified(tx, o.ID)
}

// shown loads the report of an inspector on an epoch that can be asked about, as it was
// verified.
func (x *execution) shown(epoch uint64, inspector identity.AccountID, f *frameRow) (number uint32, row reportRow, report *evidence.Report, r *Rejection) {
	if !x.inspecting {
		return 0, row, nil, &Rejection{Code: InspectionOff}
	}
	c, ok := x.reportCommit(epoch, inspector)
	if !ok || c.reveal == 0 || !load(x, frameKey(epoch), f) {
		return 0, row, nil, &Rejection{Code: NoReport, Account: inspector}
	}
	if frame := x.frame(epoch, f); frame != nil {
		row, report, _ = x.report(frame, c.reveal)
	}
	return c.reveal, row, report, nil
}

func (o ChallengeReport) apply(x *execution, tx *Transaction) *Rejection {
	c, err := evidence.ParseChallenge(o.Challenge)
	if err != nil {
		return refuseEvidence(err)
	}
	var f frameRow
	number, row, report, r := x.shown(c.Epoch, c.Inspector, &f)
	if r != nil || x.err != nil {
		return r
	}
	if _, ok := x.inspector(tx.Account); !ok {
		return &Rejection{Code: NotInspector, Account: tx.Account}
	}
	rules := f.rules()
	until, due := c.Due(&rules, x.inspection.Epoch)
	asked, by := 0, 0
	for _, had := range row.Challenges {
		if had.Row == c.Row {
			return nil // one answer is enough
		}
		if !had.By.IsZero() {
			asked++
		}
		if had.By == tx.Account {
			by++
		}
	}
	switch {
	case !x.bonded(tx.Account):
		return &Rejection{Code: Unbonded, Account: tx.Account, Available: x.parameters.InspectorStake}
	case int(c.Row) >= len(report.Rows):
		return reject(Unplanned, "row %d of %d", c.Row, len(report.Rows))
	case !due:
		return reject(WrongEpoch, "rows are challenged within %d epochs", challengeEpochs)
	case asked >= maxChallenges || by >= maxChallengesBy:
		return reject(TooManyChallenges, "at most %d of a report, and %d by one account", maxChallenges, maxChallengesBy)
	}
	row.Challenges = append(row.Challenges, challengeRow{Row: c.Row, Until: until, By: tx.Account})
	x.write(reportKey(c.Epoch, number), row)
	return nil
}

func (o AnswerChallenge) apply(x *execution, _ *Transaction) *Rejection {
	a, err := evidence.ParseAnswer(o.Answer)
	if err != nil {
		return refuseEvidence(err)
	}
	var f frameRow
	number, row, report, r := x.shown(a.Epoch, a.Inspector, &f)
	if r != nil || x.err != nil {
		return r
	}
	for i := range row.Challenges {
		switch c := &row.Challenges[i]; {
		case c.Row != a.Detail.Row:
			continue
		case c.Shown:
			return nil
		case x.inspection.Epoch > c.Until:
			return reject(WrongEpoch, "row %d was to be shown until epoch %d", c.Row, c.Until)
		default:
			if err := a.Verify(x.frame(a.Epoch, &f), report, uint64(f.Began)*1000); err != nil {
				return refuseEvidence(err)
			}
			c.Shown = true
			x.write(reportKey(a.Epoch, number), row)
			inspector, ok := x.inspector(a.Inspector)
			if ok {
				x.conduct(&inspector, func(c *evidence.Conduct) { c.Shown(true) })
				x.setInspector(&inspector)
			}
			return nil
		}
	}
	return reject(NotChallenged, "row %d", a.Detail.Row)
}

// CommitCanary is the founder's word, hidden in a hash, that it knows of a provider
// whether it is alive in some epochs to come.
type CommitCanary struct {
	ID   voucher.TransferID `cbor:"1,keyasint"`
	Hash evidence.Hash      `cbor:"2,keyasint"`
}

// RevealCanary shows a canary behind its last epoch: what inspectors said of it is held
// against them.
type RevealCanary struct {
	ID voucher.TransferID `cbor:"1,keyasint"`
	// Canary is the encoding of an evidence.Canary.
	Canary []byte `cbor:"2,keyasint"`
}

// Kind implements Operation.
func (CommitCanary) Kind() Kind { return KindCommitCanary }

// Kind implements Operation.
func (RevealCanary) Kind() Kind { return KindRevealCanary }

func (o CommitCanary) transferID() voucher.TransferID { return o.ID }
func (o RevealCanary) transferID() voucher.TransferID { return o.ID }

func (o CommitCanary) check(tx *Transaction) *Rejection {
	if tx.Account != identity.AccountID(tx.Network) {
		return reject(NotAllowed, "canaries are the founder's")
	}
	return checkIdentified(tx, o.ID)
}

func (o RevealCanary) check(tx *Transaction) *Rejection {
	c, err := evidence.ParseCanary(o.Canary)
	switch {
	case err != nil:
		return refuseEvidence(err)
	case tx.Account != identity.AccountID(tx.Network):
		return reject(NotAllowed, "canaries are the founder's")
	case c.To < c.From || c.To-c.From >= keptEpochs:
		return reject(BadOutcome, "a canary is of at most %d epochs", keptEpochs)
	}
	return checkIdentified(tx, o.ID)
}

func canaryKey(h evidence.Hash) []byte { return append([]byte{inspectionPrefix, 'k'}, h[:]...) }

func (o CommitCanary) apply(x *execution, _ *Transaction) *Rejection {
	if !x.inspecting {
		return &Rejection{Code: InspectionOff}
	}
	if key := canaryKey(o.Hash); x.get(key) == nil {
		x.state.set(key, appendUint64(nil, x.inspection.Epoch))
	}
	return nil
}

func (o RevealCanary) apply(x *execution, _ *Transaction) *Rejection {
	c, err := evidence.ParseCanary(o.Canary)
	if err != nil {
		return refuseEvidence(err)
	}
	key := canaryKey(c.Commit(x.network))
	b := x.get(key)
	switch s := &x.inspection; {
	case x.err != nil:
		return nil
	case len(b) != 8:
		return &Rejection{Code: NoCanary}
	case binary.BigEndian.Uint64(b) >= c.From:
		return reject(NoCanary, "it was committed to when its epochs had begun")
	case s.Epoch <= c.To+1:
		return reject(WrongEpoch, "the reports on epoch %d are not all shown", c.To)
	case s.Epoch > c.From+keptEpochs:
		return reject(WrongEpoch, "the reports on epoch %d are forgotten", c.From)
	}
	x.state.set(key, nil)
	for epoch := c.From; epoch <= c.To && x.err == nil; epoch++ {
		var f frameRow
		if load(x, frameKey(epoch), &f) && f.Reveals > 0 {
			x.holdAgainst(&c, x.frame(epoch, &f), &f)
		}
	}
	return nil
}

// holdAgainst compares what was said of a canary in an epoch with what is known.
func (x *execution) holdAgainst(canary *evidence.Canary, frame *evidence.Frame, f *frameRow) {
	for number := uint32(1); number <= f.Reveals && x.err == nil; number++ {
		row, report, ok := x.report(frame, number)
		if !ok {
			return
		}
		inspector, ok := x.inspector(row.Inspector)
		if !ok {
			continue
		}
		x.conduct(&inspector, func(c *evidence.Conduct) {
			for i, planned := range report.Rows {
				if canary.Covers(frame.Roster.At(int(planned.Provider)), frame.Epoch) {
					c.Canary(canary.Alive, report.Reveal.Outcomes[i])
				}
			}
		})
		x.setInspector(&inspector)
	}
}
