package voucher

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"scn.alt/scn/routing/identity"
)

// ErrChannelID is returned for a text that is no ID of a channel.
var ErrChannelID = errors.New("voucher: a channel ID is 64 hexadecimal digits")

// ChannelID names a payment channel: the hash of what its Opening says.
type ChannelID [sha256.Size]byte

// SessionKey is the public half of the key that signs a channel's vouchers. The
// client delegates to it when it opens the channel, so the account's own key may stay
// out of the data path.
type SessionKey [identity.Size]byte

// IsZero reports whether the key is unset.
func (k SessionKey) IsZero() bool { return k == SessionKey{} }

// Opening is what makes a channel this one and no other. Client and provider know
// all of it, and so the ID, before the ledger does.
type Opening struct {
	Network identity.NetworkID
	// Client pays, Provider is paid.
	Client, Provider identity.AccountID
	// Node delivers Service.
	Node    identity.NodeID
	Service identity.ServiceID
	// Session signs the vouchers.
	Session SessionKey
	// Nonce is drawn at random, and is the ID of the transaction that opens the
	// channel.
	Nonce TransferID
}

// ID returns the channel's ID. It commits to the network, so a voucher of one
// network's channel names no channel of another.
func (o Opening) ID() (id ChannelID) {
	const domain = "scn/channel/v1"
	b := make([]byte, 0, len(domain)+6*identity.Size+len(o.Nonce))
	b = append(b, domain...)
	b = append(b, o.Network[:]...)
	b = append(b, o.Client[:]...)
	b = append(b, o.Provider[:]...)
	b = append(b, o.Node[:]...)
	b = append(b, o.Service[:]...)
	b = append(b, o.Session[:]...)
	b = append(b, o.Nonce[:]...)
	return sha256.Sum256(b)
}

// ParseChannelID reads 64 hexadecimal digits in lower case.
func ParseChannelID(s string) (id ChannelID, err error) {
	if len(s) != hex.EncodedLen(len(id)) {
		return ChannelID{}, fmt.Errorf("%w, this has %d characters", ErrChannelID, len(s))
	}
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && (s[i] < 'a' || s[i] > 'f') {
			return ChannelID{}, fmt.Errorf("%q: %w, in lower case", s, ErrChannelID)
		}
	}
	_, err = hex.Decode(id[:], []byte(s))
	return id, err
}

// IsZero reports whether the ID is unset. No channel has the zero ID.
func (id ChannelID) IsZero() bool { return id == ChannelID{} }

// String returns the ID in hexadecimal.
func (id ChannelID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the beginning of the ID, for logs.
func (id ChannelID) Short() string { return hex.EncodeToString(id[:5]) }

// AppendText implements encoding.TextAppender.
func (id ChannelID) AppendText(b []byte) ([]byte, error) { return hex.AppendEncode(b, id[:]), nil }

// MarshalText implements encoding.TextMarshaler.
func (id ChannelID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ChannelID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseChannelID(string(b))
	return err
}
