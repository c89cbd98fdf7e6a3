package evidence

import (
	"math"
	"math/bits"
)

// mulDiv returns ⌊a·b/c⌋ without losing the upper half of the product, and the
// largest number where the result does not fit or c is 0.
func mulDiv(a, b, c uint64) uint64 {
	high, low := bits.Mul64(a, b)
	if high >= c {
		return math.MaxUint64
	}
	q, _ := bits.Div64(high, low, c)
	return q
}

// isqrt returns ⌊√x⌋.
func isqrt(x uint64) uint64 {
	if x == 0 {
		return 0
	}
	// Newton from above: the first guess is a power of two that is not too small.
	root := uint64(1) << ((bits.Len64(x) + 1) / 2)
	for {
		next := (root + x/root) / 2
		if next >= root {
			return root
		}
		root = next
	}
}
