package evidence

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"scn.alt/scn/routing/identity"
)

// MaxReveal is the length of a reveal's encoding at most.
const MaxReveal = revealHead + MaxRows*OutcomeSize

const revealHead = 1 + 8 + 80 + 32 + 32 + 2

// Errors of reports.
var (
	// ErrCommit is returned for a reveal that is not what was committed to.
	ErrCommit = errors.New("evidence: not what was committed to")
	// ErrUnplanned is returned for another number of rows than planned, or a row that
	// no plan has.
	ErrUnplanned = errors.New("evidence: not planned")
)

// Commit binds an inspector to its report before anybody shows one.
type Commit [sha256.Size]byte

// String returns the commit in hexadecimal.
func (c Commit) String() string { return hex.EncodeToString(c[:]) }

// Reveal is a report: one outcome per planned row, in the plan's order.
//
//	version u8 ‖ epoch u64 ‖ proof 80 ‖ salt 32 ‖ root 32 ‖ count u16 ‖ count · outcome 16
type Reveal struct {
	Epoch uint64
	// Proof shows the output the plan is made from.
	Proof VRFProof
	// Salt keeps the commit from being guessed.
	Salt [32]byte
	// Root is that of the Merkle tree over the details, one leaf per row.
	Root     Hash
	Outcomes []Outcome
}

// CommitOf returns the commit of an inspector to a reveal on a network.
func CommitOf(network identity.NetworkID, inspector identity.AccountID, r *Reveal) Commit {
	h := sha256.New()
	h.Write(input("scn/commit/v1", network, r.Epoch, inspector[:]))
	h.Write(r.Append(nil))
	return Commit(h.Sum(nil))
}

// Append appends the encoding.
func (r *Reveal) Append(b []byte) []byte {
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, r.Epoch)
	b = append(b, r.Proof[:]...)
	b = append(b, r.Salt[:]...)
	b = append(b, r.Root[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Outcomes)))
	for _, o := range r.Outcomes {
		b = o.Append(b)
	}
	return b
}

// ParseReveal reads an encoding. It does not verify.
func ParseReveal(b []byte) (Reveal, error) {
	f := open(b)
	r := Reveal{Epoch: f.uint64()}
	f.copyTo(r.Proof[:])
	r.Salt, r.Root = f.hash(), f.hash()
	n := int(f.uint16())
	f.limit(n, MaxRows, "rows")
	if f.err == nil && len(f.rest) < n*OutcomeSize {
		f.take(n * OutcomeSize) // notes what is missing, before anything is allocated
	}
	if f.err == nil {
		r.Outcomes = make([]Outcome, n)
		for i := range r.Outcomes {
			r.Outcomes[i] = f.outcome()
		}
	}
	if err := f.end("reveal"); err != nil {
		return Reveal{}, err
	}
	return r, nil
}

// Frame is what the reports of one epoch are verified against: all of it is on the
// ledger.
type Frame struct {
	Network identity.NetworkID
	Epoch   uint64
	Seed    Seed
	Roster  *Roster
}

// Report is a reveal that was verified, with the plan it answers.
type Report struct {
	Inspector identity.AccountID
	Output    VRFOutput
	Rows      []Row
	Reveal    Reveal
}

// Verify checks a reveal of an inspector against what it committed to, and against
// its plan: the proof, the number of rows, and that every outcome is possible.
func (e *Frame) Verify(inspector identity.AccountID, key VRFKey, commit Commit, r *Reveal) (*Report, error) {
	if r.Epoch != e.Epoch {
		return nil, fmt.Errorf("%w: a report on epoch %d, not %d", ErrUnplanned, r.Epoch, e.Epoch)
	}
	if len(r.Outcomes) != e.Roster.Rows() {
		return nil, fmt.Errorf("%w: %d rows, the plan has %d", ErrUnplanned, len(r.Outcomes), e.Roster.Rows())
	}
	if CommitOf(e.Network, inspector, r) != commit {
		return nil, ErrCommit
	}
	output, err := key.Verify(PlanInput(e.Network, e.Epoch, e.Seed), r.Proof)
	if err != nil {
		return nil, err
	}
	rows := PlanOf(e.Roster, output)
	for i, o := range r.Outcomes {
		if err := o.Check(rows[i], e.Roster.rules.Epoch); err != nil {
			return nil, fmt.Errorf("row %d: %w", i, err)
		}
	}
	return &Report{Inspector: inspector, Output: output, Rows: rows, Reveal: *r}, nil
}

// Plan proves and makes the plan of the inspector whose secret key is given.
func (e *Frame) Plan(secret identity.PrivateKey) (VRFOutput, VRFProof, []Row) {
	output, proof := ProveVRF(secret, PlanInput(e.Network, e.Epoch, e.Seed))
	return output, proof, PlanOf(e.Roster, output)
}
