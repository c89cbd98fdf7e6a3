package evidence

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519/extra/ecvrf"

	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"

	"scn.alt/scn/routing/identity"
)

// Errors of the verifiable random function.
var (
	// ErrVRFKey is returned for a public key that proves nothing: not canonical, not
	// on the curve, or with a part of small order.
	ErrVRFKey = errors.New("evidence: bad VRF key")
	// ErrVRFProof is returned for a proof that is not the key's over the input.
	ErrVRFProof = errors.New("evidence: bad VRF proof")
)

// VRFKey is the public key of a verifiable random function. Its secret half is an
// identity.PrivateKey made for this and used for nothing else, above all not the
// account's: the nonces of signatures and of proofs must not meet under one key.
type VRFKey [identity.Size]byte

// VRFProof is a proof (RFC 9381 §5.1). Whoever has the secret key can make more
// than one proof over the same input, so proofs are never compared or hashed into
// randomness; the output is the same in all of them.
type VRFProof [ecvrf.ProofSize]byte

// VRFOutput is the random output (RFC 9381 §5.2), one per key and input.
type VRFOutput [ecvrf.OutputSize]byte

// VRFKeyOf returns the public half.
func VRFKeyOf(secret identity.PrivateKey) VRFKey { return secret.Public() }

// ProveVRF returns the output for an input and the proof of it.
func ProveVRF(secret identity.PrivateKey, input []byte) (VRFOutput, VRFProof) {
	proof := ecvrf.Prove(voi.PrivateKey(secret.Ed25519()), input)
	output, err := ecvrf.ProofToHash(proof)
	if err != nil {
		panic("evidence: our own proof is malformed: " + err.Error())
	}
	return VRFOutput(output), VRFProof(proof)
}

// Validate refuses a key that is not canonical, not on the curve, or not of prime
// order (RFC 9381 §5.4.5). It is called once, when a key is admitted.
func (k VRFKey) Validate() error {
	var compressed curve.CompressedEdwardsY
	var point curve.EdwardsPoint
	if _, err := compressed.SetBytes(k[:]); err != nil {
		return fmt.Errorf("%w: %w", ErrVRFKey, err)
	}
	if !compressed.IsCanonicalVartime() {
		return fmt.Errorf("%w: not canonical", ErrVRFKey)
	}
	if _, err := point.SetCompressedY(&compressed); err != nil {
		return fmt.Errorf("%w: %w", ErrVRFKey, err)
	}
	if point.IsSmallOrder() || !point.IsTorsionFree() {
		return fmt.Errorf("%w: a part of it has small order", ErrVRFKey)
	}
	return nil
}

// Verify returns the output that proof shows for an input. Keys of small order and
// encodings of key or proof that are not canonical are refused.
func (k VRFKey) Verify(input []byte, proof VRFProof) (VRFOutput, error) {
	ok, output := ecvrf.Verify(voi.PublicKey(k[:]), proof[:], input)
	if !ok {
		return VRFOutput{}, ErrVRFProof
	}
	return VRFOutput(output), nil
}

// String returns the key in hexadecimal.
func (k VRFKey) String() string { return hex.EncodeToString(k[:]) }

// AppendText implements encoding.TextAppender.
func (k VRFKey) AppendText(b []byte) ([]byte, error) { return hex.AppendEncode(b, k[:]), nil }

// MarshalText implements encoding.TextMarshaler.
func (k VRFKey) MarshalText() ([]byte, error) { return k.AppendText(nil) }

// UnmarshalText implements encoding.TextUnmarshaler. It does not validate.
func (k *VRFKey) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(k)) {
		return fmt.Errorf("%w: it has 64 hexadecimal digits", ErrVRFKey)
	}
	_, err := hex.Decode(k[:], b)
	return err
}

// input joins a domain, which no other has as its beginning, the network and an
// epoch with what else goes in.
func input(domain string, network identity.NetworkID, epoch uint64, more []byte) []byte {
	b := make([]byte, 0, 1+len(domain)+len(network)+8+len(more))
	b = append(append(b, byte(len(domain))), domain...)
	b = append(b, network[:]...)
	b = binary.BigEndian.AppendUint64(b, epoch)
	return append(b, more...)
}
