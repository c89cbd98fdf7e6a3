package naming

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// TestArrival builds, in network namespaces of its own,
//
//	host: lo, tun0 198.18.0.1 fd53::1      lan: 10.9.0.2 fd99::2
//	      lan0 10.9.0.1 fd99::1 ──────── veth ──────── eth0
//	      box0 10.8.0.1 ──────────────── veth ──────── a container: 10.8.0.2
//
// and asks the server on tun0's addresses from everywhere. Linux answers for any
// of its addresses on any interface, so only the arrival filter keeps the LAN out.
func TestArrival(t *testing.T) {
	if os.Getenv("NAMING_TEST_NETNS") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestArrival$", "-test.v")
		cmd.Env = append(os.Environ(), "NAMING_TEST_NETNS=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
		if os.Getuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		out, err := cmd.CombinedOutput()
		if err != nil && len(out) == 0 {
			t.Skipf("no network namespace here: %v", err)
		}
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
		if bytes.Contains(out, []byte("--- SKIP")) {
			t.Skip("skipped inside")
		}
		return
	}
	ip := func(args string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Skipf("ip %s: %v: %s", args, err, out)
		}
	}
	neighbour := func(inside, outside, v4, v6 string) *os.File {
		t.Helper()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		home := thisNetwork(t)
		defer home.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Skip(err)
		}
		ns := thisNetwork(t)
		t.Cleanup(func() { ns.Close() })
		ip("link add " + inside + " type veth peer name " + outside)
		ip("link set lo up")
		ip("addr add " + v4 + "/24 dev " + inside)
		ip("-6 addr add " + v6 + "/64 dev " + inside + " nodad")
		ip("link set " + inside + " up")
		gateway := strings.TrimSuffix(v4, "2") + "1"
		ip("route add 198.18.0.0/15 via " + gateway)
		ip("-6 route add fd53::/64 via " + strings.TrimSuffix(v6, "2") + "1")
		if out, err := exec.Command("ip", "link", "set", outside, "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), home.Fd())).CombinedOutput(); err != nil {
			t.Skipf("%v: %s", err, out)
		}
		enter(t, home)
		ip("addr add " + gateway + "/24 dev " + outside)
		ip("-6 addr add " + strings.TrimSuffix(v6, "2") + "1/64 dev " + outside + " nodad")
		ip("link set " + outside + " up")
		return ns
	}
	ip("link set lo up")
	ip("link add tun0 type veth peer name tun0peer") // some kernels have no dummy
	ip("addr add 198.18.0.1/32 dev tun0")
	ip("-6 addr add fd53::1/128 dev tun0 nodad")
	ip("link set tun0 up")
	ip("link set tun0peer up")
	lan := neighbour("eth0", "lan0", "10.9.0.2", "fd99::2")
	box := neighbour("eth1", "box0", "10.8.0.2", "fd98::2")

	r := newRig(t, func(_ *NamesConfig, c *Config) {
		c.Listen = []netip.AddrPort{netip.MustParseAddrPort("198.18.0.1:53"), netip.MustParseAddrPort("[fd53::1]:53")}
		c.Interfaces = []string{"tun0", "box0"}
	})
	r.registry.set("chat", service("chat"))
	ask := func(network, addr, device string, timeout time.Duration) bool {
		d := net.Dialer{Timeout: timeout}
		if device != "" {
			d.Control = func(_, _ string, c syscall.RawConn) error {
				var err error
				if e := c.Control(func(fd uintptr) { err = syscall.BindToDevice(int(fd), device) }); e != nil {
					return e
				}
				return err
			}
		}
		c, err := d.DialContext(context.Background(), network, addr)
		if err != nil {
			return false
		}
		defer c.Close()
		co := &dns.Conn{Conn: c}
		_ = co.SetDeadline(time.Now().Add(timeout))
		if err := co.WriteMsg(new(dns.Msg).SetQuestion("chat.top.", dns.TypeA)); err != nil {
			return false
		}
		a, err := co.ReadMsg()
		return err == nil && len(a.Answer) == 1
	}
	for _, tt := range []struct {
		name   string
		from   *os.File // nil: this very host
		device string
		want   bool
	}{
		{"this host", nil, "", true},
		{"this host, bound to the TUN like resolved", nil, "tun0", true},
		{"a container on a listed bridge", box, "", true},
		{"the LAN", lan, "", false},
	} {
		for _, addr := range []string{"198.18.0.1:53", "[fd53::1]:53"} {
			for _, network := range []string{"udp", "tcp"} {
				t.Run(tt.name+" "+network+" "+addr, func(t *testing.T) {
					if tt.from != nil {
						runtime.LockOSThread()
						defer runtime.UnlockOSThread()
						home := thisNetwork(t)
						defer home.Close()
						enter(t, tt.from)
						defer enter(t, home)
					}
					timeout := 10 * time.Second
					if !tt.want {
						timeout = 500 * time.Millisecond
					}
					before := r.Metrics().Elsewhere
					if got := ask(network, addr, tt.device, timeout); got != tt.want {
						t.Errorf("answered: %v, want %v", got, tt.want)
					}
					if after := r.Metrics().Elsewhere; (after > before) == tt.want {
						t.Errorf("counted as arrived elsewhere: %d, then %d", before, after)
					}
				})
			}
		}
	}
}

// thisNetwork returns the network namespace of the locked thread.
func thisNetwork(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// enter moves the locked thread to a network namespace.
func enter(t *testing.T, ns *os.File) {
	t.Helper()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

func FuzzArrival(f *testing.F) {
	f.Add(appendSource(nil, netip.MustParseAddr("198.18.0.1"), 3))
	f.Add(appendSource(appendSource(nil, netip.MustParseAddr("fe80::1"), 3), netip.MustParseAddr("198.18.0.1"), 3))
	f.Add(make([]byte, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, to := arrival(b); len(b) < 28 && to.IsValid() {
			t.Errorf("%x gives %s", b, to)
		}
	})
}
