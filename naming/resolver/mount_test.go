package resolver

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"scn.alt/scn/naming/guardian"
)

func TestMain(m *testing.M) {
	if guardian.Requested() {
		os.Exit(guardian.Main(map[string]guardian.Restorer{GuardName: Restore}))
	}
	if dir := os.Getenv("RESOLVER_TEST_DAEMON"); dir != "" {
		daemon(dir)
	}
	os.Exit(m.Run())
}

// daemon is the process the tests kill.
func daemon(dir string) {
	h := &host{dir: dir, path: filepath.Join(dir, "etc/resolv.conf")}
	g, err := guardian.Start(guardian.Config{})
	if err == nil {
		cfg := h.config(File)
		cfg.Guard = g
		_, err = Open(context.Background(), cfg)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("standing")
	select {}
}

// kill starts a daemon on the host, and kills it once it stands.
func kill(t *testing.T, h *host) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "RESOLVER_TEST_DAEMON="+h.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	defer cmd.Wait() //nolint:errcheck // killed
	if line != "standing\n" {
		_ = cmd.Process.Kill()
		t.Fatalf("daemon: %s", line)
	}
	if _, ours := writtenBy([]byte(read(t, h.path))); !ours {
		t.Error("the daemon stands and the file is not ours")
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestKilled(t *testing.T) {
	h := newHost(t)
	h.write(t, "run/stub", "nameserver 192.0.2.1\n")
	if err := os.Symlink("../run/stub", h.path); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		kill(t, h)
		start := time.Now()
		eventually(t, "the guardian puts the link back", func() bool {
			link, err := os.Readlink(h.path)
			return err == nil && link == "../run/stub"
		})
		t.Logf("restored %v after kill -9", time.Since(start))
		eventually(t, "nothing stands", func() bool {
			_, err := os.Stat(statePath(filepath.Join(h.dir, "state")))
			return os.IsNotExist(err)
		})
	}
}

// inMounts runs the rest of the test in a mount namespace of its own.
func inMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv("RESOLVER_TEST_MOUNTS") == t.Name() {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "RESOLVER_TEST_MOUNTS="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Skipf("no mount namespace here: %v", err)
	}
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skip("skipped inside")
	}
	return false
}

// In a container the file is a bind mount: it cannot be renamed, only written.
func TestBindMount(t *testing.T) {
	if !inMounts(t) {
		return
	}
	h := newHost(t)
	h.write(t, "etc/resolv.conf", "")
	h.write(t, "run/given", theirs)
	if err := unix.Mount(filepath.Join(h.dir, "run/given"), h.path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(h.path, unix.MNT_DETACH) //nolint:errcheck // the namespace ends
	cfg := h.config(Auto)
	cfg.Check = time.Hour
	r := open(t, cfg)
	stop := running(t, r)
	if lines := settings(t, filepath.Join(h.dir, "run/given")); lines[0] != "nameserver 198.18.0.1" {
		t.Errorf("settings %q", lines)
	}
	time.Sleep(50 * time.Millisecond)
	h.write(t, "run/given", "nameserver 192.0.2.77\n") // the container's manager
	eventually(t, "a change from outside is learned", func() bool {
		return slices.Equal(h.servers(), []string{"192.0.2.77:53"})
	})
	eventually(t, "set again", func() bool {
		lines := settings(t, h.path)
		return len(lines) > 0 && lines[0] == "nameserver 198.18.0.1"
	})
	stop()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, h.path); got != "nameserver 192.0.2.77\n" {
		t.Errorf("restored to %q", got)
	}
	kill(t, h)
	eventually(t, "the guardian writes it back", func() bool {
		return read(t, h.path) == "nameserver 192.0.2.77\n"
	})
}

