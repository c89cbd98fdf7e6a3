package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// MaxEnvelope is the largest encoded envelope Open looks at, in bytes.
const MaxEnvelope = 64 << 10

// SignatureSize is the length of a signature in bytes (RFC 8032 §5.1.6).
const SignatureSize = ed25519.SignatureSize

// Errors of envelopes.
var (
	// ErrMalformed is returned for bytes that are no envelope in its one encoding.
	ErrMalformed = errors.New("identity: malformed envelope")
	// ErrSize is returned for an envelope above MaxEnvelope.
	ErrSize = errors.New("identity: envelope too large")
	// ErrType is returned for an envelope of another type than asked for.
	ErrType = errors.New("identity: envelope of another type")
	// ErrTrailing is returned for CBOR with more bytes behind it.
	ErrTrailing = errors.New("identity: trailing bytes")
	// ErrNotCanonical is returned for CBOR that is not in its deterministic encoding.
	ErrNotCanonical = errors.New("identity: CBOR not in its deterministic encoding")
	// ErrSignature is returned for a signature that does not verify.
	ErrSignature = errors.New("identity: bad signature")
)

// Envelope is a payload with its signer's signature. The signature covers
// domain ‖ type ‖ payload, each preceded by its length as 8 bytes big endian
// (libp2p RFC 0002 uses the same scheme). The domain is not transmitted: both
// sides know what they are talking about.
//
// Rules for adding a field: take the next integer key, never reuse one, and
// cover it by the signature.
type Envelope struct {
	Signer    [Size]byte          `cbor:"1,keyasint"`
	Type      string              `cbor:"2,keyasint"`
	Payload   []byte              `cbor:"3,keyasint"`
	Signature [SignatureSize]byte `cbor:"4,keyasint"`
}

// Sign returns k's signature over domain ‖ typ ‖ payload.
func (k PrivateKey) Sign(domain, typ string, payload []byte) [SignatureSize]byte {
	return [SignatureSize]byte(ed25519.Sign(k.key, signedBytes(domain, typ, payload)))
}

// Seal signs payload and returns the encoded envelope.
func (k PrivateKey) Seal(domain, typ string, payload []byte) ([]byte, error) {
	return Marshal(Envelope{
		Signer: k.Public(), Type: typ, Payload: payload, Signature: k.Sign(domain, typ, payload),
	})
}

// Open decodes an envelope, checks its type, and verifies the signature over the
// payload as received. The caller checks whether the signer may say such a thing.
func Open(domain, typ string, b []byte) (Envelope, error) {
	if len(b) > MaxEnvelope {
		return Envelope{}, fmt.Errorf("%w: %d bytes, at most %d", ErrSize, len(b), MaxEnvelope)
	}
	var e Envelope
	if err := Unmarshal(b, &e); err != nil {
		return Envelope{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if e.Type != typ {
		return Envelope{}, fmt.Errorf("%w: %q, want %q", ErrType, clip(e.Type), typ)
	}
	if !Verify(e.Signer, domain, typ, e.Payload, e.Signature) {
		return Envelope{}, ErrSignature
	}
	return e, nil
}

var zip215 = &voi.Options{Verify: voi.VerifyOptionsZIP_215}

// Verify reports whether signature is signer's over domain ‖ typ ‖ payload, by
// the rules of ZIP-215.
func Verify(signer [Size]byte, domain, typ string, payload []byte, signature [SignatureSize]byte) bool {
	return voi.VerifyWithOptions(signer[:], signedBytes(domain, typ, payload), signature[:], zip215)
}

func signedBytes(domain, typ string, payload []byte) []byte {
	b := make([]byte, 0, 24+len(domain)+len(typ)+len(payload))
	b = binary.BigEndian.AppendUint64(b, uint64(len(domain)))
	b = append(b, domain...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(typ)))
	b = append(b, typ...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(payload)))
	return append(b, payload...)
}

var (
	encMode = must(encOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   8,
		MaxArrayElements:  4096,
		MaxMapPairs:       64,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode())
)

// encOptions are core deterministic, with nil lists and byte strings written as
// empty ones: otherwise null and empty would be two spellings of one value.
func encOptions() cbor.EncOptions {
	o := cbor.CoreDetEncOptions()
	o.NilContainers = cbor.NilContainerAsEmpty
	return o
}

// Marshal encodes v as deterministic CBOR (RFC 8949 §4.2.1).
func Marshal(v any) ([]byte, error) { return encMode.Marshal(v) }

// Unmarshal decodes deterministic CBOR with bounded nesting and sizes into v,
// which must point to a zero value: a field left out stays as it was. Unknown
// fields, repeated keys, tags, trailing bytes and any encoding other than the one
// Marshal gives are errors: what is decoded here is signed, and two spellings of
// one record would be two records.
func Unmarshal(b []byte, v any) error {
	if err := decMode.Unmarshal(b, v); err != nil {
		if _, ok := errors.AsType[*cbor.ExtraneousDataError](err); ok {
			return fmt.Errorf("%w: %w", ErrTrailing, err)
		}
		return err
	}
	again, err := encMode.Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(b, again) {
		return ErrNotCanonical
	}
	return nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // an option set of ours that contradicts itself
	}
	return v
}
