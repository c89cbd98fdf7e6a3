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
	"slices"
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

// Error is an extended DNS error (RFC 8914).
type Error struct {
	Code uint16
	Text string
}

// AppendReply appends a reply without records: the query's header and question,
// the response code, and an OPT record if the query had one, with the error if
// its text is not empty.
func AppendReply(b []byte, query []byte, q Query, flags uint16, rcode int, ede Error) []byte {
	start := len(b)
	flags |= FlagResponse | FlagRecursionAvailable |
		q.Flags&(FlagRecursionDesired|FlagCheckingDisabled|opcodeMask) | uint16(rcode)&rcodeMask
	b = binary.BigEndian.AppendUint16(b, q.ID)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = append(b, make([]byte, 8)...)
	if q.End > 0 {
		b[start+5] = 1
		b = append(b, query[HeaderSize:q.End]...)
	}
	if q.EDNS {
		b[start+11] = 1
		b = appendOPT(b, rcode, q.DO, ede, nil)
	}
	return b
}

func appendOPT(b []byte, rcode int, do bool, ede Error, options []byte) []byte {
	flags := uint32(rcode>>4) << 24
	if do {
		flags |= flagDO
	}
	b = append(b, 0, 0, typeOPT)
	b = binary.BigEndian.AppendUint16(b, UDPSize)
	b = binary.BigEndian.AppendUint32(b, flags)
	length := len(b)
	b = append(b, 0, 0)
	if ede.Text != "" || ede.Code != 0 {
		text := ede.Text[:min(len(ede.Text), 200)]
		b = binary.BigEndian.AppendUint16(b, optionEDE)
		b = binary.BigEndian.AppendUint16(b, uint16(2+len(text)))
		b = binary.BigEndian.AppendUint16(b, ede.Code)
		b = append(b, text...)
	}
	b = append(b, options...)
	binary.BigEndian.PutUint16(b[length:], uint16(len(b)-length-2))
	return b
}

// AppendAnswer appends a prepared response without OPT record, made for the same
// question in any case, as the answer to the query: ID, flags and the case of the
// name become the query's. A response longer than limit is truncated to the
// question (RFC 2181 §9).
func AppendAnswer(b, prepared, query []byte, q Query, ede Error, limit int) []byte {
	size := len(prepared)
	if q.EDNS {
		size += optHeader
		if ede.Text != "" || ede.Code != 0 {
			size += 6 + min(len(ede.Text), 200)
		}
	}
	flags := binary.BigEndian.Uint16(prepared[2:])
	if size > limit {
		return AppendReply(b, query, q, flags&^(rcodeMask|FlagRecursionDesired|FlagCheckingDisabled)|FlagTruncated, int(flags&rcodeMask), Error{})
	}
	start := len(b)
	b = append(b, prepared...)
	binary.BigEndian.PutUint16(b[start:], q.ID)
	flags &^= FlagRecursionDesired | FlagCheckingDisabled
	flags |= q.Flags & (FlagRecursionDesired | FlagCheckingDisabled)
	binary.BigEndian.PutUint16(b[start+2:], flags)
	copy(b[start+HeaderSize:start+q.End], query[HeaderSize:q.End])
	if q.EDNS {
		additional := binary.BigEndian.Uint16(b[start+10:])
		binary.BigEndian.PutUint16(b[start+10:], additional+1)
		b = appendOPT(b, int(flags&rcodeMask), q.DO, ede, nil)
	}
	return b
}

// Forwarded is a response of another server made ready for a client: without its
// OPT record, whose extended code and errors are kept apart.
type Forwarded struct {
	// Message is the response without OPT record.
	Message []byte
	// Rcode is the whole response code, extended bits included.
	Rcode int
	// Errors are the extended errors as raw options.
	Errors []byte
	// Truncated says that the server cut the response.
	Truncated bool
}

// ParseResponse checks that b is the response to the question (name in the exact
// case, type, class) with the ID, and takes its OPT record out. caseDiffers says
// that everything fits but the case of the name.
func ParseResponse(b []byte, id uint16, name []byte, typ, class uint16) (f Forwarded, caseDiffers bool, err error) {
	if len(b) < HeaderSize {
		return f, false, ErrShort
	}
	flags := binary.BigEndian.Uint16(b[2:])
	if binary.BigEndian.Uint16(b) != id || flags&FlagResponse == 0 || flags&opcodeMask != 0 {
		return f, false, ErrFormat
	}
	f.Rcode = int(flags & rcodeMask)
	f.Truncated = flags&FlagTruncated != 0
	if binary.BigEndian.Uint16(b[4:]) != 1 {
		return f, false, ErrFormat
	}
	end, err := questionName(b)
	if err != nil || len(b) < end+4 {
		return f, false, ErrFormat
	}
	if binary.BigEndian.Uint16(b[end:]) != typ || binary.BigEndian.Uint16(b[end+2:]) != class {
		return f, false, ErrFormat
	}
	if got := b[HeaderSize:end]; !slices.Equal(got, name) {
		if !EqualNames(got, name) {
			return f, false, ErrFormat
		}
		caseDiffers = true
	}
	o, err := findOPT(b, end+4)
	if err != nil && f.Truncated {
		// Some servers cut in the middle of a record; the question is all that counts.
		f.Message = slices.Clone(b[:end+4])
		clear(f.Message[6:12])
		return f, caseDiffers, nil
	}
	if err != nil {
		return f, false, err
	}
	if o.end == 0 {
		f.Message = b[:o.last]
		return f, caseDiffers, nil
	}
	f.Rcode |= int(o.flags>>24) << 4
	f.Errors = errorOptions(o.options)
	// Records behind the OPT move up. Names there that point behind it would be
	// wrong, so a message with any is passed without them: they can only be TSIG
	// or SIG(0), which are hop by hop as well.
	f.Message = slices.Clone(b[:o.start])
	additional := countRecords(b, end+4, o.start)
	binary.BigEndian.PutUint16(f.Message[10:], uint16(additional))
	return f, caseDiffers, nil
}

