package sal

import (
	"encoding/binary"
	"errors"

	"github.com/quic-go/quic-go/quicvarint"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// Limits and sizes of the session messages.
const (
	// messageVersion is the first byte of every message of this package.
	messageVersion = 1
	// MaxExtension is the largest opaque extension of an open or an answer.
	MaxExtension = 4 << 10
	// maxMessageBody is the largest part after the fixed header.
	maxMessageBody = MaxExtension + 2*8

	openFixedSize   = 70
	answerFixedSize = 4
)

// Errors of the parsers.
var (
	errTruncated = errors.New("sal: message truncated")
	errVersion   = errors.New("sal: message of an unknown version")
	errTooLong   = errors.New("sal: message beyond a limit")
)

// openMessage asks for a session. It is the first thing on its stream, sent by
// the dialer; data may follow at once.
//
//	 0  version (1)
//	 1  protocol (1): 6 stream, 17 datagrams
//	 2  port (2, big endian)
//	 4  length of the body (2, big endian)
//	 6  service ID (32)
//	38  nonce (32)
//	70  body: capabilities (varint) ‖ extension length (varint) ‖ extension
//
// Rules for adding a field: append to the body and set a capability bit; bytes
// of the body after the last known field are ignored.
type openMessage struct {
	Protocol     record.Protocol
	Port         uint16
	Service      identity.ServiceID
	Nonce        [32]byte
	Capabilities uint64
	// Extension is opaque: it belongs to the meter.
	Extension []byte
}

func (m openMessage) bodyLen() int {
	return quicvarint.Len(m.Capabilities) + quicvarint.Len(uint64(len(m.Extension))) + len(m.Extension)
}

// Len returns the encoded length.
func (m openMessage) Len() int { return openFixedSize + m.bodyLen() }

// Append appends the encoded message to b.
func (m openMessage) Append(b []byte) []byte {
	b = append(b, messageVersion, byte(m.Protocol))
	b = binary.BigEndian.AppendUint16(b, m.Port)
	b = binary.BigEndian.AppendUint16(b, uint16(m.bodyLen()))
	b = append(b, m.Service[:]...)
	b = append(b, m.Nonce[:]...)
	b = quicvarint.Append(b, m.Capabilities)
	b = quicvarint.Append(b, uint64(len(m.Extension)))
	return append(b, m.Extension...)
}

// parseOpenHeader parses the fixed part and returns the length of the body.
func parseOpenHeader(b []byte) (m openMessage, body int, err error) {
	if len(b) < openFixedSize {
		return m, 0, errTruncated
	}
	if b[0] != messageVersion {
		return m, 0, errVersion
	}
	m.Protocol = record.Protocol(b[1])
	m.Port = binary.BigEndian.Uint16(b[2:])
	body = int(binary.BigEndian.Uint16(b[4:]))
	if body > maxMessageBody {
		return m, 0, errTooLong
	}
	copy(m.Service[:], b[6:])
	copy(m.Nonce[:], b[38:])
	return m, body, nil
}

// parseOpen parses a whole message and returns how many bytes it took. The
// extension aliases b.
func parseOpen(b []byte) (openMessage, int, error) {
	m, body, err := parseOpenHeader(b)
	if err != nil {
		return m, 0, err
	}
	if len(b) < openFixedSize+body {
		return m, 0, errTruncated
	}
	m.Capabilities, m.Extension, err = parseBody(b[openFixedSize : openFixedSize+body])
	return m, openFixedSize + body, err
}

// parseBody parses what the bodies of open and answer have in common.
func parseBody(b []byte) (capabilities uint64, extension []byte, err error) {
	capabilities, n, err := quicvarint.Parse(b)
	if err != nil {
		return 0, nil, errTruncated
	}
	b = b[n:]
	length, n, err := quicvarint.Parse(b)
	if err != nil {
		return 0, nil, errTruncated
	}
	b = b[n:]
	if length > MaxExtension {
		return 0, nil, errTooLong
	}
	if uint64(len(b)) < length {
		return 0, nil, errTruncated
	}
	if length == 0 {
		return capabilities, nil, nil
	}
	return capabilities, b[:length:length], nil
}
