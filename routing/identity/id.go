package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
)

// Size is the length of every ID in bytes: an Ed25519 public key.
const Size = 32

// TextSize is the length of the text form of every ID in characters.
const TextSize = 56

// Errors of the text form. ParseNodeID and its siblings wrap them with the text.
var (
	// ErrLength is returned for a text that is not 56 characters long.
	ErrLength = errors.New("identity: an ID has 56 characters")
	// ErrAlphabet is returned for a character outside base32 (a-z, 2-7).
	ErrAlphabet = errors.New("identity: an ID is written with a-z and 2-7 only")
	// ErrChecksum is returned for a mistyped ID.
	ErrChecksum = errors.New("identity: checksum mismatch, the ID is mistyped")
	// ErrKind is returned for a valid ID of another kind, or of a later version.
	ErrKind = errors.New("identity: wrong kind of ID")
)

// NodeID names a node: the public half of the node's key.
type NodeID [Size]byte

// ServiceID names a service: the public half of the service's key.
type ServiceID [Size]byte

// AccountID names an account on the ledger: the public half of its owner's key.
type AccountID [Size]byte

// NetworkID names a network: the public half of its founder's key.
type NetworkID [Size]byte

// GroupID names a list of nodes and accounts that its owner signs: the public half
// of the list's key.
type GroupID [Size]byte

// The version byte, last in the text form, is the kind of the ID. Append only.
const (
	kindNode    = 1
	kindService = 2
	kindAccount = 3
	kindNetwork = 4
	kindGroup   = 5
)

var kindNames = map[byte]string{
	kindNode: "node", kindService: "service", kindAccount: "account", kindNetwork: "network",
	kindGroup: "group",
}

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ParseNodeID reads the text form of a node ID, in either case.
func ParseNodeID(s string) (NodeID, error) {
	key, err := parseText(s, kindNode)
	return NodeID(key), err
}

// ParseServiceID reads the text form of a service ID, in either case.
func ParseServiceID(s string) (ServiceID, error) {
	key, err := parseText(s, kindService)
	return ServiceID(key), err
}

// ParseAccountID reads the text form of an account ID, in either case.
func ParseAccountID(s string) (AccountID, error) {
	key, err := parseText(s, kindAccount)
	return AccountID(key), err
}

// ParseNetworkID reads the text form of a network ID, in either case.
func ParseNetworkID(s string) (NetworkID, error) {
	key, err := parseText(s, kindNetwork)
	return NetworkID(key), err
}

// ParseGroupID reads the text form of a group ID, in either case.
func ParseGroupID(s string) (GroupID, error) {
	key, err := parseText(s, kindGroup)
	return GroupID(key), err
}

// LooksLikeID reports whether s has the length and alphabet of an ID, so that a
// mistyped ID is told from a name: no name has 56 base32 characters.
func LooksLikeID(s string) bool {
	_, ok := decodeText(s)
	return ok
}

// ServiceOf returns the service every node provides under its own key: the
// node's control protocols are addressed by it, and no ServiceRecord is needed.
func ServiceOf(n NodeID) ServiceID { return ServiceID(n) }

// String returns the text form.
func (id NodeID) String() string { return string(appendText(nil, id, kindNode)) }

// Short returns the first ten characters of the text form, for logs.
func (id NodeID) Short() string { return id.String()[:10] }

// IsZero reports whether the ID is unset.
func (id NodeID) IsZero() bool { return id == NodeID{} }

// Compare orders IDs by their bytes.
func (id NodeID) Compare(other NodeID) int { return bytes.Compare(id[:], other[:]) }

// AppendText implements encoding.TextAppender.
func (id NodeID) AppendText(b []byte) ([]byte, error) { return appendText(b, id, kindNode), nil }

// MarshalText implements encoding.TextMarshaler.
func (id NodeID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *NodeID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseNodeID(string(b))
	return err
}

// String returns the text form.
func (id ServiceID) String() string { return string(appendText(nil, id, kindService)) }

// Short returns the first ten characters of the text form, for logs.
func (id ServiceID) Short() string { return id.String()[:10] }

