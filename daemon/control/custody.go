package control

import (
	"context"
	"net/http"
	"net/url"
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

// BindRequest binds this node's account to this node on the ledger, and to one of its
// services if it names one.
type BindRequest struct {
	Name string `json:"name,omitempty"`
	// Remove ends the binding.
	Remove bool `json:"remove,omitempty"`
}

// Binding says that an account speaks from a node, and for a service there if it has
// one, by the signatures of all of their keys.
type Binding struct {
	AccountID identity.AccountID  `json:"account_id"`
	NodeID    identity.NodeID     `json:"node_id"`
	ServiceID *identity.ServiceID `json:"service_id,omitempty"`
	Height    uint64              `json:"height"`
	Time      time.Time           `json:"time"`
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
	Bind(ctx context.Context, q BindRequest) ([]Binding, error)
	// Bindings are of this node when node is nil.
	Bindings(ctx context.Context, node *identity.NodeID) ([]Binding, error)
}

func handleCustody(mux *http.ServeMux, b CustodyBackend) {
	for path, call := range map[string]func(context.Context, PaymentRequest) (Payment, error){
		"add": b.Stake, "remove": b.Unstake,
	} {
		mux.HandleFunc("POST /v1/stake/"+path, change(func(ctx context.Context, q PaymentRequest) (any, error) {
			return call(ctx, q)
		}))
	}
	mux.HandleFunc("POST /v1/account/bind", change(func(ctx context.Context, q BindRequest) (any, error) { return b.Bind(ctx, q) }))
	mux.HandleFunc("GET /v1/account/bindings", read(func(r *http.Request) (any, error) {
		if r.FormValue("node") == "" {
			return b.Bindings(r.Context(), nil)
		}
		id, err := identity.ParseNodeID(r.FormValue("node"))
		if err != nil {
			return nil, Errorf(BadRequest, "%w", err)
		}
		return b.Bindings(r.Context(), &id)
	}))
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

// Bind binds this node's account to this node, or ends that.
func (c *Client) Bind(ctx context.Context, q BindRequest) (v []Binding, err error) {
	return v, c.post(ctx, "account/bind", q, &v)
}

// Bindings says which accounts speak from a node; nil is this one.
func (c *Client) Bindings(ctx context.Context, node *identity.NodeID) (v []Binding, err error) {
	q := url.Values{}
	if node != nil {
		q.Set("node", node.String())
	}
	return v, c.get(ctx, "account/bindings", q, &v)
}
