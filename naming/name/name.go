// Package name says what a valid overlay name is, and holds the name record: the
// owner's registration under the authority's signature.
//
// A name is one DNS label of 3 to 40 letters, digits and hyphens, without a
// hyphen at either end and without "xn--" (no internationalised names yet). It is
// compared in lower case. Names of 56 base32 characters do not exist, so an ID
// and a name are never confused.
//
// The package does no I/O, has no clock and starts no goroutine.
package name

import (
	"errors"
	"fmt"
	"strings"
)

// Lengths of a name in characters.
const (
	MinLength = 3
	MaxLength = 40
)

// ErrInvalid is wrapped by every error of Parse.
var ErrInvalid = errors.New("invalid name")

// Name is a valid name in lower case. The zero value is no name.
type Name string

// Parse checks s, in either case and without the zone, and returns it in lower
// case. The error says which rule is broken.
func Parse(s string) (Name, error) {
	fail := func(why string) (Name, error) {
		if len(s) > 64 {
			s = s[:64] + "…"
		}
		return "", fmt.Errorf("%w %q: %s", ErrInvalid, s, why)
	}
	if len(s) < MinLength || len(s) > MaxLength {
		return fail(fmt.Sprintf("a name has %d to %d characters", MinLength, MaxLength))
	}
	// Lowered by hand: Unicode's lower case of the Kelvin sign is a plain k.
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
			b[i] = c
		}
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fail("only letters, digits and hyphens")
		}
	}
	lower := string(b)
	if lower[0] == '-' || lower[len(lower)-1] == '-' {
		return fail("no hyphen at the start or end")
	}
	if strings.HasPrefix(lower, "xn--") {
		return fail("internationalised names (xn--) are not supported yet")
	}
	return Name(lower), nil
}

// String returns the name.
func (n Name) String() string { return string(n) }

// AppendText implements encoding.TextAppender.
func (n Name) AppendText(b []byte) ([]byte, error) { return append(b, n...), nil }

// MarshalText implements encoding.TextMarshaler.
func (n Name) MarshalText() ([]byte, error) { return []byte(n), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Name) UnmarshalText(b []byte) (err error) {
	*n, err = Parse(string(b))
	return err
}
