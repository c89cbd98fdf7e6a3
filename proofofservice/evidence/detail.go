package evidence

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"scn.alt/scn/cashier/voucher"
)

// Errors of answers to challenges.
var (
	// ErrDetail is returned for a detail that is not the one under the root, or does
	// not fit its row.
	ErrDetail = errors.New("evidence: the detail does not bear the row out")
	// ErrReceipt is returned where the provider's signed receipt is missing, or is not
	// over this probe.
	ErrReceipt = errors.New("evidence: no receipt of the provider's for this probe")
)

// RowKey is the secret of one row: until it is shown, nobody can tell which session
// the row's probe was.
type RowKey [32]byte

// NonceOf returns the nonce of the probe of row i: the session is opened with it,
// so the provider signs a receipt over it. It contains the epoch's output, so that
// no receipt serves for another row, epoch or inspector.
func NonceOf(output VRFOutput, i int, key RowKey) [32]byte {
	h := sha256.New()
	b := append([]byte(nil), "scn/probe nonce/v1"...)
	b = append(b, output[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(i))
	h.Write(append(b, key[:]...))
	return [32]byte(h.Sum(nil))
}

// DelayOf returns when in its window, in ms, the probe of a row begins.
func DelayOf(key RowKey, window uint32) uint32 {
	h := sha256.Sum256(append([]byte("scn/probe delay/v1"), key[:]...))
	return uint32(mulDiv(binary.BigEndian.Uint64(h[:])>>1, uint64(window), 1<<63))
}

// Detail is what is kept off the ledger of one row, and shown when it is
// challenged.
//
//	version u8 ‖ row u16 ‖ key 32 ‖ start u64 ‖ end u64 ‖ has receipt u8 ‖ receipt
type Detail struct {
	Row uint16
	Key RowKey
	// Start and End are when the probe ran, in ms since 1970. Both are 0 in a row that
	// was omitted.
	Start, End uint64
	// Receipt is the provider's newest, and HasReceipt whether there is any.
	Receipt    voucher.Receipt
	HasReceipt bool
}

const detailHead = 1 + 2 + 32 + 8 + 8 + 1

// MaxDetail is the length of a detail's encoding at most.
const MaxDetail = detailHead + voucher.ReceiptSize

// Append appends the encoding.
func (d *Detail) Append(b []byte) []byte {
	b = append(b, version)
	b = binary.BigEndian.AppendUint16(b, d.Row)
	b = append(b, d.Key[:]...)
	b = binary.BigEndian.AppendUint64(b, d.Start)
	b = binary.BigEndian.AppendUint64(b, d.End)
	b = appendFlag(b, d.HasReceipt)
	if d.HasReceipt {
		b = d.Receipt.Append(b)
	}
	return b
}

// Hash returns the detail's leaf.
func (d *Detail) Hash() Hash { return LeafHash(d.Append(nil)) }

// ParseDetail reads an encoding. It does not verify.
func ParseDetail(b []byte) (Detail, error) {
	f := open(b)
	d := f.detail()
	if err := f.end("detail"); err != nil {
		return Detail{}, err
	}
	return d, nil
}

// detail reads the fields behind the version.
func (f *fields) detail() Detail {
	d := Detail{Row: f.uint16(), Key: f.hash(), Start: f.uint64(), End: f.uint64(), HasReceipt: f.flag()}
	if f.err == nil && d.HasReceipt {
		d.Receipt, f.err = voucher.ParseReceipt(f.take(voucher.ReceiptSize))
	}
	return d
}

// Check reports whether the detail bears out what its row says. began is when the
// epoch began, in ms since 1970. A row that passed, or whose session was open, needs
// the provider's receipt over the row's nonce; one that failed needs none.
func (d *Detail) Check(e *Frame, r *Report, began uint64) error {
	i := int(d.Row)
	if i >= len(r.Rows) {
		return fmt.Errorf("%w: row %d", ErrUnplanned, i)
	}
	row, outcome := r.Rows[i], r.Reveal.Outcomes[i]
	rules := &e.Roster.rules
	if outcome.Verdict == Omitted || outcome.Verdict == Void {
		return nil // it claims nothing
	}
	earliest := began + uint64(row.Start)
	if d.Start < earliest || d.Start-earliest > uint64(rules.Latest()) {
		return fmt.Errorf("%w: row %d began at %d, its window at %d", ErrDetail, i, d.Start, earliest)
	}
	if d.End < d.Start || d.End-began > uint64(rules.Epoch)+uint64(rules.Grace) {
		return fmt.Errorf("%w: row %d ended at %d", ErrDetail, i, d.End)
	}
	if outcome.Verdict == Absent || outcome.Verdict == Broken {
		return nil
	}
	if !d.HasReceipt {
		return fmt.Errorf("%w: row %d has none", ErrReceipt, i)
	}
	p := e.Roster.At(int(row.Provider))
	switch {
	case d.Receipt.Node != p.Node || d.Receipt.Service != p.Service:
		return fmt.Errorf("%w: row %d: of another provider", ErrReceipt, i)
	case d.Receipt.Nonce != NonceOf(r.Output, i, d.Key):
		return fmt.Errorf("%w: row %d: of another session", ErrReceipt, i)
	case row.Kind == Throughput && outcome.Verdict == Pass && d.Receipt.Sent+d.Receipt.Received < uint64(row.Size):
		return fmt.Errorf("%w: row %d: of %d bytes", ErrReceipt, i, d.Receipt.Sent+d.Receipt.Received)
	case !d.Receipt.Verify(e.Network):
		return fmt.Errorf("%w: row %d: badly signed", ErrReceipt, i)
	}
	return nil
}
