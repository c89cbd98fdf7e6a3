package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Client holds a tunnel to one relay open while it runs.
type Client struct {
	cfg      ClientConfig
	udp      *net.UDPConn
	port     *port
	kick     chan struct{}
	counters counters
	up       atomic.Bool
	from     atomic.Pointer[netip.Addr]
	reader   sync.WaitGroup
}

// Open binds the UDP port that stands for the relay. The caller runs Run and ends
// with Close.
func Open(cfg ClientConfig) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg.withDefaults(), kick: make(chan struct{}, 1)}
	var err error
	if c.udp, err = dialNode(cfg.Node); err != nil {
		return nil, fmt.Errorf("tunnel: %w", err)
	}
	c.port = newPort(c.udp, newPool(), &c.counters)
	c.reader.Go(c.port.read)
	return c, nil
}

// Close closes the UDP port; Run must have ended, or end with its context. It is
// idempotent.
func (c *Client) Close() error {
	err := c.udp.Close()
	c.reader.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Local returns the address on loopback that stands for the relay.
func (c *Client) Local() netip.AddrPort { return c.udp.LocalAddr().(*net.UDPAddr).AddrPort() }

// Up reports whether there is a connection to the relay now.
func (c *Client) Up() bool { return c.up.Load() }

// From returns the address of this host the connection is from, the zero Addr when
// there is none.
func (c *Client) From() netip.Addr {
	if a := c.from.Load(); a != nil {
		return *a
	}
	return netip.Addr{}
}

// Kick has the connection made anew at once: the network has changed, and TCP
// would not notice for long. It returns at once.
func (c *Client) Kick() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Metrics returns a snapshot.
func (c *Client) Metrics() Metrics { return c.counters.snapshot() }

// Run keeps a connection to the relay until ctx ends, with back-off, and returns
// nil.
func (c *Client) Run(ctx context.Context) error {
	for pause := time.Duration(0); ctx.Err() == nil; {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-c.kick:
			pause = 0
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			break
		}
		start := time.Now()
		err := c.session(ctx)
		switch {
		case errors.Is(err, errKicked):
			pause = 0
			continue
		case time.Since(start) > c.cfg.timing.longest:
			pause = 0 // it was good for a while
		}
		pause = min(max(2*pause, c.cfg.timing.retry), c.cfg.timing.longest)
		pause += rand.N(pause/4 + 1)
	}
	return nil
}

// errKicked ends a session that Kick wants to be made anew.
var errKicked = errors.New("tunnel: kicked")

// session makes one connection and uses it to its end.
func (c *Client) session(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel(nil) // before the wait
	watch.Go(func() {
		select {
		case <-c.kick:
			cancel(errKicked)
		case <-ctx.Done():
		}
	})
	ws, err := c.dial(ctx)
	if err != nil {
		if errors.Is(context.Cause(ctx), errKicked) {
			return errKicked
		}
		c.counters.failed.Add(1)
		c.cfg.Logger.Debug("tunnel not opened", "err", err)
		return err
	}
	c.port.discard()
	c.cfg.Logger.Info("tunnel opened", "remote", ws.RemoteAddr().String(), "local", c.Local().String())
	if tcp, ok := ws.LocalAddr().(*net.TCPAddr); ok {
		from := tcp.AddrPort().Addr().Unmap()
		c.from.Store(&from)
	}
	c.up.Store(true)
	c.cfg.Connected()
	err = c.port.carry(ctx, ws, c.cfg.timing, 0)
	c.up.Store(false)
	c.from.Store(nil)
	if errors.Is(context.Cause(ctx), errKicked) {
		err = errKicked
	}
	c.cfg.Logger.Info("tunnel closed", "remote", ws.RemoteAddr().String(), "err", err)
	return err
}

// dial tries the servers, each a moment after the one before, and returns the
// first WebSocket there is.
func (c *Client) dial(ctx context.Context) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.timing.dial+time.Duration(len(c.cfg.Servers))*c.cfg.timing.stagger)
	defer cancel()
	type result struct {
		ws  *websocket.Conn
		err error
	}
	results := make(chan result, len(c.cfg.Servers))
	var attempts sync.WaitGroup
	for i, server := range c.cfg.Servers {
		attempts.Go(func() {
			if !sleep(ctx, time.Duration(i)*c.cfg.timing.stagger) {
				results <- result{nil, ctx.Err()}
				return
			}
			ws, err := c.dialServer(ctx, server)
			results <- result{ws, err}
		})
	}
	var first *websocket.Conn
	var errs []error
	for range c.cfg.Servers {
		r := <-results
		switch {
		case r.err != nil:
			errs = append(errs, r.err)
		case first == nil:
			first = r.ws
			cancel()
		default:
			_ = r.ws.Close()
		}
	}
	attempts.Wait()
	if first != nil {
		return first, nil
	}
	return nil, errors.Join(errs...)
}

// dialServer opens a WebSocket at one address.
func (c *Client) dialServer(ctx context.Context, server netip.AddrPort) (*websocket.Conn, error) {
	// The library looks at ctx while it dials, and not while it waits for a proxy;
	// nor does it bound the headers of an answer.
	unhook := func() bool { return true }
	var lower *limited
	dialer := websocket.Dialer{
		Proxy: c.cfg.Proxy,
		NetDialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{Control: tune}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			unhook = context.AfterFunc(ctx, func() { _ = conn.Close() })
			lower = newLimited(conn, maxHandshake)
			return lower, nil
		},
		// Whose certificate it is does not matter: see the package's comment.
		TLSClientConfig:  &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}},
		HandshakeTimeout: c.cfg.timing.dial,
		Subprotocols:     []string{subprotocol},
		ReadBufferSize:   4096, WriteBufferSize: 4096,
	}
	ws, answer, err := dialer.DialContext(ctx, "wss://"+server.String()+Path, nil)
	if !unhook() && err == nil {
		err = errors.Join(ctx.Err(), ws.Close())
	}
	if err != nil {
		if answer != nil {
			return nil, fmt.Errorf("tunnel: %s answered %q: %w", server, answer.Status, err)
		}
		return nil, fmt.Errorf("tunnel: %s: %w", server, err)
	}
	lower.lift()
	if ws.Subprotocol() != subprotocol {
		return nil, errors.Join(fmt.Errorf("tunnel: %s speaks something else", server), ws.Close())
	}
	return ws, nil
}

// ServersOf are the TCP addresses to be tried for a relay known by its UDP
// addresses: the same hosts, each once, at the given port.
func ServersOf(locators []netip.AddrPort, tcpPort uint16) []netip.AddrPort {
	var out []netip.AddrPort
	seen := map[netip.Addr]bool{}
	for _, l := range locators {
		if a := l.Addr().Unmap(); a.IsValid() && !a.IsUnspecified() && !seen[a] {
			seen[a] = true
			out = append(out, netip.AddrPortFrom(a, tcpPort))
		}
	}
	return out
}

// sleep waits, and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
