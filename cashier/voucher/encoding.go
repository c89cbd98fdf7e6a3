package voucher

import (
	"encoding/binary"
	"errors"
	"fmt"

	"scn.alt/scn/routing/identity"
)

// Errors of the decoders of Ask, Grant, Voucher and Receipt.
var (
	// ErrLength is returned for bytes that are fewer or more than the encoding has.
	ErrLength = errors.New("voucher: wrong length")
	// ErrTrailing is returned for bytes behind the end. It is an ErrLength as well.
	ErrTrailing = fmt.Errorf("%w, with bytes after the end", ErrLength)
	// ErrVersion is returned for an encoding of another version.
	ErrVersion = errors.New("voucher: encoding of another version")
	// ErrValue is returned for a field that can have no such value.
	ErrValue = errors.New("voucher: value out of range")
)

// version is the first byte of every encoding.
const version = 1

// Signature is an Ed25519 signature.
type Signature [identity.SignatureSize]byte

// fields reads an encoding whose length was checked.
type fields struct{ rest []byte }

// open checks length and version and begins to read.
func open(b []byte, size int) (fields, error) {
	switch {
	case len(b) > size:
		return fields{}, fmt.Errorf("%w: %d bytes, want %d", ErrTrailing, len(b), size)
	case len(b) < size:
		return fields{}, fmt.Errorf("%w: %d bytes, want %d", ErrLength, len(b), size)
	case b[0] != version:
		return fields{}, fmt.Errorf("%w: %d", ErrVersion, b[0])
	}
	return fields{b[1:]}, nil
}

func (f *fields) key() (k [32]byte) {
	f.rest = f.rest[copy(k[:], f.rest):]
	return k
}

func (f *fields) signature() (s Signature) {
	f.rest = f.rest[copy(s[:], f.rest):]
	return s
}

func (f *fields) uint32() uint32 {
	v := binary.BigEndian.Uint32(f.rest)
	f.rest = f.rest[4:]
	return v
}

func (f *fields) uint64() uint64 {
	v := binary.BigEndian.Uint64(f.rest)
	f.rest = f.rest[8:]
	return v
}

func (f *fields) byte() byte {
	v := f.rest[0]
	f.rest = f.rest[1:]
	return v
}

// appendUint64s appends numbers.
func appendUint64s(b []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}
