package guardian

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// restorers are the guardian's in these tests: the state is a path, and restoring
// it creates the file; "fail" never succeeds.
var restorers = map[string]Restorer{
	"a":    touch,
	"b":    touch,
	"fail": func([]byte) error { return errors.New("no") },
}

func touch(state []byte) error { return os.WriteFile(string(state), nil, 0o600) }

func TestMain(m *testing.M) {
	if Requested() {
		os.Exit(Main(restorers))
	}
	if dir := os.Getenv("GUARDIAN_TEST_DAEMON"); dir != "" {
		daemon(dir)
	}
	os.Exit(m.Run())
}

// daemon is the process the tests kill: it says what to restore and waits.
func daemon(dir string) {
	g, err := Start(Config{})
	if err == nil {
		err = errors.Join(g.Set("a", []byte(filepath.Join(dir, "a"))), g.Set("b", []byte(filepath.Join(dir, "b"))), g.Clear("b"))
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("standing", g.PID())
	select {}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// startDaemon starts the daemon in a process group of its own and returns it and
// its guardian's process ID.
func startDaemon(t *testing.T, dir string) (*exec.Cmd, int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GUARDIAN_TEST_DAEMON="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	text, ok := strings.CutPrefix(strings.TrimSpace(line), "standing ")
	pid, _ := strconv.Atoi(text)
	if err != nil || !ok || pid == 0 {
		_ = cmd.Process.Kill()
		t.Fatalf("daemon said %q, %v", line, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, pid
}

func TestKill(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			if signal.Ignored(sig) {
				t.Logf("%v is ignored here (nohup): the daemon would ignore it too", sig)
				return
			}
			dir := t.TempDir()
			cmd, pid := startDaemon(t, dir)
			// The whole group gets it, as from a terminal or a shell's kill %1.
			if err := syscall.Kill(-cmd.Process.Pid, sig); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			eventually(t, "the guardian restores", func() bool { return exists(filepath.Join(dir, "a")) })
			t.Logf("restored after %v", time.Since(start))
			eventually(t, "the guardian exits", func() bool {
				stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
				return err != nil || bytes.Contains(stat, []byte(") Z "))
			})
			if exists(filepath.Join(dir, "b")) {
				t.Error("restored what was cleared")
			}
		})
	}
}

func TestGuardianIgnoresSignals(t *testing.T) {
	dir := t.TempDir()
	cmd, pid := startDaemon(t, dir)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || strings.TrimSpace(string(comm)) != Name {
		t.Errorf("the process is called %q, %v; killing the daemon by name would hit it", comm, err)
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || strings.Trim(string(cmdline), "\x00") != Name {
		t.Errorf("its command line is %q, %v", cmdline, err)
	}
	time.Sleep(50 * time.Millisecond)
	if exists(filepath.Join(dir, "a")) {
		t.Fatal("restored while the daemon runs")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the guardian restores", func() bool { return exists(filepath.Join(dir, "a")) })
}

func TestCloseInOrder(t *testing.T) {
	dir := t.TempDir()
	g, err := Start(Config{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := errors.Join(g.Set("a", []byte(a)), g.Set("b", []byte("/nowhere/at/all")), g.Set("b", []byte(b)), g.Clear("a")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(g.Close(), g.Close()); err != nil {
		t.Fatal(err)
	}
	if exists(a) || !exists(b) {
		t.Errorf("restored a: %v, b: %v; want only what stood", exists(a), exists(b))
	}
	if err := g.Set("a", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Set after Close: %v", err)
	}
}

func TestGuardianIsReplaced(t *testing.T) {
	dir := t.TempDir()
	g, err := Start(Config{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := g.Set("a", []byte(a)); err != nil {
		t.Fatal(err)
	}
	first := g.PID()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Told at once, before the death may have been noticed.
	if err := g.Set("b", []byte(b)); err != nil {
		t.Fatal(err)
	}
	second := g.PID()
	if err := syscall.Kill(second, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a third guardian", func() bool { pid := g.PID(); return pid != 0 && pid != second })
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if !exists(a) || !exists(b) {
		t.Errorf("restored a: %v, b: %v; want both", exists(a), exists(b))
	}
}

func TestStartFails(t *testing.T) {
	if _, err := Start(Config{Path: "/nowhere/at/all"}); err == nil {
		t.Error("started a program that does not exist")
	}
	if _, err := Start(Config{Path: "/bin/true", Timeout: 5 * time.Second}); err == nil {
		t.Error("took a program that is no guardian")
	}
}

func TestMainFailsToRestore(t *testing.T) {
	start := time.Now()
	if err := restore(restorers["fail"], nil); err == nil || time.Since(start) < 500*time.Millisecond {
		t.Errorf("%v after %v; want several attempts and an error", err, time.Since(start))
	}
	if err := restore(nil, nil); err == nil {
		t.Error("no restorer and no error")
	}
}

func TestFrameCutShort(t *testing.T) {
	whole := appendFrame(appendFrame(nil, opSet, "a", []byte("state")), opSet, "b", []byte("x"))
	for n := range len(whole) {
		var out bytes.Buffer
		entries := serve(bytes.NewReader(whole[:n]), &out, slog.New(slog.DiscardHandler))
		want := 0
		if n >= 12 {
			want = 1
		}
		if len(entries) != want || out.Len() != want {
			t.Errorf("%d bytes: %d entries, %d acknowledged; want %d", n, len(entries), out.Len(), want)
		}
	}
}

func FuzzServe(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, opSet, "a", []byte("state")), opClear, "a", nil))
	f.Add([]byte{opSet, 1, 0xff, 0xff, 0xff, 0xff, 'a'})
	f.Add([]byte{opSet, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		entries := serve(bytes.NewReader(b), io.Discard, slog.New(slog.DiscardHandler))
		total := 0
		for _, e := range entries {
			total += len(e.name) + len(e.state)
			if e.name == "" {
				t.Error("an entry without a name")
			}
		}
		if total > len(b) {
			t.Errorf("%d bytes kept of %d", total, len(b))
		}
	})
}
