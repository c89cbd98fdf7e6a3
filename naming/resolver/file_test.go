package resolver

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const theirs = "# by dhclient\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch example.com corp\noptions edns0 rotate timeout:2\nsortlist 10.0.0.0/8\n"

// host is a made-up host: an etc directory and a state directory.
type host struct {
	dir, path string

	mu       sync.Mutex
	upstream []netip.AddrPort
}

func newHost(t *testing.T) *host {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"etc", "run", "state"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &host{dir: dir, path: filepath.Join(dir, "etc/resolv.conf")}
}

func (h *host) config(mode Mode) Config {
	return Config{
		Mode: mode, Path: h.path, StateDir: filepath.Join(h.dir, "state"), Uplink: filepath.Join(h.dir, "run/uplink"),
		Command: filepath.Join(h.dir, "none"), Bus: "unix:path=" + filepath.Join(h.dir, "none"),
		Servers: []netip.AddrPort{netip.MustParseAddrPort("198.18.0.1:53"), netip.MustParseAddrPort("[fd53::1]:53")},
		Domains: []string{"top", "scn.alt", "18.198.in-addr.arpa"},
		Check:   200 * time.Millisecond,
		Upstream: func(servers []netip.AddrPort) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.upstream = servers
		},
	}
}

func (h *host) servers() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var s []string
	for _, a := range h.upstream {
		s = append(s, a.String())
	}
	return s
}

