package evidence

import (
	"encoding/binary"
	"math"
)

// Opinion is an operator's view of a provider, with the operator's weight: the sum
// of its inspectors' stakes, or anything below; the rules cap it.
type Opinion struct {
	Operator Label
	Weight   uint64
	View     *View
}

// Standing is what follows for a provider from all views of it. The zero value is
// that of a provider nobody has looked at.
//
//	version u8 ‖ since u64 ‖ until u64 ‖ alarm u64 ‖ last u64 ‖ level u8 ‖ wrong u8 ‖
//	score u32 ‖ failures u32 ‖ sample u16 ‖ operators u16 ‖ checks u32 ‖
//	latency50 u32 ‖ latency90 u32 ‖ rate u32 ‖ gap u32
type Standing struct {
	// Since is the first epoch in which it was judged.
	Since uint64
	// Until is the first epoch in which it is not suspended any more.
	Until uint64
	// Alarm is the last epoch in which an alarm counted.
	Alarm uint64
	// Last is the epoch of the last check that counted.
	Last uint64
	// Level is the power of two of the next suspension.
	Level uint8
	// Wrong says that more than half of the weight saw it answer wrongly.
	Wrong bool

	// Score in millionths.
	Score uint32
	// Failures in millionths is the median of the operators' failure fractions.
	Failures uint32
	// Sample is how many checks the score comes from, at most HistorySize.
	Sample uint16
	// Operators is how many looked often enough to count for the score.
	Operators uint16
	// Checks is how many checks of it counted, ever, by those operators.
	Checks uint32
	// Latency50 and Latency90 in µs, Rate in KiB/s and Gap in ms are the medians of the
	// operators' own; 0 where nobody measured.
	Latency50, Latency90, Rate, Gap uint32
}

// Judge returns the standing of a provider at the close of an epoch; a suspension
// begins with the next. opinions are all views of it, in any order: those that are
// Eligible decide on suspension, those that are Settled make the score. An epoch
// that brought no check, because the ledger or the inspectors stood still, suspends
// nobody.
func Judge(rules *Rules, p Provider, old Standing, opinions []Opinion, epoch uint64) Standing {
	s := old
	if s.Since == 0 {
		s.Since = max(epoch, 1)
	}
	weights := make([]uint64, 0, len(opinions))
	eligible := make([]Opinion, 0, len(opinions))
	for _, o := range opinions {
		if o.View.Settled(rules, p.Class, epoch) {
			eligible, weights = append(eligible, o), append(weights, o.Weight)
		}
	}
	CapWeights(weights, rules.Cap)
	s.measure(rules, p, eligible, weights)

	eligible, weights = eligible[:0], weights[:0]
	for _, o := range opinions {
		if o.View.Eligible(rules, epoch) {
			eligible, weights = append(eligible, o), append(weights, o.Weight)
		}
	}
	CapWeights(weights, rules.Cap)
	var all, alarmed uint64
	for i, o := range eligible {
		all += weights[i]
		if o.View.Alarmed {
			alarmed += weights[i]
		}
		s.Last = max(s.Last, o.View.Last)
	}
	counts := alarmed > all-alarmed && len(eligible) >= int(rules.Operators) && s.Last > old.Last
	switch {
	case counts:
		s.Alarm = epoch
		if epoch+1 >= s.Until {
			length := min(uint64(1)<<min(s.Level, 20), uint64(rules.Suspension))
			s.Until = epoch + 1 + length
			s.Level = min(s.Level+1, 20)
		}
	case s.Level > 0 && epoch >= s.Until && epoch-s.Alarm >= uint64(rules.Reset):
		s.Level = 0
	}
	return s
}

// measure takes the medians, and the score from them.
func (s *Standing) measure(rules *Rules, p Provider, settled []Opinion, weights []uint64) {
	var sample, checks, all, wrong uint64
	median := func(of func(v *View) (uint32, bool)) (uint32, bool) {
		values := make([]weighted, 0, len(settled))
		for i, o := range settled {
			if v, ok := of(o.View); ok {
				values = append(values, weighted{v, weights[i]})
			}
		}
		return weightedMedian(values), len(values) > 0
	}
	for i, o := range settled {
		sample += uint64(o.View.Sample())
		checks += uint64(o.View.Checks)
		all += weights[i]
		if o.View.False() > 0 {
			wrong += weights[i]
		}
	}
	s.Wrong = wrong > all-wrong
	s.Operators = uint16(min(len(settled), math.MaxUint16))
	s.Sample = uint16(min(sample, HistorySize))
	s.Checks = uint32(min(checks, math.MaxUint32))
	s.Failures, _ = median(func(v *View) (uint32, bool) {
		return uint32(uint64(v.Failures()) * million / uint64(max(v.Sample(), 1))), true
	})
	var measuredLatency, measuredRate bool
	s.Latency50, _ = median(func(v *View) (uint32, bool) { return v.Latency(500_000) })
	s.Latency90, measuredLatency = median(func(v *View) (uint32, bool) { return v.Latency(900_000) })
	s.Rate, measuredRate = median((*View).Rate)
	s.Gap, _ = median((*View).Gap)

	latency, rate := uint32(million/2), uint32(million/2) // what nobody measured is middling
	if measuredLatency {
		latency = LatencyScore(rules.Of(p.Class), s.Latency90)
	}
	if measuredRate {
		rate = RateScore(s.Rate, p.Rate, rules.Rate)
	}
	s.Score = Score(Availability(s.Failures, uint32(s.Sample), uint32(rules.Prior)), latency, rate, !s.Wrong)
}

