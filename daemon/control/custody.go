package control

import (
	"context"
	"net/http"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Unbonding is an amount taken out of a stake, on its way back.
type Unbonding struct {
	ID     voucher.TransferID `json:"id"`
	Amount voucher.Amount     `json:"amount"`
	Since  time.Time          `json:"since"`
	Due    time.Time          `json:"due"`
}

// AccountRequest is about an account's keys.
type AccountRequest struct {
	// Account is the recovery account to name, or the one to recover.
	Account *identity.AccountID `json:"account_id,omitempty"`
}

// CustodyBackend answers the calls about stakes and keys of accounts.
type CustodyBackend interface {
	Stake(ctx context.Context, q PaymentRequest) (Payment, error)
	Unstake(ctx context.Context, q PaymentRequest) (Payment, error)
	RotateKey(ctx context.Context, q AccountRequest) (LedgerAccount, error)
	// SetRecovery names the recovery account of this node's, nobody without one.
	SetRecovery(ctx context.Context, q AccountRequest) (LedgerAccount, error)
	CancelRecovery(ctx context.Context, q AccountRequest) (LedgerAccount, error)
	// Recover begins to recover an account, FinishRecovery makes this node speak for it.
	Recover(ctx context.Context, q AccountRequest) (LedgerAccount, error)
	FinishRecovery(ctx context.Context, q AccountRequest) (LedgerAccount, error)
}

func handleCustody(mux *http.ServeMux, b CustodyBackend) {
	for path, call := range map[string]func(context.Context, PaymentRequest) (Payment, error){
		"add": b.Stake, "remove": b.Unstake,
	} {
		mux.HandleFunc("POST /v1/stake/"+path, change(func(ctx context.Context, q PaymentRequest) (any, error) {
			return call(ctx, q)
		}))
	}
	for path, call := range map[string]func(context.Context, AccountRequest) (LedgerAccount, error){
		"rotate": b.RotateKey, "recovery/set": b.SetRecovery, "recovery/cancel": b.CancelRecovery,
		"recovery/start": b.Recover, "recovery/finish": b.FinishRecovery,
	} {
		mux.HandleFunc("POST /v1/account/"+path, change(func(ctx context.Context, q AccountRequest) (any, error) {
			return call(ctx, q)
		}))
	}
}

// Stake puts an amount aside as a pledge. Under one ID it counts once.
func (c *Client) Stake(ctx context.Context, q PaymentRequest) (v Payment, err error) {
	return v, c.post(ctx, "stake/add", q, &v)
}

// Unstake takes an amount out of the stake.
func (c *Client) Unstake(ctx context.Context, q PaymentRequest) (v Payment, err error) {
	return v, c.post(ctx, "stake/remove", q, &v)
}

// RotateKey gives this node's account a new key.
func (c *Client) RotateKey(ctx context.Context) (v LedgerAccount, err error) {
	return v, c.post(ctx, "account/rotate", AccountRequest{}, &v)
}

// Recovery does one of set, cancel, start and finish.
func (c *Client) Recovery(ctx context.Context, what string, q AccountRequest) (v LedgerAccount, err error) {
	return v, c.post(ctx, "account/recovery/"+what, q, &v)
}
