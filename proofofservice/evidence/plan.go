package evidence

import (
	"cmp"
	"slices"
)

// Row is one planned visit.
type Row struct {
	// Provider is the number of the provider in the roster.
	Provider uint32
	Kind     Kind
	// Start in ms is when the window begins, from the beginning of the epoch; the
	// window is as long as Rules.Slot says. When in it the probe begins is the
	// inspector's secret.
	Start uint32
	// Size is how many bytes to transfer, for the kinds that do.
	Size uint32
	// Account and Carrier are the numbers of the account to pay from and of the node to
	// leave through, modulo how many the inspector has.
	Account, Carrier uint16
	// Leaf is the number of the block to ask for, modulo how many there are.
	Leaf uint64
}

// PlanOf returns the plan of the inspector with this output, in the order of time.
// Per row the stream is asked for, in this order: the provider (unless every
// provider is visited in turn), the window's start, the kind, the size, the
// account, the carrier, the leaf. Rows of one start keep the order drawn.
func PlanOf(r *Roster, output VRFOutput) []Row {
	s := newStream("scn/plan stream/v1", output)
	rows := make([]Row, r.rows)
	for i := range rows {
		provider := i % max(len(r.providers), 1)
		if r.visits == 0 {
			provider = s.pick(r.weights)
		}
		row := Row{
			Provider: uint32(provider),
			Start:    uint32(s.below(uint64(r.rules.slots()))) * r.rules.Slot(),
			Kind:     Kind(s.pick(r.kinds[r.providers[provider].Kinds|KindsOf(Reach)])),
			Size:     r.rules.Sizes[s.pick(r.sizes)],
			Account:  uint16(s.below(uint64(r.rules.Accounts))),
			Carrier:  uint16(s.below(uint64(r.rules.Carriers))),
			Leaf:     s.uint64(),
		}
		rows[i] = row
	}
	r.limit(rows)
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(a.Start, b.Start) })
	return rows
}

// limit makes transfers smaller where a provider would bear more than its share of
// probes allows.
func (r *Roster) limit(rows []Row) {
	for i := range rows {
		if bytes := r.load[rows[i].Provider]; bytes > r.rules.ProbeBytes {
			rows[i].Size = uint32(max(mulDiv(uint64(rows[i].Size), r.rules.ProbeBytes, bytes), 1))
		}
	}
}
