package cashier

import (
	"encoding/binary"
	"fmt"
	"slices"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// AdmitInspector makes the signer an inspector, from the next roster on. It needs a
// stake. Its key and its labels stay what they are until it was withdrawn and its last
// reports are paid.
type AdmitInspector struct {
	ID voucher.TransferID `cbor:"1,keyasint"`
	// Admission is the encoding of an evidence.Admission of the signer.
	Admission []byte `cbor:"2,keyasint"`
}

// WithdrawInspector takes the signer off the rosters to come. What it is planned for
// until then it still owes.
type WithdrawInspector struct {
	ID voucher.TransferID `cbor:"1,keyasint"`
}

// Kind implements Operation.
func (AdmitInspector) Kind() Kind { return KindAdmitInspector }

// Kind implements Operation.
func (WithdrawInspector) Kind() Kind { return KindWithdrawInspector }

func (o AdmitInspector) transferID() voucher.TransferID    { return o.ID }
func (o WithdrawInspector) transferID() voucher.TransferID { return o.ID }

func (o AdmitInspector) check(tx *Transaction) *Rejection {
	if r := checkIdentified(tx, o.ID); r != nil {
		return r
	}
	a, err := evidence.ParseAdmission(o.Admission)
	switch {
	case err != nil:
		return refuseEvidence(err)
	case a.Account != tx.Account:
		return reject(NotAllowed, "an admission is signed by its account")
	}
	return nil
}

func (o WithdrawInspector) check(tx *Transaction) *Rejection { return checkIdentified(tx, o.ID) }

// inspectorRow is an inspector: on the rosters of epochs from From to before To, or for
// ever if To is 0.
type inspectorRow struct {
	Admission []byte `cbor:"1,keyasint"`
	Slot      uint32 `cbor:"2,keyasint"`
	From      uint64 `cbor:"3,keyasint"`
	To        uint64 `cbor:"4,keyasint,omitzero"`
	// Conduct is the encoding of an evidence.Conduct.
	Conduct []byte `cbor:"5,keyasint"`

	account identity.AccountID // not in the row, but in its key
}

func (i *inspectorRow) covers(epoch uint64) bool {
	return i.From <= epoch && (i.To == 0 || epoch < i.To)
}

func inspectorKey(a identity.AccountID) []byte {
	return append([]byte{inspectorPrefix, 'i'}, a[:]...)
}

func inspectorSlotKey(slot uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{inspectorPrefix, 's'}, slot)
}

// inspector loads an inspector.
func (x *execution) inspector(a identity.AccountID) (row inspectorRow, ok bool) {
	ok = load(x, inspectorKey(a), &row)
	row.account = a
	return row, ok
}

func (x *execution) setInspector(row *inspectorRow) { x.write(inspectorKey(row.account), *row) }

// inspectorAt loads the inspector in a slot, which is taken.
func (x *execution) inspectorAt(slot uint32) (row inspectorRow, ok bool) {
	b := x.get(inspectorSlotKey(slot))
	if len(b) == identity.Size {
		row, ok = x.inspector(identity.AccountID(b))
	}
	if !ok {
		x.fail(fmt.Errorf("%w: no inspector in slot %d of %d", ErrCorrupt, slot, x.inspection.Inspectors))
	}
	return row, ok
}

// admission returns what was said of an inspector.
func (x *execution) admission(row *inspectorRow) evidence.Admission {
	a, err := evidence.ParseAdmission(row.Admission)
	if err != nil {
		x.fail(fmt.Errorf("%w: admission of %s: %w", ErrCorrupt, row.account, err))
	}
	return a
}

// conduct changes how an inspector behaved.
func (x *execution) conduct(row *inspectorRow, change func(*evidence.Conduct)) {
	c, err := evidence.ParseConduct(row.Conduct)
	if err != nil {
		x.fail(fmt.Errorf("%w: conduct of %s: %w", ErrCorrupt, row.account, err))
		return
	}
	change(&c)
	row.Conduct = c.Append(nil)
}

