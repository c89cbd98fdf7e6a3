package tun

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun/address"
	"scn.alt/scn/tun/tuntest"
)

func serveHTTP(t *testing.T, body []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() {
		srv.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// envHelper names the state file of a child that only holds a device.
const envHelper = "SCN_TUN_TEST_HELPER"

// helper is the child of TestKillLeavesNothing: it holds a device until it is killed.
func helper(state string) error {
	e, err := Open(Config{Overlay: &tuntest.Overlay{}, Network: testNetwork, State: state})
	if err != nil {
		return err
	}
	for n := range 3 {
		v4, v6, err := e.Assign(context.Background(), testService(n))
		if err != nil {
			return err
		}
		fmt.Println("ADDRESSES", v4, v6)
	}
	// A child of ours that lives on must not keep the device alive.
	cmd := exec.Command("sleep", "30")
	if err := cmd.Start(); err != nil {
		return err
	}
	fmt.Println("READY", cmd.Process.Pid)
	return e.Run(context.Background())
}

func TestKillLeavesNothing(t *testing.T) {
	tuntest.Require(t)
	state := filepath.Join(t.TempDir(), "addresses")
	before := routes(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var first []string
	for round := range 2 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), envHelper+"="+state)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var got []string
		sleeper := 0
		for sc := bufio.NewScanner(out); sc.Scan(); {
			if strings.HasPrefix(sc.Text(), "ADDRESSES") {
				got = append(got, sc.Text())
			} else if _, err := fmt.Sscanf(sc.Text(), "READY %d", &sleeper); err == nil {
				break
			} else {
				t.Log(sc.Text())
			}
		}
		if len(got) != 3 || sleeper == 0 {
			t.Fatalf("the helper failed: %v", got)
		}
		if _, err := netlink.LinkByName(DefaultName); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil { // SIGKILL
			t.Fatal(err)
		}
		_ = cmd.Wait()
		deadline := time.Now().Add(10 * time.Second)
		for routes(t) != before && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
		if after := routes(t); after != before {
			t.Errorf("after the kill:\n%s\nbefore:\n%s", after, before)
		}
		_ = syscall.Kill(sleeper, syscall.SIGKILL)
		if round == 0 {
			first = got
		} else if strings.Join(got, "\n") != strings.Join(first, "\n") {
			t.Errorf("addresses were %v, are %v", first, got)
		}
	}
}

// routes describes all links, addresses and routes of the namespace.
func routes(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		fmt.Fprintln(&b, "link", l.Attrs().Name)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		fmt.Fprintln(&b, "address", a.IPNet)
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rs, err := netlink.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			fmt.Fprintln(&b, "route", r.Dst, r.Table, r.LinkIndex)
		}
		rules, err := netlink.RuleList(family)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&b, "rules", len(rules))
	}
	return b.String()
}

func TestCheckFindsWhatIsInTheWay(t *testing.T) {
	e := openEdge(t, &tuntest.Overlay{}, nil)
	cfg := Config{Overlay: &tuntest.Overlay{}, Network: testNetwork}
	err := Check(cfg)
	if !errors.Is(err, ErrNameInUse) || errors.Is(err, ErrConflict) {
		t.Errorf("with a device up: %v", err)
	}
	if _, err := Open(cfg); !errors.Is(err, ErrNameInUse) {
		t.Errorf("Open: %v", err)
	}
	cfg.Name, cfg.Network, cfg.Pool = "scn1", [32]byte{8}, netip.MustParsePrefix("198.18.64.0/20")
	if err := Check(cfg); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), e.Name()) {
		t.Errorf("a part of another's range: %v", err)
	}
	cfg.Pool = netip.MustParsePrefix("10.77.0.0/16")
	if err := Check(cfg); err != nil {
		t.Errorf("a free range: %v", err)
	}
	second, err := Open(cfg) // two in one process
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if err := second.Run(t.Context()); !errors.Is(err, ErrClosed) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run after Close: %v", err)
	}
}

func TestBroadRoutesAreNoConflict(t *testing.T) {
	tuntest.Require(t)
	dummy := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "vpn0"}, PeerName: "vpn1"}
	if err := netlink.LinkAdd(dummy); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = netlink.LinkDel(dummy) }()
	if err := netlink.LinkSetUp(dummy); err != nil {
		t.Fatal(err)
	}
	add := func(s string) {
		_, dst, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: dummy.Attrs().Index, Dst: dst}); err != nil {
			t.Fatal(err)
		}
	}
	cfg := Config{Overlay: &tuntest.Overlay{}, Network: testNetwork}
	add("0.0.0.0/1")
	add("128.0.0.0/1")
	add("192.0.0.0/2")
	if err := Check(cfg); err != nil {
		t.Error(err)
	}
	add("198.19.7.0/24")
	if err := Check(cfg); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "198.19.7.0/24") || !strings.Contains(err.Error(), "vpn0") {
		t.Errorf("got %v", err)
	}
}

