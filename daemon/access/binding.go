package access

import (
	"encoding/binary"
	"errors"

	"scn.alt/scn/routing/identity"
)

const bindingType = "binding"

// ErrBinding is returned for a binding that proves nothing of the node.
var ErrBinding = errors.New("access: not a binding of this node to an account")

// binding says that an account speaks from a node. The account's key signs it.
//
// Rules for adding a field: as for Group.
type binding struct {
	Account identity.AccountID `cbor:"1,keyasint"`
	Node    identity.NodeID    `cbor:"2,keyasint"`
}

// Types of the parts of a Hello. Append only; unknown ones are skipped.
const helloBinding = 1

// maxHelloPart bounds a part of a Hello in bytes.
const maxHelloPart = 1 << 10

// Hello returns the first words by which a node shows its account to its peers:
// parts of type (1), length (2, big endian) and value.
func Hello(account identity.PrivateKey, node identity.NodeID) ([]byte, error) {
	payload, err := identity.Marshal(binding{Account: account.Account(), Node: node})
	if err != nil {
		return nil, err
	}
	envelope, err := account.Seal(domain, bindingType, payload)
	if err != nil {
		return nil, err
	}
	b := append([]byte(nil), helloBinding)
	b = binary.BigEndian.AppendUint16(b, uint16(len(envelope)))
	return append(b, envelope...), nil
}

// ParseHello returns the account that the first words of a node prove. Without a
// binding, or with one that proves nothing, it is ErrBinding.
func ParseHello(b []byte, node identity.NodeID) (identity.AccountID, error) {
	for len(b) > 0 {
		if len(b) < 3 {
			return identity.AccountID{}, ErrBinding
		}
		kind, size := b[0], int(binary.BigEndian.Uint16(b[1:]))
		if b = b[3:]; len(b) < size {
			return identity.AccountID{}, ErrBinding
		}
		if kind == helloBinding {
			if size > maxHelloPart {
				return identity.AccountID{}, ErrBinding
			}
			return openBinding(b[:size], node)
		}
		b = b[size:]
	}
	return identity.AccountID{}, ErrBinding
}

func openBinding(b []byte, node identity.NodeID) (identity.AccountID, error) {
	envelope, err := identity.Open(domain, bindingType, b)
	if err != nil {
		return identity.AccountID{}, errors.Join(ErrBinding, err)
	}
	var v binding
	if err := identity.Unmarshal(envelope.Payload, &v); err != nil {
		return identity.AccountID{}, errors.Join(ErrBinding, err)
	}
	if v.Node != node || v.Account != identity.AccountID(envelope.Signer) || v.Account.IsZero() {
		return identity.AccountID{}, ErrBinding
	}
	return v.Account, nil
}
