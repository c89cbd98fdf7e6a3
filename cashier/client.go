package cashier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"time"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// ErrUnreachable is returned by a Client that got no answer from a ledger. Whether
// a transaction was accepted is then not known; submitting it again is safe.
var ErrUnreachable = errors.New("cashier: ledger not reached")

// ErrAnswer is returned for an answer that is not what a ledger of the network
// says: not signed by an authority, malformed, or about something else.
var ErrAnswer = errors.New("cashier: not an answer of this network's ledger")

// ClientConfig configures a Client. Network, Authorities and Dial are required.
type ClientConfig struct {
	// Network and Authorities are those of the network file. An answer counts only
	// if one of the authorities signed it.
	Network     identity.NetworkID
	Authorities []identity.NodeID
	// Dial opens a connection to a ledger.
	Dial func(ctx context.Context) (net.Conn, error)
	// Timeout bounds one attempt, Attempts their number. Default 10s and 3.
	Timeout  time.Duration
	Attempts int
	// Backoff is the wait before the second attempt; it doubles. Default 100ms.
	Backoff time.Duration
	// Clock is the time, against which records expire. Default time.Now.
	Clock func() time.Time
	// Checkpoints keeps the newest checkpoint seen. Default: in memory, as long as the
	// client lives.
	Checkpoints CheckpointStore
}

// Validate reports all that is wrong with the configuration.
func (c ClientConfig) Validate() error {
	var errs []error
	if c.Network.IsZero() {
		errs = append(errs, errors.New("cashier: client's Network is not set"))
	}
	if len(c.Authorities) == 0 {
		errs = append(errs, errors.New("cashier: client has no Authorities"))
	}
	if c.Dial == nil {
		errs = append(errs, errors.New("cashier: client's Dial is not set"))
	}
	if c.Timeout < 0 || c.Attempts < 0 || c.Backoff < 0 {
		errs = append(errs, errors.New("cashier: client's Timeout, Attempts or Backoff is negative"))
	}
	return errors.Join(errs...)
}

// AnswerError is an answer that is not what a ledger of the network says, and who gave
// it. It matches ErrAnswer, and what Err matches: ErrRollback, ErrFork, ErrStale.
type AnswerError struct {
	// Server is the address of who answered; over a session it tells the node's ID.
	Server net.Addr
	Err    error
}

// Error describes the error.
func (e *AnswerError) Error() string {
	if e.Server == nil {
		return fmt.Sprintf("%v: %v", ErrAnswer, e.Err)
	}
	return fmt.Sprintf("%v: %s answered: %v", ErrAnswer, e.Server, e.Err)
}

// Is reports whether target is ErrAnswer.
func (e *AnswerError) Is(target error) bool { return target == ErrAnswer }

// Unwrap returns what is wrong with the answer.
func (e *AnswerError) Unwrap() error { return e.Err }

// Client speaks to a ledger over connections it is given. It keeps one alive
// between requests, asks again when one breaks, and verifies what it is told. Its
// errors are *Rejection, ErrUnreachable, *AnswerError, and the context's.
type Client struct {
	cfg  ClientConfig
	http *http.Client
	seen seen
}

