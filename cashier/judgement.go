package cashier

import (
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// judge goes on judging the epoch whose reports were revealed in the one that was just
// closed: its providers one after the other, as many as a block may, and at last its
// inspectors. It returns how many rows that took, about.
func (x *execution) judge(budget int) int {
	s := &x.inspection
	epoch := s.Judging
	var f frameRow
	if !load(x, frameKey(epoch), &f) || f.Reveals == 0 {
		s.Judging, s.Next = 0, 0 // nobody said anything: nobody is blamed
		return 1
	}
	frame := x.frame(epoch, &f)
	operators := x.loadOperators(epoch)
	if x.err != nil {
		return 1
	}
	steps := int(f.Providers/rosterChunk+x.inspection.Inspectors) + 1
	each := len(operators) + 2
	for ; s.Next < f.Providers && steps+each <= budget && x.err == nil; s.Next++ {
		x.judgeProvider(frame, int(s.Next), operators)
		steps += each
	}
	if s.Next < f.Providers {
		return budget // the next block goes on
	}
	x.judgeInspectors(frame, &f)
	s.Judging, s.Next = 0, 0
	return steps + int(4*s.Inspectors)
}

// judgeProvider judges one provider of a roster.
func (x *execution) judgeProvider(frame *evidence.Frame, i int, operators []operator) {
	p := frame.Roster.At(i)
	rules := frame.Roster.Rules()
	key := listingKey(p.Service, p.Node)
	var row listingRow
	if !load(x, key, &row) {
		x.breakInvariant("who is on a roster was listed", "service %s, node %s", p.Service, p.Node)
		return
	}
	_, old, err := row.open()
	x.fail(err)
	views := make([]evidence.View, 0, len(operators))
	opinions := make([]evidence.Opinion, 0, len(operators))
	for _, o := range operators {
		if v, ok := x.view(viewKey(&p, o.label)); ok {
			views = append(views, v)
			opinions = append(opinions, evidence.Opinion{Operator: o.label, Weight: o.weight, View: &views[len(views)-1]})
		}
	}
	if len(opinions) == 0 || x.err != nil {
		return
	}
	if is := evidence.Judge(&rules, p, old, opinions, frame.Epoch+1); is != old {
		row.Standing = is.Append(nil)
		x.write(key, row)
	}
	if (frame.Epoch+uint64(i))%dissentEvery == 0 {
		x.findDissent(&rules, p.Class, opinions, frame.Epoch)
	}
}

// findDissent notes operators that see another provider than all others do.
func (x *execution) findDissent(rules *evidence.Rules, class evidence.Class, opinions []evidence.Opinion, epoch uint64) {
	others := make([]evidence.Opinion, 0, len(opinions))
	for i, own := range opinions {
		others = append(append(others[:0], opinions[:i]...), opinions[i+1:]...)
		if !evidence.Contradicts(rules, class, own.View, others, epoch+1) {
			continue
		}
		for slot := range x.inspection.Inspectors {
			if row, ok := x.inspectorAt(slot); ok && x.admission(&row).Operator == own.Operator {
				x.conduct(&row, (*evidence.Conduct).Dissent)
				x.setInspector(&row)
			}
		}
	}
}

// judgeInspectors blames those who did not report, and draws the rows that are to be
// shown: by a seed that nobody knew when the reports were committed to.
func (x *execution) judgeInspectors(frame *evidence.Frame, f *frameRow) {
	s := &x.inspection
	rows := frame.Roster.Rows()
	for slot := range s.Inspectors {
		row, ok := x.inspectorAt(slot)
		if !ok || f.Halted {
			break
		}
		if !row.covers(frame.Epoch) {
			continue
		}
		if c, ok := x.reportCommit(frame.Epoch, row.account); ok && c.reveal != 0 {
			continue
		}
		x.conduct(&row, func(c *evidence.Conduct) {
			for range rows {
				c.Row(false)
			}
		})
		x.setInspector(&row)
	}
	var later frameRow
	load(x, frameKey(frame.Epoch+3), &later)
	if later.Posted == nil {
		return // it could be foreseen
	}
	for number := uint32(1); number <= f.Reveals && x.err == nil; number++ {
		var row reportRow
		load(x, reportKey(frame.Epoch, number), &row)
		drawn := evidence.Drawn(later.Seed, row.Inspector, frame.Epoch, rows, x.parameters.drawnShare())
		for _, i := range drawn {
			row.Challenges = append(row.Challenges, challengeRow{Row: i, Until: frame.Epoch + 1 + challengeEpochs})
		}
		if len(drawn) > 0 {
			x.write(reportKey(frame.Epoch, number), row)
		}
	}
}

// endEpoch ends an epoch whose challenges have all ended: rows that were not shown are
// void, inspectors are paid, and the epoch is forgotten. It returns how many rows that
// took, about.
func (x *execution) endEpoch(epoch, closing uint64) int {
	var f frameRow
	if !load(x, frameKey(epoch), &f) {
		return 1
	}
	x.state.set(frameKey(epoch), nil)
	if f.Reveals > 0 {
		x.payInspectors(x.frame(epoch, &f), &f, closing)
	}
	for chunk := uint32(0); chunk*rosterChunk < f.Providers; chunk++ {
		x.state.set(rosterKey(epoch, chunk), nil)
	}
	if f.Commits > 0 {
		for slot := range x.inspection.Inspectors {
			row, ok := x.inspectorAt(slot)
			if !ok {
				break
			}
			if _, had := x.reportCommit(epoch, row.account); had {
				x.state.set(reportCommitKey(epoch, row.account), nil)
			}
		}
	}
	for number := uint32(1); number <= f.Reveals; number++ {
		x.state.set(reportKey(epoch, number), nil)
	}
	return int(3*x.inspection.Inspectors + 4*f.Reveals + f.Providers/rosterChunk)
}

// payInspectors pays for the reports of an epoch.
func (x *execution) payInspectors(frame *evidence.Frame, f *frameRow, closing uint64) {
	var reporters []inspectorRow
	var submissions []evidence.Submission
	for number := uint32(1); number <= f.Reveals && x.err == nil; number++ {
		row, report, ok := x.report(frame, number)
		if !ok {
			return
		}
		inspector, ok := x.inspector(row.Inspector)
		if !ok {
			x.breakInvariant("who reported is remembered until it is paid", "account %s, epoch %d", row.Inspector, frame.Epoch)
			return
		}
		x.conduct(&inspector, func(c *evidence.Conduct) {
			for _, asked := range row.Challenges {
				if asked.Shown || int(asked.Row) >= len(report.Reveal.Outcomes) {
					continue
				}
				report.Reveal.Outcomes[asked.Row] = evidence.Outcome{Verdict: evidence.Void}
				if !f.Halted {
					c.Shown(false)
				}
			}
			c.Punish(closing+1, x.parameters.punishment())
		})
		x.setInspector(&inspector)
		reporters = append(reporters, inspector)
		submissions = append(submissions, evidence.Submission{Admission: x.admission(&inspector), Report: report})
	}
	if x.err != nil || x.inspection.Pool == 0 {
		return
	}
	works := evidence.WorkOf(frame.Roster, submissions)
	for i := range reporters {
		if c, err := evidence.ParseConduct(reporters[i].Conduct); err != nil || c.Until > closing+1 {
			works[i] = 0
		}
	}
	rules := frame.Roster.Rules()
	for i, pay := range evidence.Pay(&rules, uint64(x.inspection.Pool), works) {
		x.payFromPool(reporters[i].account, voucher.Amount(pay))
	}
}

// payFromPool pays from what fees brought.
func (x *execution) payFromPool(to identity.AccountID, amount voucher.Amount) {
	if amount == 0 || x.err != nil {
		return
	}
	rest, ok := x.inspection.Pool.Sub(amount)
	if !ok {
		x.breakInvariant("inspectors are paid from what there is", "%d of %d", amount, x.inspection.Pool)
		return
	}
	if r := x.move(InspectionAccount(x.network), to, movement{post: amount}); r != nil {
		x.breakInvariant("what inspectors are paid from can be paid", "%v", r)
	}
	x.inspection.Pool = rest
	x.assertHolds(InspectionAccount(x.network), rest, "what inspectors are paid from")
}