// bonded reports whether an inspector has staked what it takes.
func (x *execution) bonded(a identity.AccountID) bool {
	staked := x.stakeOf(stakeKey(a)).staked
	return staked > 0 && staked >= x.parameters.InspectorStake
}

func (o AdmitInspector) apply(x *execution, tx *Transaction) *Rejection {
	if r := x.startInspection(); r != nil || x.err != nil {
		return r
	}
	s := &x.inspection
	row, exists := x.inspector(tx.Account)
	switch {
	case !x.bonded(tx.Account):
		return &Rejection{Code: Unbonded, Account: tx.Account, Available: x.parameters.InspectorStake}
	case exists && (row.To != 0 || string(row.Admission) != string(o.Admission)):
		return reject(InspectorExists, "withdraw it, and admit it again when its last reports are paid")
	case exists:
		return nil
	case s.Inspectors >= x.parameters.maxInspectors():
		return reject(RosterFull, "at most %d inspectors", x.parameters.maxInspectors())
	}
	row = inspectorRow{
		Admission: o.Admission, Slot: s.Inspectors, From: s.Epoch + evidence.RosterLead,
		Conduct: evidence.Conduct{}.Append(nil), account: tx.Account,
	}
	x.state.set(inspectorSlotKey(row.Slot), tx.Account[:])
	x.setInspector(&row)
	s.Inspectors++
	return nil
}

func (o WithdrawInspector) apply(x *execution, tx *Transaction) *Rejection {
	row, exists := x.inspector(tx.Account)
	switch {
	case !exists:
		return &Rejection{Code: NotInspector, Account: tx.Account}
	case row.To != 0:
		return nil
	}
	row.To = max(x.inspection.Epoch+evidence.RosterLead, row.From)
	x.setInspector(&row)
	return nil
}

// dismiss forgets the inspectors whose last reports are paid.
func (x *execution) dismiss(closing uint64) int {
	s := &x.inspection
	steps := int(2 * s.Inspectors)
	for slot := uint32(0); slot < s.Inspectors && x.err == nil; {
		row, ok := x.inspectorAt(slot)
		if !ok {
			break
		}
		if row.To == 0 || row.To+keptEpochs >= closing {
			slot++
			continue
		}
		// The last one takes its slot.
		last, ok := x.inspectorAt(s.Inspectors - 1)
		if !ok {
			break
		}
		s.Inspectors--
		x.state.set(inspectorSlotKey(s.Inspectors), nil)
		if last.account != row.account {
			last.Slot = slot
			x.state.set(inspectorSlotKey(slot), last.account[:])
			x.setInspector(&last)
		}
		x.state.set(inspectorKey(row.account), nil)
	}
	x.operators = nil
	return steps
}

// operator is one label and what its inspectors have staked together.
type operator struct {
	label  evidence.Label
	weight uint64
}

// loadOperators returns the operators of all inspectors that have a say in an epoch, in
// order of their labels.
func (x *execution) loadOperators(epoch uint64) []operator {
	if x.operators != nil {
		return x.operators
	}
	var all []operator
	for slot := range x.inspection.Inspectors {
		row, ok := x.inspectorAt(slot)
		if !ok {
			break
		}
		if row.From <= epoch {
			staked := x.stakeOf(stakeKey(row.account)).staked
			all = append(all, operator{x.admission(&row).Operator, uint64(staked)})
		}
	}
	slices.SortFunc(all, func(a, b operator) int {
		if a.label != b.label {
			if a.label < b.label {
				return -1
			}
			return 1
		}
		return 0
	})
	merged := all[:0]
	for _, o := range all {
		if n := len(merged); n > 0 && merged[n-1].label == o.label {
			merged[n-1].weight += o.weight // no more than the stake account has
			continue
		}
		merged = append(merged, o)
	}
	x.operators = merged
	return merged
}

// refuseEvidence is the refusal of what package evidence found wrong.
func refuseEvidence(err error) *Rejection {
	for _, e := range evidenceCodes {
		if errorIs(err, e.err) {
			return reject(e.code, "%v", err)
		}
	}
	return reject(Malformed, "%v", err)
}
