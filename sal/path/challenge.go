package path

import (
	"encoding/binary"
	"net/netip"
)

// A challenge asks the receiver to echo its nonce over the same route. It proves
// the route, measures it, keeps NATs open, and carries the sender's state.
type challenge struct {
	nonce uint64
}

const challengeSize = 8

func (c challenge) append(b []byte) []byte { return binary.BigEndian.AppendUint64(b, c.nonce) }

func parseChallenge(b []byte) (challenge, error) {
	if len(b) != challengeSize {
		return challenge{}, errMalformed
	}
	return challenge{nonce: binary.BigEndian.Uint64(b)}, nil
}

// An echo answers a challenge and says where that came from, which tells its
// sender how it looks from outside.
type echo struct {
	nonce    uint64
	observed netip.AddrPort
}

const echoSize = 8 + addressSize

func (e echo) append(b []byte) []byte {
	return appendAddress(binary.BigEndian.AppendUint64(b, e.nonce), e.observed)
}

func parseEcho(b []byte) (echo, error) {
	if len(b) != echoSize {
		return echo{}, errMalformed
	}
	return echo{nonce: binary.BigEndian.Uint64(b), observed: parseAddress(b[8:])}, nil
}
