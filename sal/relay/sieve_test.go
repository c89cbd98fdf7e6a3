package relay

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

func TestSieve(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	token := func() (t Token) {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], random.Uint64())
		copy(t[:], b[:])
		return t
	}
	one, other := NewSieve([16]byte{1, 2, 3, 9: 7}), NewSieve([16]byte{1, 2, 3, 9: 8})
	const n = 200_000
	strangers, others := 0, 0
	for range n {
		made := one.Mark(token())
		if !one.Passes(made) {
			t.Fatalf("%x does not pass", [7]byte(made))
		}
		if other.Passes(made) {
			others++
		}
		if one.Passes(token()) {
			strangers++
		}
		// Whatever bit is changed, the tag changes, but for chance.
		changed := made
		changed[random.IntN(5)] ^= 1 << random.IntN(8)
		if one.Passes(changed) {
			strangers++
		}
	}
	// Chance is 3 in 65,536 times 200,000.
	if strangers > 30 || others > 30 {
		t.Errorf("%d of %d guesses pass, %d of another sieve", strangers, 2*n, others)
	}
}