// A settings file on a file system that cannot be written is left alone, and said.
func TestReadOnly(t *testing.T) {
	if !inMounts(t) {
		return
	}
	h := newHost(t)
	h.write(t, "etc/resolv.conf", theirs)
	etc := filepath.Join(h.dir, "etc")
	if err := unix.Mount(etc, etc, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(etc, unix.MNT_DETACH) //nolint:errcheck // the namespace ends
	if err := unix.Mount("", etc, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if r, err := Open(t.Context(), h.config(Auto)); err == nil {
		r.Close()
		t.Error("no error")
	}
	if _, err := os.Stat(statePath(filepath.Join(h.dir, "state"))); !os.IsNotExist(err) {
		t.Errorf("a state stands: %v", err)
	}
}

// Debian's resolvconf itself, on directories of our own mounted over the real ones.
func TestDebianResolvconf(t *testing.T) {
	command, err := findCommand("resolvconf")
	if err != nil {
		t.Skip("no resolvconf on this host")
	}
	if out, _ := run(t.Context(), command, nil, "--version"); !strings.Contains(string(out), "Debian resolvconf") {
		t.Skipf("not Debian's resolvconf: %s", out)
	}
	if !inMounts(t) {
		return
	}
	h := newHost(t)
	for _, dir := range []string{"run/resolvconf", "run/resolvconf/interface"} {
		if err := os.Mkdir(filepath.Join(h.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.write(t, "run/resolvconf/enable-updates", "")
	h.write(t, "run/resolvconf/resolv.conf", "")
	// A tmpfs over /etc/resolvconf/resolv.conf.d hides the host's own base file.
	if err := os.MkdirAll("/run/resolvconf", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, m := range [][2]string{{filepath.Join(h.dir, "run/resolvconf"), "/run/resolvconf"}, {filepath.Join(h.dir, "etc"), "/etc/resolvconf/resolv.conf.d"}} {
		if err := unix.Mount(m[0], m[1], "", unix.MS_BIND, ""); err != nil {
			t.Skipf("mount %s: %v", m[1], err)
		}
		defer unix.Unmount(m[1], unix.MNT_DETACH) //nolint:errcheck // the namespace ends
	}
	if err := os.Symlink("/run/resolvconf/resolv.conf", h.path); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t.Context(), command, []byte("nameserver 192.0.2.1\nsearch lan\n"), "-a", "eth0.dhclient"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := settings(t, h.path); !slices.Equal(got, []string{"nameserver 192.0.2.1", "search lan"}) {
		t.Fatalf("resolvconf made %q", got)
	}
	cfg := h.config(Auto)
	cfg.Command, cfg.Check, cfg.Fallback = command, time.Hour, true
	cfg.Servers = []netip.AddrPort{netip.MustParseAddrPort("198.18.0.1:53")}
	r := open(t, cfg)
	stop := running(t, r)
	if s := r.Status(); s.Mode != Resolvconf {
		t.Fatalf("status %+v", s)
	}
	if got := settings(t, h.path); !slices.Equal(got, []string{"nameserver 198.18.0.1", "nameserver 192.0.2.1", "search lan"}) {
		t.Errorf("settings %q", got)
	}
	if got := h.servers(); !slices.Equal(got, []string{"192.0.2.1:53"}) {
		t.Errorf("upstream %v", got)
	}
	time.Sleep(50 * time.Millisecond)
	if out, err := run(t.Context(), command, []byte("nameserver 192.0.2.2\n"), "-a", "eth0.dhclient"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, "a new lease is learned", func() bool { return slices.Equal(h.servers(), []string{"192.0.2.2:53"}) })
	if out, err := run(t.Context(), command, nil, "-d", recordName); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, "set again", func() bool { return settings(t, h.path)[0] == "nameserver 198.18.0.1" })
	stop()
	// Killed: the next start repairs it.
	if err := Repair(cfg); err != nil {
		t.Fatal(err)
	}
	if got := settings(t, h.path); !slices.Equal(got, []string{"nameserver 192.0.2.2"}) {
		t.Errorf("restored to %q", got)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}
