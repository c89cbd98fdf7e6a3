package control

import (
	"context"
	"net/http"
	"time"
)

// Health is how the targets of a service are doing.
type Health struct {
	Check string `json:"check"`
	// Healthy services take sessions.
	Healthy bool `json:"healthy"`
	// Error is why the last check failed; empty after a success.
	Error string `json:"error,omitempty"`
	// Since is when Healthy last changed, Checked when it was last looked.
	Since   *time.Time `json:"since,omitempty"`
	Checked *time.Time `json:"checked,omitempty"`
	// Checks and Failures are how many there were.
	Checks   int64 `json:"checks"`
	Failures int64 `json:"failures"`
}

// DrainRequest makes a service take no new sessions, or take them again.
type DrainRequest struct {
	Name string `json:"name"`
	// Off takes sessions again.
	Off bool `json:"off,omitempty"`
	// End ends the sessions that are open.
	End bool `json:"end,omitempty"`
}

// DrainBackend answers the calls about draining.
type DrainBackend interface {
	Drain(ctx context.Context, q DrainRequest) (Service, error)
}

func handleDrain(mux *http.ServeMux, b DrainBackend) {
	mux.HandleFunc("POST /v1/drain", change(func(ctx context.Context, q DrainRequest) (any, error) {
		return b.Drain(ctx, q)
	}))
}

// Drain makes a service take no new sessions, or take them again.
func (c *Client) Drain(ctx context.Context, q DrainRequest) (v Service, err error) {
	return v, c.post(ctx, "drain", q, &v)
}
