package node_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/daemon/node"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal"
)

// second lets another provider, whose target works, serve the site's service.
func (s *site) second(t *testing.T) *sal.Node {
	t.Helper()
	s.addCaller(t, "second", 320, nil)
	n := s.callers["second"]
	delete(s.callers, "second")
	n.Handle(s.service, func(_ context.Context, in *sal.Incoming) {
		c, err := in.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	})
	s.resolver.SetNode(n.ID(), n.Locators()...)
	s.resolver.SetService(s.service,
		record.Candidate{Node: s.ID(), Weight: 1}, record.Candidate{Node: n.ID(), Priority: 5, Weight: 1})
	return n
}

// at opens a session and returns the provider it is at.
func (s *site) at(t *testing.T) (identity.NodeID, net.Conn) {
	t.Helper()
	c, err := s.open(within(t, 20*time.Second), "plain", sitePort, record.TCP)
	if err != nil {
		t.Fatal(err)
	}
	return c.RemoteAddr().(sal.Addr).Node, c
}

// TestFailingTarget: new sessions go to the other provider at once, a client with one
// provider hears the truth, and open sessions stay.
func TestFailingTarget(t *testing.T) {
	s := newSite(t)
	up := filepath.Join(t.TempDir(), "up")
	if err := os.WriteFile(up, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	service := s.Services()[0].Service
	service.Check, service.CheckInterval, service.CheckRise, service.CheckFall = "exec:ls "+up, "100ms", 1, 2
	if _, err := s.Serve(within(t, 20*time.Second), service); err != nil {
		t.Fatal(err)
	}
	healthy := func(want bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			h := s.Services()[0].Health
			if h != nil && h.Tries > 0 && h.Healthy == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("health %+v, want %v", h, want)
			}
		}
	}
	healthy(true)
	first, open := s.at(t)
	if first != s.ID() {
		t.Fatal("not at the provider")
	}
	defer open.Close()
	if err := os.Remove(up); err != nil {
		t.Fatal(err)
	}
	healthy(false)
	if h := s.Services()[0].Health; h.Err == nil {
		t.Errorf("no error is told: %+v", h)
	}
	if _, err := s.open(within(t, 20*time.Second), "plain", sitePort, record.TCP); !errors.Is(err, sal.ErrTargetUnreachable) || !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("with one provider: %v, want ErrTargetUnreachable", err)
	}
	if err := use(open); err != nil {
		t.Errorf("an open session broke: %v", err)
	}
	other := s.second(t)
	if node, c := s.at(t); node != other.ID() {
		t.Error("a new session is not at the other provider")
	} else {
		_ = c.Close()
	}
	if err := os.WriteFile(up, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	healthy(true)
	s.resolver.SetService(s.service, record.Candidate{Node: s.ID(), Weight: 1})
	if node, c := s.at(t); node != s.ID() {
		t.Error("not back at the provider")
	} else {
		_ = c.Close()
	}
	service.Check = "nonsense"
	if _, err := s.Serve(within(t, 20*time.Second), service); !errors.Is(err, node.ErrRequest) {
		t.Errorf("a check that is none: %v", err)
	}
}

// TestDrain: no new sessions, open ones go on, over a restart too.
func TestDrain(t *testing.T) {
	s := newSite(t)
	_, open := s.at(t)
	defer open.Close()
	state, err := s.Drain(siteName, true)
	if err != nil || !state.Draining || state.Sessions != 1 {
		t.Fatalf("%+v, %v", state, err)
	}
	dial := func() error {
		c, err := s.open(within(t, 20*time.Second), "plain", sitePort, record.TCP)
		if c != nil {
			_ = c.Close()
		}
		return err
	}
	if err := dial(); !errors.Is(err, sal.ErrDraining) {
		t.Errorf("with one provider: %v, want ErrDraining", err)
	}
	if err := use(open); err != nil {
		t.Errorf("an open session broke: %v", err)
	}
	other := s.second(t)
	if node, c := s.at(t); node != other.ID() {
		t.Error("a new session is not at the other provider")
	} else {
		_ = c.Close()
	}
	if n, err := s.EndSessions(siteName); err != nil || n != 1 {
		t.Errorf("%d sessions ended, %v", n, err)
	}
	_ = open.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := open.Read(make([]byte, 1)); !errors.Is(err, sal.ErrDraining) {
		t.Errorf("the session that was ended reads %v", err)
	}
	s.resolver.SetService(s.service, record.Candidate{Node: s.ID(), Weight: 1})
	s.stop()
	s.running = start(t, s.dir, s.address)
	if got := s.Services(); len(got) != 1 || !got[0].Draining {
		t.Fatalf("after a restart: %+v", got)
	}
	if err := dial(); !errors.Is(err, sal.ErrDraining) {
		t.Errorf("after a restart: %v, want ErrDraining", err)
	}
	if _, err := s.Drain(siteName, false); err != nil {
		t.Fatal(err)
	}
	if err := dial(); err != nil {
		t.Errorf("after undrain: %v", err)
	}
	if _, err := s.Drain("nobody", true); !errors.Is(err, node.ErrNotServed) {
		t.Errorf("drain of nothing: %v", err)
	}
}
