// Package message looks at DNS messages in their wire form: the question, the OPT
// record, and what a reply needs, without decoding records and without
// allocating.
//
// Layout (RFC 1035 §4.1, RFC 6891 §6.1):
//
//	ID 16 | QR OPCODE AA TC RD RA Z AD CD RCODE 16 | QD AN NS AR counts 4×16 | question | records
//
// It reads the header, exactly one question (RFC 9619) and the OPT record; all
// other records are stepped over. Names in a question are never compressed here:
// a pointer there has nothing to point at.
//
// It does no I/O and keeps no state.
package message

import (
	"encoding/binary"
	"errors"
)

// HeaderSize is the length of a DNS header in bytes.
const HeaderSize = 12

// MaxSize is the length of the longest DNS message.
const MaxSize = 65535

// UDPSize is the largest UDP message we send or ask for: what fits IPv6's minimum
// MTU, so nothing is fragmented (DNS flag day 2020).
const UDPSize = 1232

// MinUDPSize is the largest UDP message of clients without EDNS (RFC 1035 §4.2.1).
const MinUDPSize = 512

// Header flags, in the second 16 bits of a message.
const (
	FlagResponse           = 1 << 15
	FlagAuthoritative      = 1 << 10
	FlagTruncated          = 1 << 9
	FlagRecursionDesired   = 1 << 8
	FlagRecursionAvailable = 1 << 7
	FlagAuthenticData      = 1 << 5
	FlagCheckingDisabled   = 1 << 4

	opcodeShift = 11
	opcodeMask  = 0xF << opcodeShift
	rcodeMask   = 0xF
)

// Response codes used here (RFC 1035 §4.1.1, RFC 6891 §9).
const (
	Success        = 0
	FormatError    = 1
	ServerFailure  = 2
	NameError      = 3
	NotImplemented = 4
	Refused        = 5
	BadVersion     = 16
)

const (
	typeOPT   = 41
	optionEDE = 15
	flagDO    = 1 << 15
	// optHeader is the length of an OPT record without options: root name, type,
	// size, extended flags, option length.
	optHeader = 11
)

// Errors of Parse. The Query that comes with ErrFormat is good enough to refuse.
var (
	// ErrShort is returned for what has no header: it deserves no answer.
	ErrShort = errors.New("message: shorter than a header")
	// ErrResponse is returned for a response where a query was expected: it
	// deserves no answer.
	ErrResponse = errors.New("message: a response")
	// ErrFormat is returned for a malformed message.
	ErrFormat = errors.New("message: malformed")
)

// Query is what a query asks. Name aliases the message.
type Query struct {
	ID    uint16
	Flags uint16
	// Name is the question's name in wire form, its case as it came.
	Name []byte
	// Type and Class are the question's.
	Type, Class uint16
	// End is the offset behind the question, 0 when there is none.
	End int
	// EDNS says that the query has an OPT record; the fields below are its.
	EDNS    bool
	DO      bool
	Version uint8
	// Size is the largest UDP response the client takes, between 512 and UDPSize.
	Size int
}

// Opcode returns the kind of query; 0 is a standard one.
func (q Query) Opcode() int { return int(q.Flags&opcodeMask) >> opcodeShift }

// Parse reads a query. With ErrFormat the ID and flags are valid, and Name is when
// End is not 0.
func Parse(b []byte) (Query, error) {
	q := Query{Size: MinUDPSize}
	if len(b) < HeaderSize {
		return q, ErrShort
	}
	q.ID = binary.BigEndian.Uint16(b)
	q.Flags = binary.BigEndian.Uint16(b[2:])
	if q.Flags&FlagResponse != 0 {
		return q, ErrResponse
	}
	if binary.BigEndian.Uint16(b[4:]) != 1 {
		return q, ErrFormat
	}
	end, err := questionName(b)
	if err != nil || len(b) < end+4 {
		return q, ErrFormat
	}
	q.Name = b[HeaderSize:end]
	q.Type = binary.BigEndian.Uint16(b[end:])
	q.Class = binary.BigEndian.Uint16(b[end+2:])
	q.End = end + 4
	o, err := findOPT(b, q.End)
	if err != nil {
		return q, err
	}
	if o.end > 0 {
		q.EDNS = true
		q.Size = min(max(int(o.size), MinUDPSize), UDPSize)
		q.Version = uint8(o.flags >> 16)
		q.DO = o.flags&flagDO != 0
	}
	return q, nil
}

// questionName returns the offset behind the uncompressed name after the header.
func questionName(b []byte) (int, error) {
	off := HeaderSize
	for {
		if off >= len(b) {
			return 0, ErrFormat
		}
		n := int(b[off])
		off++
		if n == 0 {
			break
		}
		if n > 63 { // a pointer or a label type nobody uses
			return 0, ErrFormat
		}
		off += n
		if off-HeaderSize > 254 { // 255 with the root label (RFC 1035 §3.1)
			return 0, ErrFormat
		}
	}
	return off, nil
}

// skipName returns the offset behind a possibly compressed name.
func skipName(b []byte, off int) (int, error) {
	for start := off; off < len(b) && off-start <= 255; {
		n := int(b[off])
		switch {
		case n == 0:
			return off + 1, nil
		case n >= 0xC0:
			if off+2 > len(b) {
				return 0, ErrFormat
			}
			return off + 2, nil
		case n > 63:
			return 0, ErrFormat
		}
		off += 1 + n
	}
	return 0, ErrFormat
}

// opt is an OPT record's place and content; end is 0 when there is none.
type opt struct {
	start, end int
	last       int // offset behind the last record of the message
	size       uint16
	flags      uint32 // extended rcode, version, flags (RFC 6891 §6.1.3)
	options    []byte
}

// findOPT steps over all records from off and returns the only OPT record. Two of
// them, or records cut short, are ErrFormat. Bytes behind the last record are
// ignored, as others do.
func findOPT(b []byte, off int) (opt, error) {
	var found opt
	answers := int(binary.BigEndian.Uint16(b[6:])) + int(binary.BigEndian.Uint16(b[8:]))
	total := answers + int(binary.BigEndian.Uint16(b[10:]))
	for i := range total {
		fixed, err := skipName(b, off)
		if err != nil || len(b) < fixed+10 {
			return opt{}, ErrFormat
		}
		end := fixed + 10 + int(binary.BigEndian.Uint16(b[fixed+8:]))
		if end > len(b) {
			return opt{}, ErrFormat
		}
		if binary.BigEndian.Uint16(b[fixed:]) == typeOPT {
			if i < answers || fixed != off+1 || found.end > 0 {
				return opt{}, ErrFormat
			}
			found = opt{
				start: off, end: end,
				size:    binary.BigEndian.Uint16(b[fixed+2:]),
				flags:   binary.BigEndian.Uint32(b[fixed+4:]),
				options: b[fixed+10 : end],
			}
		}
		off = end
	}
	found.last = off
	return found, nil
}

// AppendLower appends the wire name with ASCII letters in lower case. Length bytes
// are below 64 and so never mistaken for letters.
func AppendLower(b, name []byte) []byte {
	start := len(b)
	b = append(b, name...)
	for i, c := range b[start:] {
		if 'A' <= c && c <= 'Z' {
			b[start+i] = c + 'a' - 'A'
		}
	}
	return b
}

// EqualNames compares two wire names without regard to ASCII case.
func EqualNames(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if 'A' <= x && x <= 'Z' {
			x += 'a' - 'A'
		}
		if 'A' <= y && y <= 'Z' {
			y += 'a' - 'A'
		}
		if x != y {
			return false
		}
	}
	return true
}
