package resolver

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

// privateBus starts a message bus of the test's own.
func privateBus(t *testing.T, dir string) string {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("no dbus-daemon on this host")
	}
	config := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(config, []byte(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:dir=`+dir+`</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config-file="+config, "--nofork", "--print-address")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(address)
}

// fakeResolved is systemd-resolved as far as we talk to it.
type fakeResolved struct {
	conn *dbus.Conn

	mu      sync.Mutex
	global  []managerServer
	servers map[int32][]linkServer
	ports   map[int32][]linkServerEx
	domains map[int32][]linkDomain
	calls   []string
	old     bool // systemd 237: knows no SetLinkDefaultRoute
}

func startResolved(t *testing.T, bus string) *fakeResolved {
	t.Helper()
	conn, err := dbus.Connect(bus)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	f := &fakeResolved{
		conn: conn, servers: make(map[int32][]linkServer), ports: make(map[int32][]linkServerEx), domains: make(map[int32][]linkDomain),
		global: []managerServer{{2, 2, []byte{192, 0, 2, 1}}, {0, 2, []byte{127, 0, 0, 53}}, {1, 2, []byte{198, 18, 0, 1}}, {3, 10, net.ParseIP("2001:db8::1")}},
	}
	for path, iface := range map[dbus.ObjectPath]string{resolvedPath: resolvedManager, resolvedPath + "/link/_31": resolvedLink} {
		if err := conn.Export(f, path, iface); err != nil {
			t.Fatal(err)
		}
		if err := conn.Export(f, path, properties); err != nil {
			t.Fatal(err)
		}
	}
	if reply, err := conn.RequestName(resolvedName, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
	return f
}

func (f *fakeResolved) note(call string, args ...any) {
	f.calls = append(f.calls, strings.TrimSpace(call+" "+fmt.Sprintln(args...)))
}

func (f *fakeResolved) SetLinkDNS(link int32, servers []linkServer) *dbus.Error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("SetLinkDNS", link)
	f.servers[link] = servers
	return nil
}

func (f *fakeResolved) SetLinkDNSEx(link int32, servers []linkServerEx) *dbus.Error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("SetLinkDNSEx", link)
	f.ports[link] = servers
	return nil
}

func (f *fakeResolved) SetLinkDomains(link int32, domains []linkDomain) *dbus.Error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("SetLinkDomains", link)
	f.domains[link] = domains
	return nil
}

func (f *fakeResolved) SetLinkDefaultRoute(link int32, yes bool) *dbus.Error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.old {
		return dbus.NewError("org.freedesktop.DBus.Error.UnknownMethod", nil)
	}
	f.note("SetLinkDefaultRoute", link, yes)
	return nil
}

func (f *fakeResolved) SetLinkLLMNR(link int32, v string) *dbus.Error { return f.set("LLMNR", link, v) }

func (f *fakeResolved) SetLinkMulticastDNS(link int32, v string) *dbus.Error {
	return f.set("MulticastDNS", link, v)
}

func (f *fakeResolved) SetLinkDNSSEC(link int32, v string) *dbus.Error {
	return f.set("DNSSEC", link, v)
}

func (f *fakeResolved) SetLinkDNSOverTLS(link int32, v string) *dbus.Error {
	return f.set("DNSOverTLS", link, v)
}

func (f *fakeResolved) set(what string, link int32, v string) *dbus.Error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note(what, link, v)
	return nil
}

func (f *fakeResolved) FlushCaches() *dbus.Error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("FlushCaches")
	return nil
}

func (f *fakeResolved) RevertLink(link int32) *dbus.Error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("RevertLink", link)
	delete(f.servers, link)
	delete(f.domains, link)
	return nil
}

func (f *fakeResolved) GetLink(int32) (dbus.ObjectPath, *dbus.Error) {
	return resolvedPath + "/link/_31", nil
}

// Get is org.freedesktop.DBus.Properties.Get of both objects.
func (f *fakeResolved) Get(of, name string) (dbus.Variant, *dbus.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch of + " " + name {
	case resolvedManager + " DNS":
		return dbus.MakeVariant(f.global), nil
	case resolvedManager + " FallbackDNS":
		return dbus.MakeVariant([]managerServer{{0, 2, []byte{192, 0, 2, 200}}}), nil
	case resolvedLink + " DNS":
		return dbus.MakeVariant(slices.Clone(f.servers[1])), nil
	case resolvedLink + " Domains":
		return dbus.MakeVariant(slices.Clone(f.domains[1])), nil
	}
	return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", nil)
}

func (f *fakeResolved) told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func (f *fakeResolved) count(call string) int {
	n := 0
	for _, c := range f.told() {
		if c == call {
			n++
		}
	}
	return n
}