func (h *host) write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, path), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// settings returns the lines of a file that are no comments.
func settings(t *testing.T, path string) []string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(read(t, path)) {
		if line[0] != '#' {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

func open(t *testing.T, cfg Config) *Resolver {
	t.Helper()
	r, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// running runs the Resolver until the function returned is called.
func running(t *testing.T, r *Resolver) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestFile(t *testing.T) {
	ours := []string{"nameserver 198.18.0.1", "nameserver fd53::1", "search example.com corp", "options edns0 timeout:2", "sortlist 10.0.0.0/8"}
	for _, tt := range []struct {
		name     string
		setup    func(*testing.T, *host)
		fallback bool
		want     []string
		upstream []string
		after    func(*testing.T, *host) // default: the file is theirs
	}{
		{
			name:     "a regular file",
			setup:    func(t *testing.T, h *host) { h.write(t, "etc/resolv.conf", theirs) },
			want:     ours,
			upstream: []string{"192.0.2.1:53", "[2001:db8::1]:53"},
		},
		{
			name: "a regular file with odd permissions",
			setup: func(t *testing.T, h *host) {
				h.write(t, "etc/resolv.conf", theirs)
				if err := os.Chmod(h.path, 0o640); err != nil {
					t.Fatal(err)
				}
			},
			want:     ours,
			upstream: []string{"192.0.2.1:53", "[2001:db8::1]:53"},
			after: func(t *testing.T, h *host) {
				if info, err := os.Stat(h.path); err != nil || info.Mode() != 0o640 {
					t.Errorf("%v, %v", info.Mode(), err)
				}
			},
		},
		{
			name:     "with the host's servers behind",
			setup:    func(t *testing.T, h *host) { h.write(t, "etc/resolv.conf", theirs) },
			fallback: true,
			want:     slices.Insert(slices.Clone(ours), 2, "nameserver 192.0.2.1"),
			upstream: []string{"192.0.2.1:53", "[2001:db8::1]:53"},
		},
		{
			name:  "no file",
			setup: func(*testing.T, *host) {},
			want:  ours[:2],
			after: func(t *testing.T, h *host) {
				if _, err := os.Lstat(h.path); !os.IsNotExist(err) {
					t.Errorf("%v; want no file", err)
				}
			},
		},
		{
			name: "a symbolic link to resolved's stub",
			setup: func(t *testing.T, h *host) {
				h.write(t, "run/stub", "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch home\n")
				h.write(t, "run/uplink", "nameserver 192.0.2.7\nnameserver 198.18.0.1\n")
				if err := os.Symlink("../run/stub", h.path); err != nil {
					t.Fatal(err)
				}
			},
			want:     []string{"nameserver 198.18.0.1", "nameserver fd53::1", "search home", "options edns0 trust-ad"},
			upstream: []string{"192.0.2.7:53"},
			after: func(t *testing.T, h *host) {
				if link, err := os.Readlink(h.path); err != nil || link != "../run/stub" {
					t.Errorf("link %q, %v", link, err)
				}
			},
		},
		{
			name: "a symbolic link that leads nowhere",
			setup: func(t *testing.T, h *host) {
				if err := os.Symlink("/nowhere/resolv.conf", h.path); err != nil {
					t.Fatal(err)
				}
			},
			want: ours[:2],
			after: func(t *testing.T, h *host) {
				if link, err := os.Readlink(h.path); err != nil || link != "/nowhere/resolv.conf" {
					t.Errorf("link %q, %v", link, err)
				}
			},
		},
		{
			name: "no newline at the end",
			setup: func(t *testing.T, h *host) {
				h.write(t, "etc/resolv.conf", "nameserver 192.0.2.9")
			},
			want:     ours[:2],
			upstream: []string{"192.0.2.9:53"},
			after: func(t *testing.T, h *host) {
				if got := read(t, h.path); got != "nameserver 192.0.2.9" {
					t.Errorf("%q", got)
				}
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, mode := range []Mode{File, Auto} {
				h := newHost(t)
				tt.setup(t, h)
				cfg := h.config(mode)
				cfg.Fallback = tt.fallback
				after := func() {
					t.Helper()
					if tt.after != nil {
						tt.after(t, h)
					} else if got := read(t, h.path); got != theirs {
						t.Errorf("restored to %q", got)
					}
					if names, _ := filepath.Glob(filepath.Join(h.dir, "etc/*")); len(names) > 1 {
						t.Errorf("left behind: %v", names)
					}
				}
				r := open(t, cfg)
				if diff := cmp.Diff(tt.want, settings(t, h.path)); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
				if diff := cmp.Diff(tt.upstream, h.servers()); diff != "" {
					t.Errorf("upstream (-want +got)\n%s", diff)
				}
				if s := r.Status(); s.Mode != File || s.Err != nil {
					t.Errorf("status %+v", s)
				}
				// Killed and started again: the file of the dead run is not taken for theirs.
				r2 := open(t, cfg)
				if diff := cmp.Diff(tt.upstream, h.servers()); diff != "" {
					t.Errorf("upstream after a crash (-want +got)\n%s", diff)
				}
				if err := r2.Close(); err != nil {
					t.Fatal(err)
				}
				after()
				// The guardian of the dead run comes late.
				if err := restore(cfg.StateDir, r.state); err != nil {
					t.Fatal(err)
				}
				after()
				// Killed, and the state directory lost with it.
				open(t, cfg)
				if err := os.RemoveAll(cfg.StateDir); err != nil {
					t.Fatal(err)
				}
				if err := os.Mkdir(cfg.StateDir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := Repair(cfg); err != nil {
					t.Fatal(err)
				}
				if tt.name != "a regular file with odd permissions" && tt.name != "no newline at the end" { // the file does not tell
					after()
				}
			}
		})
	}
}

func TestLateGuardianLeavesLaterRunAlone(t *testing.T) {
	h := newHost(t)
	h.write(t, "etc/resolv.conf", theirs)
	dead := open(t, h.config(File))
	r := open(t, h.config(File))
	if err := Restore(dead.state.encode(h.config(File).StateDir)); err != nil {
		t.Fatal(err)
	}
	if run, ok := writtenBy([]byte(read(t, h.path))); !ok || run != r.run {
		t.Errorf("the dead run's guardian undid the later run")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, h.path); got != theirs {
		t.Errorf("restored to %q", got)
	}
}

func TestFileChangedByOthers(t *testing.T) {
	h := newHost(t)
	h.write(t, "etc/resolv.conf", theirs)
	cfg := h.config(File)
	cfg.Check = time.Hour // only what is noticed
	r := open(t, cfg)
	stop := running(t, r)
	time.Sleep(50 * time.Millisecond) // the watch begins

	const newer = "nameserver 192.0.2.55\nsearch elsewhere\n"
	for _, how := range []string{"in place", "by rename"} {
		content := strings.Replace(newer, "elsewhere", strings.ReplaceAll(how, " ", "-"), 1)
		if how == "in place" {
			h.write(t, "etc/resolv.conf", content)
		} else {
			h.write(t, "etc/new", content)
			if err := os.Rename(filepath.Join(h.dir, "etc/new"), h.path); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "set again after a change "+how, func() bool {
			lines := settings(t, h.path)
			return len(lines) > 0 && lines[0] == "nameserver 198.18.0.1" && slices.Contains(lines, "search "+strings.ReplaceAll(how, " ", "-"))
		})
	}
	eventually(t, "their new server is learned", func() bool {
		return slices.Equal(h.servers(), []string{"192.0.2.55:53"})
	})
	// Deleted for a moment: the servers known stay.
	if err := os.Remove(h.path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "set again after a deletion", func() bool {
		b, err := os.ReadFile(h.path)
		return err == nil && strings.Contains(string(b), "\nnameserver 198.18.0.1\n")
	})
	if got := h.servers(); !slices.Equal(got, []string{"192.0.2.55:53"}) {
		t.Errorf("servers after a deletion: %v", got)
	}
	h.write(t, "etc/resolv.conf", theirs)
	eventually(t, "set again", func() bool { return slices.Contains(settings(t, h.path), "nameserver fd53::1") })
	if s := r.Status(); s.Reapplied < 4 {
		t.Errorf("status %+v", s)
	}
	stop()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, h.path); got != theirs {
		t.Errorf("restored to %q; want what others wrote last", got)
	}
}

// A fight over the file must not keep two processes busy.
func TestFightIsPaced(t *testing.T) {
	h := newHost(t)
	h.write(t, "etc/resolv.conf", theirs)
	r := open(t, h.config(File))
	running(t, r)
	end := time.Now().Add(1500 * time.Millisecond)
	for time.Now().Before(end) {
		h.write(t, "etc/resolv.conf", theirs)
		time.Sleep(5 * time.Millisecond)
	}
	if n := r.Status().Reapplied; n < 2 || n > 8 {
		t.Errorf("set again %d times in 1.5s", n)
	}
}

func TestLinkTargetChanges(t *testing.T) {
	h := newHost(t)
	h.write(t, "run/managed", "nameserver 192.0.2.1\n")
	if err := os.Symlink("../run/managed", h.path); err != nil {
		t.Fatal(err)
	}
	cfg := h.config(File)
	cfg.Check = time.Hour
	r := open(t, cfg)
	running(t, r)
	time.Sleep(50 * time.Millisecond)
	h.write(t, "run/managed", "nameserver 192.0.2.2\n")
	eventually(t, "the manager's new server is learned", func() bool {
		return slices.Equal(h.servers(), []string{"192.0.2.2:53"})
	})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if link, err := os.Readlink(h.path); err != nil || link != "../run/managed" {
		t.Errorf("link %q, %v", link, err)
	}
}

func TestOff(t *testing.T) {
	h := newHost(t)
	h.write(t, "etc/resolv.conf", "nameserver 198.18.0.1\nnameserver 127.0.0.53\n")
	h.write(t, "run/uplink", "nameserver 192.0.2.3\n")
	cfg := h.config(Off)
	cfg.StateDir = ""
	r := open(t, cfg)
	running(t, r)
	if got := h.servers(); !slices.Equal(got, []string{"192.0.2.3:53"}) {
		t.Errorf("servers %v", got)
	}
	h.write(t, "etc/resolv.conf", "nameserver 192.0.2.4\n")
	eventually(t, "a change is learned", func() bool { return slices.Equal(h.servers(), []string{"192.0.2.4:53"}) })
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, h.path); got != "nameserver 192.0.2.4\n" {
		t.Errorf("touched: %q", got)
	}
}

func TestWrongSettings(t *testing.T) {
	h := newHost(t)
	h.write(t, "etc/resolv.conf", theirs)
	for name, change := range map[string]func(*Config){
		"mode":      func(c *Config) { c.Mode = "dnsmasq" },
		"server":    func(c *Config) { c.Servers = []netip.AddrPort{{}} },
		"no server": func(c *Config) { c.Servers = nil },
		"domain":    func(c *Config) { c.Domains = []string{".top"} },
		"state":     func(c *Config) { c.StateDir = "state" },
		"path":      func(c *Config) { c.Path = "resolv.conf" },
		"port":      func(c *Config) { c.Servers = []netip.AddrPort{netip.MustParseAddrPort("198.18.0.1:5353")} },
		"resolved":  func(c *Config) { c.Mode, c.Interface = Resolved, "lo" },
		"command":   func(c *Config) { c.Mode = Resolvconf },
	} {
		cfg := h.config(File)
		change(&cfg)
		if r, err := Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: no error", name)
			r.Close()
		}
		if got := read(t, h.path); got != theirs {
			t.Errorf("%s: touched the file: %q", name, got)
		}
	}
}

func FuzzConf(f *testing.F) {
	f.Add([]byte(theirs))
	f.Add([]byte("nameserver fe80::1%eth0\ndomain a\n;x\nsearch\noptions a\toptions\n"))
	f.Add(render("00", []netip.Addr{netip.MustParseAddr("198.18.0.1")}, original{Exists: true, Content: []byte(theirs)}, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		own := []netip.Addr{netip.MustParseAddr("198.18.0.1")}
		before := original{Exists: true, Content: b}
		for _, fallback := range []bool{false, true} {
			out := render("00", own, before, fallback)
			if run, ok := writtenBy(out); !ok || run != "00" {
				t.Fatal("our file is not recognised")
			}
			c := parseConf(out)
			if len(c.servers) == 0 || c.servers[0].Addr() != own[0] || len(c.servers) > 3 {
				t.Fatalf("servers %v", c.servers)
			}
			want := string(b)
			if len(want) > 0 && want[len(want)-1] != '\n' {
				want += "\n"
			}
			if back := unrender(out); string(back.Content) != want || !back.Exists || back.Link != "" {
				t.Fatalf("%q became %+v", b, back)
			}
		}
	})
}

// Without any state directory the file itself says what was there.
func TestRepairByFileAlone(t *testing.T) {
	h := newHost(t)
	h.write(t, "etc/resolv.conf", theirs)
	open(t, h.config(File))
	if err := Repair(Config{Path: h.path}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, h.path); got != theirs {
		t.Errorf("repaired to %q", got)
	}
	if err := Repair(Config{Path: h.path}); err != nil {
		t.Fatal(err)
	}
	// A state nobody can read, and one of a program that is gone.
	cfg := h.config(File)
	for _, state := range []string{"{", `{"run":"00","mode":"resolvconf","command":"/nowhere/at/all","record":"tun.scn"}`} {
		h.write(t, "state/resolver.json", state)
		if err := Repair(cfg); err != nil {
			t.Errorf("%s: %v", state, err)
		}
		if _, err := os.Stat(statePath(cfg.StateDir)); !os.IsNotExist(err) {
			t.Errorf("%s: stays, %v", state, err)
		}
	}
}
