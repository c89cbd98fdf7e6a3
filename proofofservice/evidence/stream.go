package evidence

import (
	"crypto/sha3"
	"encoding/binary"
	"math/bits"
	"sort"
)

// stream expands one VRF output into as many numbers as a plan needs (SHAKE256,
// FIPS 202). The order in which a plan draws them is part of the format.
type stream struct {
	shake *sha3.SHAKE
	block [136]byte // the rate of SHAKE256
	used  int
}

func newStream(domain string, output VRFOutput) *stream {
	s := &stream{shake: sha3.NewSHAKE256()}
	s.used = len(s.block)
	_, _ = s.shake.Write(append([]byte{byte(len(domain))}, domain...)) // never fails
	_, _ = s.shake.Write(output[:])
	return s
}

func (s *stream) uint64() uint64 {
	if s.used == len(s.block) {
		_, _ = s.shake.Read(s.block[:]) // never fails
		s.used = 0
	}
	v := binary.BigEndian.Uint64(s.block[s.used:])
	s.used += 8
	return v
}

// below returns a number from 0 to n−1, each equally likely (Lemire 2019). n is
// above 0.
func (s *stream) below(n uint64) uint64 {
	high, low := bits.Mul64(s.uint64(), n)
	if low < n {
		for least := -n % n; low < least; {
			high, low = bits.Mul64(s.uint64(), n)
		}
	}
	return high
}

// pick returns an index, by weights whose running sums are given; the last sum is
// above 0.
func (s *stream) pick(sums []uint64) int {
	x := s.below(sums[len(sums)-1])
	return sort.Search(len(sums), func(i int) bool { return sums[i] > x })
}

// sums returns the running sums of weights.
func sums(weights []uint16) []uint64 {
	out := make([]uint64, len(weights))
	var sum uint64
	for i, w := range weights {
		sum += uint64(w)
		out[i] = sum
	}
	return out
}
