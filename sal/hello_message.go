package sal

import (
	"encoding/binary"

	"github.com/quic-go/quic-go/quicvarint"
)

const helloFixedSize = 28

// capabilityRelay, in a hello, says that the node is a relay.
const capabilityRelay = 1 << 0

// helloMessage is the first thing each side says on its control stream, a
// unidirectional stream opened as soon as the connection stands.
//
//	 0  version (1)
//	 1  reserved (1), 0
//	 2  length of the body (2, big endian)
//	 4  instance (16): drawn at random when the process starts
//	20  time (8, big endian): Unix time in nanoseconds at the sender
//	28  body: capabilities (varint) ‖ extension length (varint) ‖ extension
//
// Rules for adding a field: as for openMessage.
type helloMessage struct {
	// Instance tells a restarted peer from the one we knew.
	Instance [16]byte
	// Time is the sender's clock, in Unix nanoseconds.
	Time         int64
	Capabilities uint64
	Extension    []byte
}

func (m helloMessage) bodyLen() int {
	return quicvarint.Len(m.Capabilities) + quicvarint.Len(uint64(len(m.Extension))) + len(m.Extension)
}

// Len returns the encoded length.
func (m helloMessage) Len() int { return helloFixedSize + m.bodyLen() }

// Append appends the encoded message to b.
func (m helloMessage) Append(b []byte) []byte {
	b = append(b, messageVersion, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(m.bodyLen()))
	b = append(b, m.Instance[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Time))
	b = quicvarint.Append(b, m.Capabilities)
	b = quicvarint.Append(b, uint64(len(m.Extension)))
	return append(b, m.Extension...)
}

func parseHelloHeader(b []byte) (m helloMessage, body int, err error) {
	if len(b) < helloFixedSize {
		return m, 0, errTruncated
	}
	if b[0] != messageVersion {
		return m, 0, errVersion
	}
	body = int(binary.BigEndian.Uint16(b[2:]))
	if body > maxMessageBody {
		return m, 0, errTooLong
	}
	copy(m.Instance[:], b[4:])
	m.Time = int64(binary.BigEndian.Uint64(b[20:]))
	return m, body, nil
}

// parseHello parses a whole message and returns how many bytes it took. The
// extension aliases b.
func parseHello(b []byte) (helloMessage, int, error) {
	m, body, err := parseHelloHeader(b)
	if err != nil {
		return m, 0, err
	}
	if len(b) < helloFixedSize+body {
		return m, 0, errTruncated
	}
	m.Capabilities, m.Extension, err = parseBody(b[helloFixedSize : helloFixedSize+body])
	return m, helloFixedSize + body, err
}
