package path

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	headerSize  = 1 + 8 + 8
	tagSize     = chacha20poly1305.Overhead
	minDatagram = headerSize + stateSize + tagSize
	// maxDatagram bounds what is opened; nothing of ours exceeds an Ethernet
	// frame.
	maxDatagram = 2048
)

// Index returns the receiver index of a datagram that looks like a path message,
// to find its machine by.
func Index(datagram []byte) (index uint64, ok bool) {
	if len(datagram) < minDatagram || datagram[0] != Type {
		return 0, false
	}
	return binary.BigEndian.Uint64(datagram[1:]), true
}

// direction is the key and index of the messages of one direction.
type direction struct {
	aead  cipher.AEAD
	index uint64
}

// directions derives both directions from the exported secret, ours to send by
// first.
func directions(secret []byte, initiator bool) (send, receive direction, err error) {
	toResponder, err := newDirection(secret, "to responder")
	if err != nil {
		return direction{}, direction{}, err
	}
	toInitiator, err := newDirection(secret, "to initiator")
	if err != nil {
		return direction{}, direction{}, err
	}
	if initiator {
		return toResponder, toInitiator, nil
	}
	return toInitiator, toResponder, nil
}

func newDirection(secret []byte, name string) (direction, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "scn path v1 key "+name, chacha20poly1305.KeySize)
	if err != nil {
		return direction{}, err
	}
	index, err := hkdf.Key(sha256.New, secret, nil, "scn path v1 index "+name, 8)
	if err != nil {
		return direction{}, err
	}
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		return direction{}, err
	}
	return direction{aead: aead, index: binary.BigEndian.Uint64(index)}, nil
}

// seal returns the datagram that carries plain under counter. A counter must
// never be used twice.
func (d direction) seal(counter uint64, plain []byte) []byte {
	b := make([]byte, headerSize, headerSize+len(plain)+tagSize)
	b[0] = Type
	binary.BigEndian.PutUint64(b[1:], d.index)
	binary.BigEndian.PutUint64(b[9:], counter)
	var nonce [chacha20poly1305.NonceSize]byte
	binary.BigEndian.PutUint64(nonce[4:], counter)
	return d.aead.Seal(b, nonce[:], plain, b[:headerSize])
}

// open appends the plaintext of datagram, whose header was checked, to dst.
func (d direction) open(dst []byte, counter uint64, datagram []byte, nonce *[chacha20poly1305.NonceSize]byte) ([]byte, error) {
	binary.BigEndian.PutUint64(nonce[4:], counter)
	return d.aead.Open(dst, nonce[:], datagram[headerSize:], datagram[:headerSize])
}
