package message

import (
	"encoding/binary"
	"slices"
)

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
