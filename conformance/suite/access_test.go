package suite

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/daemon/control"
)

// Reference: issue "What to build" 6: rules end what they forbid and touch nothing
// else, the application hears the truth, and a session may wait for the user.
func TestAccess(t *testing.T) {
	w := newWorld(t)
	other := w.actor("other", cafe)
	w.join(t, other)
	tcpServer(t, w.provider.host, "127.0.0.1:9005", copyBack)
	w.serve(t, "guarded", "9005=tcp://127.0.0.1:9005")
	ctx := within(t, 120*time.Second)
	connect := func(a *actor) (net.Conn, error) {
		address, err := a.Resolve(ctx, "ip4", "guarded.top")
		must(t, err)
		return a.host.Dial(within(t, 30*time.Second), "tcp", net.JoinHostPort(address.String(), "9005"))
	}
	open := func(a *actor) net.Conn {
		t.Helper()
		c, err := connect(a)
		must(t, err)
		t.Cleanup(func() { c.Close() })
		must(t, roundTrip(c))
		return c
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := w.provider.Run(ctx, args...)
		must(t, err)
		return string(out)
	}
	status, err := w.client.Status(ctx)
	must(t, err)
	client := status.NodeID.String()

	ends, stays := open(w.client), open(other)
	began := time.Now()
	run("access", "deny", "guarded", client)
	_ = ends.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err = ends.Read(make([]byte, 1))
	t.Logf("the application heard of the end after %v: %v", time.Since(began).Round(time.Millisecond), err)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the forbidden session goes on: %v", err)
	}
	must(t, roundTrip(stays))
	if out := run("access", "explain", client, "guarded"); !strings.Contains(out, "DENY") {
		t.Errorf("explained as\n%s", out)
	}
	// A port that accepted within the last 30 s is answered at once: that one is reset,
	// and the next hears why.
	eventually(t, 20*time.Second, func() error {
		began = time.Now()
		c, err := connect(w.client)
		if err == nil {
			_ = c.Close()
		}
		if !errors.Is(err, syscall.EHOSTUNREACH) {
			return fmt.Errorf("dial: %w", err)
		}
		return nil
	})
	t.Logf("refused after %v", time.Since(began).Round(time.Millisecond))

	// The first packet waits until the user has decided.
	run("access", "set", "guarded", "ask all")
	must(t, roundTrip(stays))
	var wg sync.WaitGroup
	var waited net.Conn
	var waitErr error
	wg.Go(func() { waited, waitErr = connect(w.client) })
	eventually(t, 20*time.Second, func() error {
		var v control.Verdicts
		if err := json.Unmarshal([]byte(run("verdict", "list", "--json")), &v); err != nil {
			return err
		}
		if len(v.Open) != 1 || v.Open[0].NodeID.String() != client {
			return fmt.Errorf("open questions %+v", v.Open)
		}
		run("verdict", "allow", v.Open[0].ID)
		return nil
	})
	wg.Wait()
	must(t, waitErr)
	defer waited.Close()
	must(t, roundTrip(waited))
}
