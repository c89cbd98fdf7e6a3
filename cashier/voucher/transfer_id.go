package voucher

import (
	"encoding/hex"
	"fmt"
	"io"
)

// TransferID names a transfer among those of one account. Its payer chooses it,
// at random, before it signs: so a payment whose answer was lost is submitted
// again under the same ID and counts once.
type TransferID [16]byte

// NewTransferID draws an ID from rand, which must be cryptographically strong.
func NewTransferID(rand io.Reader) (id TransferID, err error) {
	if _, err := io.ReadFull(rand, id[:]); err != nil {
		return TransferID{}, fmt.Errorf("draw a transfer ID: %w", err)
	}
	return id, nil
}

// ParseTransferID reads 32 hexadecimal digits in lower case.
func ParseTransferID(s string) (id TransferID, err error) {
	if len(s) != hex.EncodedLen(len(id)) {
		return TransferID{}, fmt.Errorf("%w, this has %d characters", ErrID, len(s))
	}
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && (s[i] < 'a' || s[i] > 'f') {
			return TransferID{}, fmt.Errorf("%q: %w, in lower case", s, ErrID)
		}
	}
	_, err = hex.Decode(id[:], []byte(s))
	return id, err
}

// IsZero reports whether the ID is unset. No transfer has the zero ID.
func (id TransferID) IsZero() bool { return id == TransferID{} }

// String returns the ID in hexadecimal.
func (id TransferID) String() string { return hex.EncodeToString(id[:]) }

// AppendText implements encoding.TextAppender.
func (id TransferID) AppendText(b []byte) ([]byte, error) { return hex.AppendEncode(b, id[:]), nil }

// MarshalText implements encoding.TextMarshaler.
func (id TransferID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *TransferID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseTransferID(string(b))
	return err
}
