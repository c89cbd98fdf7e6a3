package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/conformance/wire"
)

func TestMain(m *testing.M) { Main(m) }

// twoLANs is the topology of most tests:
//
//	client ── lan1 (10.1.0.0/24) ── r ── lan2 (10.2.0.0/24) ── server
func twoLANs(t *testing.T) (lab *Lab, client, router, server *Host) {
	lab = Test(t)
	lan1 := lab.Switch("lan1", "10.1.0.0/24", "fd10:1::/64")
	lan2 := lab.Switch("lan2", "10.2.0.0/24", "fd10:2::/64")
	router = lab.Router("r")
	router.Attach(lan1, 1)
	router.Attach(lan2, 1)
	client, server = lab.Host("client"), lab.Host("server")
	client.Attach(lan1, 2)
	server.Attach(lan2, 2)
	return lab, client, router, server
}

func ping(t *testing.T, from *Host, to string) error {
	t.Helper()
	return from.Command(t.Context(), "ping", "-n", "-q", "-c", "1", "-W", "2", to).Run()
}

func TestRouting(t *testing.T) {
	_, client, _, server := twoLANs(t)
	for _, to := range []string{"10.2.0.2", "fd10:2::2", "10.1.0.1", "127.0.0.1"} {
		if err := ping(t, client, to); err != nil {
			t.Error(err)
		}
	}
	if err := ping(t, server, "10.1.0.2"); err != nil {
		t.Error(err)
	}
}

// echo answers every connection with what it sends.
func echo(t *testing.T, h *Host, address string) {
	t.Helper()
	l, err := h.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

func TestGoCodeInsideAHost(t *testing.T) {
	_, client, _, server := twoLANs(t)
	echo(t, server, "[::]:7")
	for _, to := range []string{"10.2.0.2:7", "[fd10:2::2]:7"} {
		c, err := client.Dial(t.Context(), "tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if _, err := client.Dial(t.Context(), "tcp", "10.2.0.2:8"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a closed port: %v, want a refusal", err)
	}
}

// The gap of a move is the kit's own overhead: it must be small beside what is
// measured on it.
func TestMove(t *testing.T) {
	lab, client, router, server := twoLANs(t)
	lan3 := lab.Switch("lan3", "10.3.0.0/24", "fd10:3::/64")
	router.Attach(lan3, 1)
	link := client.links[0]
	var slowest time.Duration
	for i := range 6 {
		to, old := lan3, link.Addr4()
		if i%2 == 1 {
			to = client.lab.switches[0]
		}
		link.Move(to, 10+i)
		began := time.Now()
		if got := client.Addresses("eth0"); len(got) != 2 {
			t.Fatalf("after the move the addresses are %v", got)
		}
		c, err := server.ListenPacket("udp", "10.2.0.2:9000")
		if err != nil {
			t.Fatal(err)
		}
		u, err := client.Dial(t.Context(), "udp", "10.2.0.2:9000")
		if err != nil {
			t.Fatal(err)
		}
		var from net.Addr
		for range 1000 { // the first packets may wait for neighbour discovery
			_, _ = u.Write([]byte("x"))
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			if _, from, err = c.ReadFrom(make([]byte, 10)); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatalf("nothing arrives after move %d: %v", i, err)
		}
		slowest = max(slowest, time.Since(began))
		if host, _, _ := net.SplitHostPort(from.String()); host != link.Addr4().String() {
			t.Errorf("the packet came from %s, want %s", host, link.Addr4())
		}
		if i == 0 {
			if err := ping(t, server, old.String()); err == nil {
				t.Errorf("the old address %s still answers", old)
			}
		}
		c.Close()
		u.Close()
		if err := ping(t, client, "fd10:2::2"); err != nil {
			t.Error(err)
		}
	}
	t.Logf("slowest first packet after a move: %v", slowest)
	if slowest > 500*time.Millisecond {
		t.Errorf("the first packet after a move took %v", slowest)
	}
}

func TestLinkStates(t *testing.T) {
	_, client, _, _ := twoLANs(t)
	link := client.links[0]
	fails := func(what string) {
		t.Helper()
		if err := client.Command(t.Context(), "ping", "-n", "-q", "-c", "1", "-W", "1", "10.2.0.2").Run(); err == nil {
			t.Errorf("%s, and a ping is answered", what)
		}
	}
	works := func(what string) {
		t.Helper()
		for _, to := range []string{"10.2.0.2", "fd10:2::2"} {
			if err := ping(t, client, to); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	link.Cut()
	fails("cut")
	link.Mend()
	works("mended")
	link.Down()
	fails("down")
	link.Up()
	works("up")
	link.SetCarrier(false)
	fails("no carrier")
	link.SetCarrier(true)
	works("carrier")
	link.Detach()
	fails("detached")
}

func TestTwoLinks(t *testing.T) {
	lab, client, router, _ := twoLANs(t)
	lan3 := lab.Switch("lan3", "10.3.0.0/24")
	router.Attach(lan3, 1)
	second := client.Attach(lan3, 2)
	if second.Name() != "eth1" {
		t.Errorf("the second link is %s", second.Name())
	}
	if err := ping(t, client, "10.2.0.2"); err != nil {
		t.Error(err)
	}
	client.links[0].Down()
	if err := ping(t, client, "10.2.0.2"); err != nil {
		t.Errorf("by the second link: %v", err)
	}
}

func TestPathMTU(t *testing.T) {
	_, client, router, _ := twoLANs(t)
	router.links[1].SetMTU(1280)
	sized := func(bytes int) error {
		return client.Command(t.Context(), "ping", "-n", "-q", "-M", "do", "-c", "3", "-i", "0.3", "-W", "2", "-s", fmt.Sprint(bytes-28), "10.2.0.2").Run()
	}
	if err := sized(1280); err != nil {
		t.Error(err)
	}
	if err := sized(1281); err == nil {
		t.Error("1281 bytes passed a 1280 link")
	}
}

func TestFilesOfAHost(t *testing.T) {
	lab := Test(t)
	a, b := lab.Host("a"), lab.Host("b")
	a.SetResolvers("10.9.9.9")
	see := func(h *Host, file string) string {
		t.Helper()
		out, err := h.Command(t.Context(), "cat", file).Output()
		if err != nil {
			t.Error(err)
		}
		return string(out)
	}
	if got := see(a, "/etc/resolv.conf"); got != "nameserver 10.9.9.9\n" {
		t.Errorf("resolv.conf of a: %q", got)
	}
	if got := see(b, "/etc/resolv.conf"); got != "" {
		t.Errorf("resolv.conf of b: %q", got)
	}
	if got := a.Resolvers(); !slices.Equal(got, []string{"10.9.9.9"}) {
		t.Errorf("resolvers of a: %v", got)
	}
	if err := a.Command(t.Context(), "sh", "-c", "echo here >/run/me; echo x >/etc/resolv.conf.new; mv /etc/resolv.conf.new /etc/resolv.conf").Run(); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(a.Dir(), "run/me")); err != nil || string(text) != "here\n" {
		t.Errorf("from outside: %q, %v", text, err)
	}
	if err := b.Command(t.Context(), "test", "!", "-e", "/run/me").Run(); err != nil {
		t.Errorf("b sees the /run of a: %v", err)
	}
	b.BindResolvConf()
	if err := b.Command(t.Context(), "sh", "-c", "echo 'nameserver 10.8.8.8' >/etc/resolv.conf && ! mv /etc/hosts /etc/resolv.conf 2>/dev/null").Run(); err != nil {
		t.Errorf("a bind mount: %v", err)
	}
	if got := b.Resolvers(); !slices.Equal(got, []string{"10.8.8.8"}) {
		t.Errorf("resolvers of b: %v", got)
	}
	if got := see(a, "/proc/sys/kernel/hostname"); got != "a\n" {
		t.Errorf("the host name of a is %q", got)
	}
	if err := a.Command(t.Context(), "sh", "-c", "! touch /run/.etc/passwd 2>/dev/null").Run(); err != nil {
		t.Error("a host can write to the machine's /etc")
	}
	if got := see(a, "/etc/passwd"); !strings.Contains(got, "root:") {
		t.Error("the rest of the machine's /etc is not there")
	}
}

func TestCommands(t *testing.T) {
	lab := Test(t)
	h := lab.Host("h")
	var stderr bytes.Buffer
	cmd := h.Command(t.Context(), "sh", "-c", "echo out; echo err >&2; exit 3")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if string(out) != "out\n" || stderr.String() != "err\n" || !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("%q, %q, %v", out, stderr.String(), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := h.Command(ctx, "sh", "-c", "sleep 60 & wait").Run(); err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("after its context a command ends with %v after %v", err, time.Since(began))
	}
	if err := h.Command(t.Context(), "no-such-program").Run(); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("a program that is not there: %v", err)
	}
}

// What a test leaves running ends with its lab, daemons included.
func TestNothingOutlivesTheLab(t *testing.T) {
	lab := Test(t)
	h := lab.Host("h")
	if err := h.Command(t.Context(), "sh", "-c", "setsid sleep 1234.5 >/dev/null 2>&1 & exit 0").Run(); err != nil {
		t.Fatal(err)
	}
	stays := h.Command(t.Context(), "sleep", "1234.5")
	if err := stays.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if pids = h.strays(); len(pids) >= 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the host's processes are %v, want two", pids)
		}
	}
	dir := h.Dir()
	if err := lab.Close(); err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !strings.Contains(string(stat), ") Z ") && !strings.Contains(string(stat), ") X ") {
			t.Errorf("process %d is still there: %s", pid, stat)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the host's directory is still there: %v", err)
	}
}

