package cashier

import (
	"scn.alt/scn/routing/identity"
)

// Bind says before everybody that an account speaks from a node, and, if a service is
// given, for that service there. All of their keys sign: the account's the
// transaction, the node's and the service's a proof each; see BindProof. A later one
// for the same node and service takes its place.
type Bind struct {
	Node identity.NodeID `cbor:"1,keyasint"`
	// Service is zero for a binding of account and node alone.
	Service      identity.ServiceID `cbor:"2,keyasint,omitzero"`
	NodeProof    Signature          `cbor:"3,keyasint,omitzero"`
	ServiceProof Signature          `cbor:"4,keyasint,omitzero"`
	// Remove ends the account's own binding, and takes no proofs.
	Remove bool `cbor:"5,keyasint,omitzero"`
}

// Kind implements Operation.
func (Bind) Kind() Kind { return KindBind }

// bindProof is what the keys of node and service sign: this transaction of that
// account and no other.
type bindProof struct {
	Network  identity.NetworkID `cbor:"1,keyasint"`
	Account  identity.AccountID `cbor:"2,keyasint"`
	Sequence uint64             `cbor:"3,keyasint"`
	Node     identity.NodeID    `cbor:"4,keyasint"`
	Service  identity.ServiceID `cbor:"5,keyasint,omitzero"`
}

// BindProof is the consent of a node's or a service's key to be bound by the
// transaction of account with this sequence number.
func BindProof(key identity.PrivateKey, network identity.NetworkID, account identity.AccountID, sequence uint64, node identity.NodeID, service identity.ServiceID) Signature {
	return key.Sign(domain, typeBinding, mustEncode(bindProof{network, account, sequence, node, service}))
}

func (o Bind) check(tx *Transaction) *Rejection {
	none := Signature{}
	switch {
	case o.Node.IsZero():
		return reject(Malformed, "a binding to no node")
	case o.Remove && (o.NodeProof != none || o.ServiceProof != none),
		o.Service.IsZero() && o.ServiceProof != none:
		return reject(Malformed, "a binding with proofs it does not take")
	case o.Remove:
		return nil
	}
	signed := mustEncode(bindProof{tx.Network, tx.Account, tx.Sequence, o.Node, o.Service})
	if !identity.Verify(o.Node, domain, typeBinding, signed, o.NodeProof) {
		return reject(NoProof, "the node's key did not sign the binding")
	}
	if !o.Service.IsZero() && !identity.Verify(o.Service, domain, typeBinding, signed, o.ServiceProof) {
		return &Rejection{Code: NoProof, Service: o.Service, Detail: "the service's key did not sign the binding"}
	}
	return nil
}

// bindingRow is a binding. Its key says which node's and service's.
type bindingRow struct {
	Account identity.AccountID `cbor:"1,keyasint"`
	Height  uint64             `cbor:"2,keyasint"`
	Time    int64              `cbor:"3,keyasint"`
}

const bindingPrefix = 'e'

func bindingKey(node identity.NodeID, service identity.ServiceID) []byte {
	return append(append([]byte{bindingPrefix}, node[:]...), service[:]...)
}

func (o Bind) apply(x *execution, tx *Transaction) *Rejection {
	key := bindingKey(o.Node, o.Service)
	if !o.Remove {
		x.write(key, bindingRow{tx.Account, x.height, x.time})
		return nil
	}
	var row bindingRow
	if !load(x, key, &row) || row.Account != tx.Account {
		return &Rejection{Code: NotBound, Account: tx.Account, Service: o.Service}
	}
	x.state.set(key, nil)
	return nil
}
