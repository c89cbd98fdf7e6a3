package evidence

import (
	"encoding/binary"
	"fmt"

	"scn.alt/scn/routing/identity"
)

// Challenge asks an inspector for the detail of one row.
//
//	version u8 ‖ epoch u64 ‖ inspector 32 ‖ row u16
type Challenge struct {
	Epoch     uint64
	Inspector identity.AccountID
	Row       uint16
}

// Append appends the encoding.
func (c Challenge) Append(b []byte) []byte {
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, c.Epoch)
	b = append(b, c.Inspector[:]...)
	return binary.BigEndian.AppendUint16(b, c.Row)
}

// ParseChallenge reads an encoding.
func ParseChallenge(b []byte) (Challenge, error) {
	f := open(b)
	c := Challenge{Epoch: f.uint64(), Inspector: f.hash(), Row: f.uint16()}
	f.require(c.Row < MaxRows, "row %d", c.Row)
	return c, f.end("challenge")
}

// Due reports whether a challenge in epoch now still counts, and until the end of
// which epoch it is to be answered: rows are challenged within Rules.Keep epochs
// after the one of their reveal, and answered within as many.
func (c Challenge) Due(rules *Rules, now uint64) (until uint64, ok bool) {
	keep := uint64(rules.Keep)
	return now + keep, now > c.Epoch && now-c.Epoch <= keep+1
}

// Drawn returns the rows of a report that everybody expects to be shown, without
// anybody having to ask: share in millionths of them, drawn by a later seed, so
// that who invents results cannot know which.
func Drawn(later Seed, inspector identity.AccountID, epoch uint64, rows int, share uint32) []uint16 {
	var output VRFOutput
	copy(output[:], later[:])
	copy(output[32:], inspector[:])
	s := newStream(fmt.Sprintf("scn/drawn/v1/%d", epoch), output)
	var drawn []uint16
	for i := range min(rows, MaxRows) {
		if s.below(million) < uint64(share) {
			drawn = append(drawn, uint16(i))
		}
	}
	return drawn
}

// Answer shows the detail of one row, and that it is under the root.
//
//	version u8 ‖ epoch u64 ‖ inspector 32 ‖ path length u8 ‖ path ‖ detail
type Answer struct {
	Epoch     uint64
	Inspector identity.AccountID
	Path      []Hash
	Detail    Detail
}

// MaxAnswer is the length of an answer's encoding at most.
const MaxAnswer = 1 + 8 + 32 + 1 + maxRowPath*32 + MaxDetail

const maxRowPath = 10 // MaxRows leaves

// AnswerTo returns the answer for row i of the details of a whole report.
func AnswerTo(epoch uint64, inspector identity.AccountID, details []Detail, i int) Answer {
	return Answer{Epoch: epoch, Inspector: inspector, Path: MerklePath(Leaves(details), i), Detail: details[i]}
}

// Leaves returns the leaves of the tree over details.
func Leaves(details []Detail) []Hash {
	leaves := make([]Hash, len(details))
	for i := range details {
		leaves[i] = details[i].Hash()
	}
	return leaves
}

// Append appends the encoding.
func (a *Answer) Append(b []byte) []byte {
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, a.Epoch)
	b = append(b, a.Inspector[:]...)
	b = append(b, byte(len(a.Path)))
	for _, h := range a.Path {
		b = append(b, h[:]...)
	}
	return a.Detail.Append(b)
}

// ParseAnswer reads an encoding. It does not verify.
func ParseAnswer(b []byte) (Answer, error) {
	f := open(b)
	a := Answer{Epoch: f.uint64(), Inspector: f.hash()}
	n := int(f.byte())
	f.limit(n, maxRowPath, "hashes of a path")
	if f.err == nil {
		for range n {
			a.Path = append(a.Path, f.hash())
		}
		v := f.byte()
		if f.err == nil && v != version {
			f.err = fmt.Errorf("%w: %d", ErrVersion, v)
		}
		a.Detail = f.detail()
	}
	if err := f.end("answer"); err != nil {
		return Answer{}, err
	}
	return a, nil
}

// Verify checks an answer against the report it is part of: the detail lies under
// the root, at its row, and bears the outcome out.
func (a *Answer) Verify(e *Frame, r *Report, began uint64) error {
	if a.Epoch != r.Reveal.Epoch || a.Inspector != r.Inspector {
		return fmt.Errorf("%w: of another report", ErrDetail)
	}
	if !Included(r.Reveal.Root, uint64(len(r.Rows)), uint64(a.Detail.Row), a.Detail.Hash(), a.Path) {
		return fmt.Errorf("%w: row %d is not under the root", ErrDetail, a.Detail.Row)
	}
	return a.Detail.Check(e, r, began)
}
