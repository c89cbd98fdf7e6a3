package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// LedgerStatus is where the ledger stands. Amounts are credits, as text.
type LedgerStatus struct {
	Height    uint64    `json:"height"`
	Block     string    `json:"block"`
	AppHash   string    `json:"app_hash"`
	BlockTime time.Time `json:"block_time"`
	Time      time.Time `json:"time"`
	// Rules is the version of the rules the next block is made by.
	Rules      uint64            `json:"rules"`
	Authority  bool              `json:"authority"`
	Parameters []LedgerParameter `json:"parameters"`
	Supply     LedgerSupply      `json:"supply"`
	// Pruned is the height up to which blocks are kept no more.
	Pruned uint64 `json:"pruned"`
	// ClockHeldSeconds is how far the authority's clock jumped without its operator's
	// word, and RolledBack what it promised and does not have. Of its own ledger only.
	ClockHeldSeconds float64 `json:"clock_held_seconds,omitempty"`
	RolledBack       string  `json:"rolled_back,omitempty"`
}

// LedgerParameter is one rule the founder set. Unit and About say more, for people.
type LedgerParameter struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Unit  string `json:"unit"`
	About string `json:"about"`
}

// LedgerSupply is how much money there is.
type LedgerSupply struct {
	Issued      voucher.Amount `json:"issued"`
	Redeemed    voucher.Amount `json:"redeemed"`
	Circulating voucher.Amount `json:"circulating"`
	Reserved    voucher.Amount `json:"reserved"`
	Treasury    voucher.Amount `json:"treasury"`
	Accounts    uint64         `json:"accounts"`
}

// LedgerAccount is what an account has.
type LedgerAccount struct {
	ID   identity.AccountID `json:"account_id"`
	Mine bool               `json:"mine"`
	// Balance is what it has, Available what of that it may spend, Expected what
	// others have reserved for it.
	Balance   voucher.Amount `json:"balance"`
	Available voucher.Amount `json:"available"`
	Reserved  voucher.Amount `json:"reserved"`
	Expected  voucher.Amount `json:"expected"`
	// Debits and Credits are all that it ever paid and was paid.
	Debits  voucher.Amount `json:"debits"`
	Credits voucher.Amount `json:"credits"`
	Names   uint32         `json:"names"`
	// Staked is put aside as a pledge, Unbonding on its way back from there.
	Staked    voucher.Amount `json:"staked"`
	Unbonding []Unbonding    `json:"unbonding,omitempty"`
	// Key signs for the account. Recovery may give it another one, which is NewKey
	// while that is under way.
	Key           identity.AccountID  `json:"key"`
	Recovery      *identity.AccountID `json:"recovery,omitempty"`
	NewKey        *identity.AccountID `json:"new_key,omitempty"`
	RecoverySince *time.Time          `json:"recovery_since,omitempty"`
	RecoveryDue   *time.Time          `json:"recovery_due,omitempty"`
	Height        uint64              `json:"height"`
	Time          time.Time           `json:"time"`
}

// LedgerBlock is one block.
type LedgerBlock struct {
	Height       uint64              `json:"height"`
	Time         time.Time           `json:"time"`
	Hash         string              `json:"hash"`
	Rules        uint64              `json:"rules"`
	Transactions []LedgerTransaction `json:"transactions"`
}

// LedgerTransaction is one transaction of a block.
type LedgerTransaction struct {
	ID      string             `json:"id"`
	Account identity.AccountID `json:"account_id"`
	Kind    string             `json:"kind"`
	// About is the name it is about, or the movements of money.
	About string `json:"about,omitempty"`
}

// PaymentRequest moves money: of this node's account to another, or, as issue and
// redeem, into and out of the world. Under one ID it counts once.
type PaymentRequest struct {
	To     *identity.AccountID `json:"to,omitempty"`
	Amount voucher.Amount      `json:"amount"`
	ID     voucher.TransferID  `json:"id"`
}

// Payment is an accepted one.
type Payment struct {
	ID          voucher.TransferID `json:"id"`
	Transaction string             `json:"transaction"`
	Height      uint64             `json:"height"`
	Index       uint32             `json:"index"`
	// Again says that it had been accepted before, and did not count twice.
	Again bool `json:"again"`
}

// ParametersRequest changes rules of the ledger: name → value.
type ParametersRequest struct {
	Set map[string]string `json:"set"`
}

// LedgerProgress is how far a verification has come.
type LedgerProgress struct {
	// From is the block it began after: 0, or where blocks were pruned.
	From         uint64 `json:"from"`
	Height       uint64 `json:"height"`
	Of           uint64 `json:"of"`
	Transactions uint64 `json:"transactions"`
}

// LedgerBackend answers the calls about the ledger's books.
type LedgerBackend interface {
	LedgerStatus(ctx context.Context) (LedgerStatus, error)
	LedgerBlocks(ctx context.Context, last int) ([]LedgerBlock, error)
	// LedgerAccount is of this node's own account when id is nil.
	LedgerAccount(ctx context.Context, id *identity.AccountID) (LedgerAccount, error)
	Transfer(ctx context.Context, q PaymentRequest) (Payment, error)
	Issue(ctx context.Context, q PaymentRequest) (Payment, error)
	Redeem(ctx context.Context, q PaymentRequest) (Payment, error)
	SetLedgerParameters(ctx context.Context, q ParametersRequest) (LedgerStatus, error)
	VerifyLedger(ctx context.Context, progress func(LedgerProgress)) (LedgerStatus, error)
}

