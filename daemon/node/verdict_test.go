package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/daemon/access"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/daemon/verdict"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal"
	"scn.alt/scn/sal/saltest"
)

// judged makes a site whose rule asks the judge given about everybody.
func judged(t testing.TB, timeout time.Duration, judge verdict.Judge) *site {
	t.Helper()
	s := newSite(t, func(c *node.Config) {
		c.Verdict = verdict.Config{Judge: judge, Timeout: timeout}
		c.WakeTimeout = 15 * time.Second
	})
	s.setRules(t, "ask all")
	return s
}

// TestVerdicts: what is decided reaches the dialer as an error of its own.
func TestVerdicts(t *testing.T) {
	answers := make(chan verdict.Answer, 1)
	s := judged(t, 2*time.Second, func(ctx context.Context, q verdict.Question) (verdict.Answer, error) {
		select {
		case a := <-answers:
			return a, nil
		case <-ctx.Done():
			return verdict.Answer{}, ctx.Err()
		}
	})
	for _, c := range []struct {
		name   string
		answer verdict.Kind
		err    error
	}{
		{"allow", verdict.Allow, nil},
		{"deny", verdict.Deny, sal.ErrNotAuthorized},
		{"pay", verdict.Pay, sal.ErrPayment},
		{"never", 0, sal.ErrTargetTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.answer != 0 {
				answers <- verdict.Answer{Kind: c.answer}
			}
			conn, err := s.open(within(t, 20*time.Second), "plain", sitePort, record.TCP)
			if conn != nil {
				defer conn.Close()
			}
			if !errors.Is(err, c.err) {
				t.Errorf("dial: %v, want %v", err, c.err)
			}
		})
	}
	// Whoever decides is told the account.
	seen := make(chan verdict.Question, 1)
	s = judged(t, time.Minute, func(_ context.Context, q verdict.Question) (verdict.Answer, error) {
		seen <- q
		return verdict.Answer{Kind: verdict.Allow}, nil
	})
	conn, err := s.open(within(t, 20*time.Second), "member", otherPort, record.TCP)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if q := <-seen; q.Account != s.accounts["member"].Account() || q.Node != s.callers["member"].ID() || q.Port != otherPort || q.ServiceID != s.service {
		t.Errorf("asked about %+v", q)
	}
	// A session that was let through after a question is none that rules forbid.
	s.setRules(t, "ask all", "deny all udp")
	if err := use(conn); err != nil {
		t.Errorf("ended by a change that is none of its: %v", err)
	}
}

// TestHookHoldsUpItsOwnFlowsOnly: a program that sleeps for one peer and crashes for
// another; a third opens sessions, and one that is open keeps its speed.
func TestHookHoldsUpItsOwnFlowsOnly(t *testing.T) {
	hook := filepath.Join(t.TempDir(), "hook")
	text := fmt.Sprintf(`#!/bin/sh
read -r question
case "$question" in
*%s*) sleep 1000 ;;
*%s*) kill -SEGV $$ ;;
*) echo '{"verdict":"allow"}' ;;
esac
`, saltest.Key(301).Node(), saltest.Key(303).Node())
	if err := os.WriteFile(hook, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	s := judged(t, 60*time.Second, verdict.Program([]string{hook}))
	ctx := within(t, 90*time.Second)
	fast, err := s.open(ctx, "member", sitePort, record.TCP)
	if err != nil {
		t.Fatal(err)
	}
	defer fast.Close()
	_ = fast.SetDeadline(time.Time{})
	alone := transfer(t, fast)

	var wg sync.WaitGroup
	for _, port := range []uint16{sitePort, otherPort} {
		wg.Go(func() {
			if c, err := s.callers["plain"].Dial(ctx, s.service, port); !errors.Is(err, sal.ErrNotAuthorized) {
				t.Errorf("the one that hangs: %v, %v", c, err)
			}
		})
	}
	for {
		if open, _ := s.Verdicts().Questions(); len(open) == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	beside := transfer(t, fast)
	t.Logf("one session carried 32 MiB in %s alone, in %s beside hung questions", alone, beside)
	if beside > 4*alone+time.Second { // machines are busy; a session that is held up would stand still
		t.Errorf("an open session went from %s to %s", alone, beside)
	}
	begun := time.Now()
	for range 10 {
		c, err := s.open(ctx, "member", otherPort, record.TCP)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if _, err := s.open(ctx, "liar", sitePort, record.TCP); !errors.Is(err, sal.ErrNotAuthorized) {
			t.Errorf("the one that crashes: %v", err)
		}
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("ten sessions took %s beside hung questions", took)
	}
	// The user decides: the dials that wait end at once.
	open, _ := s.Verdicts().Questions()
	if len(open) != 2 {
		t.Errorf("open questions %+v", open)
	}
	for _, q := range open {
		if err := s.Verdicts().Decide(q.ID, verdict.Answer{Kind: verdict.Deny}); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

// transfer sends 32 MiB there and back and returns how long that took.
func transfer(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	const size = 32 << 20
	begun := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := io.Copy(c, io.LimitReader(zeros{}, size)); err != nil {
			t.Error(err)
		}
	})
	if _, err := io.CopyN(io.Discard, c, size); err != nil {
		t.Error(err)
	}
	wg.Wait()
	return time.Since(begun)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// TestWake: the session is held until the target that was woken accepts.
func TestWake(t *testing.T) {
	dir := t.TempDir()
	socket, woken := filepath.Join(dir, "target"), filepath.Join(dir, "woken")
	s := judged(t, time.Minute, func(context.Context, verdict.Question) (verdict.Answer, error) {
		return verdict.Answer{Kind: verdict.Wake, Wake: []string{"touch", woken}}, nil
	})
	if _, err := s.Serve(within(t, 20*time.Second), node.Service{Name: siteName, Targets: []string{"80=unix://" + socket}}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { // the machine that sleeps
		for {
			if _, err := os.Stat(woken); err == nil {
				break
			}
			if t.Context().Err() != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close()
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	})
	conn, err := s.open(within(t, 30*time.Second), "plain", sitePort, record.TCP)
	if err != nil {
		t.Error(err)
	}
	if conn != nil {
		_ = conn.Close()
	}
	wg.Wait()
	// A port without a target is refused at once: there is nothing to wake.
	if _, err := s.open(within(t, 5*time.Second), "plain", 9, record.TCP); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("no target: %v", err)
	}
}

// TestAskDoesNotOpenDoors: what a deny rule forbids is not asked about.
func TestAskDoesNotOpenDoors(t *testing.T) {
	s := judged(t, time.Minute, func(context.Context, verdict.Question) (verdict.Answer, error) {
		t.Error("asked about a node that is denied")
		return verdict.Answer{Kind: verdict.Allow}, nil
	})
	s.setRules(t, "ask all", fmt.Sprintf("deny %s", s.callers["plain"].ID()))
	if _, err := s.open(within(t, 20*time.Second), "plain", sitePort, record.TCP); !errors.Is(err, syscall.EACCES) {
		t.Errorf("dial: %v", err)
	}
	said, err := s.Rules().Explain(siteName, access.Caller{Node: identity.NodeID{1}}, sitePort, record.TCP)
	if err != nil || len(said) != 1 || said[0].Action != access.Ask {
		t.Errorf("explained as %+v, %v", said, err)
	}
}
