package evidence

// Work is what one inspector is paid for in an epoch, in halves of a row: a row
// that passed counts two, a failure that an independent inspector saw as well two,
// one that nobody else saw one. Void and omitted rows count nothing.
type Work uint32

// Submission is a verified report with who sent it.
type Submission struct {
	Admission Admission
	Report    *Report
}

// WorkOf returns the work in each submission of one epoch. Rows that a challenge
// showed to be void have been made so in the reports before.
func WorkOf(roster *Roster, submissions []Submission) []Work {
	// Who saw each provider fail: indices into submissions, one per pair of labels.
	failed := make([][]int, roster.Len())
	for i, s := range submissions {
		for j, o := range s.Report.Reveal.Outcomes {
			if p := s.Report.Rows[j].Provider; roster.failed(p, o) && !knows(submissions, failed[p], s.Admission) {
				failed[p] = append(failed[p], i)
			}
		}
	}
	works := make([]Work, len(submissions))
	for i, s := range submissions {
		for j, o := range s.Report.Reveal.Outcomes {
			switch p := s.Report.Rows[j].Provider; {
			case o.Verdict == Omitted || o.Verdict == Void:
			case !roster.failed(p, o) || confirmed(submissions, failed[p], s.Admission):
				works[i] += 2
			default:
				works[i]++
			}
		}
	}
	return works
}

func (r *Roster) failed(provider uint32, o Outcome) bool {
	return r.rules.Of(r.providers[provider].Class).CheckOf(o) > Good
}

// knows reports whether somebody of the same labels is in the list.
func knows(submissions []Submission, list []int, a Admission) bool {
	for _, i := range list {
		if b := submissions[i].Admission; b.Operator == a.Operator && b.Network == a.Network {
			return true
		}
	}
	return false
}

func confirmed(submissions []Submission, list []int, a Admission) bool {
	for _, i := range list {
		if submissions[i].Admission.Independent(a) {
			return true
		}
	}
	return false
}

// Pay splits a pool by work: no half of a row earns more than half of
// Rules.RowPay, and what is left stays in the pool.
func Pay(rules *Rules, pool uint64, works []Work) []uint64 {
	var halves uint64
	for _, w := range works {
		halves += uint64(w)
	}
	pays := make([]uint64, len(works))
	if halves == 0 {
		return pays
	}
	unit := min(rules.RowPay/2, pool/halves)
	for i, w := range works {
		pays[i] = uint64(w) * unit
	}
	return pays
}
