package cashier

import (
	"context"
	"crypto/rand"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Opening returns what makes the channel that OpenChannel opens with the same
// arguments.
func (w *Wallet) Opening(ask voucher.Ask, session voucher.SessionKey, nonce voucher.TransferID) voucher.Opening {
	return voucher.Opening{
		Network: w.network, Client: w.Account(), Provider: ask.Account, Node: ask.Node, Service: ask.Service,
		Session: session, Nonce: nonce,
	}
}

// OpenChannel opens a channel against an ask, with vouchers to be signed by the session
// key. Whoever keeps nonce, drawn by voucher.NewTransferID, before it calls may call
// again after a crash: it is one channel.
func (w *Wallet) OpenChannel(ctx context.Context, ask voucher.Ask, session voucher.SessionKey, nonce voucher.TransferID, deposit voucher.Amount, expires time.Time) (voucher.ChannelID, Receipt, error) {
	receipt, err := w.Pay(ctx, OpenChannel{
		ID: nonce, Provider: ask.Account, Node: ask.Node, Service: ask.Service, Ask: ask.ID(),
		Session: session, Deposit: deposit, Expires: expires.Unix(),
	})
	return w.Opening(ask, session, nonce).ID(), receipt, err
}

// TopUp adds to the deposit of a channel, or lets it expire later; the zero time leaves
// its expiry.
func (w *Wallet) TopUp(ctx context.Context, channel voucher.ChannelID, amount voucher.Amount, expires time.Time) (Receipt, error) {
	var at int64
	if !expires.IsZero() {
		at = expires.Unix()
	}
	return w.once(ctx, func(id voucher.TransferID) Operation { return TopUpChannel{id, channel, amount, at} })
}

// Settle brings a voucher to the ledger. Receipt.Paid tells what it was worth.
func (w *Wallet) Settle(ctx context.Context, v voucher.Signed) (Receipt, error) {
	return w.once(ctx, func(id voucher.TransferID) Operation {
		return SettleChannel{id, v.Append(make([]byte, 0, voucher.SignedSize))}
	})
}

// SettleBatch brings up to MaxBatchVouchers vouchers of one provider to the ledger.
func (w *Wallet) SettleBatch(ctx context.Context, provider identity.AccountID, vouchers []voucher.Signed) (Receipt, error) {
	if len(vouchers) > MaxBatchVouchers {
		return Receipt{}, reject(BatchTooLarge, "%d vouchers, at most %d", len(vouchers), MaxBatchVouchers)
	}
	b := make([]byte, 0, len(vouchers)*voucher.SignedSize)
	for i := range vouchers {
		b = vouchers[i].Append(b)
	}
	return w.once(ctx, func(id voucher.TransferID) Operation { return SettleBatch{id, provider, b} })
}

// CloseChannel ends a channel with the consent of its other party, made by CloseConsent
// with the key given here by its public half: the provider gets amount in all, the
// client the rest.
func (w *Wallet) CloseChannel(ctx context.Context, channel voucher.ChannelID, amount voucher.Amount, key identity.AccountID, consent Signature) (Receipt, error) {
	return w.once(ctx, func(id voucher.TransferID) Operation {
		return CloseChannel{id, channel, amount, key, consent}
	})
}

// RequestClose begins to close a channel of this account as its client.
func (w *Wallet) RequestClose(ctx context.Context, channel voucher.ChannelID) (Receipt, error) {
	return w.once(ctx, func(id voucher.TransferID) Operation { return RequestClose{id, channel} })
}

// Refute answers a client's RequestClose with a higher voucher, and ends the channel.
func (w *Wallet) Refute(ctx context.Context, v voucher.Signed) (Receipt, error) {
	return w.once(ctx, func(id voucher.TransferID) Operation {
		return Refute{id, v.Append(make([]byte, 0, voucher.SignedSize))}
	})
}

// PostAsk tells what a service costs on the node whose key is given, and that this
// account is paid. The grant is the service's.
func (w *Wallet) PostAsk(ctx context.Context, ask voucher.Ask, node identity.PrivateKey, grant voucher.Grant) (Receipt, error) {
	signature := Signature(ask.Sign(node, w.network))
	return w.once(ctx, func(id voucher.TransferID) Operation {
		return PostAsk{
			ID: id, Ask: ask.Append(make([]byte, 0, voucher.AskSize)), Node: signature,
			Grant: grant.Append(make([]byte, 0, voucher.GrantSize)),
		}
	})
}

// WithdrawAsk takes an ask of this account back: no channel is opened against it any
// more. Those there are keep its price.
func (w *Wallet) WithdrawAsk(ctx context.Context, ask voucher.Ask) (Receipt, error) {
	return w.once(ctx, func(id voucher.TransferID) Operation {
		return PostAsk{ID: id, Ask: ask.Append(make([]byte, 0, voucher.AskSize)), Withdraw: true}
	})
}

// once submits an operation about money under an ID drawn for it.
func (w *Wallet) once(ctx context.Context, build func(voucher.TransferID) Operation) (Receipt, error) {
	id, err := voucher.NewTransferID(rand.Reader)
	if err != nil {
		return Receipt{}, err
	}
	return w.pay(ctx, build(id), paymentValidity)
}