func handleLedger(mux *http.ServeMux, b LedgerBackend) {
	mux.HandleFunc("GET /v1/ledger/status", read(func(r *http.Request) (any, error) { return b.LedgerStatus(r.Context()) }))
	mux.HandleFunc("GET /v1/ledger/blocks", read(func(r *http.Request) (any, error) {
		last, err := strconv.Atoi(r.FormValue("last"))
		if err != nil {
			return nil, Errorf(BadRequest, "last: %w", err)
		}
		return b.LedgerBlocks(r.Context(), last)
	}))
	mux.HandleFunc("GET /v1/ledger/account", read(func(r *http.Request) (any, error) {
		if r.FormValue("id") == "" {
			return b.LedgerAccount(r.Context(), nil)
		}
		id, err := identity.ParseAccountID(r.FormValue("id"))
		if err != nil {
			return nil, Errorf(BadRequest, "%w", err)
		}
		return b.LedgerAccount(r.Context(), &id)
	}))
	for path, call := range map[string]func(context.Context, PaymentRequest) (Payment, error){
		"transfer": b.Transfer, "issue": b.Issue, "redeem": b.Redeem,
	} {
		mux.HandleFunc("POST /v1/ledger/"+path, change(func(ctx context.Context, q PaymentRequest) (any, error) {
			return call(ctx, q)
		}))
	}
	mux.HandleFunc("POST /v1/ledger/params", change(func(ctx context.Context, q ParametersRequest) (any, error) {
		return b.SetLedgerParameters(ctx, q)
	}))
	mux.HandleFunc("GET /v1/ledger/verify", func(w http.ResponseWriter, r *http.Request) { verifyLedger(b, w, r) })
}

// verifyUpdate is a line of the answer of a verification: progress while it goes
// on, at the end one of the others.
type verifyUpdate struct {
	Progress *LedgerProgress `json:"progress,omitempty"`
	Status   *LedgerStatus   `json:"status,omitempty"`
	Error    *Error          `json:"error,omitempty"`
}

// progressInterval is how often a verification says how far it is.
const progressInterval = 100 * time.Millisecond

func verifyLedger(b LedgerBackend, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	e, flush := json.NewEncoder(w), http.NewResponseController(w)
	var said time.Time
	say := func(u verifyUpdate) {
		_ = e.Encode(u) // the client is gone if this fails, and the context ends
		_ = flush.Flush()
	}
	status, err := b.VerifyLedger(r.Context(), func(p LedgerProgress) {
		if now := time.Now(); now.Sub(said) >= progressInterval || p.Height == p.Of {
			said = now
			say(verifyUpdate{Progress: &p})
		}
	})
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			e = &Error{Code: Failed, Message: err.Error()}
		}
		say(verifyUpdate{Error: e})
		return
	}
	say(verifyUpdate{Status: &status})
}

// LedgerStatus says where the ledger stands.
func (c *Client) LedgerStatus(ctx context.Context) (v LedgerStatus, err error) {
	return v, c.get(ctx, "ledger/status", nil, &v)
}

// LedgerBlocks returns the newest blocks, the oldest of them first.
func (c *Client) LedgerBlocks(ctx context.Context, last int) (v []LedgerBlock, err error) {
	return v, c.get(ctx, "ledger/blocks", url.Values{"last": {strconv.Itoa(last)}}, &v)
}

// LedgerAccount says what an account has; nil is this node's own.
func (c *Client) LedgerAccount(ctx context.Context, id *identity.AccountID) (v LedgerAccount, err error) {
	q := url.Values{}
	if id != nil {
		q.Set("id", id.String())
	}
	return v, c.get(ctx, "ledger/account", q, &v)
}

// Transfer pays another account. An answer that was lost is asked for again under
// the same ID.
func (c *Client) Transfer(ctx context.Context, q PaymentRequest) (v Payment, err error) {
	return v, c.post(ctx, "ledger/transfer", q, &v)
}

// Issue makes money and pays it to an account (issuer only).
func (c *Client) Issue(ctx context.Context, q PaymentRequest) (v Payment, err error) {
	return v, c.post(ctx, "ledger/issue", q, &v)
}

// Redeem takes money of the issuer's out of the world.
func (c *Client) Redeem(ctx context.Context, q PaymentRequest) (v Payment, err error) {
	return v, c.post(ctx, "ledger/redeem", q, &v)
}

// SetLedgerParameters changes rules of the ledger (founder only).
func (c *Client) SetLedgerParameters(ctx context.Context, q ParametersRequest) (v LedgerStatus, err error) {
	return v, c.post(ctx, "ledger/params", q, &v)
}

// VerifyLedger checks the whole ledger, which may take minutes. progress is called
// now and then.
func (c *Client) VerifyLedger(ctx context.Context, progress func(LedgerProgress)) (LedgerStatus, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://scn/v1/ledger/verify", nil)
	if err != nil {
		return LedgerStatus{}, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok {
			return LedgerStatus{}, e
		}
		return LedgerStatus{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return LedgerStatus{}, decodeError(resp)
	}
	for d := json.NewDecoder(resp.Body); ; {
		var u verifyUpdate
		switch err := d.Decode(&u); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return LedgerStatus{}, Errorf(Unreachable, "the daemon ended before the verification did")
		case err != nil:
			return LedgerStatus{}, fmt.Errorf("answer of the daemon: %w", err)
		case u.Error != nil:
			return LedgerStatus{}, u.Error
		case u.Status != nil:
			return *u.Status, nil
		case u.Progress != nil:
			progress(*u.Progress)
		}
	}
}
