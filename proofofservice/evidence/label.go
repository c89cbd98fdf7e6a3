package evidence

import (
	"errors"
	"fmt"

	"scn.alt/scn/routing/identity"
)

// MaxLabel is the length of a label in bytes at most.
const MaxLabel = 32

// ErrLabel is returned for a text that is no label.
var ErrLabel = errors.New("evidence: a label has 1 to 32 of a-z, 0-9, dash and dot")

// Label is the operator, or the network, an inspector belongs to, as its admission
// says. Two inspectors are independent when both their labels differ: a state
// machine cannot see addresses.
type Label string

// ParseLabel reads a label.
func ParseLabel(s string) (Label, error) {
	if len(s) == 0 || len(s) > MaxLabel {
		return "", fmt.Errorf("%w, this has %d", ErrLabel, len(s))
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return "", fmt.Errorf("%q: %w", s, ErrLabel)
		}
	}
	return Label(s), nil
}

// Admission is what is said of an inspector when it is admitted.
//
//	version u8 ‖ account 32 ‖ key 32 ‖ length u8 ‖ operator ‖ length u8 ‖ network
type Admission struct {
	Account  identity.AccountID
	Key      VRFKey
	Operator Label
	Network  Label
}

// Validate reports every fault.
func (a Admission) Validate() error {
	var errs []error
	for _, l := range []Label{a.Operator, a.Network} {
		if _, err := ParseLabel(string(l)); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, a.Key.Validate())...)
}

// Independent reports whether a and b may confirm one another.
func (a Admission) Independent(b Admission) bool {
	return a.Operator != b.Operator && a.Network != b.Network
}

// Append appends the encoding.
func (a Admission) Append(b []byte) []byte {
	b = append(b, version)
	b = append(b, a.Account[:]...)
	b = append(b, a.Key[:]...)
	for _, l := range []Label{a.Operator, a.Network} {
		b = append(append(b, byte(len(l))), l...)
	}
	return b
}

// ParseAdmission reads an encoding and validates it.
func ParseAdmission(b []byte) (Admission, error) {
	f := open(b)
	a := Admission{Account: f.hash(), Key: f.hash()}
	for _, l := range []*Label{&a.Operator, &a.Network} {
		n := int(f.byte())
		f.limit(n, MaxLabel, "bytes of a label")
		if f.err == nil {
			*l = Label(f.take(n))
		}
	}
	if err := f.end("admission"); err != nil {
		return Admission{}, err
	}
	if err := a.Validate(); err != nil {
		return Admission{}, fmt.Errorf("admission: %w", err)
	}
	return a, nil
}
