package cashier

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// Submitter takes signed transactions: a Ledger in this process or a Client.
type Submitter interface {
	Submit(ctx context.Context, signed []byte) (Receipt, error)
}

// Wallet builds, numbers, signs and submits transactions of one account, one
// after the other. It needs no state of its own: numbers come from the time, and
// the ledger tells when one was used.
type Wallet struct {
	account identity.AccountID
	network identity.NetworkID
	ledger  Submitter
	clock   func() time.Time

	key atomic.Pointer[identity.PrivateKey] // signs for the account

	turn chan struct{} // holds one token: whose turn it is
	last uint64        // owned by who has the turn
}

// NewWallet returns a wallet of the account whose key is given. A nil clock is
// time.Now.
func NewWallet(account identity.PrivateKey, network identity.NetworkID, ledger Submitter, clock func() time.Time) *Wallet {
	return NewWalletOf(account.Account(), account, network, ledger, clock)
}

// NewWalletOf returns a wallet of an account for which another key signs; see
// RotateKey.
func NewWalletOf(account identity.AccountID, key identity.PrivateKey, network identity.NetworkID, ledger Submitter, clock func() time.Time) *Wallet {
	if clock == nil {
		clock = time.Now
	}
	w := &Wallet{account: account, network: network, ledger: ledger, clock: clock, turn: make(chan struct{}, 1)}
	w.key.Store(&key)
	return w
}

// Account returns the account.
func (w *Wallet) Account() identity.AccountID { return w.account }

// Register claims a free name for the account, for the usual term, and points it
// at the service whose key is given. If the name is taken, the error matches ErrTaken
// and tells by whom; where names have to be committed to first, it matches
// ErrCommitFirst.
func (w *Wallet) Register(ctx context.Context, n name.Name, service identity.PrivateKey) (Receipt, error) {
	return w.RegisterFor(ctx, n, service, 0)
}

// RegisterFor is Register for a term, 0 for the usual one; see RenewName.
func (w *Wallet) RegisterFor(ctx context.Context, n name.Name, service identity.PrivateKey, term time.Duration) (Receipt, error) {
	return w.submit(ctx, func(seq uint64) Operation {
		return Register{n, service.Service(), w.consent(service, seq, n), seconds(term)}
	})
}

// Commit announces that the account wants a name, under a salt drawn at random for
// it, which must be kept to Reveal it.
func (w *Wallet) Commit(ctx context.Context, n name.Name, salt Salt) (Receipt, error) {
	hash := CommitHash(w.network, w.account, n, salt)
	return w.submit(ctx, func(uint64) Operation { return CommitName{hash} })
}

// Reveal registers a name the account committed to, for a term, 0 for the usual
// one. If it comes too early, the error matches ErrCommitImmature and tells when
// to come again.
func (w *Wallet) Reveal(ctx context.Context, n name.Name, salt Salt, service identity.PrivateKey, term time.Duration) (Receipt, error) {
	return w.submit(ctx, func(seq uint64) Operation {
		return RevealName{n, salt, service.Service(), w.consent(service, seq, n), seconds(term)}
	})
}

// Renew extends the lease of a name, whoever's it is, by a term, 0 for the usual
// one.
func (w *Wallet) Renew(ctx context.Context, n name.Name, term time.Duration) (Receipt, error) {
	return w.submit(ctx, func(uint64) Operation { return RenewName{n, seconds(term)} })
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// Update points a name of the account at another service.
func (w *Wallet) Update(ctx context.Context, n name.Name, service identity.PrivateKey) (Receipt, error) {
	return w.submit(ctx, func(seq uint64) Operation {
		return Update{n, service.Service(), w.consent(service, seq, n)}
	})
}

// Offer offers a name of the account to another; the zero account withdraws that.
func (w *Wallet) Offer(ctx context.Context, n name.Name, to identity.AccountID) (Receipt, error) {
	return w.submit(ctx, func(uint64) Operation { return Offer{n, to} })
}

// Accept takes a name that was offered to the account, and points it at the
// service whose key is given.
func (w *Wallet) Accept(ctx context.Context, n name.Name, service identity.PrivateKey) (Receipt, error) {
	return w.submit(ctx, func(seq uint64) Operation {
		return Accept{n, service.Service(), w.consent(service, seq, n)}
	})
}

// Release gives a name of the account up.
func (w *Wallet) Release(ctx context.Context, n name.Name) (Receipt, error) {
	return w.submit(ctx, func(uint64) Operation { return Release{n} })
}

// SetParameters changes the ledger's rules, if the account is the network's.
func (w *Wallet) SetParameters(ctx context.Context, p Parameters) (Receipt, error) {
	return w.submit(ctx, func(uint64) Operation { return SetParameters{p} })
}

func (w *Wallet) consent(service identity.PrivateKey, sequence uint64, n name.Name) Signature {
	return Consent(service, w.network, w.account, sequence, n)
}

// submit signs what build gives for the next number. Where the account's other
// wallets, or this one before a restored backup, used higher numbers, it goes on
// above them.
func (w *Wallet) submit(ctx context.Context, build func(sequence uint64) Operation) (Receipt, error) {
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		return Receipt{}, ctx.Err()
	}
	const attempts = 4
	for attempt := 1; ; attempt++ {
		w.last = record.NextSequence(w.last, w.clock())
		tx := Transaction{Account: w.account, Network: w.network, Sequence: w.last, Operation: build(w.last)}
		signed, err := tx.Sign(*w.key.Load())
		if err != nil {
			return Receipt{}, err
		}
		receipt, err := w.ledger.Submit(ctx, signed)
		r, ok := errors.AsType[*Rejection](err)
		if !ok || r.Code != StaleSequence || attempt == attempts {
			return receipt, err
		}
		w.last = max(w.last, r.Sequence)
	}
}
