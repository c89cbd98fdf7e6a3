package relay

import "encoding/binary"

// Sieve marks tokens when they are made, so that nearly everything that was not made
// with it can be dropped without looking it up, by a program as simple as the kernel
// runs on each packet of a socket. It keeps a flood of strangers away from those who
// are registered; it decides nothing else: one guess in 65,536 passes, and whoever
// has seen enough tokens may learn to make more. Only Table knows which are good.
type Sieve struct{ keys [4]uint32 }

// NewSieve makes a sieve from a key, which must be unpredictable.
func NewSieve(key [16]byte) Sieve {
	var s Sieve
	for i := range s.keys {
		s.keys[i] = binary.BigEndian.Uint32(key[4*i:]) | 1
	}
	return s
}

// Keys returns the numbers Tag computes with, for a program that does the same.
func (s Sieve) Keys() [4]uint32 { return s.keys }

// Mark writes the tag over the last two bytes of a token.
func (s Sieve) Mark(t Token) Token {
	binary.BigEndian.PutUint16(t[5:], s.tag(t))
	return t
}

// Passes reports whether a token bears the tag.
func (s Sieve) Passes(t Token) bool { return binary.BigEndian.Uint16(t[5:]) == s.tag(t) }

// tag mixes the first five bytes: multiply and fold, three times.
func (s Sieve) tag(t Token) uint16 {
	x := (binary.BigEndian.Uint32(t[:]) ^ s.keys[0]) * s.keys[1]
	x ^= x >> 15
	x = (x + uint32(t[4])) * s.keys[2]
	x ^= x >> 13
	return uint16(x * s.keys[3] >> 16)
}
