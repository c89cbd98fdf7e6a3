package control

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// RegisterRequest makes this node's account an inspector.
type RegisterRequest struct {
	// Stake is put aside first; 0 where enough is staked already. ID names that.
	Stake voucher.Amount     `json:"stake"`
	ID    voucher.TransferID `json:"id"`
	// Operator and Network are labels: inspectors that share one are not independent.
	Operator string `json:"operator"`
	Network  string `json:"network"`
}

// EnlistRequest has a service of this node inspected, or not any more.
type EnlistRequest struct {
	Name     string `json:"name"`
	Mobile   bool   `json:"mobile,omitempty"`
	RateKiB  uint32 `json:"rate_kib,omitempty"`
	Withdraw bool   `json:"withdraw,omitempty"`
}

// InspectRequest starts or stops inspecting.
type InspectRequest struct {
	On bool `json:"on"`
}

// Inspector is how inspecting stands at this node.
type Inspector struct {
	// Epoch is the running one; 0: the network has no inspection yet.
	Epoch      uint64    `json:"epoch"`
	Began      time.Time `json:"began"`
	EpochSecs  int64     `json:"epoch_seconds"`
	Inspectors uint32    `json:"inspectors"`
	Providers  uint32    `json:"providers"`
	// Needed is the stake an inspector needs; 0: the network takes none.
	Needed voucher.Amount `json:"stake_needed"`
	// Registered says that this node's account is one, from an epoch on and, unless it
	// is 0, up to another.
	Registered bool           `json:"registered"`
	From       uint64         `json:"from_epoch"`
	To         uint64         `json:"to_epoch"`
	Operator   string         `json:"operator,omitempty"`
	Network    string         `json:"network,omitempty"`
	Staked     voucher.Amount `json:"staked"`
	// Planned and Done rows of it; UnpaidUntil is an epoch.
	Planned     uint64 `json:"planned"`
	Done        uint64 `json:"done"`
	UnpaidUntil uint64 `json:"unpaid_until_epoch"`
	// Wanted and Running are of this daemon; the rest counts what it did.
	Wanted    bool   `json:"wanted"`
	Running   bool   `json:"running"`
	Visits    uint64 `json:"visits"`
	Passed    uint64 `json:"passed"`
	Failed    uint64 `json:"failed"`
	Void      uint64 `json:"void"`
	Anomalies uint64 `json:"anomalies"`
	Commits   uint64 `json:"commits"`
	Reveals   uint64 `json:"reveals"`
	Answers   uint64 `json:"answers"`
	Errors    uint64 `json:"errors"`
}

// PlannedVisit is a row of this node's plan.
type PlannedVisit struct {
	Row       int                `json:"row"`
	ServiceID identity.ServiceID `json:"service_id"`
	NodeID    identity.NodeID    `json:"node_id"`
	Kind      string             `json:"kind"`
	Size      uint32             `json:"size"`
	From      time.Time          `json:"from"`
}

// Plan is this node's plan of an epoch.
type Plan struct {
	Epoch uint64         `json:"epoch"`
	Rows  []PlannedVisit `json:"rows"`
}

// Reports are those shown of an epoch.
type Reports struct {
	Epoch   uint64   `json:"epoch"`
	Reports []Report `json:"reports"`
}

// Report is one inspector's, as verified here.
type Report struct {
	Number    uint32             `json:"number"`
	Inspector identity.AccountID `json:"inspector"`
	Operator  string             `json:"operator"`
	Network   string             `json:"network"`
	// Fault says what is wrong with it; the rest is empty then.
	Fault string `json:"fault,omitempty"`
	// Rows counts those planned, Omitted and Void those that count for nothing.
	Rows    int `json:"rows"`
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Void    int `json:"void"`
	Omitted int `json:"omitted"`
	// Challenged rows are to be shown, Shown were.
	Challenged int         `json:"challenged"`
	Shown      int         `json:"shown"`
	Visits     []SeenVisit `json:"visits"`
}

// SeenVisit is a row of a report.
type SeenVisit struct {
	ServiceID identity.ServiceID `json:"service_id"`
	NodeID    identity.NodeID    `json:"node_id"`
	Kind      string             `json:"kind"`
	Verdict   string             `json:"verdict"`
	Reason    string             `json:"reason,omitempty"`
	LatencyUS uint32             `json:"latency_us"`
	RateKiB   uint32             `json:"rate_kib"`
	GapMS     uint32             `json:"gap_ms"`
}

// Score is how a provider stands on the ledger.
type Score struct {
	NodeID identity.NodeID    `json:"node_id"`
	Paid   identity.AccountID `json:"account_id"`
	Class  string             `json:"class"`
	Kinds  string             `json:"kinds"`
	// Score and Failures are in millionths; Sample checks make the score.
	Score     uint32 `json:"score"`
	Failures  uint32 `json:"failures"`
	Sample    uint16 `json:"sample"`
	Operators uint16 `json:"operators"`
	Checks    uint32 `json:"checks"`
	// Medians of the operators; 0 where nobody measured.
	LatencyP50MS float64 `json:"latency_p50_ms"`
	LatencyP90MS float64 `json:"latency_p90_ms"`
	RateKiB      uint32  `json:"rate_kib"`
	GapMS        uint32  `json:"gap_ms"`
	// LastEpoch is that of the last check that counted.
	LastEpoch uint64 `json:"last_epoch"`
	Wrong     bool   `json:"wrong"`
	Suspended bool   `json:"suspended"`
	// Until is the first epoch in which it is not suspended any more.
	Until     uint64 `json:"suspended_until_epoch"`
	Probation bool   `json:"probation"`
	Listed    bool   `json:"listed"`
}

