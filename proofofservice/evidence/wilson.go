package evidence

import "math/bits"

// Confidence is a number of standard deviations, in hundredths.
type Confidence uint16

// The confidences in use.
const (
	// TwoSided95 is that of published scores.
	TwoSided95 Confidence = 196
	// Certain is that of what is held against somebody.
	Certain Confidence = 400
)

// maxSample is how many checks an interval is computed from at most; a share of
// more is that of as many.
const maxSample = 1 << 16

// WilsonLower returns the lower bound, in millionths and rounded down, of the rate
// of which successes in n checks are a sample (Wilson 1927). It is 0 for no check
// at all, so that small samples do not boast.
func WilsonLower(successes, n uint32, z Confidence) uint32 {
	low, _ := wilson(successes, n, z)
	return low
}

// WilsonUpper returns the upper bound, rounded up; a million for no check at all.
func WilsonUpper(successes, n uint32, z Confidence) uint32 {
	_, high := wilson(successes, n, z)
	return high
}

// wilson computes (2s + z² ∓ z·√(4s(n−s)/n + z²)) / 2(n + z²).
func wilson(successes, n uint32, z Confidence) (low, high uint32) {
	if n == 0 {
		return 0, million
	}
	successes, z = min(successes, n), min(z, 1000)
	if n > maxSample {
		successes = uint32(uint64(successes) * maxSample / uint64(n))
		n = maxSample
	}
	s, count := uint64(successes), uint64(n)
	z2 := uint64(z) * uint64(z) // 10⁴ times z²
	// 10¹² times z²·4s(n−s)/n + z⁴. The product has up to 79 bits and the quotient by n
	// up to 63, as s(n−s)/n is at most n/4.
	p1, p0 := bits.Mul64(s*(count-s), z2*400_000_000)
	q, _ := bits.Div64(p1, p0, count)
	radicand := q + z2*z2*10_000
	root := isqrt(radicand)
	if root*root < radicand {
		root++ // the wider interval
	}
	middle := 2*s*million + z2*100 // 10⁶ times 2s + z²
	under := 2 * (count*million + z2*100)
	if middle > root {
		low = uint32((middle - root) * million / under)
	}
	high = uint32(min((middle+root)*million/under+1, million))
	return low, high
}
