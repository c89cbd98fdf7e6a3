package voucher

import (
	"fmt"

	"scn.alt/scn/routing/identity"
)

// ReceiptSize is the length of a receipt's encoding.
const ReceiptSize = receiptBody + identity.SignatureSize

const receiptBody = 1 + 3*identity.Size + 4*8 + 1

// The domain of receipts, and the type under it.
const (
	receiptDomain = "scn/receipt/v1"
	typeReceipt   = "receipt"
)

// Receipt is a provider's word of what one session carried, summed up since it
// began. Every session has one, priced or not, so that asking for it marks nobody.
type Receipt struct {
	// Node delivered Service, and signs.
	Node    identity.NodeID
	Service identity.ServiceID
	// Nonce is the client's, from the session's opening.
	Nonce [32]byte
	// Sequence is above that of every earlier receipt of the session.
	Sequence uint64
	// Sent and Received are bytes as the provider saw them.
	Sent, Received uint64
	// Duration is the session's age in milliseconds.
	Duration uint64
	// Final marks the last one.
	Final     bool
	Signature Signature
}

// Append appends the encoding.
func (r Receipt) Append(b []byte) []byte { return append(r.appendBody(b), r.Signature[:]...) }

func (r *Receipt) appendBody(b []byte) []byte {
	b = append(b, version)
	b = append(b, r.Node[:]...)
	b = append(b, r.Service[:]...)
	b = append(b, r.Nonce[:]...)
	b = appendUint64s(b, r.Sequence, r.Sent, r.Received, r.Duration)
	if r.Final {
		return append(b, 1)
	}
	return append(b, 0)
}

// ParseReceipt reads an encoding of ReceiptSize bytes. It does not verify.
func ParseReceipt(b []byte) (Receipt, error) {
	f, err := open(b, ReceiptSize)
	if err != nil {
		return Receipt{}, fmt.Errorf("receipt: %w", err)
	}
	r := Receipt{
		Node: f.key(), Service: f.key(), Nonce: f.key(),
		Sequence: f.uint64(), Sent: f.uint64(), Received: f.uint64(), Duration: f.uint64(),
	}
	final := f.byte()
	if final > 1 {
		return Receipt{}, fmt.Errorf("receipt: %w: final is %d", ErrValue, final)
	}
	r.Final, r.Signature = final == 1, f.signature()
	return r, nil
}

// Sign signs the receipt with the provider's node key, which names the node.
func (r *Receipt) Sign(node identity.PrivateKey, network identity.NetworkID) {
	r.Node = node.Node()
	r.Signature = node.Sign(receiptDomain, typeReceipt, r.signed(network))
}

// Verify reports whether the node signed it for the network.
func (r Receipt) Verify(network identity.NetworkID) bool {
	return identity.Verify(r.Node, receiptDomain, typeReceipt, r.signed(network), r.Signature)
}

func (r *Receipt) signed(network identity.NetworkID) []byte {
	return r.appendBody(append(make([]byte, 0, identity.Size+receiptBody), network[:]...))
}
