package verdict

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

func testGate(t testing.TB, cfg Config) *Gate {
	t.Helper()
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g
}

func key(service string, peer byte) Key {
	return Key{Service: service, Node: identity.NodeID{peer}, Port: 80, Protocol: record.TCP}
}

func hold(t testing.TB, g *Gate, k Key) (Answer, error) {
	t.Helper()
	a, release, err := g.Hold(t.Context(), k, identity.ServiceID{})
	release()
	return a, err
}

// script makes an executable shell script.
func script(t testing.TB, text string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return []string{path}
}

func TestPrograms(t *testing.T) {
	for _, c := range []struct {
		name, script string
		kind         Kind
		err          error
	}{
		{"allow", `grep -q '"service":"files".*"port":80,"protocol":"tcp"' && echo '{"verdict":"allow"}'`, Allow, nil},
		{"deny", `echo '{"verdict":"deny","reason":"no"}'`, Deny, nil},
		{"pay", `echo '{"verdict":"pay"}'`, Pay, nil},
		{"wake", `echo '{"verdict":"wake","wake":["true"]}'`, Wake, nil},
		{"crash", `kill -SEGV $$`, Deny, nil},
		{"exit code", `echo '{"verdict":"allow"}'; exit 3`, Deny, nil},
		{"nonsense", `echo maybe`, Deny, nil},
		{"two answers", `echo '{"verdict":"allow"}{"verdict":"deny"}'`, Deny, nil},
		{"unknown field", `echo '{"verdict":"allow","cahce":"1h"}'`, Deny, nil},
		{"silent", `exit 0`, Deny, nil},
		{"flood", `yes`, Deny, nil},
		{"flood of complaints", `yes | head -c 10000000 >&2; echo '{"verdict":"allow"}'`, Allow, nil},
		{"reads nothing", `exec <&-; echo '{"verdict":"allow"}'`, Allow, nil},
		{"sleeps", `sleep 1000`, 0, ErrTimeout},
		{"leaves it to the user", `echo '{"verdict":"ask"}'`, 0, ErrTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			timeout := 30 * time.Second // but for those that wait for it
			if c.err != nil {
				timeout = 500 * time.Millisecond
			}
			g := testGate(t, Config{Judge: Program(script(t, c.script)), Timeout: timeout})
			a, err := hold(t, g, key("files", 1))
			if err == nil && a.Kind != c.kind || !errors.Is(err, c.err) {
				t.Errorf("%s, %v, want %s, %v", a.Kind, err, c.kind, c.err)
			}
		})
	}
}

func TestMissingProgramDenies(t *testing.T) {
	g := testGate(t, Config{Judge: Program([]string{"/nonexistent/hook"})})
	if a, err := hold(t, g, key("files", 1)); a.Kind != Deny || err != nil {
		t.Errorf("%s, %v", a.Kind, err)
	}
	if g.Metrics().Failures != 1 {
		t.Errorf("metrics %+v", g.Metrics())
	}
}

// TestProgramsAreKilledWithTheirChildren: nothing is left when the time is over.
func TestProgramsAreKilledWithTheirChildren(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	g := testGate(t, Config{Judge: Program(script(t, "sleep 1000 & echo $! >"+pids+"; wait")), Timeout: time.Second})
	if _, err := hold(t, g, key("files", 1)); !errors.Is(err, ErrTimeout) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("hold: %v", err)
	}
	if err := g.Close(); err != nil { // waits for the program
		t.Fatal(err)
	}
	b, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if gone(pid) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d is still there", pid)
}

// gone reports whether a process has ended; one that nobody waited for counts.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

// TestHungQuestionHoldsUpNobodyElse: one never answers, a hundred others are answered.
func TestHungQuestionHoldsUpNobodyElse(t *testing.T) {
	g := testGate(t, Config{Timeout: time.Minute, Judge: func(ctx context.Context, q Question) (Answer, error) {
		if q.Node == (identity.NodeID{1}) {
			<-ctx.Done()
		}
		return Answer{Kind: Allow}, nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			_, release, err := g.Hold(ctx, key("files", 1), identity.ServiceID{})
			release()
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the hung one: %v", err)
			}
		})
	}
	for i := range 100 {
		if a, err := hold(t, g, key("files", byte(2+i))); err != nil || a.Kind != Allow {
			t.Fatalf("%s, %v", a.Kind, err)
		}
	}
	cancel()
	wg.Wait()
	if m := g.Metrics(); m.Held != 0 || m.Allowed != 100 {
		t.Errorf("metrics %+v", m)
	}
}

