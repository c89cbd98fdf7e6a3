package control

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// PriceRequest says what a service costs at this node from now on. At most one of
// Free, For and a price is given.
type PriceRequest struct {
	Name    string         `json:"name"`
	PerGiB  voucher.Amount `json:"per_gib"`
	PerHour voucher.Amount `json:"per_hour"`
	// LossAllowance is in parts per million.
	LossAllowance uint32 `json:"loss_allowance,omitempty"`
	MaxWindow     uint32 `json:"max_window,omitempty"`
	// Free withdraws the price.
	Free bool `json:"free,omitempty"`
	// Grant is the token of the service's owner, where that is another node.
	Grant string `json:"grant,omitempty"`
	// For and Account ask for such a token, for another node and its account.
	For     *identity.NodeID    `json:"for,omitempty"`
	Account *identity.AccountID `json:"account_id,omitempty"`
}

// Price is what a service costs.
type Price struct {
	Name    string             `json:"name"`
	Service identity.ServiceID `json:"service_id"`
	// Now is in force; nil: free. Next is announced; nil: no change.
	Now  *Ask `json:"now"`
	Next *Ask `json:"next,omitempty"`
	// Grant is the token asked for.
	Grant string `json:"grant,omitempty"`
}

// Ask is a price and its terms.
type Ask struct {
	PerGiB        voucher.Amount `json:"per_gib"`
	PerHour       voucher.Amount `json:"per_hour"`
	LossAllowance uint32         `json:"loss_allowance"`
	MaxWindow     uint32         `json:"max_window,omitempty"`
	// From is when it came or comes into force; nil: at once.
	From  *time.Time `json:"from,omitempty"`
	Until time.Time  `json:"until"`
}

// Offer is one provider of a service on the market.
type Offer struct {
	NodeID identity.NodeID `json:"node_id"`
	// Account is paid; nil where the provider is free.
	Account *identity.AccountID `json:"account_id,omitempty"`
	// Now is what it asks, nil for nothing.
	Now  *Ask `json:"now"`
	Next *Ask `json:"next,omitempty"`
	// RTTMS is the round trip, nil where the provider did not answer.
	RTTMS *float64 `json:"rtt_ms"`
	// Locators and Expires are of its record.
	Locators []netip.AddrPort `json:"locators"`
	Expires  *time.Time       `json:"expires"`
	Priority uint16           `json:"priority"`
	Weight   uint16           `json:"weight"`
	// Score is the quality inspectors found, in millionths; nil: not inspected.
	Score *uint32 `json:"score"`
	// Standing has the rest of what they found.
	Standing *Score `json:"standing,omitempty"`
	// Refused is why this node would not use it.
	Refused string `json:"refused,omitempty"`
	// First says that the next session would try it first.
	First bool `json:"first"`
}

// Market is who offers a service at which price.
type Market struct {
	Name    string             `json:"name"`
	Service identity.ServiceID `json:"service_id"`
	Policy  string             `json:"policy"`
	Offers  []Offer            `json:"offers"`
	// LedgerError is why prices are not known.
	LedgerError string `json:"ledger_error,omitempty"`
}

// PayChannel is a payment channel of this node.
type PayChannel struct {
	ID      voucher.ChannelID  `json:"channel_id"`
	Service identity.ServiceID `json:"service_id"`
	NodeID  identity.NodeID    `json:"node_id"`
	// Paying says that this node is the client.
	Paying   bool               `json:"paying"`
	Client   identity.AccountID `json:"client"`
	Provider identity.AccountID `json:"provider"`
	State    string             `json:"state"`
	PerGiB   voucher.Amount     `json:"per_gib"`
	PerHour  voucher.Amount     `json:"per_hour"`
	Deposit  voucher.Amount     `json:"deposit"`
	// Promised is the newest voucher, Settled what the ledger has moved.
	Promised     voucher.Amount `json:"promised"`
	Settled      voucher.Amount `json:"settled"`
	Vouchers     uint64         `json:"vouchers"`
	Bytes        uint64         `json:"bytes"`
	Milliseconds uint64         `json:"milliseconds"`
	Expires      *time.Time     `json:"expires,omitempty"`
	// Deadline is until when the provider of a closing channel may settle.
	Deadline *time.Time `json:"deadline,omitempty"`
}

