package evidence

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Errors of the decoders.
var (
	// ErrLength is returned for bytes that are fewer or more than the encoding has.
	ErrLength = errors.New("evidence: wrong length")
	// ErrTrailing is returned for bytes behind the end. It is an ErrLength as well.
	ErrTrailing = fmt.Errorf("%w, with bytes after the end", ErrLength)
	// ErrVersion is returned for an encoding of another version.
	ErrVersion = errors.New("evidence: encoding of another version")
	// ErrSize is returned for more rows, bytes or entries than there may be.
	ErrSize = errors.New("evidence: too large")
	// ErrValue is returned for a field that can have no such value.
	ErrValue = errors.New("evidence: value out of range")
)

// version is the first byte of every encoding.
const version = 1

// fields reads an encoding. The first fault stays; what is read after it is zero.
type fields struct {
	rest []byte
	err  error
}

func open(b []byte) *fields {
	f := &fields{rest: b}
	if v := f.byte(); f.err == nil && v != version {
		f.err = fmt.Errorf("%w: %d", ErrVersion, v)
	}
	return f
}

// take returns the next n bytes, or as many zeros beside an error.
func (f *fields) take(n int) []byte {
	if f.err == nil && len(f.rest) < n {
		f.err = fmt.Errorf("%w: %d bytes missing", ErrLength, n-len(f.rest))
	}
	if f.err != nil {
		return make([]byte, n)
	}
	b := f.rest[:n:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) byte() byte       { return f.take(1)[0] }
func (f *fields) uint16() uint16   { return binary.BigEndian.Uint16(f.take(2)) }
func (f *fields) uint32() uint32   { return binary.BigEndian.Uint32(f.take(4)) }
func (f *fields) uint64() uint64   { return binary.BigEndian.Uint64(f.take(8)) }
func (f *fields) hash() [32]byte   { return [32]byte(f.take(32)) }
func (f *fields) copyTo(to []byte) { copy(to, f.take(len(to))) }

// flag reads a truth value.
func (f *fields) flag() bool {
	b := f.byte()
	f.require(b <= 1, "a flag is 0 or 1, not %d", b)
	return b == 1
}

// require notes a fault of value.
func (f *fields) require(ok bool, format string, args ...any) {
	if f.err == nil && !ok {
		f.err = fmt.Errorf("%w: "+format, append([]any{ErrValue}, args...)...)
	}
}

// limit notes a count that is too large, before anybody allocates for it.
func (f *fields) limit(n, most int, what string) {
	if f.err == nil && n > most {
		f.err = fmt.Errorf("%w: %d %s, at most %d", ErrSize, n, what, most)
	}
}

// end returns the first fault, or that bytes are left over.
func (f *fields) end(what string) error {
	if f.err == nil && len(f.rest) > 0 {
		f.err = fmt.Errorf("%w: %d", ErrTrailing, len(f.rest))
	}
	if f.err != nil {
		return fmt.Errorf("%s: %w", what, f.err)
	}
	return nil
}

func appendFlag(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}
