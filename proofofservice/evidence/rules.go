package evidence

import (
	"errors"
	"fmt"
)

// Table is how one class of providers is judged.
type Table struct {
	// Fail is what a failed check adds to a CUSUM, from which a good one takes 1.
	// Default 11 for fixed providers (tuned to tell 2 % from 20 %), 7 for mobile ones
	// (5 % from 20 %).
	Fail uint16
	// Alarm is where a CUSUM alarms. Default 50: a fixed provider that fails 2 % of
	// checks is accused once in 560,000, a mobile one that fails 5 % once in 980,000;
	// one that fails 20 % in 35 and in 77 checks.
	Alarm uint16
	// LatencyTarget in µs earns full marks, LatencyMax none. Default 50 ms and 1 s,
	// mobile 150 ms and 2 s.
	LatencyTarget, LatencyMax uint32
	// LatencyFail in µs and more is a failure. Default 5 s, mobile 10 s.
	LatencyFail uint32
	// GapFail in ms and more is a failure. Default 5 s, mobile 10 s.
	GapFail uint32
}

// Rules are the parameters of a network that bear on proof of service. The zero
// value of each field stands for its default. Rules are comparable.
type Rules struct {
	// Epoch is the length of an epoch in ms. Default 600,000; at least 1,000.
	Epoch uint32
	// Window in ms is into how long pieces an epoch is cut, which are made a little
	// longer so that they fill it: a plan names the piece in which a probe begins, the
	// inspector's secret says when in it. Default a twentieth of an epoch.
	Window uint32
	// Grace in ms is how long after an epoch commits still count: a probe may begin in
	// its last second, else nobody would look at the end of an epoch. Default a tenth
	// of an epoch.
	Grace uint32
	// Rows is how many rows a plan has at most. Default 50, at most MaxRows.
	Rows uint16
	// Checks is how often a provider is to be visited in an epoch, by all inspectors
	// together, where they are enough. Default 5.
	Checks uint16
	// Floor, in millionths, is the share of a plan that goes to all providers alike;
	// the rest goes by the square root of their revenue. Default 500,000, at most
	// 1,000,000.
	Floor uint32
	// Mix is the weight of each kind. Default reach 40, latency 20, throughput 10,
	// correctness 20, mobility 5, price 5. All zero means the default.
	Mix [Kinds]uint16
	// Sizes are what probes transfer in bytes, and SizeWeights how often, after the
	// live traffic. Default 16 KiB to 2 MiB, each half as often as the one before.
	Sizes       [8]uint32
	SizeWeights [8]uint16
	// ProbeBytes is how many bytes of probes a provider bears per hour at most, in
	// expectation. Default 256 MiB.
	ProbeBytes uint64
	// Accounts and Carriers are how many of each a plan chooses among. Default 256 and
	// 65,535: the inspector takes the number modulo what it has.
	Accounts, Carriers uint16

	// Fixed and Mobile are the tables of the two classes.
	Fixed, Mobile Table
	// Clear is after how many good checks in a row an alarm no longer stands. Default
	// 20: who fails 20 % needs 428 checks for that, who fails 2 % needs 25.
	Clear uint8
	// Eligible is within how many epochs an operator must have looked at a provider to
	// have a say. Default 144, a day.
	Eligible uint16
	// Operators is how many eligible operators it takes to suspend a provider: below,
	// alarms are shown and nothing follows. Default 3.
	Operators uint8
	// Rate in KiB/s is what a provider that advertises none is measured against.
	// Default 1,024.
	Rate uint32
	// Cap in millionths is the share of one operator's weight at most, when there are
	// enough operators for it. Default 100,000.
	Cap uint32
	// Suspension is how many epochs a suspension lasts at most. Default 1,008, a week.
	Suspension uint32
	// Reset is after how many epochs without an alarm the first suspension is one epoch
	// again. Default 4,320, 30 days.
	Reset uint32
	// ProbationChecks and ProbationEpochs end a new provider's probation, when both are
	// reached. Default 100 checks and 1,008 epochs, a week.
	ProbationChecks, ProbationEpochs uint32
	// Prior is how many good checks a new provider is taken to have. Default 20.
	Prior uint16
	// Keep is within how many epochs a row may be challenged. Default 2.
	Keep uint16
	// RowPay is what a completed row earns at most, in micro-credits. Default 1,000.
	RowPay uint64
}

// MaxRows is how many rows a plan has at most, whatever the parameters.
const MaxRows = 1000

// million is one, where shares are counted in millionths.
const million = 1_000_000

