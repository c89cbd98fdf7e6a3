package underlay

import (
	"crypto/rand"
	"encoding/binary"
	"hash/maphash"

	"github.com/quic-go/quic-go"
)

// connectionIDLen is the length of every connection ID made here: 40 random bits
// and 24 bits that show that this process made it.
const connectionIDLen = 8

// connectionIDs makes and recognises this socket's connection IDs. It is
// constant after newConnectionIDs and may be used concurrently.
//
// The check is no authentication: it tells packets of connections this process
// has, or had, from packets of an earlier life of the node, which must reach
// quic-go to be answered with a stateless reset. One random ID in 2^24 passes.
type connectionIDs struct{ seed maphash.Seed }

func newConnectionIDs() connectionIDs { return connectionIDs{seed: maphash.MakeSeed()} }

// GenerateConnectionID implements quic.ConnectionIDGenerator.
func (c connectionIDs) GenerateConnectionID() (quic.ConnectionID, error) {
	var id [connectionIDLen]byte
	if _, err := rand.Read(id[:5]); err != nil {
		return quic.ConnectionID{}, err
	}
	tag := c.tag(id[:5])
	id[5], id[6], id[7] = byte(tag>>16), byte(tag>>8), byte(tag)
	return quic.ConnectionIDFromBytes(id[:]), nil
}

// ConnectionIDLen implements quic.ConnectionIDGenerator.
func (c connectionIDs) ConnectionIDLen() int { return connectionIDLen }

func (c connectionIDs) tag(random []byte) uint32 {
	return uint32(maphash.Bytes(c.seed, random)) & 0xffffff
}

// own reports whether this process made the ID.
func (c connectionIDs) own(id uint64) bool {
	var b [connectionIDLen]byte
	binary.BigEndian.PutUint64(b[:], id)
	return c.tag(b[:5]) == uint32(id)&0xffffff
}

// QUIC's invariants (RFC 8999): the header form bit and, in a long header, the
// version, then the destination and the source connection ID, each with its length.
const (
	headerFormBit  = 0x80
	headerFixedBit = 0x40
)

func isQUIC(first byte) bool { return first&(headerFormBit|headerFixedBit) != 0 }

func isLong(first byte) bool { return first&headerFormBit != 0 }

// destination returns the destination connection ID of a QUIC packet, false if
// it has none of our length.
func destination(b []byte) (uint64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	if !isLong(b[0]) {
		if len(b) < 1+connectionIDLen {
			return 0, false
		}
		return binary.BigEndian.Uint64(b[1:]), true
	}
	if len(b) < 6+connectionIDLen || b[5] != connectionIDLen {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[6:]), true
}

// source returns the source connection ID of a long header, false if there is
// none of our length.
func source(b []byte) (uint64, bool) {
	if len(b) < 6 || !isLong(b[0]) {
		return 0, false
	}
	at := 6 + int(b[5])
	if len(b) < at+1+connectionIDLen || b[at] != connectionIDLen {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[at+1:]), true
}
