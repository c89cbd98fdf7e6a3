package guest

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestNetworks reads routes again for a source of no known network, but not for each of
// its packets.
func TestNetworks(t *testing.T) {
	reads := 0
	behind := []netip.Prefix{netip.MustParsePrefix("192.168.8.0/24")}
	n := NewNetworks([]string{"br-lan"})
	n.list = func(names []string) ([]netip.Prefix, error) {
		reads++
		if !slices.Equal(names, []string{"br-lan"}) {
			t.Errorf("asked of %v", names)
		}
		return behind, nil
	}
	device, other := netip.MustParseAddr("192.168.8.20"), netip.MustParseAddr("10.0.0.1")
	now := time.Unix(1000, 0)
	if !n.contains(device, now) || reads != 1 {
		t.Errorf("a device is not found, %d reads", reads)
	}
	for range 1000 {
		if n.contains(other, now) || !n.contains(device, now) {
			t.Fatal("wrong")
		}
	}
	if reads != 1 {
		t.Errorf("%d reads in a moment", reads)
	}
	behind = append(behind, netip.MustParsePrefix("10.0.0.0/8"))
	if now = now.Add(refreshEvery); !n.contains(other, now) || reads != 2 {
		t.Errorf("a new network is not found, %d reads", reads)
	}
	behind = nil
	if err := n.Refresh(); err != nil || n.contains(device, now) || len(n.Prefixes()) != 0 {
		t.Errorf("a network that is gone is still there: %v, %v", n.Prefixes(), err)
	}
	n.list = func([]string) ([]netip.Prefix, error) { return nil, errors.New("no") }
	if n.contains(device, now.Add(time.Hour)) {
		t.Error("found without knowledge")
	}
}

// TestRoutesOfThisHost only reads: no interface is behind a name nobody has.
func TestRoutesOfThisHost(t *testing.T) {
	if found, err := routesBehind([]string{"no-such-link"}); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
}

// settings is a tree as the kernel's.
type settings struct {
	t    *testing.T
	root string
}

func (s settings) file(name string) string {
	return filepath.Join(s.root, "ipv4/conf", name, "forwarding")
}

func (s settings) write(name, value string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(s.file(name)), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.file(name), []byte(value+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s settings) expect(name, want string) {
	s.t.Helper()
	if got, err := readSetting(s.file(name)); err != nil || got != want {
		s.t.Errorf("forwarding of %s is %q, want %q: %v", name, got, want, err)
	}
}

// guard remembers as the guardian does.
type guard struct{ state []byte }

func (g *guard) Set(name string, state []byte) error {
	if name != GuardName {
		return errors.New("another name")
	}
	g.state = state
	return nil
}

func (g *guard) Clear(string) error { g.state = nil; return nil }

// TestForwarding changes what is off alone, and puts exactly that back: at the end, after
// kill -9 by the guardian or by the file.
func TestForwarding(t *testing.T) {
	s := settings{t, t.TempDir()}
	s.write("br-lan", "0")
	s.write("docker0", "1")
	s.write("eth0", "0")
	var g guard
	cfg := ForwardingConfig{
		Interfaces: []string{"br-lan", "docker0", "late0"}, File: filepath.Join(s.root, "state.json"), Guard: &g, root: s.root,
	}
	open := func() *Forwarding {
		t.Helper()
		f, err := OpenForwarding(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.expect("br-lan", "1")
		s.expect("docker0", "1")
		s.expect("eth0", "0")
		return f
	}
	f := open()
	s.write("late0", "0")
	if err := f.Ensure(); err != nil {
		t.Fatal(err)
	}
	s.expect("late0", "1")
	undone := func() {
		t.Helper()
		s.expect("br-lan", "0")
		s.expect("late0", "0")
		s.expect("docker0", "1")
		if _, err := os.Stat(cfg.File); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the file stays: %v", err)
		}
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	undone()
	if g.state != nil {
		t.Error("the guardian still has something to undo")
	}

	open() // and killed
	if err := Restore(g.state); err != nil {
		t.Fatal(err)
	}
	undone()

	open() // and killed with its guardian; the next start knows what was not so before
	f = open()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	undone()
}

// TestRestoreRefuses has a state that was tampered with change nothing but forwarding.
func TestRestoreRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(file, []byte("root"), 0o600); err != nil {
		t.Fatal(err)
	}
	state, err := json.Marshal(forwardingState{Settings: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{state, []byte("{"), make([]byte, maxState+1)} {
		if Restore(bad) == nil {
			t.Errorf("%.20q is undone", bad)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "root" {
		t.Errorf("%q, %v", b, err)
	}
}