// Availability returns A: the lower bound of success, in millionths, when failures,
// in millionths, of n checks failed. Below prior checks the missing ones are taken
// to be good.
func Availability(failures, n, prior uint32) uint32 {
	failed := uint32((uint64(failures)*uint64(n) + million - 1) / million)
	n = max(n, prior)
	return WilsonLower(n-min(failed, n), n, TwoSided95)
}

// LatencyScore returns L in millionths: all at the target, none at the maximum.
func LatencyScore(t *Table, p90 uint32) uint32 {
	switch {
	case p90 <= t.LatencyTarget:
		return million
	case p90 >= t.LatencyMax:
		return 0
	}
	return uint32(uint64(t.LatencyMax-p90) * million / uint64(t.LatencyMax-t.LatencyTarget))
}

// RateScore returns T in millionths: the median burst over what is advertised, or
// over the network's own measure where nothing is.
func RateScore(median, advertised, otherwise uint32) uint32 {
	if advertised == 0 {
		advertised = max(otherwise, 1)
	}
	return uint32(min(uint64(median)*million/uint64(advertised), million))
}

// Score returns C·A·(½ + ¼·L + ¼·T), all in millionths.
func Score(availability, latency, rate uint32, correct bool) uint32 {
	if !correct {
		return 0
	}
	quality := 500_000 + (uint64(min(latency, million))+uint64(min(rate, million)))/4
	return uint32(uint64(min(availability, million)) * quality / million)
}

// NewStanding returns the standing a provider begins with when it comes in epoch:
// on probation, with the score of a sample of none.
func NewStanding(rules *Rules, p Provider, epoch uint64) Standing {
	return Judge(rules, p, Standing{}, nil, epoch)
}

// Suspended reports whether the provider is not to be selected in epoch.
func (s Standing) Suspended(epoch uint64) bool { return epoch < s.Until }

// Probation reports whether the provider is still new in epoch.
func (s Standing) Probation(rules *Rules, epoch uint64) bool {
	return s.Checks < rules.ProbationChecks || epoch < s.Since+uint64(rules.ProbationEpochs)
}

// Release splits a vesting amount by a score: what is paid, and what is burnt.
func Release(amount uint64, score uint32) (paid, burnt uint64) {
	paid = mulDiv(amount, uint64(min(score, million)), million)
	return paid, amount - paid
}

// Append appends the encoding.
func (s Standing) Append(b []byte) []byte {
	b = append(b, version)
	for _, v := range []uint64{s.Since, s.Until, s.Alarm, s.Last} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	b = appendFlag(append(b, s.Level), s.Wrong)
	b = binary.BigEndian.AppendUint32(b, s.Score)
	b = binary.BigEndian.AppendUint32(b, s.Failures)
	b = binary.BigEndian.AppendUint16(b, s.Sample)
	b = binary.BigEndian.AppendUint16(b, s.Operators)
	for _, v := range []uint32{s.Checks, s.Latency50, s.Latency90, s.Rate, s.Gap} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// ParseStanding reads an encoding.
func ParseStanding(b []byte) (Standing, error) {
	f := open(b)
	s := Standing{
		Since: f.uint64(), Until: f.uint64(), Alarm: f.uint64(), Last: f.uint64(),
		Level: f.byte(), Wrong: f.flag(),
		Score: f.uint32(), Failures: f.uint32(), Sample: f.uint16(), Operators: f.uint16(), Checks: f.uint32(),
		Latency50: f.uint32(), Latency90: f.uint32(), Rate: f.uint32(), Gap: f.uint32(),
	}
	f.require(s.Level <= 20, "level %d", s.Level)
	f.require(s.Score <= million && s.Failures <= million, "a share above one")
	return s, f.end("standing")
}
