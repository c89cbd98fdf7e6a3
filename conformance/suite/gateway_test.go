package suite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/conformance/overlay"
)

// yard is a LAN of devices behind the client, which is their router: none of them runs
// anything of ours.
//
//	first .20, second .21, stranger .30 ── yard 192.168.77.0/24 fd77::/64 ── .1 client ── home
type yard struct {
	*world
	first, second, stranger *netns.Host
}

// yardRules allow the first two devices the files over IPv4 and all of the LAN over IPv6,
// and the first device alone the echo.
const yardRules = `[gateway]
interfaces = ["eth1"]
device_flows = 16
allow = ["192.168.77.20/31 files:80", "fd77::/64 files", "192.168.77.20 echo:7", "fd77::14 echo"]
`

func newYard(t *testing.T) *yard {
	t.Helper()
	require(t, "curl", "ip")
	y := &yard{world: newWorld(t)}
	lan := y.Switch("yard", "192.168.77.0/24", "fd77::/64")
	y.client.Stop()
	y.client.host.Attach(lan, 1)
	// What only the operator decides (see tun/guest): IPv6 is forwarded by all links, or
	// by none.
	y.client.host.Sysctl("ipv6/conf/all/forwarding", "1")
	lan.SetGateway(lan.Addr4(1))
	device := func(name string, number int) *netns.Host {
		h := y.Lab.Host(name)
		h.Attach(lan, number)
		must(t, h.Command(t.Context(), "ip", "-6", "route", "add", "default", "via", "fd77::1").Run())
		h.SetResolvers("198.18.0.1")
		return h
	}
	y.first, y.second, y.stranger = device("first", 20), device("second", 21), device("stranger", 30)
	writeFile(t, y.client.Dir, "scn.toml", yardRules, 0o600)
	must(t, y.client.Up(within(t, 60*time.Second)))
	return y
}

// serveFiles answers each path with the path itself, in pieces for as long as is asked.
func (y *yard) serveFiles(t *testing.T) {
	t.Helper()
	l, err := y.provider.host.Listen("tcp", "127.0.0.1:8080")
	must(t, err)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < 40 || strings.HasPrefix(r.URL.Path, "/long"); i++ {
			if _, err := fmt.Fprintln(w, r.URL.Path); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		_ = server.Close()
		wg.Wait()
	})
	y.serve(t, "files", "80=tcp://127.0.0.1:8080")
	echo, err := overlay.ServeEcho(y.provider.host, "127.0.0.1:7")
	must(t, err)
	t.Cleanup(func() { echo.Close() })
	y.serve(t, "echo", "7=udp://127.0.0.1:7")
}