func TestEqualQuestionsAreAskedOnce(t *testing.T) {
	var asked atomic.Int32
	answer := make(chan struct{})
	g := testGate(t, Config{Judge: func(context.Context, Question) (Answer, error) {
		asked.Add(1)
		<-answer
		return Answer{Kind: Deny, Cache: time.Hour}, nil
	}})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if a, err := hold(t, g, key("files", 1)); err != nil || a.Kind != Deny {
				t.Errorf("%s, %v", a.Kind, err)
			}
		})
	}
	for g.Metrics().Held < 10 {
		time.Sleep(time.Millisecond)
	}
	close(answer)
	wg.Wait()
	if _, err := hold(t, g, key("files", 1)); err != nil || asked.Load() != 1 || g.Metrics().FromCache != 1 {
		t.Errorf("%v; asked %d times; %+v", err, asked.Load(), g.Metrics())
	}
}

func TestBounds(t *testing.T) {
	g := testGate(t, Config{Timeout: time.Minute, MaxHeld: 6, MaxPerService: 4, MaxPerPeer: 2})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	try := func(k Key) {
		before := g.Metrics()
		wg.Go(func() {
			_, release, _ := g.Hold(ctx, k, identity.ServiceID{})
			release()
		})
		for m := g.Metrics(); m.Held == before.Held && m.Full == before.Full; m = g.Metrics() {
			time.Sleep(time.Millisecond)
		}
	}
	for i, want := range []uint64{0, 0, 1, 1, 1, 2, 2, 2, 3} {
		k := key("a", byte(i/3)) // the third of each peer is too much
		k.Port = uint16(i)
		if i >= 6 {
			k.Service, k.Node = "b", identity.NodeID{9} // total bound at the end
		}
		if i == 5 {
			k.Node = identity.NodeID{8} // the service's bound
		}
		try(k)
		if m := g.Metrics(); m.Full != want {
			t.Errorf("attempt %d: %d refused, want %d (%d held)", i, m.Full, want, m.Held)
		}
	}
	cancel()
	wg.Wait()
	// The questions outlive the sessions that gave up, and keep their places.
	if _, err := hold(t, g, Key{Service: "c", Node: identity.NodeID{20}}); !errors.Is(err, ErrFull) || !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("with every question still open: %v", err)
	}
}

func TestUserDecides(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	g := testGate(t, Config{Timeout: 300 * time.Millisecond, Clock: func() time.Time { return now }})
	if _, err := hold(t, g, key("files", 1)); !errors.Is(err, ErrTimeout) {
		t.Fatalf("nobody decides: %v", err)
	}
	_, missed := g.Questions()
	if len(missed) != 1 || missed[0].Service != "files" {
		t.Fatalf("missed %+v", missed)
	}
	if err := g.Decide(missed[0].ID, Answer{Kind: Allow, Cache: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if a, err := hold(t, g, key("files", 1)); err != nil || a.Kind != Allow {
		t.Errorf("the next try: %s, %v", a.Kind, err)
	}
	now = now.Add(2 * time.Hour)
	if _, err := hold(t, g, key("files", 1)); !errors.Is(err, ErrTimeout) {
		t.Errorf("after the hour: %v", err)
	}
	if err := g.Decide("q99", Answer{Kind: Allow}); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown question: %v", err)
	}

	// An open one.
	g = testGate(t, Config{Timeout: time.Minute})
	done := make(chan Answer, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		a, err := hold(t, g, key("files", 2))
		if err != nil {
			t.Error(err)
		}
		done <- a
	})
	for {
		if open, _ := g.Questions(); len(open) == 1 {
			if err := g.Decide(open[0].ID, Answer{Kind: Pay, Cache: time.Hour}); err != nil {
				t.Error(err)
			}
			break
		}
		time.Sleep(time.Millisecond)
	}
	if a := <-done; a.Kind != Pay {
		t.Errorf("decided %s", a.Kind)
	}
	wg.Wait()
	answers := g.Answers()
	if len(answers) != 1 || answers[0].Kind != Pay {
		t.Fatalf("remembered %+v", answers)
	}
	if err := errors.Join(g.Forget(answers[0].ID)); err != nil || len(g.Answers()) != 0 {
		t.Errorf("forget: %v", err)
	}
}

func TestWakeRunsOnce(t *testing.T) {
	out := filepath.Join(t.TempDir(), "woken")
	command := script(t, "echo x >>"+out)
	g := testGate(t, Config{})
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if err := g.Wake(t.Context(), command); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if b, err := os.ReadFile(out); err != nil || string(b) != "x\n" {
		t.Errorf("%q, %v", b, err)
	}
	if err := g.Wake(t.Context(), script(t, "exit 1")); err == nil {
		t.Error("a failed wake is none")
	}
}

func TestConfigFaults(t *testing.T) {
	err := Config{Timeout: time.Hour, MaxHeld: -1, MaxPerPeer: 1 << 20}.Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("faults: %v, want three", err)
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"verdict":"wake","wake":["a"],"cache":"1h","reason":"r"}`))
	f.Add([]byte(`{"verdict":"allow"} x`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAnswer(b)
		if err == nil && (a.Kind == 0 || a.Cache < 0 || a.Cache > MaxCache || len(a.Reason) > maxReason) {
			t.Errorf("%q was read as %+v", b, a)
		}
		_, _ = ParseKind(string(b))
	})
}
