package voucher

import (
	"fmt"

	"scn.alt/scn/routing/identity"
)

// VoucherSize is the length of a voucher's encoding.
const VoucherSize = voucherBody + identity.SignatureSize

const voucherBody = 1 + identity.Size + 4*8 + 32

// The domain of vouchers, and the type under it.
const (
	voucherDomain = "scn/voucher/v1"
	typeVoucher   = "voucher"
)

// Voucher is a promise of payment: what the channel's client owes its provider in
// all since the channel began. Of two, the higher one pays.
type Voucher struct {
	Channel ChannelID
	// Sequence is above that of every earlier voucher of the channel.
	Sequence uint64
	// Amount is the price of Bytes and Milliseconds, all of them summed up since the
	// channel began.
	Amount       Amount
	Bytes        uint64
	Milliseconds uint64
	// Binding is the exporter of the connection it is first sent on, so that a
	// provider tells one meant for another connection.
	Binding   [32]byte
	Signature Signature
}

// Append appends the encoding.
func (v Voucher) Append(b []byte) []byte { return append(v.appendBody(b), v.Signature[:]...) }

func (v *Voucher) appendBody(b []byte) []byte {
	b = append(b, version)
	b = append(b, v.Channel[:]...)
	b = appendUint64s(b, v.Sequence, uint64(v.Amount), v.Bytes, v.Milliseconds)
	return append(b, v.Binding[:]...)
}

// ParseVoucher reads an encoding of VoucherSize bytes. It does not verify.
func ParseVoucher(b []byte) (Voucher, error) {
	f, err := open(b, VoucherSize)
	if err != nil {
		return Voucher{}, fmt.Errorf("voucher: %w", err)
	}
	return Voucher{
		Channel: f.key(), Sequence: f.uint64(), Amount: Amount(f.uint64()),
		Bytes: f.uint64(), Milliseconds: f.uint64(), Binding: f.key(), Signature: f.signature(),
	}, nil
}

// Sign signs the voucher with the channel's session key.
func (v *Voucher) Sign(session identity.PrivateKey, network identity.NetworkID) {
	v.Signature = session.Sign(voucherDomain, typeVoucher, v.signed(network))
}

// Verify reports whether the session key signed it for the network.
func (v Voucher) Verify(session SessionKey, network identity.NetworkID) bool {
	return identity.Verify(session, voucherDomain, typeVoucher, v.signed(network), v.Signature)
}

// AddTo adds the voucher's signature to a batch, which gives the same verdict as
// Verify.
func (v Voucher) AddTo(batch *identity.Batch, session SessionKey, network identity.NetworkID) {
	batch.Add(session, voucherDomain, typeVoucher, v.signed(network), v.Signature)
}

func (v *Voucher) signed(network identity.NetworkID) []byte {
	return v.appendBody(append(make([]byte, 0, identity.Size+voucherBody), network[:]...))
}

// Signed is a voucher with the key that signed it: enough to judge the signature
// without the channel's row.
type Signed struct {
	Session SessionKey
	Voucher Voucher
}

// SignedSize is the length of a Signed voucher's encoding: the key, then the voucher.
const SignedSize = identity.Size + VoucherSize

// Append appends the encoding.
func (s Signed) Append(b []byte) []byte { return s.Voucher.Append(append(b, s.Session[:]...)) }

// ParseSigned reads an encoding of SignedSize bytes. It does not verify.
func ParseSigned(b []byte) (Signed, error) {
	if len(b) < identity.Size {
		return Signed{}, fmt.Errorf("signed voucher: %w: %d bytes, want %d", ErrLength, len(b), SignedSize)
	}
	v, err := ParseVoucher(b[identity.Size:])
	return Signed{SessionKey(b[:identity.Size]), v}, err
}

// Verify reports whether the key signed the voucher for the network.
func (s Signed) Verify(network identity.NetworkID) bool {
	return s.Voucher.Verify(s.Session, network)
}

// VerifyAll verifies many vouchers together, at about half the cost of one after the
// other and with the same verdicts: whether all are good, and if not, which.
func VerifyAll(network identity.NetworkID, vouchers []Signed) (all bool, each []bool) {
	var batch identity.Batch
	for i := range vouchers {
		vouchers[i].Voucher.AddTo(&batch, vouchers[i].Session, network)
	}
	return batch.Verify()
}
