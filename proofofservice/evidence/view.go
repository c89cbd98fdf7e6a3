package evidence

import "encoding/binary"

// View is what one operator saw of one provider. The zero value has seen nothing.
// Views are comparable, and are what the ledger stores per provider and operator.
//
//	version u8 ‖ sum u16 ‖ alarmed u8 ‖ streak u8 ‖ last u64 ‖ checks u32 ‖
//	n u8 ‖ next u8 ‖ results, four in a byte ‖ three times: n u8 ‖ next u8 ‖ codes
type View struct {
	// Sum is the CUSUM: each failure adds to it, each good check takes 1.
	Sum uint16
	// Alarmed says that an alarm stands: since the sum reached its limit there were not
	// enough good checks in a row.
	Alarmed bool
	// Streak is how many checks in a row were good, as far as it matters.
	Streak uint8
	// Last is the epoch of the last check that counted.
	Last uint64
	// Checks is how many counted, ever.
	Checks uint32

	history            history
	latency, rate, gap ring
}

// Check is what one row says of a provider, after the rules.
type Check uint8

// The values of Check.
const (
	// Uncounted rows were omitted or are void.
	Uncounted Check = iota
	// Good rows speak for the provider.
	Good
	// Bad rows speak against it.
	Bad
	// False rows show that it answered wrongly, or overcharged.
	False
)

// CheckOf returns what an outcome says of a provider of the table's class: an
// answer that is too late, or a gap that is too long, is a failure.
func (t *Table) CheckOf(o Outcome) Check {
	switch {
	case o.Verdict <= Void:
		return Uncounted
	case o.Verdict == Wrong || o.Verdict == Overcharged:
		return False
	case o.Verdict == Pass && o.Latency < t.LatencyFail && o.Gap < t.GapFail:
		return Good
	}
	return Bad
}

// Add takes an outcome in. A row of the same epoch may come in any order; views
// depend on the order of rows, so the ledger adds them in that of its reveals.
func (v *View) Add(rules *Rules, class Class, kind Kind, o Outcome, epoch uint64) Check {
	table := rules.Of(class)
	c := table.CheckOf(o)
	if c == Uncounted {
		return c
	}
	v.Last = max(v.Last, epoch)
	if v.Checks++; v.Checks == 0 {
		v.Checks-- // enough
	}
	switch c {
	case Good:
		v.history.add(good)
		if v.Sum > 0 {
			v.Sum--
		}
		if v.Streak < rules.Clear {
			v.Streak++
		}
		if v.Alarmed && v.Streak >= rules.Clear {
			v.Alarmed = false
		}
	default:
		r := bad
		if c == False {
			r = wrong
		}
		v.history.add(r)
		v.Streak = 0
		if sum := uint32(v.Sum) + uint32(table.Fail); sum >= uint32(table.Alarm) {
			v.Alarmed, v.Sum = true, 0
		} else {
			v.Sum = uint16(sum)
		}
	}
	if o.Latency > 0 {
		v.latency.add(latencies, o.Latency)
	}
	if o.Rate > 0 {
		v.rate.add(rates, o.Rate)
	}
	if kind == Mobility && o.Verdict == Pass {
		v.gap.add(gaps, o.Gap)
	}
	return c
}

// Sample returns how many checks are remembered, at most HistorySize.
func (v *View) Sample() uint32 { return uint32(v.history.n) }

// Failures returns how many of them failed.
func (v *View) Failures() uint32 {
	return uint32(v.history.counts[bad]) + uint32(v.history.counts[wrong])
}

// False returns how many of them showed a wrong answer or price.
func (v *View) False() uint32 { return uint32(v.history.counts[wrong]) }

// Latency returns a quantile of the last latencies in µs, and whether there are any.
func (v *View) Latency(share uint32) (uint32, bool) { return v.latency.quantile(share) }

// Rate returns the median of the last rates in KiB/s, and whether there are any.
func (v *View) Rate() (uint32, bool) { return v.rate.quantile(500_000) }

// Gap returns the median of the last gaps in ms, and whether there are any.
func (v *View) Gap() (uint32, bool) { return v.gap.quantile(500_000) }

// Eligible reports whether its operator has a say on whether the provider is
// suspended: it looked lately. One look is enough to be counted among those who do
// not alarm: else the few who looked most often could alarm alone, while all others
// have not yet looked often enough to be heard.
func (v *View) Eligible(rules *Rules, epoch uint64) bool {
	return v.history.n > 0 && v.Last+uint64(rules.Eligible) >= epoch
}

// Settled reports whether the view is eligible and has so many checks that its
// fraction of failures means something: as many as it takes to alarm.
func (v *View) Settled(rules *Rules, class Class, epoch uint64) bool {
	t := rules.Of(class)
	enough := ceil(int(t.Alarm), max(int(t.Fail), 1))
	return int(v.history.n) >= min(enough, HistorySize) && v.Eligible(rules, epoch)
}

// Append appends the encoding.
func (v *View) Append(b []byte) []byte {
	b = append(b, version)
	b = binary.BigEndian.AppendUint16(b, v.Sum)
	b = append(appendFlag(b, v.Alarmed), v.Streak)
	b = binary.BigEndian.AppendUint64(b, v.Last)
	b = binary.BigEndian.AppendUint32(b, v.Checks)
	b = v.history.append(b)
	b = v.latency.append(b)
	b = v.rate.append(b)
	return v.gap.append(b)
}

// ParseView reads an encoding.
func ParseView(b []byte) (View, error) {
	f := open(b)
	v := View{Sum: f.uint16(), Alarmed: f.flag(), Streak: f.byte(), Last: f.uint64(), Checks: f.uint32()}
	v.history = f.history()
	v.latency, v.rate, v.gap = f.ring(latencies), f.ring(rates), f.ring(gaps)
	if err := f.end("view"); err != nil {
		return View{}, err
	}
	return v, nil
}