func TestRestartKeepsAddressesAndResetsFlows(t *testing.T) {
	tuntest.Require(t)
	cfg := Config{Overlay: nil, Network: testNetwork, State: filepath.Join(t.TempDir(), "addresses")}
	o := &tuntest.Overlay{}
	cfg.Overlay = o
	s := testService(1)
	o.Serve(s, "tcp", 80, listen(t, echo))
	run := func(use func(e *Edge, v4, v6 netip.Addr)) {
		e, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { done <- e.Run(ctx) })
		defer wg.Wait()
		v4, v6, err := e.Assign(ctx, s)
		if err != nil {
			t.Error(err)
		}
		use(e, v4, v6)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	var was [2]netip.Addr
	var old net.Conn
	run(func(_ *Edge, v4, v6 netip.Addr) {
		was = [2]netip.Addr{v4, v6}
		old = mustDial(t, "tcp", v4, 80)
		if _, err := old.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := old.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
	})
	// The application learned of it at once.
	if _, err := old.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the edge went: %v", err)
	}
	run(func(_ *Edge, v4, v6 netip.Addr) {
		if was != [2]netip.Addr{v4, v6} {
			t.Errorf("addresses were %v, are %v %v", was, v4, v6)
		}
		mustDial(t, "tcp", v4, 80)
	})
}

func TestRunEndsWhenTheDeviceIsTakenAway(t *testing.T) {
	tuntest.Require(t)
	e, err := Open(Config{Overlay: &tuntest.Overlay{}, Network: testNetwork})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { done <- e.Run(t.Context()) })
	link, err := netlink.LinkByName(e.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, done); err == nil || !strings.Contains(err.Error(), e.Name()) {
		t.Errorf("Run returned %v", err)
	}
	wg.Wait()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestIPv6OffByDefault(t *testing.T) {
	tuntest.Require(t)
	const file = "/proc/sys/net/ipv6/conf/default/disable_ipv6"
	if err := os.WriteFile(file, []byte("1"), 0); err != nil {
		t.Skip("no IPv6:", err)
	}
	defer func() { _ = os.WriteFile(file, []byte("0"), 0) }()
	e := openEdge(t, &tuntest.Overlay{}, nil)
	if _, v6 := e.Addresses(); !v6.IsValid() {
		t.Error("the host's default turned IPv6 off for the device")
	}
}

func TestAcceptedConnectionsKeepAlive(t *testing.T) {
	o := &tuntest.Overlay{Opaque: true}
	e := openEdge(t, o, nil)
	s := testService(1)
	o.Serve(s, "tcp", 80, listen(t, echo))
	a, _, err := e.Assign(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	mustDial(t, "tcp", a, 80)
	var c *net.TCPConn
	for deadline := time.Now().Add(10 * time.Second); c == nil && time.Now().Before(deadline); {
		e.tcp.mu.Lock()
		for _, f := range e.tcp.byApp {
			c = f.conn
		}
		e.tcp.mu.Unlock()
	}
	if c == nil {
		t.Fatal("nothing accepted")
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		on, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		idle, _ := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
		delay, _ := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY)
		if on != 1 || idle != 120 || delay != 1 {
			t.Errorf("keep-alive %d after %d s, no delay %d", on, idle, delay)
		}
	})
}

func TestTwoQueues(t *testing.T) {
	o := &tuntest.Overlay{Opaque: true}
	e := openEdge(t, o, func(c *Config) { c.Queues = 2 })
	s := testService(1)
	o.Serve(s, "tcp", 80, listen(t, echo))
	v4, v6, err := e.Assign(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			a := v4
			if n%2 == 1 && v6.IsValid() {
				a = v6
			}
			c, err := net.Dial("tcp", netip.AddrPortFrom(a, 80).String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(60 * time.Second))
			const size = 2 << 20
			var up sync.WaitGroup
			up.Go(func() { send(t, c, byte(n), size) })
			if receive(t, c) != sumOf(byte(n), size) {
				t.Error("the bytes differ")
			}
			up.Wait()
		})
	}
	wg.Wait()
}

// earlyOverlay opens streams before the provider's answer.
type earlyOverlay struct{ *tuntest.Overlay }

// earlyConn dials at its first use.
type earlyConn struct {
	net.Conn
	dial func() (net.Conn, error)
}

func (c *earlyConn) Read(b []byte) (int, error) {
	d, err := c.dial()
	if err != nil {
		return 0, err
	}
	return d.Read(b)
}

func (c *earlyConn) Write(b []byte) (int, error) {
	d, err := c.dial()
	if err != nil {
		return 0, err
	}
	return d.Write(b)
}