// NewClient returns a client. It dials with the first request.
func NewClient(cfg ClientConfig) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	set(&cfg.Timeout, 10*time.Second)
	set(&cfg.Attempts, 3)
	set(&cfg.Backoff, 100*time.Millisecond)
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Client{cfg: cfg, seen: seen{store: cfg.Checkpoints}, http: &http.Client{
		Transport: &http.Transport{
			DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return cfg.Dial(ctx) },
			DisableCompression:     true,
			MaxIdleConns:           2,
			MaxIdleConnsPerHost:    2,
			MaxConnsPerHost:        8,
			IdleConnTimeout:        time.Minute, // below the server's, so that it rarely breaks under a request
			MaxResponseHeaderBytes: 8 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close closes idle connections. The client dials again if used again.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Submit brings a signed transaction to the ledger and returns when it is durable
// there. See Ledger.Submit.
func (c *Client) Submit(ctx context.Context, signed []byte) (Receipt, error) {
	var r Receipt
	err := c.call(ctx, http.MethodPost, pathTransactions, signed, maxReply, func(b []byte) error {
		r = Receipt{}
		return identity.Unmarshal(b, &r)
	})
	return r, err
}

// Lookup asks who has a name.
func (c *Client) Lookup(ctx context.Context, n name.Name) (Answer, error) {
	if r := checkName(n); r != nil {
		return Answer{}, r
	}
	before, err := c.before()
	if err != nil {
		return Answer{}, err
	}
	var out Answer
	err = c.call(ctx, http.MethodGet, pathNames+string(n)+since(before), nil, maxReply, func(b []byte) (err error) {
		out, err = c.openName(before, n, b)
		return err
	})
	return out, err
}

// openName checks an answer about a name: what was proved is what counts, and the
// signed record, which others will be shown, must say the same.
func (c *Client) openName(before *SignedCheckpoint, n name.Name, b []byte) (Answer, error) {
	var reply nameReply
	if err := identity.Unmarshal(b, &reply); err != nil {
		return Answer{}, err
	}
	cp, err := c.accept(before, reply.Proved)
	if err != nil {
		return Answer{}, err
	}
	state, err := reply.Proved.openRows(cp.Checkpoint, nameKeys(n))
	if err != nil {
		return Answer{}, err
	}
	ends, err := leasesOf(state)
	if err != nil {
		return Answer{}, err
	}
	var row nameRow
	found, err := read(state, nameKey(n), &row)
	if err != nil {
		return Answer{}, err
	}
	out := Answer{Name: n, Height: cp.Height, Time: cp.Time, Proof: cp}
	if !found || forgotten(&row, ends, time.Unix(cp.Time, 0)) {
		return out, nil
	}
	r, err := name.Open(n, reply.Record, c.cfg.Authorities, c.cfg.Clock())
	if err != nil {
		return Answer{}, err
	}
	if r.Service != row.Service || r.Owner != row.Owner || r.Sequence != row.Sequence || r.Height != row.Height ||
		r.Released != row.Released || !r.Released && r.Lease != ends.until(&row) || !bytes.Equal(r.Transaction, row.Transaction) {
		return Answer{}, errors.New("the record is not what was proved")
	}
	out.Registered, out.Record, out.Signed = !row.Released, r, reply.Record
	out.Offered, out.Since, out.Phase = row.Offered, row.Registered, ends.phase(&row, cp.Time)
	return out, nil
}

// Names yields the names of an account in alphabetic order, as the ledger says;
// the list itself is not signed.
func (c *Client) Names(ctx context.Context, owner identity.AccountID) iter.Seq2[OwnedName, error] {
	return func(yield func(OwnedName, error) bool) {
		var after name.Name
		for {
			var reply namesReply
			path := pathAccounts + owner.String() + "/names?after=" + url.QueryEscape(string(after))
			err := c.call(ctx, http.MethodGet, path, nil, maxReply, func(b []byte) error {
				reply = namesReply{}
				return identity.Unmarshal(b, &reply)
			})
			if err != nil {
				yield(OwnedName{}, err)
				return
			}
			for _, n := range reply.Names {
				if n.Name <= after {
					yield(OwnedName{}, fmt.Errorf("%w: names out of order", ErrAnswer))
					return
				}
				after = n.Name
				if !yield(n, nil) {
					return
				}
			}
			if len(reply.Names) < maxNamesPage {
				return
			}
		}
	}
}

// Status asks where the ledger stands.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.call(ctx, http.MethodGet, pathStatus, nil, maxReply, func(b []byte) error {
		s = Status{}
		if err := openAnswer(typeStatus, b, c.cfg.Authorities, &s); err != nil {
			return err
		}
		if s.Network != c.cfg.Network {
			return errors.New("status of another network")
		}
		return nil
	})
	return s, err
}

// Blocks fetches blocks from a height on, as many as the ledger gives at once and
// none above its newest. That they follow one another is checked here; that they
// are the network's, by a Replay whose hashes meet a Status.
func (c *Client) Blocks(ctx context.Context, from uint64) ([]Block, error) {
	var out []Block
	err := c.call(ctx, http.MethodGet, pathBlocks+strconv.FormatUint(from, 10), nil, MaxBlock+maxBlocksSize, func(b []byte) error {
		out = nil
		var reply blocksReply
		if err := identity.Unmarshal(b, &reply); err != nil {
			return err
		}
		for i, raw := range reply.Blocks {
			block, err := DecodeBlock(raw)
			if err != nil {
				return err
			}
			h := block.Header
			if h.Network != c.cfg.Network || h.Height != max(from, 1)+uint64(i) || i > 0 && h.Previous != out[i-1].Header.Hash() {
				return fmt.Errorf("block %d does not follow", h.Height)
			}
			out = append(out, block)
		}
		return nil
	})
	return out, err
}

// call sends a request, again if the connection fails or the ledger is busy. That
// is safe for all of them: a transaction counts once.
func (c *Client) call(ctx context.Context, method, path string, body []byte, limit int64, open func([]byte) error) error {
	wait := c.cfg.Backoff
	for attempt := 1; ; attempt++ {
		err := c.attempt(ctx, method, path, body, limit, open)
		again := errors.Is(err, ErrUnreachable) || errors.Is(err, ErrOverCapacity)
		if err == nil || !again || attempt == c.cfg.Attempts || ctx.Err() != nil {
			return c.dispute(ctx, err)
		}
		select {
		case <-time.After(wait):
			wait *= 2
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

func (c *Client) attempt(ctx context.Context, method, path string, body []byte, limit int64, open func([]byte) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var server net.Addr // who answers
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { server = info.Conn.RemoteAddr() }})
	// The host is a formality: Dial knows whom to reach.
	req, err := http.NewRequestWithContext(ctx, method, "http://ledger"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("cashier: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
		req.Header["Idempotency-Key"] = nil // lets the transport resend on a connection that had died
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, unwrapURL(err))
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case int64(len(b)) > limit:
		return &AnswerError{server, fmt.Errorf("longer than %d bytes", limit)}
	case resp.StatusCode != http.StatusOK:
		var r Rejection
		if err := identity.Unmarshal(b, &r); err != nil || r.Code == Accepted {
			return &AnswerError{server, fmt.Errorf("status %d", resp.StatusCode)}
		}
		return &r
	}
	if err := open(b); err != nil {
		return &AnswerError{server, err}
	}
	return nil
}

// unwrapURL takes off the made-up URL, which would only puzzle.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