// ChannelRequest opens, tops up or closes a channel. Which fields it has depends on
// the call.
type ChannelRequest struct {
	// Name and Node name the provider; without Node, the one that a session would use.
	Name string           `json:"name,omitempty"`
	Node *identity.NodeID `json:"node_id,omitempty"`
	// ID names a channel.
	ID voucher.ChannelID `json:"channel_id,omitzero"`
	// Amount is put into it, or added.
	Amount voucher.Amount `json:"amount"`
}

// StatementRequest asks for an invoice.
type StatementRequest struct {
	// Since and Until bound the period; Until zero is now.
	Since, Until time.Time
	// Account is the one it is for; nil: all of this node's.
	Account *identity.AccountID
}

// Statement is an invoice.
type Statement struct {
	Account *identity.AccountID `json:"account_id,omitempty"`
	Since   time.Time           `json:"since"`
	Until   time.Time           `json:"until"`
	Lines   []StatementLine     `json:"lines"`
	Paid    voucher.Amount      `json:"paid"`
	Earned  voucher.Amount      `json:"earned"`
	// Settled and Unsettled are of the lines' channels.
	SettledPaid     voucher.Amount `json:"settled_paid"`
	SettledEarned   voucher.Amount `json:"settled_earned"`
	UnsettledPaid   voucher.Amount `json:"unsettled_paid"`
	UnsettledEarned voucher.Amount `json:"unsettled_earned"`
	// CSV is the same as comma-separated values.
	CSV string `json:"csv"`
	// LedgerError is why the ledger's part may be out of date.
	LedgerError string `json:"ledger_error,omitempty"`
}

// StatementLine is a channel on an invoice, or free sessions with one peer.
type StatementLine struct {
	Channel      voucher.ChannelID  `json:"channel_id,omitzero"`
	Service      identity.ServiceID `json:"service_id"`
	Peer         identity.NodeID    `json:"peer"`
	Direction    string             `json:"direction"`
	Sessions     int                `json:"sessions"`
	Sent         uint64             `json:"sent"`
	Received     uint64             `json:"received"`
	Milliseconds uint64             `json:"milliseconds"`
	PerGiB       voucher.Amount     `json:"per_gib"`
	PerHour      voucher.Amount     `json:"per_hour"`
	Used         voucher.Amount     `json:"used"`
	UsedAll      voucher.Amount     `json:"used_since_opening"`
	Promised     voucher.Amount     `json:"promised"`
	Settled      voucher.Amount     `json:"settled"`
	// Unpromised and Unsettled are differences, with a sign.
	Unpromised string `json:"unpromised"`
	Unsettled  string `json:"unsettled"`
	State      string `json:"state,omitempty"`
}

// Pay is how paying and earning go, as part of a Status.
type Pay struct {
	Policy string `json:"policy"`
	// Budget is that of a day, nil for no limit.
	Budget *voucher.Amount `json:"budget_per_day"`
	// Spent is today's, Committed lies in Channels open channels.
	Spent     voucher.Amount `json:"spent"`
	Committed voucher.Amount `json:"committed"`
	Channels  int            `json:"channels"`
	// Earned was promised to this node on the channels there are, Settled of that is on
	// the ledger.
	Earned  voucher.Amount `json:"earned"`
	Settled voucher.Amount `json:"settled"`
	// Refused is what was not paid of late, and why.
	Refused []Refusal `json:"refused,omitempty"`
}

// Refusal is a session that was not paid for.
type Refusal struct {
	At      time.Time          `json:"at"`
	Service identity.ServiceID `json:"service_id"`
	NodeID  identity.NodeID    `json:"node_id"`
	Reason  string             `json:"reason"`
}

