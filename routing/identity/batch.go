package identity

import (
	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// Batch verifies many signatures together, at about half the cost of one after
// the other. It accepts exactly what Verify accepts: both follow ZIP-215, whose
// equation has the cofactor in it and so is the same for one and for many. The
// zero value is empty. It is not safe for concurrent use.
type Batch struct {
	verifier voi.BatchVerifier
	n        int
}

// Add adds one signature, with the arguments of Verify.
func (b *Batch) Add(signer [Size]byte, domain, typ string, payload []byte, signature [SignatureSize]byte) {
	b.verifier.AddWithOptions(signer[:], signedBytes(domain, typ, payload), signature[:], zip215)
	b.n++
}

// Len returns the number of signatures added.
func (b *Batch) Len() int { return b.n }

// All reports whether all signatures are good. Unlike Verify it does not look for
// those that are not, so that whoever sends a bad one cannot buy more work with it.
func (b *Batch) All() bool { return b.n == 0 || b.verifier.VerifyBatchOnly(nil) }

// Verify reports whether all signatures are good, and if not, which of them are,
// in the order they were added: each was then checked by itself. An empty batch
// is good. It panics when the system has no randomness left.
func (b *Batch) Verify() (all bool, each []bool) {
	if b.n == 0 {
		return true, nil
	}
	return b.verifier.Verify(nil)
}
