package cashier

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// How long a wallet's transactions about money are valid. Under an ID drawn for it
// alone: long enough to be submitted again after an outage, short enough for the
// ledger to forget it soon. Under an ID its caller chose, which may come again by
// hand: near to MaxValidity, with room for clocks that differ.
const (
	paymentValidity = 10 * time.Minute
	chosenValidity  = 23 * time.Hour
)

// Transfer pays an amount to another account.
func (w *Wallet) Transfer(ctx context.Context, to identity.AccountID, amount voucher.Amount) (Receipt, error) {
	return w.TransferAll(ctx, Move{Kind: MovePay, To: to, Amount: amount})
}

// TransferAll makes several movements, all of them or none.
func (w *Wallet) TransferAll(ctx context.Context, moves ...Move) (Receipt, error) {
	id, err := voucher.NewTransferID(rand.Reader)
	if err != nil {
		return Receipt{}, err
	}
	return w.pay(ctx, Transfer{id, moves}, paymentValidity)
}

// Hold reserves an amount for another account until a time. The transfer's ID names
// it, at place 0.
func (w *Wallet) Hold(ctx context.Context, id voucher.TransferID, to identity.AccountID, amount voucher.Amount, expires time.Time) (Receipt, error) {
	return w.Pay(ctx, Transfer{id, []Move{{Kind: MoveHold, To: to, Amount: amount, Expires: expires.Unix()}}})
}

// Post takes an amount of what another account reserved for this one; the rest goes
// back.
func (w *Wallet) Post(ctx context.Context, from identity.AccountID, id voucher.TransferID, amount voucher.Amount) (Receipt, error) {
	return w.TransferAll(ctx, Move{Kind: MovePost, From: from, ID: id, Amount: amount})
}

// Void gives back what another account reserved for this one.
func (w *Wallet) Void(ctx context.Context, from identity.AccountID, id voucher.TransferID) (Receipt, error) {
	return w.TransferAll(ctx, Move{Kind: MoveVoid, From: from, ID: id})
}

// Issue makes money and pays it to an account, if the wallet's is the issuer.
func (w *Wallet) Issue(ctx context.Context, to identity.AccountID, amount voucher.Amount) (Receipt, error) {
	id, err := voucher.NewTransferID(rand.Reader)
	if err != nil {
		return Receipt{}, err
	}
	return w.pay(ctx, Issue{id, to, amount}, paymentValidity)
}

// Redeem takes money of the issuer's out of the world.
func (w *Wallet) Redeem(ctx context.Context, amount voucher.Amount) (Receipt, error) {
	id, err := voucher.NewTransferID(rand.Reader)
	if err != nil {
		return Receipt{}, err
	}
	return w.pay(ctx, Redeem{id, amount}, paymentValidity)
}

// Pay signs a Transfer, Issue or Redeem that brings its own ID, and submits it.
// For 23 hours it counts once however often it is called, by this wallet or another
// of the account; what differs under the same ID is refused with ErrDuplicateID.
// It may be called from several goroutines at once.
func (w *Wallet) Pay(ctx context.Context, op Operation) (Receipt, error) {
	return w.pay(ctx, op, chosenValidity)
}

// pay signs and submits. Where the ledger's clock and this one differ, the deadline
// is set by the ledger's: under its ID the payment counts once all the same.
func (w *Wallet) pay(ctx context.Context, op Operation, validity time.Duration) (Receipt, error) {
	now := w.clock()
	for attempt := 1; ; attempt++ {
		tx := Transaction{Account: w.account, Network: w.network, ValidUntil: now.Add(validity).Unix(), Operation: op}
		signed, err := tx.Sign(*w.key.Load())
		if err != nil {
			return Receipt{}, err
		}
		receipt, err := w.ledger.Submit(ctx, signed)
		r, ok := errors.AsType[*Rejection](err)
		if !ok || r.Time == 0 || r.Code != Expired && r.Code != BadDeadline || attempt == 2 {
			return receipt, err
		}
		now = time.Unix(r.Time, 0)
	}
}
