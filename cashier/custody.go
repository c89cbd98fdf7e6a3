package cashier

import (
	"context"
	"crypto/rand"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Stake puts an amount aside as a pledge.
func (w *Wallet) Stake(ctx context.Context, id voucher.TransferID, amount voucher.Amount) (Receipt, error) {
	return w.Pay(ctx, Stake{id, amount})
}

// Unstake takes an amount out of the account's stake; it comes back when the
// unbonding time has passed.
func (w *Wallet) Unstake(ctx context.Context, id voucher.TransferID, amount voucher.Amount) (Receipt, error) {
	return w.Pay(ctx, Unstake{id, amount})
}

// RotateKey makes another key sign for the account. The wallet signs with it from
// then on; the caller keeps it on disk before it calls.
func (w *Wallet) RotateKey(ctx context.Context, key identity.PrivateKey) (Receipt, error) {
	receipt, err := w.submit(ctx, func(seq uint64) Operation {
		return RotateKey{key.Account(), KeyProof(key, w.network, w.account, w.account, seq)}
	})
	if err == nil {
		w.key.Store(&key)
	}
	return receipt, err
}

// Key returns the public key that signs for the account in this wallet.
func (w *Wallet) Key() identity.AccountID { return w.key.Load().Account() }

// UseKey makes the wallet sign with a key that the ledger has for the account already.
func (w *Wallet) UseKey(key identity.PrivateKey) { w.key.Store(&key) }

// SetRecovery names the account that may recover this one, the zero account none.
func (w *Wallet) SetRecovery(ctx context.Context, recovery identity.AccountID) (Receipt, error) {
	return w.submit(ctx, func(uint64) Operation { return SetRecovery{recovery} })
}

// Recover begins to give another account, whose recovery account this one is, a key.
func (w *Wallet) Recover(ctx context.Context, account identity.AccountID, key identity.PrivateKey) (Receipt, error) {
	return w.submit(ctx, func(seq uint64) Operation {
		return Recover{account, key.Account(), KeyProof(key, w.network, account, w.account, seq)}
	})
}

// CancelRecovery stops the recovery of this account.
func (w *Wallet) CancelRecovery(ctx context.Context) (Receipt, error) {
	return w.submit(ctx, func(uint64) Operation { return CancelRecovery{} })
}

// Bind binds the account to a node, and to a service there unless its key is nil.
func (w *Wallet) Bind(ctx context.Context, node identity.PrivateKey, service *identity.PrivateKey) (Receipt, error) {
	return w.submit(ctx, func(seq uint64) Operation {
		op := Bind{Node: node.Node()}
		if service != nil {
			op.Service = service.Service()
			op.ServiceProof = BindProof(*service, w.network, w.account, seq, op.Node, op.Service)
		}
		op.NodeProof = BindProof(node, w.network, w.account, seq, op.Node, op.Service)
		return op
	})
}

// Unbind ends a binding of the account.
func (w *Wallet) Unbind(ctx context.Context, node identity.NodeID, service identity.ServiceID) (Receipt, error) {
	return w.submit(ctx, func(uint64) Operation { return Bind{Node: node, Service: service, Remove: true} })
}

// NewSalt draws a salt for a commit.
func NewSalt() (s Salt, err error) {
	_, err = rand.Read(s[:])
	return s, err
}
