package evidence

import "encoding/binary"

// Fault is what an inspector was found out in. The values are bits.
type Fault uint8

// The faults.
const (
	// Omits: it leaves out planned rows, or does not reveal.
	Omits Fault = 1 << iota
	// Invents: it says it saw what it cannot have seen, or cannot show for it.
	Invents
	// Dissents: what its operator sees of a provider contradicts what all others see.
	Dissents
)

// conductTable is by what inspectors are judged: as strictly as fixed providers.
var conductTable = Table{Fail: 11, Alarm: 50}

// Conduct is how an inspector does its work. The zero value has done none.
//
//	version u8 ‖ faults u8 ‖ omission u16 ‖ invention u16 ‖ until u64 ‖
//	planned u64 ‖ done u64
type Conduct struct {
	// Faults are those found in it that were not yet punished.
	Faults Fault
	// Omission and Invention are CUSUMs.
	Omission, Invention uint16
	// Until is the first epoch in which it may be paid again.
	Until uint64
	// Planned and Done count rows.
	Planned, Done uint64
}

// Row takes in whether a planned row was done, void or not. Whole epochs without a
// report are as many rows that were not.
func (c *Conduct) Row(done bool) {
	c.Planned++
	if done {
		c.Done++
	}
	c.step(&c.Omission, Omits, !done)
}

// Shown takes in whether a challenged row was served and borne out.
func (c *Conduct) Shown(ok bool) { c.step(&c.Invention, Invents, !ok) }

// Canary takes in what it said of a provider of which the truth is known. One that
// is dead and found alive convicts at once: no accident looks like that.
func (c *Conduct) Canary(alive bool, o Outcome) {
	switch {
	case o.Verdict == Omitted || o.Verdict == Void:
	case !alive && o.Verdict == Pass:
		c.Faults |= Invents
	case alive:
		c.step(&c.Invention, Invents, o.Verdict == Absent || o.Verdict == Wrong)
	}
}

// Dissent notes that its operator was found to contradict all others.
func (c *Conduct) Dissent() { c.Faults |= Dissents }

// Punish stops its pay for a number of epochs if there is a fault, forgets the
// fault, and reports whether there was one. What it says is not weighed less: that
// is what the median is for.
func (c *Conduct) Punish(epoch, epochs uint64) bool {
	if c.Faults == 0 {
		return false
	}
	c.Faults, c.Until = 0, epoch+epochs
	return true
}

func (c *Conduct) step(sum *uint16, fault Fault, failed bool) {
	switch {
	case !failed && *sum > 0:
		*sum--
	case failed && *sum+conductTable.Fail >= conductTable.Alarm:
		c.Faults |= fault
		*sum = 0
	case failed:
		*sum += conductTable.Fail
	}
}

// Append appends the encoding.
func (c Conduct) Append(b []byte) []byte {
	b = append(b, version, byte(c.Faults))
	b = binary.BigEndian.AppendUint16(b, c.Omission)
	b = binary.BigEndian.AppendUint16(b, c.Invention)
	for _, v := range []uint64{c.Until, c.Planned, c.Done} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

// ParseConduct reads an encoding.
func ParseConduct(b []byte) (Conduct, error) {
	f := open(b)
	c := Conduct{
		Faults: Fault(f.byte()), Omission: f.uint16(), Invention: f.uint16(),
		Until: f.uint64(), Planned: f.uint64(), Done: f.uint64(),
	}
	f.require(c.Faults <= Omits|Invents|Dissents, "faults %#x", byte(c.Faults))
	f.require(c.Omission < conductTable.Alarm && c.Invention < conductTable.Alarm, "a sum above its limit")
	f.require(c.Done <= c.Planned, "%d rows done of %d", c.Done, c.Planned)
	return c, f.end("conduct")
}

// Contradicts reports whether an operator's view of a provider cannot be the same
// provider the others see: the interval its failure rate lies in with certainty is
// wholly above, or wholly below, that of the others' median. The others' views are
// weighed as in Judge; there are at least Rules.Operators of them.
func Contradicts(rules *Rules, class Class, own *View, others []Opinion, epoch uint64) bool {
	if !own.Settled(rules, class, epoch) {
		return false
	}
	var weights []uint64
	var fractions []weighted
	var sample uint64
	for _, o := range others {
		if v := o.View; v.Settled(rules, class, epoch) {
			weights = append(weights, o.Weight)
			fractions = append(fractions, weighted{value: uint32(uint64(v.Failures()) * million / uint64(v.Sample()))})
			sample += uint64(v.Sample())
		}
	}
	if len(weights) < int(rules.Operators) {
		return false
	}
	CapWeights(weights, rules.Cap)
	for i, w := range weights {
		fractions[i].weight = w
	}
	n := uint32(min(sample/uint64(len(weights)), HistorySize)) // the median is one operator's
	failures := uint32((uint64(weightedMedian(fractions))*uint64(n) + million/2) / million)
	low, high := wilson(failures, n, Certain)
	ownLow, ownHigh := wilson(own.Failures(), own.Sample(), Certain)
	return ownLow > high || ownHigh < low
}