func (c *earlyConn) CloseWrite() error {
	d, err := c.dial()
	if err != nil {
		return err
	}
	return d.(*net.TCPConn).CloseWrite()
}

func (c *earlyConn) Close() error {
	d, err := c.dial()
	if err != nil {
		return nil
	}
	return d.Close()
}

func (o earlyOverlay) DialEarly(ctx context.Context, s identity.ServiceID, port uint16) (net.Conn, error) {
	ctx = context.WithoutCancel(ctx)
	return &earlyConn{dial: sync.OnceValues(func() (net.Conn, error) { return o.Dial(ctx, s, port) })}, nil
}

func TestEarlyStreams(t *testing.T) {
	o := earlyOverlay{&tuntest.Overlay{}}
	e := openEdge(t, o, nil)
	s := testService(1)
	o.Serve(s, "tcp", 80, listen(t, echo))
	a, _, err := e.Assign(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c := mustDial(t, "tcp", a, 80)
		fmt.Fprint(c, "hello")
		_ = c.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if m := e.Metrics(); m.FlowsEarly != 2 {
		t.Errorf("%+v", m)
	}
	o.Fail(s, "tcp", 80, syscall.ECONNREFUSED)
	if c, err := dial(t, "tcp", a, 80); err == nil {
		fmt.Fprint(c, "hello")
		if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("refused after an early answer: %v", err)
		}
	}
	// The application may be faster than the note of the refusal.
	for try := 0; ; try++ {
		_, err := dial(t, "tcp", a, 80)
		if errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		if try == 10 {
			t.Fatalf("the holding did not come back: %v", err)
		}
	}
}

func TestSelfTestFindsAFirewall(t *testing.T) {
	e := openEdge(t, &tuntest.Overlay{}, nil)
	if err := e.SelfTest(t.Context()); err != nil {
		t.Fatal(err)
	}
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip(err)
	}
	run := func(rules string) {
		t.Helper()
		cmd := exec.Command(nft, "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	// What an ordinary firewall does: only answers may come in.
	run("add table inet t; add chain inet t input { type filter hook input priority 0; policy drop; }\n" +
		"add rule inet t input iifname lo accept\nadd rule inet t input ct state established,related accept")
	defer run("delete table inet t")
	if err := e.SelfTest(t.Context()); !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), e.Name()) {
		t.Errorf("behind a firewall: %v", err)
	}
	run("add rule inet t input iifname " + e.Name() + " accept")
	if err := e.SelfTest(t.Context()); err != nil {
		t.Errorf("after what the message says: %v", err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		err  error
		want error
		text string
	}{
		{syscall.ENOENT, ErrNoDevice, "modprobe tun"},
		{syscall.ENODEV, ErrNoDevice, "--no-tun"},
		{syscall.EPERM, ErrPermission, "run as root"},
		{syscall.EACCES, ErrPermission, "CAP_NET_ADMIN"},
		{syscall.EBUSY, ErrNameInUse, "scn7"},
	} {
		err := explainOpen("scn7", &os.PathError{Op: "open", Path: tunPath, Err: c.err})
		if !errors.Is(err, c.want) || !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v: %v", c.err, err)
		}
	}
}

func TestForwardedPacketsAreDropped(t *testing.T) {
	o := &tuntest.Overlay{}
	e := openEdge(t, o, nil)
	s := testService(1)
	o.Serve(s, "tcp", 80, listen(t, echo))
	a, _, err := e.Assign(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	l := &loop{edge: e, queue: e.dev.queues[0]}
	syn := make([]byte, 40)
	copy(syn, []byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6})
	copy(syn[12:], []byte{192, 0, 2, 9})
	copy(syn[16:], a.AsSlice())
	copy(syn[20:], []byte{0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2})
	l.handle(syn)
	if m := e.Metrics(); m.Foreign != 1 || m.Flows != 0 {
		t.Errorf("%+v", m)
	}
}

func TestListenerTakesNobodyElse(t *testing.T) {
	e := openEdge(t, &tuntest.Overlay{}, nil)
	c, err := net.DialTimeout("tcp", e.family4.listening().String(), time.Second)
	if err != nil {
		return // reset before the connect returned
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an application reached the listener of turned flows: %v", err)
	}
}

func TestConfigFaultsAreAllReported(t *testing.T) {
	err := Config{Name: "a/b", Pool: netip.MustParsePrefix("10.0.0.0/30"), MaxFlows: -1, DialTimeout: -1}.Validate()
	for _, want := range []string{"overlay", "network ID", "a/b", "10.0.0.0/30", "flows", "dial timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
	if !errors.Is(err, ErrConfig) || !errors.Is(err, address.ErrPool) {
		t.Error(err)
	}
}
