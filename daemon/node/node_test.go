package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scn.alt/scn/daemon/node"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// running is a node whose Run ends with the test.
type running struct {
	*node.Node
	dir  string
	stop func()
}

// freeAddress finds a loopback address whose UDP port and the next are free.
func freeAddress(t testing.TB) netip.AddrPort {
	t.Helper()
	for range 100 {
		a := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(20000+2*rand.IntN(20000)))
		next := netip.AddrPortFrom(a.Addr(), a.Port()+1)
		if isFree(a) && isFree(next) {
			return a
		}
	}
	t.Fatal("no two free UDP ports in a row")
	return netip.AddrPort{}
}

func isFree(a netip.AddrPort) bool {
	c, err := net.ListenPacket("udp", a.String())
	return err == nil && c.Close() == nil
}

// initNode makes a node's directory; without a network file it founds one.
func initNode(t testing.TB, networkFile []byte) (string, netip.AddrPort) {
	t.Helper()
	dir, address := t.TempDir(), freeAddress(t)
	cfg := node.InitConfig{Listen: address, NetworkFile: networkFile}
	if networkFile == nil {
		cfg.NewNetwork, cfg.Advertise = "test", address
	}
	if _, err := node.Init(dir, cfg); err != nil {
		t.Fatal(err)
	}
	return dir, address
}

func start(t testing.TB, dir string, address netip.AddrPort, change ...func(*node.Config)) *running {
	t.Helper()
	cfg := node.Config{Dir: dir, Listen: address, AllowLoopback: true, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, f := range change {
		f(&cfg)
	}
	n, err := node.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }() // ends with stop
	r := &running{Node: n, dir: dir}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := n.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

// pair starts an authority and a node that joined.
func pair(t testing.TB) (authority, joined *running) {
	t.Helper()
	dir, address := initNode(t, nil)
	authority = start(t, dir, address)
	file, err := os.ReadFile(filepath.Join(dir, "network.toml"))
	if err != nil {
		t.Fatal(err)
	}
	dir, address = initNode(t, file)
	joined = start(t, dir, address)
	for _, n := range []*running{authority, joined} {
		if !n.WaitJoined(within(t, 20*time.Second)) {
			t.Fatal("no DHT peer")
		}
	}
	return authority, joined
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// echo answers every connection of a listener with what it sent, in upper case.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() { // ends with its connection
			defer c.Close()
			b, err := io.ReadAll(c)
			if err == nil {
				_, _ = io.WriteString(c, strings.ToUpper(string(b)))
			}
		}()
	}
}

