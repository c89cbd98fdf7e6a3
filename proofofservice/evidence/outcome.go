package evidence

import (
	"encoding/binary"
	"fmt"
)

// OutcomeSize is the length of an outcome's encoding.
const OutcomeSize = 16

// What no probe can have measured.
const (
	maxLatency = 60_000_000 // µs: no probe waits longer
	maxRate    = 1 << 27    // KiB/s: 1 Tbit/s
	slack      = 64         // KiB a probe carries besides what it was told to transfer
)

// Outcome is what an inspector says came of one planned row.
//
//	verdict u8 ‖ reason u8 ‖ KiB u16 ‖ latency u32 ‖ rate u32 ‖ gap u32
type Outcome struct {
	Verdict Verdict
	// Reason says why a row is void; it is zero in every other.
	Reason Reason
	// KiB is what the probe transferred, both ways, rounded up.
	KiB uint16
	// Latency in µs is that of the first answer; 0 if there was none.
	Latency uint32
	// Rate in KiB/s is that of a Throughput probe that passed.
	Rate uint32
	// Gap in ms is how long nothing came during a Mobility probe.
	Gap uint32
}

// Append appends the encoding.
func (o Outcome) Append(b []byte) []byte {
	b = append(b, byte(o.Verdict), byte(o.Reason))
	b = binary.BigEndian.AppendUint16(b, o.KiB)
	b = binary.BigEndian.AppendUint32(b, o.Latency)
	b = binary.BigEndian.AppendUint32(b, o.Rate)
	return binary.BigEndian.AppendUint32(b, o.Gap)
}

// ParseOutcome reads an encoding of OutcomeSize bytes. Whether the values are
// possible depends on the row: see Check.
func ParseOutcome(b []byte) (Outcome, error) {
	f := &fields{rest: b}
	o := f.outcome()
	return o, f.end("outcome")
}

func (f *fields) outcome() Outcome {
	o := Outcome{
		Verdict: Verdict(f.byte()), Reason: Reason(f.byte()), KiB: f.uint16(),
		Latency: f.uint32(), Rate: f.uint32(), Gap: f.uint32(),
	}
	f.require(o.Verdict < verdicts, "verdict %d", o.Verdict)
	f.require(o.Reason < reasons, "reason %d", o.Reason)
	return o
}

// Check refuses what no probe of this row can have seen. epoch is the length of an
// epoch in ms.
func (o Outcome) Check(row Row, epoch uint32) error {
	fault := func(format string, args ...any) error {
		return fmt.Errorf("%s row, %s: %w: %s", row.Kind, o.Verdict, ErrValue, fmt.Sprintf(format, args...))
	}
	measured := o.KiB != 0 || o.Latency != 0 || o.Rate != 0 || o.Gap != 0
	most := uint64(slack)
	if row.Kind == Throughput || row.Kind == Correctness || row.Kind == Price || row.Kind == Mobility {
		most += (uint64(row.Size) + 1023) / 1024 * 5 / 4 // a quarter more: framing and repeats
	}
	switch {
	case o.Verdict >= verdicts || o.Reason >= reasons:
		return fault("no such verdict or reason")
	case (o.Verdict == Void) != (o.Reason != NoReason):
		return fault("a reason belongs to a void row, and to it alone")
	case (o.Verdict == Omitted || o.Verdict == Void || o.Verdict == Absent) && measured:
		return fault("there is nothing to measure")
	case o.Verdict == Wrong && row.Kind != Correctness, o.Verdict == Overcharged && row.Kind != Price:
		return fault("not what this kind looks at")
	case o.Verdict > Absent && o.Latency == 0, o.Verdict == Pass && o.Latency == 0:
		return fault("an answer takes time")
	case o.Latency > maxLatency:
		return fault("latency of %d µs", o.Latency)
	case uint64(o.KiB) > most:
		return fault("%d KiB, of %d bytes planned", o.KiB, row.Size)
	case (o.Rate != 0) != (o.Verdict == Pass && row.Kind == Throughput) || o.Rate > maxRate:
		return fault("rate of %d KiB/s", o.Rate)
	case o.Verdict == Pass && row.Kind == Throughput && uint64(o.KiB)*1024 < uint64(row.Size):
		return fault("%d KiB, of %d bytes planned", o.KiB, row.Size)
	case o.Gap != 0 && row.Kind != Mobility || o.Gap > epoch:
		return fault("gap of %d ms", o.Gap)
	}
	return nil
}
