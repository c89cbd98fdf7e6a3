package voucher

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
)

// Credit is one credit in micro-credits.
const Credit Amount = 1_000_000

// MaxAmount is the largest amount.
const MaxAmount Amount = math.MaxUint64

// maxAmountText is how long the text of an amount is at most: 14 digits, a point,
// six places.
const maxAmountText = 21

// Errors of ParseAmount and ParseTransferID, which wrap them with the text.
var (
	// ErrSyntax is returned for a text that is no decimal number.
	ErrSyntax = errors.New("voucher: an amount is written like 1.5, with digits and at most one point")
	// ErrNegative is returned for an amount below zero.
	ErrNegative = errors.New("voucher: an amount is never negative")
	// ErrPlaces is returned for more than six places.
	ErrPlaces = errors.New("voucher: an amount has at most six places")
	// ErrRange is returned for an amount that does not fit 64 bits.
	ErrRange = errors.New("voucher: amount too large")
	// ErrID is returned for a text that is no transfer ID.
	ErrID = errors.New("voucher: a transfer ID is 32 hexadecimal digits")
)

// Amount is a number of micro-credits.
type Amount uint64

// ParseAmount reads an amount in credits: digits, and after a point one to six
// more. Signs, exponents, spaces, separators and needless leading zeros are
// errors: a slip of the finger must not become a payment.
func ParseAmount(s string) (Amount, error) {
	fail := func(err error) (Amount, error) {
		if len(s) > maxAmountText {
			s = s[:maxAmountText] + "…"
		}
		return 0, fmt.Errorf("%q: %w", s, err)
	}
	if len(s) > 1 && s[0] == '-' {
		return fail(ErrNegative)
	}
	var whole, places, digits uint64
	point := -1
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '.' && point < 0 && digits > 0:
			point = i
			continue
		case c < '0' || c > '9':
			return fail(ErrSyntax)
		case point >= 0:
			if places++; places > 6 {
				return fail(ErrPlaces)
			}
		case digits == 1 && whole == 0:
			return fail(ErrSyntax) // a leading zero
		}
		digits++
		high, low := bits.Mul64(whole, 10)
		sum, carry := bits.Add64(low, uint64(c-'0'), 0)
		if high != 0 || carry != 0 {
			return fail(ErrRange)
		}
		whole = sum
	}
	if digits == 0 || point >= 0 && places == 0 {
		return fail(ErrSyntax)
	}
	for ; places < 6; places++ {
		high, low := bits.Mul64(whole, 10)
		if high != 0 {
			return fail(ErrRange)
		}
		whole = low
	}
	return Amount(whole), nil
}

// Add returns a+b, and false if that does not fit.
func (a Amount) Add(b Amount) (Amount, bool) {
	sum, carry := bits.Add64(uint64(a), uint64(b), 0)
	return Amount(sum), carry == 0
}

// Sub returns a-b, and false if that is negative.
func (a Amount) Sub(b Amount) (Amount, bool) {
	return a - b, a >= b
}

// String returns the amount in credits, without needless places.
func (a Amount) String() string {
	b, _ := a.AppendText(make([]byte, 0, maxAmountText))
	return string(b)
}

// AppendText implements encoding.TextAppender.
func (a Amount) AppendText(b []byte) ([]byte, error) {
	b = strconv.AppendUint(b, uint64(a/Credit), 10)
	rest := a % Credit
	if rest == 0 {
		return b, nil
	}
	b = append(b, '.')
	for unit := Credit / 10; rest > 0; unit /= 10 {
		b = append(b, byte('0'+rest/unit))
		rest %= unit
	}
	return b, nil
}

// MarshalText implements encoding.TextMarshaler.
func (a Amount) MarshalText() ([]byte, error) { return a.AppendText(nil) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Amount) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAmount(string(b))
	return err
}