// PayBackend answers the calls about prices, channels and invoices.
type PayBackend interface {
	// SetPrice asks money for a service of this node, or none.
	SetPrice(ctx context.Context, q PriceRequest) (Price, error)
	// Prices returns what this node asks.
	Prices(ctx context.Context) ([]Price, error)
	Market(ctx context.Context, name string) (Market, error)
	PayChannels(ctx context.Context) ([]PayChannel, error)
	OpenChannel(ctx context.Context, q ChannelRequest) (PayChannel, error)
	TopUpChannel(ctx context.Context, q ChannelRequest) (PayChannel, error)
	CloseChannel(ctx context.Context, q ChannelRequest) (PayChannel, error)
	Statement(ctx context.Context, q StatementRequest) (Statement, error)
}

func handlePay(mux *http.ServeMux, b PayBackend) {
	mux.HandleFunc("GET /v1/prices", read(func(r *http.Request) (any, error) { return b.Prices(r.Context()) }))
	mux.HandleFunc("POST /v1/price", change(func(ctx context.Context, q PriceRequest) (any, error) { return b.SetPrice(ctx, q) }))
	mux.HandleFunc("GET /v1/market", read(func(r *http.Request) (any, error) { return b.Market(r.Context(), r.FormValue("name")) }))
	mux.HandleFunc("GET /v1/channels", read(func(r *http.Request) (any, error) { return b.PayChannels(r.Context()) }))
	for path, call := range map[string]func(context.Context, ChannelRequest) (PayChannel, error){
		"open": b.OpenChannel, "topup": b.TopUpChannel, "close": b.CloseChannel,
	} {
		mux.HandleFunc("POST /v1/channel/"+path, change(func(ctx context.Context, q ChannelRequest) (any, error) { return call(ctx, q) }))
	}
	mux.HandleFunc("GET /v1/ledger/statement", read(func(r *http.Request) (any, error) {
		q, err := parseStatementRequest(r)
		if err != nil {
			return nil, err
		}
		return b.Statement(r.Context(), q)
	}))
}

func parseStatementRequest(r *http.Request) (q StatementRequest, err error) {
	for key, to := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if text := r.FormValue(key); text != "" {
			if *to, err = time.Parse(time.RFC3339Nano, text); err != nil {
				return q, Errorf(BadRequest, "%s: %w", key, err)
			}
		}
	}
	if text := r.FormValue("account"); text != "" {
		id, err := identity.ParseAccountID(text)
		if err != nil {
			return q, Errorf(BadRequest, "%w", err)
		}
		q.Account = &id
	}
	return q, nil
}

// SetPrice asks money for a service of this node, or none.
func (c *Client) SetPrice(ctx context.Context, q PriceRequest) (v Price, err error) {
	return v, c.post(ctx, "price", q, &v)
}

// Prices returns what this node asks for its services.
func (c *Client) Prices(ctx context.Context) (v []Price, err error) {
	return v, c.get(ctx, "prices", nil, &v)
}

// Market returns who offers a service at which price.
func (c *Client) Market(ctx context.Context, name string) (v Market, err error) {
	return v, c.get(ctx, "market", url.Values{"name": {name}}, &v)
}

// PayChannels returns the payment channels of this node, those it is paid by included.
func (c *Client) PayChannels(ctx context.Context) (v []PayChannel, err error) {
	return v, c.get(ctx, "channels", nil, &v)
}

// OpenChannel opens a payment channel to a provider.
func (c *Client) OpenChannel(ctx context.Context, q ChannelRequest) (v PayChannel, err error) {
	return v, c.post(ctx, "channel/open", q, &v)
}

// TopUpChannel adds to a payment channel of this node.
func (c *Client) TopUpChannel(ctx context.Context, q ChannelRequest) (v PayChannel, err error) {
	return v, c.post(ctx, "channel/topup", q, &v)
}

// CloseChannel begins to close a payment channel of this node.
func (c *Client) CloseChannel(ctx context.Context, q ChannelRequest) (v PayChannel, err error) {
	return v, c.post(ctx, "channel/close", q, &v)
}

// Statement makes an invoice.
func (c *Client) Statement(ctx context.Context, q StatementRequest) (v Statement, err error) {
	query := url.Values{}
	for key, at := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !at.IsZero() {
			query.Set(key, at.Format(time.RFC3339Nano))
		}
	}
	if q.Account != nil {
		query.Set("account", q.Account.String())
	}
	return v, c.get(ctx, "ledger/statement", query, &v)
}