func call(t testing.TB, n *running, name string) {
	t.Helper()
	c, err := n.Dial(within(t, 20*time.Second), name, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil || string(b) != "HELLO" {
		t.Fatalf("read %q, %v", b, err)
	}
}

func TestListenAndDialByName(t *testing.T) {
	authority, joined := pair(t)
	l, err := joined.Listen(within(t, 20*time.Second), "echo", 7)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go echo(l) // ends with the listener
	call(t, authority, "echo.top")
	call(t, authority, "echo")
	call(t, joined, "echo.scn.alt") // itself
	r, err := authority.Resolve(within(t, 10*time.Second), "echo")
	if err != nil {
		t.Fatal(err)
	}
	call(t, authority, r.Service.String())
}

func TestServeAndRestart(t *testing.T) {
	authority, joined := pair(t)
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	go echo(target) // ends with the listener
	s, err := joined.Serve(within(t, 20*time.Second), node.Service{
		Name: "echo", Targets: []string{"7=tcp://" + target.Addr().String()}, Allow: []string{"all"}, Weight: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.State != "online" || !s.Owned {
		t.Errorf("state %+v", s)
	}
	call(t, authority, "echo")
	listen := joined.Sessions().Locators()[0]
	joined.stop()
	again := start(t, joined.dir, listen)
	if got := again.Services(); len(got) != 1 || got[0].ID != s.ID {
		t.Fatalf("services after a restart: %+v", got)
	}
	call(t, authority, "echo")
}

func TestNameIsTaken(t *testing.T) {
	authority, joined := pair(t)
	if _, err := authority.RegisterName(within(t, 10*time.Second), "mine", nil, 0); err != nil {
		t.Fatal(err)
	}
	_, err := joined.Serve(within(t, 20*time.Second), node.Service{Name: "mine", Targets: []string{"7=tcp://127.0.0.1:7"}, Allow: []string{"all"}})
	if !errors.Is(err, node.ErrTaken) || !strings.Contains(err.Error(), authority.Account().String()) {
		t.Fatalf("error %v, want ErrTaken and the holder", err)
	}
}

// TestTransfer hands a name over in two steps.
func TestTransfer(t *testing.T) {
	authority, joined := pair(t)
	ctx := within(t, 30*time.Second)
	if _, err := joined.RegisterName(ctx, "gift", nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.AcceptName(ctx, "gift"); err == nil {
		t.Fatal("took a name nobody offered")
	}
	if _, err := joined.OfferName(ctx, "gift", authority.Account()); err != nil {
		t.Fatal(err)
	}
	info, err := authority.AcceptName(ctx, "gift")
	if err != nil || info.Record.Owner != authority.Account() {
		t.Fatalf("accept: %+v, %v", info, err)
	}
	if err := joined.ReleaseName(ctx, "gift"); err == nil {
		t.Fatal("released a name given away")
	}
	if err := authority.ReleaseName(ctx, "gift"); err != nil {
		t.Fatal(err)
	}
	if info, err := joined.NameInfo(ctx, "gift"); err != nil || info.Registered {
		t.Fatalf("after release: %+v, %v", info, err)
	}
}

// TestGrant lets a second node provide a service whose key it does not have.
func TestGrant(t *testing.T) {
	authority, joined := pair(t)
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	go echo(target) // ends with the listener
	s := node.Service{Name: "both", Targets: []string{"7=tcp://" + target.Addr().String()}, Allow: []string{"all"}, Weight: 100}
	if _, err := authority.Serve(within(t, 20*time.Second), s); err != nil {
		t.Fatal(err)
	}
	if _, err := joined.Serve(within(t, 20*time.Second), s); !errors.Is(err, node.ErrTaken) {
		t.Fatalf("without a grant: %v", err)
	}
	if err := authority.Grant(within(t, 20*time.Second), "both", record.Grant{Node: joined.ID(), Weight: 100}); err != nil {
		t.Fatal(err)
	}
	state, err := joined.Serve(within(t, 20*time.Second), s)
	if err != nil || state.Owned {
		t.Fatalf("with a grant: %+v, %v", state, err)
	}
	call(t, joined, "both")
	call(t, authority, "both")
}

func TestAdmission(t *testing.T) {
	authority, joined := pair(t)
	if err := joined.Admit(within(t, 5*time.Second), authority.ID()); !errors.Is(err, node.ErrNotFounder) {
		t.Fatalf("admit by a node that is not the founder: %v", err)
	}
	if err := authority.Admit(within(t, 10*time.Second), joined.ID()); err != nil {
		t.Fatal(err)
	}
	f := authority.Network()
	if f.Sequence != 2 || !f.Admits(joined.ID()) || f.Admits(identity.NodeID{1}) {
		t.Fatalf("network file %+v", f)
	}
	if err := authority.Remove(within(t, 10*time.Second), joined.ID()); err != nil {
		t.Fatal(err)
	}
	if authority.Network().Admits(joined.ID()) {
		t.Fatal("still admitted")
	}
}

func TestDirectoryIsLocked(t *testing.T) {
	dir, address := initNode(t, nil)
	start(t, dir, address)
	if _, err := node.Open(node.Config{Dir: dir, Listen: freeAddress(t)}); !errors.Is(err, node.ErrInUse) {
		t.Fatalf("second node on one directory: %v", err)
	}
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "scn-example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	address := netip.MustParseAddrPort("127.0.0.1:46500")
	if _, err := node.Init(dir, node.InitConfig{NewNetwork: "example", Advertise: address, Listen: address}); err != nil {
		panic(err)
	}
	n, err := node.Open(node.Config{Dir: dir, Listen: address, AllowLoopback: true})
	if err != nil {
		panic(err)
	}
	defer n.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	done := make(chan error)
	go func() { done <- n.Run(ctx) }()

	l, err := n.Listen(ctx, "greeter", 80)
	if err != nil {
		panic(err)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "hello, caller")
	}()
	c, err := n.Dial(ctx, "greeter.top", 80)
	if err != nil {
		panic(err)
	}
	b, _ := io.ReadAll(c)
	fmt.Println(string(b))
	cancel()
	<-done
	// Output: hello, caller
}
