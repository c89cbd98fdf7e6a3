package control

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"scn.alt/scn/routing/identity"
)

// Rules is what is known of who may use a node's services.
type Rules struct {
	Services []ServiceRules `json:"services"`
	Groups   []Group        `json:"groups"`
}

// ServiceRules are the rules of one service, in order.
type ServiceRules struct {
	Name  string   `json:"name"`
	Rules []string `json:"rules"`
}

// RulesRequest changes the rules of a service. Set, unless nil, replaces them all;
// then Remove is taken away and Add put at the end. Forget removes the service's
// entry altogether.
type RulesRequest struct {
	Name   string   `json:"name"`
	Set    []string `json:"set,omitempty"`
	Remove []string `json:"remove,omitempty"`
	Add    []string `json:"add,omitempty"`
	Forget bool     `json:"forget,omitempty"`
}

// ExplainRequest asks what would become of a session.
type ExplainRequest struct {
	// Who is the ID of a node or an account.
	Who  string
	Name string
	// Port and Protocol (tcp or udp) narrow what is explained; 0 and "" do not.
	Port     uint16
	Protocol string
	// Account is taken for the node's; "" takes the one it has proved, if it is
	// connected.
	Account string
}

// Explanation is what the rules say of a caller.
type Explanation struct {
	Name      string              `json:"name"`
	NodeID    *identity.NodeID    `json:"node_id,omitempty"`
	AccountID *identity.AccountID `json:"account_id,omitempty"`
	// Note tells what the explanation could not know.
	Note  string          `json:"note,omitempty"`
	Ports []ExplainedPort `json:"ports"`
}

// ExplainedPort is what the rules say of one port.
type ExplainedPort struct {
	Port     uint16 `json:"port"`
	Protocol string `json:"protocol"`
	// Verdict is allow, deny or ask.
	Verdict string `json:"verdict"`
	// Rule is the number of the rule that decided, from 1; 0 if none did.
	Rule   int           `json:"rule"`
	Reason string        `json:"reason"`
	Steps  []ExplainStep `json:"steps"`
}

// ExplainStep is one rule looked at.
type ExplainStep struct {
	Rule    string `json:"rule"`
	Matched bool   `json:"matched"`
	Why     string `json:"why"`
}

// Group is a signed list that rules may name.
type Group struct {
	Name     string           `json:"name"`
	ID       identity.GroupID `json:"id"`
	Sequence uint64           `json:"sequence"`
	Expires  time.Time        `json:"expires"`
	Members  []string         `json:"members"`
	// Mine says that the group's key lies on this node.
	Mine bool `json:"mine"`
	// Fault is why the list is not believed; empty if it is.
	Fault string `json:"fault,omitempty"`
}

// What a GroupRequest does.
const (
	GroupCreate = "create"
	GroupChange = "change"
	GroupImport = "import"
	GroupForget = "forget"
)

// GroupRequest makes or changes a group.
type GroupRequest struct {
	Do     string   `json:"do"`
	Name   string   `json:"name"`
	Add    []string `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
	// ValidSeconds is how long the signed list is believed; 0 is the default.
	ValidSeconds int64 `json:"valid_seconds,omitempty"`
	// List is the file to import, ID the key it must be of (zero: as known).
	List []byte            `json:"list,omitempty"`
	ID   *identity.GroupID `json:"id,omitempty"`
}

// GroupFile is a signed list as it is given to others.
type GroupFile struct {
	List []byte `json:"list"`
}

// AccessBackend answers the calls about access rules and groups: the daemon, or,
// without one, whoever reads the files.
type AccessBackend interface {
	Rules(ctx context.Context) (Rules, error)
	ChangeRules(ctx context.Context, q RulesRequest) (ServiceRules, error)
	Explain(ctx context.Context, q ExplainRequest) (Explanation, error)
	ChangeGroup(ctx context.Context, q GroupRequest) (Group, error)
	ExportGroup(ctx context.Context, name string) (GroupFile, error)
}

var _ AccessBackend = (*Client)(nil)

func handleAccess(mux *http.ServeMux, b AccessBackend) {
	mux.HandleFunc("GET /v1/access", read(func(r *http.Request) (any, error) { return b.Rules(r.Context()) }))
	mux.HandleFunc("GET /v1/access/explain", read(func(r *http.Request) (any, error) {
		q := ExplainRequest{
			Who: r.FormValue("who"), Name: r.FormValue("name"), Protocol: r.FormValue("protocol"), Account: r.FormValue("account"),
		}
		if text := r.FormValue("port"); text != "" {
			port, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				return nil, Errorf(BadRequest, "%q is no port", text)
			}
			q.Port = uint16(port)
		}
		return b.Explain(r.Context(), q)
	}))
	mux.HandleFunc("GET /v1/group/export", read(func(r *http.Request) (any, error) {
		return b.ExportGroup(r.Context(), r.FormValue("name"))
	}))
	mux.HandleFunc("POST /v1/access", change(func(ctx context.Context, q RulesRequest) (any, error) {
		return b.ChangeRules(ctx, q)
	}))
	mux.HandleFunc("POST /v1/group", change(func(ctx context.Context, q GroupRequest) (any, error) {
		return b.ChangeGroup(ctx, q)
	}))
}

// Rules returns the access rules and groups.
func (c *Client) Rules(ctx context.Context) (v Rules, err error) {
	return v, c.get(ctx, "access", nil, &v)
}

// ChangeRules changes the rules of a service. Sessions they forbid now are ended.
func (c *Client) ChangeRules(ctx context.Context, q RulesRequest) (v ServiceRules, err error) {
	return v, c.post(ctx, "access", q, &v)
}

// Explain says what would become of a session, and why.
func (c *Client) Explain(ctx context.Context, q ExplainRequest) (v Explanation, err error) {
	query := url.Values{"who": {q.Who}, "name": {q.Name}, "protocol": {q.Protocol}, "account": {q.Account}}
	if q.Port != 0 {
		query.Set("port", strconv.Itoa(int(q.Port)))
	}
	return v, c.get(ctx, "access/explain", query, &v)
}

// ChangeGroup makes or changes a group.
func (c *Client) ChangeGroup(ctx context.Context, q GroupRequest) (v Group, err error) {
	return v, c.post(ctx, "group", q, &v)
}

// ExportGroup returns a group's signed list.
func (c *Client) ExportGroup(ctx context.Context, name string) (v GroupFile, err error) {
	return v, c.get(ctx, "group/export", url.Values{"name": {name}}, &v)
}