// IsZero reports whether the ID is unset.
func (id ServiceID) IsZero() bool { return id == ServiceID{} }

// AppendText implements encoding.TextAppender.
func (id ServiceID) AppendText(b []byte) ([]byte, error) { return appendText(b, id, kindService), nil }

// MarshalText implements encoding.TextMarshaler.
func (id ServiceID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ServiceID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseServiceID(string(b))
	return err
}

// String returns the text form.
func (id AccountID) String() string { return string(appendText(nil, id, kindAccount)) }

// IsZero reports whether the ID is unset.
func (id AccountID) IsZero() bool { return id == AccountID{} }

// AppendText implements encoding.TextAppender.
func (id AccountID) AppendText(b []byte) ([]byte, error) { return appendText(b, id, kindAccount), nil }

// MarshalText implements encoding.TextMarshaler.
func (id AccountID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *AccountID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseAccountID(string(b))
	return err
}

// String returns the text form.
func (id NetworkID) String() string { return string(appendText(nil, id, kindNetwork)) }

// IsZero reports whether the ID is unset.
func (id NetworkID) IsZero() bool { return id == NetworkID{} }

// AppendText implements encoding.TextAppender.
func (id NetworkID) AppendText(b []byte) ([]byte, error) { return appendText(b, id, kindNetwork), nil }

// MarshalText implements encoding.TextMarshaler.
func (id NetworkID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *NetworkID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseNetworkID(string(b))
	return err
}

// String returns the text form.
func (id GroupID) String() string { return string(appendText(nil, id, kindGroup)) }

// IsZero reports whether the ID is unset.
func (id GroupID) IsZero() bool { return id == GroupID{} }

// AppendText implements encoding.TextAppender.
func (id GroupID) AppendText(b []byte) ([]byte, error) { return appendText(b, id, kindGroup), nil }

// MarshalText implements encoding.TextMarshaler.
func (id GroupID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *GroupID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseGroupID(string(b))
	return err
}

func appendText(b []byte, key [Size]byte, kind byte) []byte {
	var raw [Size + 3]byte
	copy(raw[:], key[:])
	sum := checksum(key, kind)
	raw[Size], raw[Size+1], raw[Size+2] = sum[0], sum[1], kind
	return encoding.AppendEncode(b, raw[:])
}

func parseText(s string, kind byte) (key [Size]byte, err error) {
	if len(s) != TextSize {
		return key, fmt.Errorf("%q: %w, this has %d", clip(s), ErrLength, len(s))
	}
	raw, ok := decodeText(s)
	if !ok {
		return key, fmt.Errorf("%q: %w", s, ErrAlphabet)
	}
	copy(key[:], raw[:])
	got := raw[Size+2]
	if sum := checksum(key, got); raw[Size] != sum[0] || raw[Size+1] != sum[1] {
		return [Size]byte{}, fmt.Errorf("%q: %w", s, ErrChecksum)
	}
	if got != kind {
		name := kindNames[got]
		if name == "" {
			name = "unknown"
		}
		return [Size]byte{}, fmt.Errorf("%q: %w: a %s ID is wanted, this is a %s ID", s, ErrKind, kindNames[kind], name)
	}
	return key, nil
}

// decodeText decodes 56 characters of base32 in either case. It looks at each
// byte itself: the standard decoder skips line breaks, and Unicode's lower case
// of the Kelvin sign is a plain k, so both would let a shorter text through.
func decodeText(s string) (raw [Size + 3]byte, ok bool) {
	if len(s) != TextSize {
		return raw, false
	}
	var lower [TextSize]byte
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return raw, false
		}
		lower[i] = c
	}
	n, err := encoding.Decode(raw[:], lower[:])
	return raw, err == nil && n == len(raw)
}

func checksum(key [Size]byte, kind byte) [2]byte {
	h := sha256.New()
	h.Write([]byte("scn id checksum"))
	h.Write(key[:])
	h.Write([]byte{kind})
	return [2]byte(h.Sum(nil)[:2])
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