// countRecords returns the number of additional records before the offset, in a
// message findOPT has accepted.
func countRecords(b []byte, off, before int) int {
	n := 0
	for off < before {
		off, _ = skipName(b, off)
		off += 10 + int(binary.BigEndian.Uint16(b[off+8:]))
		n++
	}
	return n - int(binary.BigEndian.Uint16(b[6:])) - int(binary.BigEndian.Uint16(b[8:]))
}

// errorOptions returns the extended errors among OPT options, at most 512 bytes.
func errorOptions(options []byte) []byte {
	var out []byte
	for len(options) >= 4 {
		end := 4 + int(binary.BigEndian.Uint16(options[2:]))
		if end > len(options) {
			break
		}
		if binary.BigEndian.Uint16(options) == optionEDE && end >= 6 && len(out)+end <= 512 {
			out = append(out, options[:end]...)
		}
		options = options[end:]
	}
	return out
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

// AppendTo appends the response as the answer to the client's query.
func (f Forwarded) AppendTo(b, query []byte, q Query) []byte {
	start := len(b)
	b = append(b, f.Message...)
	binary.BigEndian.PutUint16(b[start:], q.ID)
	flags := binary.BigEndian.Uint16(b[start+2:])
	flags = flags&^(rcodeMask|FlagTruncated|FlagAuthoritative) | FlagRecursionAvailable
	flags = flags&^FlagRecursionDesired | q.Flags&FlagRecursionDesired
	rcode := f.Rcode
	if rcode > rcodeMask && !q.EDNS {
		rcode = ServerFailure
	}
	if f.Truncated {
		flags |= FlagTruncated
	}
	binary.BigEndian.PutUint16(b[start+2:], flags|uint16(rcode&rcodeMask))
	copy(b[start+HeaderSize:start+q.End], query[HeaderSize:q.End])
	recase(b[start:], q)
	if q.EDNS {
		additional := binary.BigEndian.Uint16(b[start+10:])
		binary.BigEndian.PutUint16(b[start+10:], additional+1)
		b = appendOPT(b, rcode, q.DO, Error{}, f.Errors)
	}
	return b
}

// recase gives records of the question's name its case, where a server wrote the
// name out instead of pointing at the question.
func recase(b []byte, q Query) {
	records := int(binary.BigEndian.Uint16(b[6:])) + int(binary.BigEndian.Uint16(b[8:])) + int(binary.BigEndian.Uint16(b[10:]))
	for off := q.End; records > 0; records-- {
		fixed, err := skipName(b, off)
		if err != nil || len(b) < fixed+10 {
			return
		}
		if owner := b[off:fixed]; EqualNames(owner, q.Name) {
			copy(owner, q.Name)
		}
		off = fixed + 10 + int(binary.BigEndian.Uint16(b[fixed+8:]))
	}
}

// Truncate cuts a whole response to the question and its OPT record when it is
// longer than limit.
func Truncate(b []byte, query []byte, q Query, limit int) []byte {
	if len(b) <= limit {
		return b
	}
	flags := binary.BigEndian.Uint16(b[2:])
	return AppendReply(nil, query, q, flags&(FlagAuthoritative|FlagAuthenticData)|FlagTruncated, int(flags&rcodeMask), Error{})
}

// AppendQuery appends a query for the name in the case given, with an OPT record:
// flags are the client's RD, AD and CD.
func AppendQuery(b []byte, id, flags uint16, name []byte, typ, class uint16, do bool) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, flags&(FlagRecursionDesired|FlagAuthenticData|FlagCheckingDisabled))
	b = append(b, make([]byte, 8)...)
	b[start+5], b[start+11] = 1, 1
	b = append(b, name...)
	b = binary.BigEndian.AppendUint16(b, typ)
	b = binary.BigEndian.AppendUint16(b, class)
	return appendOPT(b, 0, do, Error{}, nil)
}
