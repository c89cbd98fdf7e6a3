package voucher

import (
	"fmt"
	"math/bits"
)

// GiB is 2^30 bytes.
const GiB = 1 << 30

// hour is an hour in milliseconds.
const hour = 3_600_000

// Price is what a service costs by bytes and by time. The zero value is free.
type Price struct {
	PerGiB  Amount `cbor:"1,keyasint,omitzero"`
	PerHour Amount `cbor:"2,keyasint,omitzero"`
}

// IsZero reports whether the service is free.
func (p Price) IsZero() bool { return p == Price{} }

// Cost returns what so many bytes and milliseconds cost together, and false if that
// does not fit. It takes sums over a channel's whole life and is rounded up once, to
// a micro-credit: paying in many small steps costs no more than paying once, and more
// bytes or time never cost less.
//
// It is exactly ⌈bytes·PerGiB / 2^30 + milliseconds·PerHour / 3600000⌉.
func (p Price) Cost(bytes, milliseconds uint64) (Amount, bool) {
	// The whole parts of both quotients, and what remains over the common
	// denominator 2^30 · 28125, where 3600000 = 2^7 · 28125.
	const odd = hour >> 7
	high, low := bits.Mul64(bytes, uint64(p.PerGiB))
	if high >= GiB {
		return 0, false
	}
	byBytes, restBytes := bits.Div64(high, low, GiB)
	high, low = bits.Mul64(milliseconds, uint64(p.PerHour))
	if high >= hour {
		return 0, false
	}
	byTime, restTime := bits.Div64(high, low, hour)
	// Each rest is below its denominator, so both terms are below 2^45.
	rest := restBytes*odd + restTime<<23
	sum, carry := bits.Add64(byBytes, byTime, 0)
	sum, carry2 := bits.Add64(sum, (rest+GiB*odd-1)/(GiB*odd), 0)
	return Amount(sum), carry+carry2 == 0
}

// String returns the price in words, like "0.5 per GiB, 1 per hour".
func (p Price) String() string {
	switch {
	case p.IsZero():
		return "free"
	case p.PerHour == 0:
		return fmt.Sprintf("%s per GiB", p.PerGiB)
	case p.PerGiB == 0:
		return fmt.Sprintf("%s per hour", p.PerHour)
	}
	return fmt.Sprintf("%s per GiB, %s per hour", p.PerGiB, p.PerHour)
}