// WithDefaults returns r with its zero fields replaced by their defaults.
func (r Rules) WithDefaults() Rules {
	or(&r.Epoch, 600_000)
	or(&r.Window, max(r.Epoch/20, 1))
	or(&r.Grace, r.Epoch/10)
	or(&r.Rows, 50)
	or(&r.Checks, 5)
	or(&r.Floor, 500_000)
	if r.Mix == ([Kinds]uint16{}) {
		r.Mix = [Kinds]uint16{Reach: 40, Latency: 20, Throughput: 10, Correctness: 20, Mobility: 5, Price: 5}
	}
	if r.Sizes == ([8]uint32{}) && r.SizeWeights == ([8]uint16{}) {
		for i := range r.Sizes {
			r.Sizes[i], r.SizeWeights[i] = 16<<10<<i, 128>>i
		}
	}
	or(&r.ProbeBytes, 256<<20)
	or(&r.Accounts, 256)
	or(&r.Carriers, 65_535)
	r.Fixed = r.Fixed.withDefaults(Table{
		Fail: 11, Alarm: 50, LatencyTarget: 50_000, LatencyMax: 1_000_000, LatencyFail: 5_000_000, GapFail: 5_000,
	})
	r.Mobile = r.Mobile.withDefaults(Table{
		Fail: 7, Alarm: 50, LatencyTarget: 150_000, LatencyMax: 2_000_000, LatencyFail: 10_000_000, GapFail: 10_000,
	})
	or(&r.Clear, 20)
	or(&r.Eligible, 144)
	or(&r.Operators, 3)
	or(&r.Rate, 1024)
	or(&r.Cap, 100_000)
	or(&r.Suspension, 1008)
	or(&r.Reset, 4320)
	or(&r.ProbationChecks, 100)
	or(&r.ProbationEpochs, 1008)
	or(&r.Prior, 20)
	or(&r.Keep, 2)
	or(&r.RowPay, 1000)
	return r
}

func (t Table) withDefaults(d Table) Table {
	or(&t.Fail, d.Fail)
	or(&t.Alarm, d.Alarm)
	or(&t.LatencyTarget, d.LatencyTarget)
	or(&t.LatencyMax, d.LatencyMax)
	or(&t.LatencyFail, d.LatencyFail)
	or(&t.GapFail, d.GapFail)
	return t
}

// or sets a field that is zero to its default.
func or[T uint8 | uint16 | uint32 | uint64](v *T, value T) {
	if *v == 0 {
		*v = value
	}
}

// Validate reports all faults. It is called on rules with their defaults set.
func (r Rules) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrValue}, args...)...))
		}
	}
	check(r.Epoch >= 1000 && r.Epoch <= 1<<30, "an epoch of %d ms, it is 1,000 to 2^30", r.Epoch)
	check(r.Window >= 1 && r.Window <= r.Epoch, "a window of %d ms in an epoch of %d", r.Window, r.Epoch)
	check(r.Grace < r.Epoch, "a grace of %d ms in an epoch of %d", r.Grace, r.Epoch)
	check(r.Rows >= 1 && r.Rows <= MaxRows, "%d rows, they are 1 to %d", r.Rows, MaxRows)
	check(r.Floor <= million, "a floor of %d millionths", r.Floor)
	check(r.Cap <= million, "a cap of %d millionths", r.Cap)
	var sizes uint32
	for i, s := range r.Sizes {
		check(s <= 32<<20, "probes of %d bytes, at most 32 MiB", s)
		check(s > 0 || r.SizeWeights[i] == 0, "probes of no size")
		sizes += uint32(r.SizeWeights[i])
	}
	check(sizes > 0, "no size has a weight")
	check(r.Mix[Reach] > 0, "the weight of reach is 0, it always applies")
	for _, t := range []Table{r.Fixed, r.Mobile} {
		check(t.Alarm <= 10_000 && t.Fail <= t.Alarm, "a failure adds %d and %d alarms", t.Fail, t.Alarm)
		check(t.LatencyTarget < t.LatencyMax && t.LatencyFail <= maxLatency,
			"latency of %d to %d µs, failed at %d", t.LatencyTarget, t.LatencyMax, t.LatencyFail)
	}
	check(r.Prior <= HistorySize, "a prior of %d checks, at most %d", r.Prior, HistorySize)
	check(r.Suspension <= 1<<20, "suspended for %d epochs", r.Suspension)
	return errors.Join(errs...)
}

// Slot returns how long the windows are that fill an epoch. The probes of a plan are
// uniform over the whole epoch: a provider may rest nowhere.
func (r *Rules) Slot() uint32 { return r.Epoch / r.slots() }

// Latest returns how long after the beginning of its window a probe may begin: a
// quarter of a window more, since programs wake up late, and what is planned for the
// window's last moment is not to be lost.
func (r *Rules) Latest() uint32 { return r.Slot() + r.Slot()/4 }

// slots returns how many windows an epoch has.
func (r *Rules) slots() uint32 { return r.Epoch / r.Window }

// Of returns the table of a class. What is of no class known is judged as fixed.
func (r *Rules) Of(c Class) *Table {
	if c == Mobile {
		return &r.Mobile
	}
	return &r.Fixed
}
