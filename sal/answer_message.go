package sal

import (
	"encoding/binary"
	"io"

	"github.com/quic-go/quic-go/quicvarint"
)

// answerMessage answers an openMessage. It is the first thing the provider sends
// on the stream; data follows if the status is an acceptance.
//
//	0  version (1)
//	1  status (1)
//	2  length of the body (2, big endian)
//	4  body: capabilities (varint) ‖ extension length (varint) ‖ extension
//
// Rules for adding a field: as for openMessage.
type answerMessage struct {
	Status       Status
	Capabilities uint64
	// Extension is opaque: it belongs to the meter.
	Extension []byte
}

func (m answerMessage) bodyLen() int {
	return quicvarint.Len(m.Capabilities) + quicvarint.Len(uint64(len(m.Extension))) + len(m.Extension)
}

// Len returns the encoded length.
func (m answerMessage) Len() int { return answerFixedSize + m.bodyLen() }

// Append appends the encoded message to b.
func (m answerMessage) Append(b []byte) []byte {
	b = append(b, messageVersion, byte(m.Status))
	b = binary.BigEndian.AppendUint16(b, uint16(m.bodyLen()))
	b = quicvarint.Append(b, m.Capabilities)
	b = quicvarint.Append(b, uint64(len(m.Extension)))
	return append(b, m.Extension...)
}

func parseAnswerHeader(b []byte) (m answerMessage, body int, err error) {
	if len(b) < answerFixedSize {
		return m, 0, errTruncated
	}
	if b[0] != messageVersion {
		return m, 0, errVersion
	}
	m.Status = Status(b[1])
	body = int(binary.BigEndian.Uint16(b[2:]))
	if body > maxMessageBody {
		return m, 0, errTooLong
	}
	return m, body, nil
}

// parseAnswer parses a whole message and returns how many bytes it took. The
// extension aliases b.
func parseAnswer(b []byte) (answerMessage, int, error) {
	m, body, err := parseAnswerHeader(b)
	if err != nil {
		return m, 0, err
	}
	if len(b) < answerFixedSize+body {
		return m, 0, errTruncated
	}
	m.Capabilities, m.Extension, err = parseBody(b[answerFixedSize : answerFixedSize+body])
	return m, answerFixedSize + body, err
}

// answerReader reads one answer from a stream. A deadline may interrupt it: the
// next call goes on where the last one stopped.
type answerReader struct {
	buf  []byte
	fill int
}

func (r *answerReader) read(s io.Reader) (answerMessage, error) {
	if r.buf == nil {
		r.buf = make([]byte, answerFixedSize, answerFixedSize+2)
	}
	for {
		for r.fill < len(r.buf) {
			n, err := s.Read(r.buf[r.fill:])
			r.fill += n
			if err != nil && r.fill < len(r.buf) {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return answerMessage{}, err
			}
		}
		_, body, err := parseAnswerHeader(r.buf)
		if err != nil {
			return answerMessage{}, err
		}
		if len(r.buf) == answerFixedSize+body {
			m, _, err := parseAnswer(r.buf)
			return m, err
		}
		r.buf = append(r.buf, make([]byte, body)...)
	}
}
