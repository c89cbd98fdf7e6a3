package message

import "encoding/binary"

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
