package voucher

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"scn.alt/scn/routing/identity"
)

// AskSize and GrantSize are the lengths of their encodings.
const (
	AskSize   = 1 + 3*identity.Size + 2*8 + 2*4 + 3*8
	GrantSize = 1 + 3*identity.Size + 8 + identity.SignatureSize
)

// MaxLossAllowance is the largest LossAllowance: all of it.
const MaxLossAllowance = 1_000_000

// MinAskWindow is the smallest MaxWindow that is set: what a channel gets prepaid.
const MinAskWindow = 64 << 10

// The domain of asks and the grants they rest on, and the types under it.
const (
	askDomain = "scn/ask/v1"
	typeAsk   = "ask"
	typeGrant = "grant"
)

// AskID is the hash of an Ask's encoding.
type AskID [sha256.Size]byte

// Ask is what a provider wants for a service on a node, and until when. A channel
// opened against it keeps its price for life.
type Ask struct {
	Service identity.ServiceID `cbor:"1,keyasint"`
	Node    identity.NodeID    `cbor:"2,keyasint"`
	// Account is paid.
	Account identity.AccountID `cbor:"3,keyasint"`
	Price   Price              `cbor:"4,keyasint"`
	// LossAllowance is which part of what the provider sent and the client did not
	// receive the provider writes off, in parts per million.
	LossAllowance uint32 `cbor:"5,keyasint,omitzero"`
	// MaxWindow is the most the provider delivers ahead of payment, in bytes.
	// 0: what the metering allows by itself.
	MaxWindow uint32 `cbor:"6,keyasint,omitzero"`
	// ValidFrom and ValidTo are the first and last second at which channels may be
	// opened against it, in Unix seconds. ValidFrom 0 means at once.
	ValidFrom int64 `cbor:"7,keyasint,omitzero"`
	ValidTo   int64 `cbor:"8,keyasint"`
	// Sequence is above that of every earlier ask of the same service and node.
	Sequence uint64 `cbor:"9,keyasint"`
}

// Validate reports all that is wrong with the ask in itself.
func (a Ask) Validate() error {
	var errs []error
	check := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrValue}, args...)...))
		}
	}
	check(a.Service.IsZero() || a.Node.IsZero() || a.Account.IsZero(), "an ask names service, node and account")
	check(a.LossAllowance > MaxLossAllowance, "loss allowance of %d ppm, at most %d", a.LossAllowance, MaxLossAllowance)
	check(a.MaxWindow != 0 && a.MaxWindow < MinAskWindow, "window of %d bytes, at least %d", a.MaxWindow, MinAskWindow)
	check(a.ValidFrom < 0 || a.ValidTo <= 0 || a.ValidTo < a.ValidFrom, "valid from %d to %d", a.ValidFrom, a.ValidTo)
	check(a.Sequence == 0, "an ask has a sequence number")
	return errors.Join(errs...)
}

// ID identifies the ask by its content.
func (a Ask) ID() AskID { return sha256.Sum256(a.Append(make([]byte, 0, AskSize))) }

// Append appends the encoding.
func (a Ask) Append(b []byte) []byte {
	b = append(b, version)
	b = append(b, a.Service[:]...)
	b = append(b, a.Node[:]...)
	b = append(b, a.Account[:]...)
	b = appendUint64s(b, uint64(a.Price.PerGiB), uint64(a.Price.PerHour))
	b = binary.BigEndian.AppendUint32(b, a.LossAllowance)
	b = binary.BigEndian.AppendUint32(b, a.MaxWindow)
	return appendUint64s(b, uint64(a.ValidFrom), uint64(a.ValidTo), a.Sequence)
}

// ParseAsk reads an encoding of AskSize bytes.
func ParseAsk(b []byte) (Ask, error) {
	f, err := open(b, AskSize)
	if err != nil {
		return Ask{}, fmt.Errorf("ask: %w", err)
	}
	a := Ask{
		Service: f.key(), Node: f.key(), Account: f.key(),
		Price:         Price{Amount(f.uint64()), Amount(f.uint64())},
		LossAllowance: f.uint32(), MaxWindow: f.uint32(),
		ValidFrom: int64(f.uint64()), ValidTo: int64(f.uint64()), Sequence: f.uint64(),
	}
	if err := a.Validate(); err != nil {
		return Ask{}, fmt.Errorf("ask: %w", err)
	}
	return a, nil
}

// Sign returns the consent of the node whose key is given: it will deliver at this
// price.
func (a Ask) Sign(node identity.PrivateKey, network identity.NetworkID) Signature {
	return node.Sign(askDomain, typeAsk, a.signed(network))
}

// Verify reports whether the ask's node consented.
func (a Ask) Verify(network identity.NetworkID, s Signature) bool {
	return identity.Verify(a.Node, askDomain, typeAsk, a.signed(network), s)
}

func (a Ask) signed(network identity.NetworkID) []byte {
	return a.Append(append(make([]byte, 0, identity.Size+AskSize), network[:]...))
}

// Grant is a service's word that a node may ask money for it, and which account gets
// it. The service's key signs it once; prices may then change without that key.
type Grant struct {
	Service identity.ServiceID `cbor:"1,keyasint"`
	Node    identity.NodeID    `cbor:"2,keyasint"`
	Account identity.AccountID `cbor:"3,keyasint"`
	// NotAfter is the last second at which an ask may rest on it, in Unix seconds.
	NotAfter  int64     `cbor:"4,keyasint"`
	Signature Signature `cbor:"5,keyasint"`
}

// Append appends the encoding.
func (g Grant) Append(b []byte) []byte { return append(g.appendBody(b), g.Signature[:]...) }

func (g Grant) appendBody(b []byte) []byte {
	b = append(b, version)
	b = append(b, g.Service[:]...)
	b = append(b, g.Node[:]...)
	b = append(b, g.Account[:]...)
	return appendUint64s(b, uint64(g.NotAfter))
}

// ParseGrant reads an encoding of GrantSize bytes. It does not verify.
func ParseGrant(b []byte) (Grant, error) {
	f, err := open(b, GrantSize)
	if err != nil {
		return Grant{}, fmt.Errorf("grant: %w", err)
	}
	g := Grant{Service: f.key(), Node: f.key(), Account: f.key(), NotAfter: int64(f.uint64()), Signature: f.signature()}
	if g.NotAfter < 0 {
		return Grant{}, fmt.Errorf("grant: %w: time below zero", ErrValue)
	}
	return g, nil
}

// Sign signs the grant with the service's key, which names the service.
func (g *Grant) Sign(service identity.PrivateKey, network identity.NetworkID) {
	g.Service = service.Service()
	g.Signature = service.Sign(askDomain, typeGrant, g.signed(network))
}

// Verify reports whether the service granted it.
func (g Grant) Verify(network identity.NetworkID) bool {
	return identity.Verify(g.Service, askDomain, typeGrant, g.signed(network), g.Signature)
}

// Covers reports whether the ask is one the grant allows, but for the time.
func (g Grant) Covers(a Ask) bool {
	return g.Service == a.Service && g.Node == a.Node && g.Account == a.Account
}

func (g Grant) signed(network identity.NetworkID) []byte {
	return g.appendBody(append(make([]byte, 0, identity.Size+GrantSize), network[:]...))
}
