package cashier

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/routing/identity"
)

// A client that has seen more than a ledger put back to an older state notices, and
// so does the ledger through it: no transactions until its operator's word, after
// which the client follows the new history.
func TestClientDisputes(t *testing.T) {
	config := func(c *Config) {
		c.Clock = time.Now
		c.Balances = []GenesisBalance{{alice.Account(), 1000}}
	}
	until := time.Now().Unix() + 3600
	ctx := t.Context()
	disk := vfs.NewMem()
	l := open(t, config, func(c *Config) { c.fs = disk })
	payMany(t, l, 1, 2, until)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	old := vfs.NewMem()
	copyTree(t, disk, old, "ledger")

	newer := open(t, config, func(c *Config) { c.fs = disk })
	payMany(t, newer, 3, 2, until)
	older := open(t, config, func(c *Config) { c.fs = old })
	address := func(l *Ledger) string {
		s := must[*Server](t)(NewServer(l, ServerConfig{}))
		ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, ln) }()
		t.Cleanup(func() { cancel(); <-done })
		return ln.Addr().String()
	}
	addresses := []string{address(newer), address(older)}
	var which atomic.Int32
	c := must[*Client](t)(NewClient(ClientConfig{
		Network: network, Authorities: []identity.NodeID{authority.Node()},
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addresses[which.Load()])
		},
	}))
	if cp := must[SignedCheckpoint](t)(c.Checkpoint(ctx)); cp.Height != 4 {
		t.Fatalf("height %d", cp.Height)
	}
	which.Store(1)
	c.http.CloseIdleConnections()
	if _, err := c.Checkpoint(ctx); !errors.Is(err, ErrRollback) {
		t.Fatalf("an older ledger: %v", err)
	}
	op := Transfer{transferNumber(9), []Move{{Kind: MovePay, To: bob.Account(), Amount: 1}}}
	if _, err := older.Submit(ctx, payment(t, alice, until, op)); !errors.Is(err, ErrRolledBack) {
		t.Errorf("the ledger did not learn that it was put back: %v", err)
	}
	must[Fork](t)(older.AcceptRollback())
	if _, err := c.Checkpoint(ctx); !errors.Is(err, ErrRollback) {
		t.Errorf("the first answer after a fork: %v", err)
	}
	if cp := must[SignedCheckpoint](t)(c.Checkpoint(ctx)); cp.Height != 2 {
		t.Errorf("height %d after the fork", cp.Height)
	}
	payMany(t, older, 9, 1, until)
	if cp := must[SignedCheckpoint](t)(c.Checkpoint(ctx)); cp.Height != 3 {
		t.Errorf("height %d", cp.Height)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
