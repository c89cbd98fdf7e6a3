package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
)

// PrivateKey is the secret half of a node, service, account or network. The zero
// value is unusable. It is safe for concurrent use.
type PrivateKey struct {
	key ed25519.PrivateKey
}

// ErrKeyFile is returned for a file that holds no private key of this project.
var ErrKeyFile = errors.New("identity: not a private key file")

const pemType = "SCN PRIVATE KEY"

// GenerateKey makes a new key from rand, which must be cryptographically strong.
func GenerateKey(rand io.Reader) (PrivateKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return PrivateKey{}, fmt.Errorf("generate key: %w", err)
	}
	return NewKeyFromSeed([ed25519.SeedSize]byte(seed)), nil
}

// NewKeyFromSeed returns the key of a 32-byte seed (RFC 8032 §5.1.5).
func NewKeyFromSeed(seed [ed25519.SeedSize]byte) PrivateKey {
	return PrivateKey{key: ed25519.NewKeyFromSeed(seed[:])}
}

// ParseKey reads the PEM form that MarshalPEM writes. Text before the block is
// ignored, a second block is an error.
func ParseKey(text []byte) (PrivateKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != pemType || len(block.Bytes) != ed25519.SeedSize || len(bytes.TrimSpace(rest)) > 0 {
		return PrivateKey{}, ErrKeyFile
	}
	return NewKeyFromSeed([ed25519.SeedSize]byte(block.Bytes)), nil
}

// MarshalPEM returns the key as a PEM block (RFC 7468) for a file with mode 0600.
func (k PrivateKey) MarshalPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: k.key.Seed()})
}

// IsZero reports whether the key is unset.
func (k PrivateKey) IsZero() bool { return k.key == nil }

// Public returns the 32 bytes every ID of this key consists of.
func (k PrivateKey) Public() [Size]byte { return [Size]byte(k.key[ed25519.SeedSize:]) }

// Node returns the key's ID as a node.
func (k PrivateKey) Node() NodeID { return k.Public() }

// Service returns the key's ID as a service.
func (k PrivateKey) Service() ServiceID { return k.Public() }

// Account returns the key's ID as an account.
func (k PrivateKey) Account() AccountID { return k.Public() }

// Network returns the key's ID as a network.
func (k PrivateKey) Network() NetworkID { return k.Public() }

// Group returns the key's ID as that of a group.
func (k PrivateKey) Group() GroupID { return k.Public() }

// Ed25519 returns the key in the standard library's form, for TLS certificates
// and for libraries that take nothing else. The caller must not modify it.
func (k PrivateKey) Ed25519() ed25519.PrivateKey { return k.key }

// String hides the secret, so that a key in a log line gives nothing away.
func (k PrivateKey) String() string { return "identity.PrivateKey(hidden)" }

// GoString hides the secret from %#v.
func (k PrivateKey) GoString() string { return k.String() }
