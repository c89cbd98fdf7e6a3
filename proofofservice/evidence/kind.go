package evidence

import "strings"

// Kind is what a probe looks at. Append only.
type Kind uint8

// The kinds of probes.
const (
	// Reach opens a session and closes it.
	Reach Kind = iota
	// Latency opens a session and times answers.
	Latency
	// Throughput times a short verified transfer.
	Throughput
	// Correctness checks an answer against what the service's owner published.
	Correctness
	// Mobility stays while the provider moves and measures the gap.
	Mobility
	// Price pays as clients do and compares with the signed ask.
	Price
)

// Kinds is how many kinds there are.
const Kinds = 6

var kindNames = [Kinds]string{"reach", "latency", "throughput", "correctness", "mobility", "price"}

// String returns the kind's name.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// KindSet is a set of kinds: what applies to a service. Reach always applies.
type KindSet uint8

// AllKinds has every kind.
const AllKinds KindSet = 1<<Kinds - 1

// KindsOf returns the set of the kinds given.
func KindsOf(kinds ...Kind) (s KindSet) {
	for _, k := range kinds {
		s |= 1 << k
	}
	return s
}

// Has reports whether k is in the set.
func (s KindSet) Has(k Kind) bool { return s>>k&1 == 1 }

// String returns the names, with commas between them.
func (s KindSet) String() string {
	var names []string
	for k := range Kind(Kinds) {
		if s.Has(k) {
			names = append(names, k.String())
		}
	}
	return strings.Join(names, ",")
}

// Verdict is what came of one planned row. Append only.
type Verdict uint8

// The verdicts.
const (
	// Omitted means that the inspector did not do it.
	Omitted Verdict = iota
	// Void means that it tells nothing of the provider; the Reason says why.
	Void
	// Pass means that the provider did what was asked, and signed a receipt.
	Pass
	// Absent means no session, or no answer in time.
	Absent
	// Broken means a session that died and did not come back.
	Broken
	// Wrong means an answer that is not what the owner published.
	Wrong
	// Overcharged means a price above the signed ask.
	Overcharged
	verdicts
)

var verdictNames = [verdicts]string{"omitted", "void", "pass", "absent", "broken", "wrong", "overcharged"}

// String returns the verdict's name.
func (v Verdict) String() string {
	if v < verdicts {
		return verdictNames[v]
	}
	return "unknown"
}

// Failed reports whether the verdict speaks against the provider.
func (v Verdict) Failed() bool { return v > Pass && v < verdicts }

// Reason is why a row is void. Append only.
type Reason uint8

// The reasons.
const (
	// NoReason is that of every row that is not void.
	NoReason Reason = iota
	// Uplink: the control probe to known-good nodes failed too.
	Uplink
	// Boundary: the epoch's grace ended before the probe did.
	Boundary
	// Clock: the inspector's clock stepped during the probe.
	Clock
	// OwnMove: the inspector, or the node that carried the probe, moved during it.
	OwnMove
	// Carrier: no node would carry the probe.
	Carrier
	// Funds: there was nothing to pay with.
	Funds
	// Internal: the inspector's own program failed.
	Internal
	reasons
)

var reasonNames = [reasons]string{"", "uplink", "boundary", "clock", "own move", "carrier", "funds", "internal"}

// String returns the reason in words, "" for none.
func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Class says by which table a provider is judged.
type Class uint8

// The classes.
const (
	// Fixed providers stay where they are.
	Fixed Class = iota
	// Mobile providers move while they serve.
	Mobile
	classes
)

// String returns the class's name.
func (c Class) String() string {
	if c < classes {
		return [classes]string{"fixed", "mobile"}[c]
	}
	return "unknown"
}
