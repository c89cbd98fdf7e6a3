package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"scn.alt/scn/daemon/program"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/tun/target"
)

// ErrCheck is returned for a text that is no check.
var ErrCheck = errors.New("health: not a check (tcp, tcp:PORT, http:/path, http:PORT/path, exec:COMMAND)")

// maxCheck bounds the text of a check in bytes.
const maxCheck = 4 << 10

// kind says what a check tries.
type kind uint8

const (
	kindTCP kind = iota + 1
	kindHTTP
	kindExec
)

// Check is something that tells whether a service works. The zero value is none.
type Check struct {
	kind kind
	port uint16 // 0: as the kind chooses
	what string // path, or command
}

// ParseCheck reads the text of a check.
func ParseCheck(text string) (Check, error) {
	bad := fmt.Errorf("%q: %w", text[:min(len(text), 80)], ErrCheck)
	if len(text) > maxCheck || strings.ContainsAny(text, "\x00\r\n") {
		return Check{}, bad
	}
	name, rest, has := strings.Cut(text, ":")
	switch {
	case name == "tcp" && !has:
		return Check{kind: kindTCP}, nil
	case name == "tcp":
		port, ok := parsePort(rest)
		if !ok {
			return Check{}, bad
		}
		return Check{kind: kindTCP, port: port}, nil
	case name == "http" && has:
		number, _, _ := strings.Cut(rest, "/")
		c := Check{kind: kindHTTP, what: rest[len(number):]}
		if number != "" {
			var ok bool
			if c.port, ok = parsePort(number); !ok {
				return Check{}, bad
			}
		}
		if c.what == "" || strings.ContainsAny(c.what, " \t") {
			return Check{}, bad
		}
		return c, nil
	case name == "exec" && strings.TrimSpace(rest) != "":
		return Check{kind: kindExec, what: rest}, nil
	}
	return Check{}, bad
}

func parsePort(text string) (uint16, bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err == nil && n != 0 && text[0] != '0' && text[0] != '+'
}

// String returns the text ParseCheck reads.
func (c Check) String() string {
	port := ""
	if c.port != 0 {
		port = strconv.Itoa(int(c.port))
	}
	switch c.kind {
	case kindTCP:
		if port == "" {
			return "tcp"
		}
		return "tcp:" + port
	case kindHTTP:
		return "http:" + port + c.what
	case kindExec:
		return "exec:" + c.what
	}
	return ""
}

// IsZero reports whether there is nothing to check.
func (c Check) IsZero() bool { return c.kind == 0 }

// Of returns what tries the check on a service's targets, or why it cannot.
func (c Check) Of(service string, targets []target.Target) (func(context.Context) error, error) {
	if c.kind == kindExec {
		return func(ctx context.Context) error {
			_, err := program.Run(ctx, []string{"/bin/sh", "-c", c.what}, nil, "SCN_SERVICE="+service)
			return err
		}, nil
	}
	var on []target.Target
	for _, t := range targets {
		if t.Protocol() == record.TCP && (c.port == 0 || c.port == t.Port) {
			on = append(on, t)
		}
	}
	if len(on) == 0 {
		return nil, fmt.Errorf("%w: %q: no stream target on that port", ErrCheck, c)
	}
	if c.kind == kindHTTP {
		return func(ctx context.Context) error { return get(ctx, on[0], service, c.what) }, nil
	}
	return func(ctx context.Context) error {
		for _, t := range on {
			if err := connect(ctx, t); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func connect(ctx context.Context, t target.Target) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, t.Network, t.Address)
	if err != nil {
		return fmt.Errorf("target %s: %w", t, err)
	}
	return c.Close()
}

// get asks a target for a path, as a load balancer does: the status alone counts.
func get(ctx context.Context, t target.Target, service, path string) error {
	transport := &http.Transport{
		DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, t.Network, t.Address)
		},
	}
	client := http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+service+path, nil)
	if err != nil {
		return fmt.Errorf("target %s: %w", t, err)
	}
	req.Header.Set("User-Agent", "scn-health")
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("target %s: %w", t, err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("target %s: GET %s: %s", t, path, resp.Status)
	}
	return nil
}

// timeoutOf is how long one try may take.
func timeoutOf(interval time.Duration) time.Duration {
	return min(max(interval, time.Second), 10*time.Second)
}