// Scores are those of the providers of a service.
type Scores struct {
	Name      string             `json:"name"`
	ServiceID identity.ServiceID `json:"service_id"`
	Scores    []Score            `json:"scores"`
}

// InspectorBackend answers the calls about inspecting for the ledger.
type InspectorBackend interface {
	RegisterInspector(ctx context.Context, q RegisterRequest) (Inspector, error)
	UnregisterInspector(ctx context.Context) (Inspector, error)
	EnlistProvider(ctx context.Context, q EnlistRequest) (Inspector, error)
	SetInspecting(ctx context.Context, q InspectRequest) (Inspector, error)
	Inspector(ctx context.Context) (Inspector, error)
	// Plan and Reports take an epoch; 0 is the running one, or the newest shown.
	Plan(ctx context.Context, epoch uint64) (Plan, error)
	Reports(ctx context.Context, epoch uint64) (Reports, error)
	Scores(ctx context.Context, name string) (Scores, error)
}

func handleInspector(mux *http.ServeMux, b InspectorBackend) {
	mux.HandleFunc("POST /v1/inspect/register", change(func(ctx context.Context, q RegisterRequest) (any, error) { return b.RegisterInspector(ctx, q) }))
	mux.HandleFunc("POST /v1/inspect/unregister", change(func(ctx context.Context, _ struct{}) (any, error) { return b.UnregisterInspector(ctx) }))
	mux.HandleFunc("POST /v1/inspect/enlist", change(func(ctx context.Context, q EnlistRequest) (any, error) { return b.EnlistProvider(ctx, q) }))
	mux.HandleFunc("POST /v1/inspect/run", change(func(ctx context.Context, q InspectRequest) (any, error) { return b.SetInspecting(ctx, q) }))
	mux.HandleFunc("GET /v1/inspect/status", read(func(r *http.Request) (any, error) { return b.Inspector(r.Context()) }))
	mux.HandleFunc("GET /v1/inspect/scores", read(func(r *http.Request) (any, error) { return b.Scores(r.Context(), r.FormValue("name")) }))
	mux.HandleFunc("GET /v1/inspect/plan", read(func(r *http.Request) (any, error) {
		epoch, err := parseEpoch(r)
		if err != nil {
			return nil, err
		}
		return b.Plan(r.Context(), epoch)
	}))
	mux.HandleFunc("GET /v1/inspect/reports", read(func(r *http.Request) (any, error) {
		epoch, err := parseEpoch(r)
		if err != nil {
			return nil, err
		}
		return b.Reports(r.Context(), epoch)
	}))
}

func parseEpoch(r *http.Request) (uint64, error) {
	text := r.FormValue("epoch")
	if text == "" {
		return 0, nil
	}
	epoch, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, Errorf(BadRequest, "epoch: %w", err)
	}
	return epoch, nil
}

func epochQuery(epoch uint64) url.Values {
	return url.Values{"epoch": {strconv.FormatUint(epoch, 10)}}
}

// RegisterInspector makes this node's account an inspector.
func (c *Client) RegisterInspector(ctx context.Context, q RegisterRequest) (v Inspector, err error) {
	return v, c.post(ctx, "inspect/register", q, &v)
}

// UnregisterInspector takes it off the rosters to come.
func (c *Client) UnregisterInspector(ctx context.Context) (v Inspector, err error) {
	return v, c.post(ctx, "inspect/unregister", struct{}{}, &v)
}

// EnlistProvider has a service of this node inspected.
func (c *Client) EnlistProvider(ctx context.Context, q EnlistRequest) (v Inspector, err error) {
	return v, c.post(ctx, "inspect/enlist", q, &v)
}

// SetInspecting starts or stops inspecting.
func (c *Client) SetInspecting(ctx context.Context, q InspectRequest) (v Inspector, err error) {
	return v, c.post(ctx, "inspect/run", q, &v)
}

// Inspector says how inspecting stands at this node.
func (c *Client) Inspector(ctx context.Context) (v Inspector, err error) {
	return v, c.get(ctx, "inspect/status", nil, &v)
}

// Plan returns this node's plan of an epoch, 0 for the running one.
func (c *Client) Plan(ctx context.Context, epoch uint64) (v Plan, err error) {
	return v, c.get(ctx, "inspect/plan", epochQuery(epoch), &v)
}

// Reports returns the reports of an epoch, 0 for the newest that were shown.
func (c *Client) Reports(ctx context.Context, epoch uint64) (v Reports, err error) {
	return v, c.get(ctx, "inspect/reports", epochQuery(epoch), &v)
}

// Scores returns how the providers of a service stand on the ledger.
func (c *Client) Scores(ctx context.Context, name string) (v Scores, err error) {
	return v, c.get(ctx, "inspect/scores", url.Values{"name": {name}}, &v)
}
