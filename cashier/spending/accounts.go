package spending

import (
	"crypto/hkdf"
	"crypto/sha256"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Accounts derives keys from one secret (HKDF with SHA-256, RFC 5869). The zero value
// is unusable.
type Accounts struct{ secret []byte }

// NewAccounts derives from the secret half of an account's key: whoever has that key
// has all of them.
func NewAccounts(account identity.PrivateKey) Accounts {
	return Accounts{account.Ed25519().Seed()}
}

// For returns the key of the account that pays one provider: always the same.
func (a Accounts) For(provider identity.NodeID) identity.PrivateKey {
	return a.derive("scn/wallet/account/v1", provider[:])
}

// Session returns the key that signs the vouchers of one channel, named by the nonce
// of its opening: always the same.
func (a Accounts) Session(provider identity.NodeID, nonce voucher.TransferID) identity.PrivateKey {
	return a.derive("scn/wallet/session/v1", append(provider[:], nonce[:]...))
}

func (a Accounts) derive(purpose string, of []byte) identity.PrivateKey {
	seed, err := hkdf.Key(sha256.New, a.secret, nil, purpose+string(of), 32)
	if err != nil {
		panic(err) // 32 bytes are never too many
	}
	return identity.NewKeyFromSeed([32]byte(seed))
}
