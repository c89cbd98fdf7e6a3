package packet

import (
	"encoding/binary"
	"math/bits"
)

// sum adds b to the one's complement sum acc (RFC 1071), eight bytes at a time. An odd
// last byte counts as if a zero followed.
func sum(b []byte, acc uint64) uint64 {
	var carry uint64
	for len(b) >= 32 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[8:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[16:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[24:]), carry)
		b = b[32:]
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	acc, carry = bits.Add64(acc, 0, carry)
	acc += carry
	for len(b) >= 2 {
		acc, carry = bits.Add64(acc, uint64(binary.BigEndian.Uint16(b)), 0)
		acc += carry
		b = b[2:]
	}
	if len(b) == 1 {
		acc, carry = bits.Add64(acc, uint64(b[0])<<8, 0)
		acc += carry
	}
	return acc
}

// fold reduces a sum to 16 bits.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}

// Checksum returns the Internet checksum of b (RFC 1071).
func Checksum(b []byte) uint16 { return ^fold(sum(b, 0)) }

// pseudo returns the sum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1).
func pseudo(src, dst []byte, protocol uint8, length int) uint64 {
	acc := sum(src, uint64(protocol)+uint64(length))
	return sum(dst, acc)
}

// update applies a difference to a checksum field: HC' = ~(~HC + ~m + m') (RFC 1624
// equation 3), where delta is the folded sum of all ~m and m'.
func update(field []byte, delta uint16) {
	acc := uint32(^binary.BigEndian.Uint16(field)) + uint32(delta)
	acc = acc>>16 + acc&0xffff
	binary.BigEndian.PutUint16(field, ^uint16(acc>>16+acc&0xffff))
}

// difference returns the folded sum of ~m over was and m' over is; both have the same
// even length.
func difference(was, is []byte) uint16 {
	var acc uint64
	for i := 0; i < len(was); i += 2 {
		acc += uint64(^binary.BigEndian.Uint16(was[i:])) + uint64(binary.BigEndian.Uint16(is[i:]))
	}
	return fold(acc)
}
