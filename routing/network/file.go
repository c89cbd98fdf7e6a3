package network

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"scn.alt/scn/routing/identity"
)

// Limits of a network file.
const (
	// MaxSize is the largest network file in bytes.
	MaxSize = 64 << 10
	// MaxBootstrap is the largest number of bootstrap nodes.
	MaxBootstrap = 64
	// MaxAuthorities is the largest number of authorities.
	MaxAuthorities = 32
	// MaxMembers is the largest number of listed members.
	MaxMembers = 512
	// MaxAddresses is the largest number of addresses of one bootstrap node.
	MaxAddresses = 8
	// MaxParameters is the largest number of parameters.
	MaxParameters = 64
	// MaxName is the longest name of a network in bytes.
	MaxName = 64
)

// Errors of Parse, ParseOf and CheckUpdate. Parse joins all faults it finds.
var (
	// ErrSize is returned for a file above MaxSize.
	ErrSize = errors.New("network file too large")
	// ErrSyntax is returned for a text that is no TOML or has unknown keys.
	ErrSyntax = errors.New("network file: syntax")
	// ErrSignature is returned for a file that is unsigned, signed by another key
	// than the network's, or altered since.
	ErrSignature = errors.New("network file: not signed by the network's founder, or altered since")
	// ErrInvalid is returned for a field that makes no sense.
	ErrInvalid = errors.New("network file: invalid")
	// ErrOlder is wrapped by OlderError.
	ErrOlder = errors.New("network file older than the one known")
	// ErrOther is returned for the file of another network.
	ErrOther = errors.New("network file of another network")
	// ErrFork is returned for a file with the known sequence and other content:
	// the founder signed two files of one number.
	ErrFork = errors.New("network file differs from the known one of the same number")
)

// Admission says who may take part in a network.
type Admission string

// The kinds of admission.
const (
	// Open admits every node.
	Open Admission = "open"
	// List admits the nodes listed as members, bootstrap nodes or authorities.
	List Admission = "list"
)

// Peer is a node with addresses to reach it by. Addresses are of its SAL port.
type Peer struct {
	Node      identity.NodeID
	Addresses []netip.AddrPort
}

// File is a network file. Fields are for reading; who changes one signs the
// result with Sign.
type File struct {
	// ID is the network: its founder's public key.
	ID identity.NetworkID
	// Name is what people call the network. It identifies nothing.
	Name string
	// Sequence is the number of this version, from 1.
	Sequence uint64
	// Zone is the DNS zone of the network's names, without dots. Usually "top".
	Zone string
	// Admission says who may take part; Members lists them for List.
	Admission Admission
	Members   []identity.NodeID
	// Authorities keep the ledger and sign name records.
	Authorities []identity.NodeID
	// Bootstrap nodes let others into the DHT.
	Bootstrap []Peer
	// Parameters are settings all nodes of the network agree on. A value is a
	// bool, an int64 or a string.
	Parameters map[string]any
	// Header is the block of comment lines the text starts with, without "# ".
	Header []string

	text []byte // the signed text, nil when not signed
}

// Bytes returns the signed text as Parse takes it, nil for a File that was
// neither parsed nor signed. The caller must not modify it.
func (f File) Bytes() []byte { return f.text }

// Admits reports whether node may take part in the network.
func (f File) Admits(node identity.NodeID) bool {
	return f.Admission != List || f.IsAuthority(node) || f.IsBootstrap(node) || slices.Contains(f.Members, node)
}

// IsAuthority reports whether node is one of the authorities.
func (f File) IsAuthority(node identity.NodeID) bool { return slices.Contains(f.Authorities, node) }

// IsBootstrap reports whether node is one of the bootstrap nodes.
func (f File) IsBootstrap(node identity.NodeID) bool {
	return slices.ContainsFunc(f.Bootstrap, func(p Peer) bool { return p.Node == node })
}

// Addresses returns what the file says of node's addresses, nil if nothing.
func (f File) Addresses(node identity.NodeID) []netip.AddrPort {
	for _, p := range f.Bootstrap {
		if p.Node == node {
			return p.Addresses
		}
	}
	return nil
}

// Bool returns a parameter, or otherwise when it is not set or not a bool.
func (f File) Bool(parameter string, otherwise bool) bool {
	return value(f.Parameters, parameter, otherwise)
}

// Int returns a parameter, or otherwise when it is not set or not an integer.
func (f File) Int(parameter string, otherwise int64) int64 {
	return value(f.Parameters, parameter, otherwise)
}

// Text returns a parameter, or otherwise when it is not set or not a string.
func (f File) Text(parameter, otherwise string) string {
	return value(f.Parameters, parameter, otherwise)
}

func value[T any](m map[string]any, key string, otherwise T) T {
	if v, ok := m[key].(T); ok {
		return v
	}
	return otherwise
}

// Compare orders two signed files of one network as every node does: by
// sequence, then by the bytes. It is zero only for the same text.
func Compare(a, b File) int {
	return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), bytes.Compare(a.text, b.text))
}

// OlderError says which number is known and which one was offered. It is
// ErrOlder to errors.Is.
type OlderError struct {
	Known, Offered uint64
}

// Error implements error.
func (e *OlderError) Error() string {
	return fmt.Sprintf("network file number %d is older than the known number %d", e.Offered, e.Known)
}

// Is makes errors.Is(err, ErrOlder) true.
func (e *OlderError) Is(target error) bool { return target == ErrOlder }

// CheckUpdate reports why next may not take known's place: it is of another
// network (ErrOther), older (*OlderError), or a second file of the same number
// (ErrFork). The same file again is no error.
func CheckUpdate(known, next File) error {
	switch {
	case known.ID != next.ID:
		return fmt.Errorf("%w: known %s, offered %s", ErrOther, known.ID, next.ID)
	case next.Sequence < known.Sequence:
		return &OlderError{Known: known.Sequence, Offered: next.Sequence}
	case next.Sequence == known.Sequence && !bytes.Equal(known.text, next.text):
		return fmt.Errorf("%w: %d", ErrFork, known.Sequence)
	}
	return nil
}
