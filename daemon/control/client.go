package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"syscall"
)

// Client calls a daemon through its socket.
type Client struct {
	socket string
	http   http.Client
}

// NewClient returns a client of the daemon behind the unix socket named. It does
// not connect yet.
func NewClient(socket string) *Client {
	c := &Client{socket: socket}
	c.http.Transport = &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return c.connect(ctx) },
		DisableCompression: true,
	}
	return c
}

// Close drops idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Status returns the daemon's state.
func (c *Client) Status(ctx context.Context) (v Status, err error) {
	return v, c.get(ctx, "status", nil, &v)
}

// Lookup resolves a name, a name with its zone, or a service ID.
func (c *Client) Lookup(ctx context.Context, name string) (v Lookup, err error) {
	return v, c.get(ctx, "lookup", url.Values{"name": {name}}, &v)
}

// Ping makes one overlay round trip.
func (c *Client) Ping(ctx context.Context, name string) (v Ping, err error) {
	return v, c.get(ctx, "ping", url.Values{"name": {name}}, &v)
}

// Serve provides a service from now on, over restarts too.
func (c *Client) Serve(ctx context.Context, q ServeRequest) (v Service, err error) {
	return v, c.post(ctx, "serve", q, &v)
}

// Unserve stops providing a service.
func (c *Client) Unserve(ctx context.Context, name string) error {
	return c.post(ctx, "unserve", NameRequest{Name: name}, nil)
}

// Grant lets another node provide a service this node owns.
func (c *Client) Grant(ctx context.Context, q NameRequest) error { return c.post(ctx, "grant", q, nil) }

// Revoke takes a grant back.
func (c *Client) Revoke(ctx context.Context, q NameRequest) error {
	return c.post(ctx, "revoke", q, nil)
}

// ShowName returns what the ledger says of a name.
func (c *Client) ShowName(ctx context.Context, name string) (v Name, err error) {
	return v, c.get(ctx, "name", url.Values{"name": {name}}, &v)
}

// RegisterName registers a name, or points one of this node's at another service.
func (c *Client) RegisterName(ctx context.Context, q NameRequest) (v Name, err error) {
	return v, c.post(ctx, "name/register", q, &v)
}

// TransferName offers a name to another account.
func (c *Client) TransferName(ctx context.Context, q NameRequest) (v Name, err error) {
	return v, c.post(ctx, "name/transfer", q, &v)
}

// AcceptName takes a name that was offered to this node's account.
func (c *Client) AcceptName(ctx context.Context, q NameRequest) (v Name, err error) {
	return v, c.post(ctx, "name/accept", q, &v)
}

// RenewName pays for a name for a term longer.
func (c *Client) RenewName(ctx context.Context, q NameRequest) (v Name, err error) {
	return v, c.post(ctx, "name/renew", q, &v)
}

// ReleaseName gives a name up.
func (c *Client) ReleaseName(ctx context.Context, name string) error {
	return c.post(ctx, "name/release", NameRequest{Name: name}, nil)
}

// Admit lets a node into the network (founder only).
func (c *Client) Admit(ctx context.Context, q NameRequest) error {
	return c.post(ctx, "network/admit", q, nil)
}

// Remove takes a node's admission back (founder only).
func (c *Client) Remove(ctx context.Context, q NameRequest) error {
	return c.post(ctx, "network/remove", q, nil)
}

// SetParameter changes a parameter of the network (founder only).
func (c *Client) SetParameter(ctx context.Context, q ParameterRequest) error {
	return c.post(ctx, "network/set", q, nil)
}

// Dial opens a session to a service. The connection supports CloseWrite; a read that
// fails with io.ErrUnexpectedEOF means that the session broke.
func (c *Client) Dial(ctx context.Context, name string, port uint16) (net.Conn, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	query := url.Values{"name": {name}, "port": {strconv.Itoa(int(port))}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://scn/v1/dial?"+query.Encode(), nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", upgradeProtocol)
	if err := req.Write(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer conn.Close()
		return nil, decodeError(resp)
	}
	return readerConn{conn, httputil.NewChunkedReader(r)}, nil
}

func (c *Client) connect(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, Errorf(NotRunning, "no access to %s: run as root, or join the group scn (usermod -aG scn $USER, then log in again)", c.socket)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, Errorf(NotRunning, "no daemon answers at %s: start it with \"scn up\" (or name its directory with --dir)", c.socket)
	}
	return nil, err
}

func (c *Client) get(ctx context.Context, path string, query url.Values, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://scn/v1/"+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	return c.do(req, v)
}

func (c *Client) post(ctx context.Context, path string, q, v any) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://scn/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	return c.do(req, v)
}

func (c *Client) do(req *http.Request, v any) error {
	resp, err := c.http.Do(req)
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			return e
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return Errorf(Unreachable, "the daemon did not answer in time")
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return decodeError(resp)
	}
	if v == nil {
		v = &struct{}{}
	}
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("answer of the daemon: %w", err)
	}
	return nil
}

func decodeError(resp *http.Response) error {
	var e Error
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&e); err != nil || e.Code == "" {
		return fmt.Errorf("the daemon answered %s; it may be of another version", resp.Status)
	}
	return &e
}