func TestJoin(t *testing.T) {
	lab := Test(t)
	if err := TUNAccess(); err != nil {
		Require(t, TUNAccess)
	}
	near, far := lab.Switch("near", "10.1.0.0/24"), lab.Switch("far", "10.1.0.0/24")
	const delay = 25 * time.Millisecond
	w := lab.Join(near, far, wire.Both(1, wire.Conditions{Delay: delay}))
	a, b := lab.Host("a"), lab.Host("b")
	a.Attach(near, 2)
	b.Attach(far, 3)
	if err := ping(t, a, "10.1.0.3"); err != nil { // ARP takes a round trip too
		t.Fatal(err)
	}
	began := time.Now()
	if err := ping(t, a, "10.1.0.3"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 2*delay {
		t.Errorf("a ping over the wire took %v", took)
	}
	if err := w.Set(wire.Conditions{Blackout: true}, wire.Conditions{Blackout: true}); err != nil {
		t.Fatal(err)
	}
	if err := ping(t, a, "10.1.0.3"); err == nil {
		t.Error("a ping through a blackout was answered")
	}
}

// The namespaces outside must never hear of a lab.
func TestIsolation(t *testing.T) {
	lab := Test(t)
	lab.Switch("lan", "10.1.0.0/24")
	lab.Host("h").Attach(lab.switches[0], 2)
	names, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 1 || names[0].Name != "lo" {
		t.Errorf("the test's own namespace has %v", names)
	}
}