// get runs curl on a device.
func get(ctx context.Context, h *netns.Host, url string, args ...string) (string, error) {
	cmd := h.Command(ctx, "curl", append([]string{"--silent", "--show-error", "--fail", "--max-time", "20", url}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), err
}

// forwards reads what the gateway host's kernel forwards.
func (y *yard) forwards(t *testing.T) string {
	t.Helper()
	b, err := y.client.host.ReadFile("/proc/sys/net/ipv4/conf/eth1/forwarding")
	must(t, err)
	return strings.TrimSpace(string(b))
}

// TestDevicesBehindGateway has devices of a LAN that run nothing of ours use services by
// name through their router: each its own flows although their ports are the same, within
// what the rules allow, and nobody else.
func TestDevicesBehindGateway(t *testing.T) {
	y := newYard(t)
	y.serveFiles(t)
	ctx := within(t, 120*time.Second)

	t.Run("same source port", func(t *testing.T) {
		var wg sync.WaitGroup
		for name, h := range map[string]*netns.Host{"first": y.first, "second": y.second} {
			wg.Go(func() {
				out, err := get(ctx, h, "http://files.top/"+name, "--ipv4", "--local-port", "40000")
				if want := strings.Repeat("/"+name+"\n", 40); err != nil || out != want {
					t.Errorf("%s got %d bytes, want %d of its own: %v", name, len(out), len(want), err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("IPv6", func(t *testing.T) {
		if out, err := get(ctx, y.second, "http://files.top/six", "--ipv6"); err != nil || !strings.HasPrefix(out, "/six\n") {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("large datagrams", func(t *testing.T) {
		for _, network := range []string{"ip4", "ip6"} {
			for _, size := range []int{1, 1400, 8000} {
				if err := y.exchange(ctx, y.first, network, size); err != nil {
					t.Errorf("%s, %d bytes: %v", network, size, err)
				}
			}
		}
	})
	t.Run("ping", func(t *testing.T) {
		require(t, "ping")
		if err := y.first.Command(ctx, "ping", "-c1", "-W5", "-4", "files.top").Run(); err != nil {
			t.Error(err)
		}
	})
	t.Run("not allowed", func(t *testing.T) {
		start := time.Now()
		_, err := get(ctx, y.stranger, "http://files.top/", "--ipv4")
		if err == nil || !strings.Contains(err.Error(), "exit status 7") {
			t.Errorf("a stranger gets %v", err)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("the stranger was told after %v", d)
		}
		if err := y.exchange(ctx, y.second, "ip4", 1); !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.EACCES) {
			t.Errorf("a device allowed something else gets %v", err)
		}
		s, err := y.client.Status(ctx)
		must(t, err)
		if s.Gateway == nil || s.Gateway.Refused < 2 || len(s.Gateway.Networks) != 2 {
			t.Errorf("status says %+v", s.Gateway)
		}
	})
	t.Run("one device is bounded by itself", func(t *testing.T) { y.tooMany(ctx, t) })
	t.Run("another link", func(t *testing.T) {
		// A host on the gateway's other side, as itself and with a device's address.
		v4, err := y.client.Resolve(ctx, "ip4", "files.top")
		must(t, err)
		before, err := y.client.Status(ctx)
		must(t, err)
		neighbour, _ := y.Host("neighbour", home, y.next())
		must(t, neighbour.Command(ctx, "ip", "route", "add", "198.18.0.0/15", "via", y.client.link.Addr4().String()).Run())
		must(t, neighbour.Command(ctx, "ip", "addr", "add", "192.168.77.20/32", "dev", "eth0").Run())
		for _, args := range [][]string{nil, {"--interface", "192.168.77.20"}} {
			if out, err := get(ctx, neighbour, "http://"+v4.String()+"/", append(args, "--connect-timeout", "2")...); err == nil {
				t.Errorf("%v: a neighbour gets %d bytes", args, len(out))
			}
		}
		after, err := y.client.Status(ctx)
		must(t, err)
		if n := after.Gateway.Packets - before.Gateway.Packets; n != 0 {
			t.Errorf("%d packets of a neighbour were taken for a device's", n)
		}
	})
	t.Run("this host is bound by no rule", func(t *testing.T) {
		if _, err := get(ctx, y.client.host, "http://files.top/"); err != nil {
			t.Error(err)
		}
	})
	t.Run("new rules", func(t *testing.T) { y.newRules(ctx, t) })
	t.Run("nothing is left behind", func(t *testing.T) {
		if f := y.forwards(t); f != "1" {
			t.Fatalf("forwarding is %s", f)
		}
		y.client.Kill()
		eventually(t, 20*time.Second, func() error {
			if f := y.forwards(t); f != "0" {
				return fmt.Errorf("forwarding is %s after kill -9", f)
			}
			return nil
		})
		must(t, y.client.Up(ctx))
		if f := y.forwards(t); f != "1" {
			t.Errorf("forwarding is %s", f)
		}
		y.client.Stop()
		if f := y.forwards(t); f != "0" {
			t.Errorf("forwarding is %s after the end", f)
		}
	})
}

// tooMany has the first device want more connections than it may have; the second gets
// its own.
func (y *yard) tooMany(ctx context.Context, t *testing.T) {
	ip, err := y.client.Resolve(ctx, "ip4", "files.top")
	must(t, err)
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	conns := make([]net.Conn, 24)
	for i := range conns {
		wg.Go(func() {
			conns[i], _ = y.first.Dial(short, "tcp", netip.AddrPortFrom(ip, 80).String())
		})
	}
	wg.Wait()
	open := 0
	for _, c := range conns {
		if c != nil {
			open++
			defer c.Close()
		}
	}
	if open != 16 {
		t.Errorf("one device has %d connections, of 16 it may have", open)
	}
	if _, err := get(ctx, y.second, "http://files.top/", "--ipv4"); err != nil {
		t.Errorf("the other device: %v", err)
	}
	s, err := y.client.Status(ctx)
	must(t, err)
	if s.Gateway.Limited == 0 {
		t.Errorf("status says %+v", s.Gateway)
	}
}

// newRules takes the second device's permission away while both download: its download
// ends, the other's goes on.
func (y *yard) newRules(ctx context.Context, t *testing.T) {
	type download struct {
		cmd  *netns.Cmd
		got  chan int
		done chan error
	}
	start := func(h *netns.Host) download {
		d := download{cmd: h.Command(ctx, "curl", "--silent", "--no-buffer", "--ipv4", "http://files.top/long"), got: make(chan int, 1<<16), done: make(chan error, 1)}
		out, err := d.cmd.StdoutPipe()
		must(t, err)
		must(t, d.cmd.Start())
		go func() {
			b := make([]byte, 4096)
			for {
				n, err := out.Read(b)
				if n > 0 {
					select {
					case d.got <- n:
					default:
					}
				}
				if err != nil {
					d.done <- d.cmd.Wait()
					return
				}
			}
		}()
		return d
	}
	first, second := start(y.first), start(y.second)
	<-first.got
	<-second.got
	writeFile(t, y.client.Dir, "scn.toml", strings.Replace(yardRules, "192.168.77.20/31", "192.168.77.20", 1), 0o600)
	must(t, syscall.Kill(y.client.PID(), syscall.SIGHUP))
	select {
	case err := <-second.done:
		if err == nil {
			t.Error("the download of a device that may no more ended as if it were whole")
		}
	case <-time.After(20 * time.Second):
		t.Error("a device that may no more goes on")
	}
	for len(first.got) > 0 {
		<-first.got
	}
	select {
	case <-first.got:
	case err := <-first.done:
		t.Errorf("the other device's download ended: %v", err)
	case <-time.After(20 * time.Second):
		t.Error("the other device's download stands still")
	}
	_ = first.cmd.Signal(syscall.SIGKILL)
	<-first.done
}

// exchange sends a datagram to the echo service and compares what comes back.
func (y *yard) exchange(ctx context.Context, h *netns.Host, network string, size int) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	ips, err := h.Resolver().LookupNetIP(ctx, network, "echo.top")
	if err != nil || len(ips) == 0 {
		return fmt.Errorf("resolve: %w", err)
	}
	c, err := h.Dial(ctx, "udp", netip.AddrPortFrom(ips[0].Unmap(), 7).String())
	if err != nil {
		return err
	}
	defer c.Close()
	sent := bytes.Repeat([]byte{0, 1, 2, 3, 4, 5, 6}, size/7+1)[:size]
	got := make([]byte, size+1)
	var n int
	for range 5 { // a datagram may get lost
		if _, err := c.Write(sent); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
			return err
		}
		n, err = c.Read(got)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			continue
		}
		break
	}
	if err == nil && !bytes.Equal(got[:n], sent) {
		err = fmt.Errorf("%d bytes come back: %w", n, io.ErrUnexpectedEOF)
	}
	return err
}