func TestResolved(t *testing.T) {
	h := newHost(t)
	h.write(t, "etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0 trust-ad\n")
	bus := privateBus(t, h.dir)
	f := startResolved(t, bus)
	cfg := h.config(Auto)
	cfg.Bus, cfg.Interface, cfg.Check = bus, "lo", time.Hour // lo: an interface that is there and has index 1
	r := open(t, cfg)
	if s := r.Status(); s.Mode != Resolved || s.Err != nil {
		t.Fatalf("status %+v", s)
	}
	want := []string{
		"SetLinkDNS 1", "SetLinkDomains 1", "SetLinkDefaultRoute 1 false",
		"LLMNR 1 no", "MulticastDNS 1 no", "DNSSEC 1 no", "DNSOverTLS 1 no", "FlushCaches",
	}
	if diff := cmp.Diff(want, f.told()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	f.mu.Lock()
	if diff := cmp.Diff([]linkDomain{{"top", true}, {"scn.alt", true}, {"18.198.in-addr.arpa", true}}, f.domains[1]); diff != "" {
		t.Errorf("domains (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]linkServer{{2, []byte{198, 18, 0, 1}}, {10, netip.MustParseAddr("fd53::1").AsSlice()}}, f.servers[1]); diff != "" {
		t.Errorf("servers (-want +got)\n%s", diff)
	}
	f.mu.Unlock()
	if got := h.servers(); !slices.Equal(got, []string{"192.0.2.1:53", "[2001:db8::1]:53"}) {
		t.Errorf("upstream %v: want the other links' servers, without the stub and us", got)
	}
	if got := read(t, h.path); !strings.HasPrefix(got, "nameserver 127.0.0.53") {
		t.Errorf("the file was touched: %q", got)
	}

	stop := running(t, r)
	time.Sleep(100 * time.Millisecond) // the watch begins
	// The host's servers change.
	f.mu.Lock()
	f.global = []managerServer{{2, 2, []byte{192, 0, 2, 99}}}
	f.mu.Unlock()
	if err := f.conn.Emit(resolvedPath, properties+".PropertiesChanged", resolvedManager, map[string]dbus.Variant{}, []string{"DNS"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new server is learned", func() bool { return slices.Equal(h.servers(), []string{"192.0.2.99:53"}) })
	// resolved restarts and has forgotten everything.
	f.mu.Lock()
	clear(f.servers)
	clear(f.domains)
	f.mu.Unlock()
	if _, err := f.conn.ReleaseName(resolvedName); err != nil {
		t.Fatal(err)
	}
	if _, err := f.conn.RequestName(resolvedName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	eventually(t, "set again", func() bool { return f.count("SetLinkDomains 1") >= 2 })
	stop()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if f.count("RevertLink 1") != 1 {
		t.Errorf("calls %q: want one RevertLink", f.told())
	}
}

// Some network manager clears what we set without resolved being restarted.
func TestResolvedCleared(t *testing.T) {
	h := newHost(t)
	h.write(t, "etc/resolv.conf", "nameserver 127.0.0.53\n")
	bus := privateBus(t, h.dir)
	f := startResolved(t, bus)
	f.mu.Lock()
	f.old = true
	f.mu.Unlock()
	cfg := h.config(Resolved)
	cfg.Bus, cfg.Interface = bus, "lo"
	r := open(t, cfg)
	stop := running(t, r)
	f.mu.Lock()
	clear(f.servers)
	f.mu.Unlock()
	eventually(t, "set again", func() bool { return f.count("SetLinkDNS 1") >= 2 })
	stop()
	if err := Restore(r.state.encode(cfg.StateDir)); err != nil { // the guardian
		t.Fatal(err)
	}
	if f.count("RevertLink 1") != 1 {
		t.Errorf("calls %q: want one RevertLink", f.told())
	}
}

func TestResolvedOtherPort(t *testing.T) {
	h := newHost(t)
	h.write(t, "etc/resolv.conf", "nameserver 127.0.0.53\n")
	bus := privateBus(t, h.dir)
	f := startResolved(t, bus)
	cfg := h.config(Resolved)
	cfg.Bus, cfg.Interface = bus, "lo"
	cfg.Servers = []netip.AddrPort{netip.MustParseAddrPort("198.18.0.1:5353")}
	r := open(t, cfg)
	defer r.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if diff := cmp.Diff([]linkServerEx{{2, []byte{198, 18, 0, 1}, 5353, ""}}, f.ports[1]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAutoLeavesResolvedAlone(t *testing.T) {
	h := newHost(t)
	bus := privateBus(t, h.dir)
	startResolved(t, bus)
	cfg := h.config(Auto)
	cfg.Bus, cfg.Interface = bus, "lo"
	for content, want := range map[string]bool{
		"nameserver 127.0.0.53\n":                        true,
		"# by systemd-resolved\nnameserver 127.0.0.54\n": true,
		// Programs that read the file would pass resolved by.
		"# by systemd-resolved\nnameserver 192.0.2.1\n": false,
		"nameserver 127.0.0.53\nnameserver 192.0.2.1\n": false,
		"": false,
	} {
		h.write(t, "etc/resolv.conf", content)
		if got := usesResolved(context.Background(), cfg); got != want {
			t.Errorf("%q: %v", content, got)
		}
	}
	h.write(t, "etc/resolv.conf", "nameserver 127.0.0.53\n")
	cfg.Bus = "unix:path=" + filepath.Join(h.dir, "none") // resolved does not run; its file stayed behind
	if usesResolved(context.Background(), cfg) {
		t.Error("resolved without a bus")
	}
}
