package control

import (
	"context"
	"net/http"
	"time"

	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// VisitRequest asks for a visit to a provider, now.
type VisitRequest struct {
	Name string `json:"name"`
	// Node is which provider; nil: the one that a session would use.
	Node *identity.NodeID `json:"node_id,omitempty"`
	// Kind is reach, latency, throughput, correctness, mobility or price.
	Kind string `json:"kind"`
	// Size is how many bytes a throughput visit transfers; 0: 256 KiB.
	Size uint32 `json:"size,omitempty"`
	// Mobile says that the provider may move during the visit.
	Mobile bool `json:"mobile,omitempty"`
}

// Visit is what came of one.
type Visit struct {
	Name      string             `json:"name"`
	ServiceID identity.ServiceID `json:"service_id"`
	NodeID    identity.NodeID    `json:"node_id"`
	Kind      string             `json:"kind"`
	At        time.Time          `json:"at"`
	TookMS    float64            `json:"took_ms"`
	// Verdict is pass, absent, broken, wrong, overcharged or void; Reason says why it
	// is void.
	Verdict string `json:"verdict"`
	Reason  string `json:"reason,omitempty"`
	// LatencyMS is that of the first answer, RateKiB in KiB a second, GapMS the longest
	// silence; nil where they were not measured.
	LatencyMS *float64 `json:"latency_ms"`
	RateKiB   *uint32  `json:"rate_kib"`
	GapMS     *uint32  `json:"gap_ms"`
	// Content says that what the service publishes was asked for.
	Content bool `json:"content"`
	// Receipt is the provider's, nil if it gave none.
	Receipt *VisitReceipt `json:"receipt"`
	// Anomalous says that it is far from the provider's own history.
	Anomalous bool `json:"anomalous"`
}

// VisitReceipt is what a provider signed of a visit.
type VisitReceipt struct {
	Sent         uint64 `json:"sent"`
	Received     uint64 `json:"received"`
	Milliseconds uint64 `json:"milliseconds"`
	Final        bool   `json:"final"`
}

// Measured is what this node measured of one provider.
type Measured struct {
	ServiceID identity.ServiceID `json:"service_id"`
	NodeID    identity.NodeID    `json:"node_id"`
	// Checks counted; Failed of the Recent last ones.
	Checks int `json:"checks"`
	Recent int `json:"recent"`
	Failed int `json:"failed"`
	// Medians, and the 90th percentile; 0 where nothing was measured.
	LatencyP50MS float64   `json:"latency_p50_ms"`
	LatencyP90MS float64   `json:"latency_p90_ms"`
	RateKiB      uint32    `json:"rate_kib"`
	GapMS        uint32    `json:"gap_ms"`
	Last         time.Time `json:"last"`
	Verdict      string    `json:"verdict"`
	// Anomalies counts measurements far from the provider's own history.
	Anomalies int        `json:"anomalies"`
	Anomaly   *time.Time `json:"anomaly"`
	// Latencies in µs, the oldest first.
	Latencies []uint32 `json:"latencies_us"`
}

// Kinds are the kinds of visits, by name.
func Kinds() []string {
	out := make([]string, evidence.Kinds)
	for k := range evidence.Kind(evidence.Kinds) {
		out[k] = k.String()
	}
	return out
}

// InspectBackend answers the calls about inspecting providers.
type InspectBackend interface {
	// Visit visits a provider now.
	Visit(ctx context.Context, q VisitRequest) (Visit, error)
	// Measured is what this node measured itself.
	Measured(ctx context.Context) ([]Measured, error)
}

func handleInspect(mux *http.ServeMux, b InspectBackend) {
	mux.HandleFunc("POST /v1/inspect/visit", change(func(ctx context.Context, q VisitRequest) (any, error) { return b.Visit(ctx, q) }))
	mux.HandleFunc("GET /v1/inspect/measured", read(func(r *http.Request) (any, error) { return b.Measured(r.Context()) }))
}

// Visit visits a provider now.
func (c *Client) Visit(ctx context.Context, q VisitRequest) (v Visit, err error) {
	return v, c.post(ctx, "inspect/visit", q, &v)
}

// Measured returns what this node measured of providers.
func (c *Client) Measured(ctx context.Context) (v []Measured, err error) {
	return v, c.get(ctx, "inspect/measured", nil, &v)
}
