package sal

import (
	"encoding/binary"

	"github.com/quic-go/quic-go/quicvarint"

	"scn.alt/scn/routing/identity"
)

// FlowID names a session of one connection: the ID of its stream.
type FlowID uint64

// The kinds of QUIC datagrams (RFC 9221), in the first byte. Append only.
const (
	kindWhole = 0 // one datagram of a flow
	kindPart  = 1 // a part of one datagram of a flow
	kindFrame = 2 // an opaque frame of the meter of a session
	kindPing  = 3
	kindPong  = 4
	kindMeter = 5 // an opaque frame from one node's meter to the other's
)

// datagramMessage is the head of one QUIC datagram.
//
//	kindWhole  kind (1) ‖ flow (varint) ‖ payload
//	kindPart   kind (1) ‖ flow (varint) ‖ number (varint) ‖ index (1) ‖ count (1) ‖ payload
//	kindFrame  kind (1) ‖ flow (varint) ‖ payload
//	kindPing   kind (1) ‖ token (8) ‖ service ID (32)
//	kindPong   kind (1) ‖ token (8) ‖ status (1)
//	kindMeter  kind (1) ‖ payload
//
// Ping and pong have exactly this length. Rules for adding a kind: append; an
// unknown kind is dropped and counted.
type datagramMessage struct {
	Kind    byte
	Flow    FlowID
	Number  uint64
	Index   uint8
	Count   uint8
	Token   uint64
	Service identity.ServiceID
	Status  Status
	// Payload aliases the datagram.
	Payload []byte
}

// Len returns the encoded length.
func (m *datagramMessage) Len() int {
	switch m.Kind {
	case kindPart:
		return 1 + quicvarint.Len(uint64(m.Flow)) + quicvarint.Len(m.Number) + 2 + len(m.Payload)
	case kindPing:
		return 1 + 8 + identity.Size
	case kindPong:
		return 1 + 8 + 1
	case kindMeter:
		return 1 + len(m.Payload)
	}
	return 1 + quicvarint.Len(uint64(m.Flow)) + len(m.Payload)
}

// Append appends the encoded message to b.
func (m *datagramMessage) Append(b []byte) []byte {
	b = append(b, m.Kind)
	switch m.Kind {
	case kindPing:
		b = binary.BigEndian.AppendUint64(b, m.Token)
		return append(b, m.Service[:]...)
	case kindPong:
		b = binary.BigEndian.AppendUint64(b, m.Token)
		return append(b, byte(m.Status))
	case kindMeter:
		return append(b, m.Payload...)
	case kindPart:
		b = quicvarint.Append(b, uint64(m.Flow))
		b = quicvarint.Append(b, m.Number)
		b = append(b, m.Index, m.Count)
	default:
		b = quicvarint.Append(b, uint64(m.Flow))
	}
	return append(b, m.Payload...)
}

// parse reads b into m. It allocates nothing.
func (m *datagramMessage) parse(b []byte) error {
	if len(b) == 0 {
		return errTruncated
	}
	*m = datagramMessage{Kind: b[0]}
	b = b[1:]
	switch m.Kind {
	case kindWhole, kindPart, kindFrame:
		flow, n, err := quicvarint.Parse(b)
		if err != nil {
			return errTruncated
		}
		m.Flow, b = FlowID(flow), b[n:]
		if m.Kind == kindPart {
			number, n, err := quicvarint.Parse(b)
			if err != nil || len(b) < n+2 {
				return errTruncated
			}
			m.Number, m.Index, m.Count = number, b[n], b[n+1]
			if m.Count < 2 || m.Index >= m.Count {
				return errTooLong
			}
			b = b[n+2:]
		}
		m.Payload = b
		return nil
	case kindPing:
		if len(b) != 8+identity.Size {
			return errTruncated
		}
		m.Token = binary.BigEndian.Uint64(b)
		copy(m.Service[:], b[8:])
		return nil
	case kindPong:
		if len(b) != 8+1 {
			return errTruncated
		}
		m.Token, m.Status = binary.BigEndian.Uint64(b), Status(b[8])
		return nil
	case kindMeter:
		m.Payload = b
		return nil
	}
	return errVersion
}
