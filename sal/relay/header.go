package relay

import (
	"encoding/hex"
	"errors"
)

// Types of datagrams, their first byte.
const (
	// TypeForward asks a relay to forward: the header names the destination.
	TypeForward = 0x04
	// TypeRelayed comes from a relay: the header names the source.
	TypeRelayed = 0x05
)

// HeaderSize is what a relay costs per datagram.
const HeaderSize = 1 + len(Token{}) + len(Prefix{})

// ErrMalformed is returned for what is no relay datagram.
var ErrMalformed = errors.New("relay: malformed datagram")

// Token is what a relay knows one of its nodes by, and the node its relay. It is a
// secret of the two, told over their session.
type Token [7]byte

// String hides the token: it is a secret.
func (t Token) String() string { return "token" }

// Prefix is the head of a NodeID, enough to tell nodes apart: making another key
// with the same one takes 2^64 tries.
type Prefix = [8]byte

// Header is what stands before a relayed datagram.
type Header struct {
	// Type is TypeForward or TypeRelayed.
	Type byte
	// Token is that of the node that sends to the relay or receives of it.
	Token Token
	// Node is the destination, or the source.
	Node Prefix
}

// Append appends the header.
func (h Header) Append(b []byte) []byte {
	b = append(b, h.Type)
	b = append(b, h.Token[:]...)
	return append(b, h.Node[:]...)
}

// Put writes the header over the first HeaderSize bytes of b.
func (h Header) Put(b []byte) {
	_ = b[HeaderSize-1]
	b[0] = h.Type
	copy(b[1:], h.Token[:])
	copy(b[1+len(h.Token):], h.Node[:])
}

// Parse returns the header of b and the datagram behind it, which aliases b. That
// the datagram is not empty and not wrapped again is checked here.
func Parse(b []byte) (Header, []byte, error) {
	if len(b) <= HeaderSize || b[0] != TypeForward && b[0] != TypeRelayed {
		return Header{}, nil, ErrMalformed
	}
	if inner := b[HeaderSize]; inner == TypeForward || inner == TypeRelayed {
		return Header{}, nil, ErrMalformed
	}
	h := Header{Type: b[0], Token: Token(b[1:8]), Node: Prefix(b[8:16])}
	return h, b[HeaderSize:], nil
}

// String describes the header for logs, without the token.
func (h Header) String() string {
	switch h.Type {
	case TypeForward:
		return "forward to " + hex.EncodeToString(h.Node[:])
	case TypeRelayed:
		return "relayed from " + hex.EncodeToString(h.Node[:])
	}
	return "no relay header"
}
