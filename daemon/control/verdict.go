package control

import (
	"context"
	"net/http"
	"time"

	"scn.alt/scn/routing/identity"
)

// Verdicts are the sessions that rules ask about.
type Verdicts struct {
	// Open wait for a decision now; Missed waited in vain, and the next try will ask
	// again; Remembered are decided for some time.
	Open       []Question `json:"open"`
	Missed     []Question `json:"missed"`
	Remembered []Question `json:"remembered"`
}

// Question is one session, or several alike, that somebody decides about.
type Question struct {
	ID        string              `json:"id"`
	Service   string              `json:"service"`
	NodeID    identity.NodeID     `json:"node_id"`
	AccountID *identity.AccountID `json:"account_id,omitempty"`
	Port      uint16              `json:"port"`
	Protocol  string              `json:"protocol"`
	Since     time.Time           `json:"since"`
	// Verdict and Until are of a remembered one.
	Verdict string     `json:"verdict,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Until   *time.Time `json:"until,omitempty"`
}

// VerdictRequest decides a question for the user.
type VerdictRequest struct {
	ID string `json:"id"`
	// Verdict is allow, deny or pay; "" forgets what is remembered or missed.
	Verdict string `json:"verdict"`
	// ForSeconds is how long it is remembered.
	ForSeconds int64 `json:"for_seconds"`
}

// VerdictBackend answers the calls about sessions that wait.
type VerdictBackend interface {
	Verdicts(ctx context.Context) (Verdicts, error)
	Decide(ctx context.Context, q VerdictRequest) error
}

func handleVerdicts(mux *http.ServeMux, b VerdictBackend) {
	mux.HandleFunc("GET /v1/verdicts", read(func(r *http.Request) (any, error) { return b.Verdicts(r.Context()) }))
	mux.HandleFunc("POST /v1/verdicts", change(func(ctx context.Context, q VerdictRequest) (any, error) {
		return struct{}{}, b.Decide(ctx, q)
	}))
}

// Verdicts returns the sessions that rules ask about.
func (c *Client) Verdicts(ctx context.Context) (v Verdicts, err error) {
	return v, c.get(ctx, "verdicts", nil, &v)
}

// Decide decides a question, or forgets one.
func (c *Client) Decide(ctx context.Context, q VerdictRequest) error {
	return c.post(ctx, "verdicts", q, nil)
}
