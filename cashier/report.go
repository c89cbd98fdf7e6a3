package cashier

import (
	"encoding/binary"
	"errors"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// CommitReport binds the signer to its report on an epoch, from the epoch's beginning
// until the grace behind its end has passed. There is one for each inspector and epoch.
type CommitReport struct {
	ID     voucher.TransferID `cbor:"1,keyasint"`
	Epoch  uint64             `cbor:"2,keyasint"`
	Commit evidence.Commit    `cbor:"3,keyasint"`
}

// RevealReport shows what the signer committed to, in the epoch after, from the end of
// the grace on.
type RevealReport struct {
	ID voucher.TransferID `cbor:"1,keyasint"`
	// Report is the encoding of an evidence.Reveal.
	Report []byte `cbor:"2,keyasint"`
}

// MaxReportTransaction is the largest signed RevealReport in bytes.
const MaxReportTransaction = evidence.MaxReveal + 1<<10

// Kind implements Operation.
func (CommitReport) Kind() Kind { return KindCommitReport }

// Kind implements Operation.
func (RevealReport) Kind() Kind { return KindRevealReport }

func (o CommitReport) transferID() voucher.TransferID { return o.ID }
func (o RevealReport) transferID() voucher.TransferID { return o.ID }

func (o CommitReport) check(tx *Transaction) *Rejection {
	if o.Commit == (evidence.Commit{}) {
		return reject(Malformed, "a commit to nothing")
	}
	return checkIdentified(tx, o.ID)
}

func (o RevealReport) check(tx *Transaction) *Rejection {
	if r := checkIdentified(tx, o.ID); r != nil {
		return r
	}
	if len(o.Report) > evidence.MaxReveal {
		return reject(TooLarge, "a report of %d bytes, at most %d", len(o.Report), evidence.MaxReveal)
	}
	if _, err := evidence.ParseReveal(o.Report); err != nil {
		return refuseEvidence(err)
	}
	return nil
}

// evidenceCodes says which code tells what is wrong with a report; the first that fits.
var evidenceCodes = []struct {
	err  error
	code Code
}{
	{evidence.ErrTrailing, TrailingBytes},
	{evidence.ErrUnplanned, Unplanned},
	{evidence.ErrCommit, OtherReport},
	{evidence.ErrVRFProof, BadVRFProof},
	{evidence.ErrVRFKey, BadVRFKey},
	{evidence.ErrLabel, BadLabel},
	{evidence.ErrReceipt, BadReceipt},
	{evidence.ErrDetail, BadDetail},
	{evidence.ErrSize, TooLarge},
	{evidence.ErrValue, BadOutcome},
}

func errorIs(err, target error) bool { return errors.Is(err, target) }

// commitKey is the row of an inspector's commit on an epoch.
func reportCommitKey(epoch uint64, a identity.AccountID) []byte {
	return append(appendUint64([]byte{reportPrefix, 'c'}, epoch), a[:]...)
}

// reportCommit is what an inspector committed to; reveal is the number of its report
// among those of the epoch, from 1 on, 0 if it has shown none.
type reportCommit struct {
	commit evidence.Commit
	reveal uint32
}

func (c reportCommit) encode() []byte {
	return binary.BigEndian.AppendUint32(append([]byte(nil), c.commit[:]...), c.reveal)
}

func (x *execution) reportCommit(epoch uint64, a identity.AccountID) (c reportCommit, ok bool) {
	b := x.get(reportCommitKey(epoch, a))
	if b == nil {
		return c, false
	}
	if len(b) != 36 {
		x.fail(fmt.Errorf("%w: commit row of %d bytes", ErrCorrupt, len(b)))
		return c, false
	}
	return reportCommit{evidence.Commit(b[:32]), binary.BigEndian.Uint32(b[32:])}, true
}

// reporter loads who reports on an epoch, and the epoch.
func (x *execution) reporter(a identity.AccountID, epoch uint64, f *frameRow) (row inspectorRow, r *Rejection) {
	if !x.inspecting {
		return row, &Rejection{Code: InspectionOff}
	}
	row, ok := x.inspector(a)
	switch {
	case !ok:
		return row, &Rejection{Code: NotInspector, Account: a}
	case !row.covers(epoch):
		return row, reject(NotInspector, "not on the roster of epoch %d", epoch)
	case !x.bonded(a):
		return row, &Rejection{Code: Unbonded, Account: a, Available: x.parameters.InspectorStake}
	case !load(x, frameKey(epoch), f) || !f.planned():
		return row, reject(NoPlan, "epoch %d", epoch)
	}
	return row, nil
}

// graceEnds is when commits on the epoch before the running one no longer count, in ms.
func (x *execution) graceEnds(f *frameRow) int64 {
	rules := f.rules()
	return x.inspection.Start*1000 + int64(rules.Grace)
}

func (o CommitReport) apply(x *execution, tx *Transaction) *Rejection {
	var f frameRow
	if _, r := x.reporter(tx.Account, o.Epoch, &f); r != nil || x.err != nil {
		return r
	}
	s := &x.inspection
	switch {
	case o.Epoch > s.Epoch:
		return reject(WrongEpoch, "epoch %d has not begun", o.Epoch)
	case o.Epoch+1 < s.Epoch, o.Epoch+1 == s.Epoch && x.time*1000 >= x.graceEnds(&f):
		return reject(WrongEpoch, "commits on epoch %d are closed", o.Epoch)
	}
	switch had, ok := x.reportCommit(o.Epoch, tx.Account); {
	case ok && had.commit == o.Commit:
		return nil
	case ok:
		return reject(ReportExists, "another commit on epoch %d", o.Epoch)
	}
	x.state.set(reportCommitKey(o.Epoch, tx.Account), reportCommit{commit: o.Commit}.encode())
	f.Commits++
	x.write(frameKey(o.Epoch), f)
	return nil
}

// reportRow is a report that was shown, and what was asked of it.
type reportRow struct {
	Inspector identity.AccountID `cbor:"1,keyasint"`
	// Output is that of the proof, Reveal the report's encoding.
	Output     []byte         `cbor:"2,keyasint"`
	Reveal     []byte         `cbor:"3,keyasint"`
	Challenges []challengeRow `cbor:"4,keyasint,omitempty"`
}

// challengeRow is a row that is to be shown until the end of an epoch.
type challengeRow struct {
	Row   uint16 `cbor:"1,keyasint"`
	Until uint64 `cbor:"2,keyasint"`
	Shown bool   `cbor:"3,keyasint,omitzero"`
	// By is who asked, zero for a row that was drawn.
	By identity.AccountID `cbor:"4,keyasint,omitzero"`
}

func reportKey(epoch uint64, number uint32) []byte {
	return binary.BigEndian.AppendUint32(appendUint64([]byte{reportPrefix, 'r'}, epoch), number)
}

func viewKey(p *evidence.Provider, operator evidence.Label) []byte {
	b := append([]byte{reportPrefix, 'v'}, p.Service[:]...)
	return append(append(b, p.Node[:]...), operator...)
}

func (o RevealReport) apply(x *execution, tx *Transaction) *Rejection {
	reveal, err := evidence.ParseReveal(o.Report)
	if err != nil {
		return refuseEvidence(err)
	}
	var f frameRow
	row, r := x.reporter(tx.Account, reveal.Epoch, &f)
	if r != nil || x.err != nil {
		return r
	}
	s := &x.inspection
	switch {
	case reveal.Epoch >= s.Epoch, reveal.Epoch+1 == s.Epoch && (x.time*1000 < x.graceEnds(&f) || s.Judging != 0):
		return reject(WrongEpoch, "commits on epoch %d are still open", reveal.Epoch)
	case reveal.Epoch+1 < s.Epoch:
		return reject(WrongEpoch, "reports on epoch %d are judged", reveal.Epoch)
	}
	commit, ok := x.reportCommit(reveal.Epoch, tx.Account)
	if !ok {
		return reject(NoReportCommit, "on epoch %d", reveal.Epoch)
	}
	if commit.reveal != 0 && evidence.CommitOf(x.network, tx.Account, &reveal) != commit.commit {
		return reject(ReportExists, "another report on epoch %d", reveal.Epoch)
	}
	if commit.reveal != 0 {
		return nil
	}
	frame := x.frame(reveal.Epoch, &f)
	admission := x.admission(&row)
	if x.err != nil {
		return nil
	}
	report, err := frame.Verify(tx.Account, admission.Key, commit.commit, &reveal)
	if err != nil {
		return refuseEvidence(err)
	}
	x.look(frame.Roster, report, admission.Operator)
	x.conduct(&row, func(c *evidence.Conduct) {
		for _, outcome := range reveal.Outcomes {
			c.Row(outcome.Verdict != evidence.Omitted)
		}
	})
	x.setInspector(&row)
	f.Reveals++
	commit.reveal = f.Reveals
	x.state.set(reportCommitKey(reveal.Epoch, tx.Account), commit.encode())
	x.write(reportKey(reveal.Epoch, f.Reveals), reportRow{Inspector: tx.Account, Output: report.Output[:], Reveal: o.Report})
	x.write(frameKey(reveal.Epoch), f)
	return nil
}

// look takes a report into the operator's views, row by row.
func (x *execution) look(roster *evidence.Roster, report *evidence.Report, operator evidence.Label) {
	rules := roster.Rules()
	for i, outcome := range report.Reveal.Outcomes {
		planned := report.Rows[i]
		p := roster.At(int(planned.Provider))
		key := viewKey(&p, operator)
		view, _ := x.view(key)
		if view.Add(&rules, p.Class, planned.Kind, outcome, report.Reveal.Epoch) != evidence.Uncounted && x.err == nil {
			x.state.set(key, view.Append(nil))
		}
	}
}

// view loads what an operator saw of a provider.
func (x *execution) view(key []byte) (v evidence.View, ok bool) {
	b := x.get(key)
	if b == nil {
		return v, false
	}
	v, err := evidence.ParseView(b)
	if err != nil {
		x.fail(fmt.Errorf("%w: view: %w", ErrCorrupt, err))
	}
	return v, true
}

// report loads a report that was shown, as it was verified.
func (x *execution) report(frame *evidence.Frame, number uint32) (reportRow, *evidence.Report, bool) {
	var row reportRow
	if !load(x, reportKey(frame.Epoch, number), &row) {
		x.fail(fmt.Errorf("%w: report %d of epoch %d does not exist", ErrCorrupt, number, frame.Epoch))
		return row, nil, false
	}
	reveal, err := evidence.ParseReveal(row.Reveal)
	if err != nil || len(row.Output) != len(evidence.VRFOutput{}) {
		x.fail(fmt.Errorf("%w: report %d of epoch %d: %w", ErrCorrupt, number, frame.Epoch, err))
		return row, nil, false
	}
	output := evidence.VRFOutput(row.Output)
	return row, &evidence.Report{
		Inspector: row.Inspector, Output: output, Rows: evidence.PlanOf(frame.Roster, output), Reveal: reveal,
	}, true
}
