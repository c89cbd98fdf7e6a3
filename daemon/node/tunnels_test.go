package node_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"scn.alt/scn/daemon/node"
)

// A node that gets nothing by UDP to the only node it knows comes in through TCP,
// finds and publishes records over the session, and is found itself.
func TestTunnelWhereUDPIsBlocked(t *testing.T) {
	hole, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close() // what is sent there is lost
	dir, address := initNode(t, nil)
	d, err := node.OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	file, _, err := d.Network()
	if err != nil {
		t.Fatal(err)
	}
	key, err := d.NetworkKey()
	if err != nil {
		t.Fatal(err)
	}
	tcp := freeAddress(t)
	file.Sequence++
	file.Bootstrap[0].Addresses = []netip.AddrPort{hole.LocalAddr().(*net.UDPAddr).AddrPort()}
	file.Parameters = map[string]any{"relay_tcp_port": int64(tcp.Port())}
	if file, err = file.Sign(key); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteNetwork(file.Bytes()); err != nil {
		t.Fatal(err)
	}
	nobody := func(netip.Addr) bool { return true }
	relay := startWith(t, node.Config{Dir: dir, Listen: address, AllowLoopback: true, TunnelListen: tcp.String(), ExcludeAddress: nobody})
	if fault := relay.TunnelFault(); fault != "" {
		t.Fatalf("the port was taken meanwhile: %s", fault)
	}
	l, err := relay.Listen(within(t, 20*time.Second), "files", 7)
	if err != nil {
		t.Fatal(err)
	}
	go echo(l) // ends with the listener
	defer l.Close()

	start := time.Now()
	dir, address = initNode(t, file.Bytes())
	joined := startWith(t, node.Config{Dir: dir, Listen: address, AllowLoopback: true})
	for !func() bool { // the first attempts may come before the tunnel
		c, err := joined.Dial(within(t, 10*time.Second), "files", 7)
		return err == nil && c.Close() == nil
	}() {
		time.Sleep(50 * time.Millisecond)
		if time.Since(start) > 40*time.Second {
			t.Fatal("nothing in 40 s")
		}
	}
	t.Logf("first session after %s", time.Since(start).Round(time.Millisecond))
	call(t, joined, "files")
	m, theirs := joined.TunnelMetrics(), relay.TunnelMetrics()
	if m.Client.Opened == 0 || m.Client.Sent == 0 || m.Client.Received == 0 || theirs.Server.Received == 0 {
		t.Errorf("counted %+v and %+v", m, theirs)
	}
	if joined.Router().Metrics().DelegatedFound == 0 {
		t.Error("no record was found over the session")
	}
}

// startWith starts a node with a configuration of the test's.
func startWith(t testing.TB, cfg node.Config) *running {
	t.Helper()
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	n, err := node.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }() // ends with the test
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := n.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return &running{Node: n, dir: cfg.Dir}
}
