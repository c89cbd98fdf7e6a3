package health

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scn.alt/scn/tun/target"
)

func TestCheckText(t *testing.T) {
	for _, text := range []string{"tcp", "tcp:5432", "http:/", "http:/healthz?x=1", "http:8080/ready", "exec:pg_isready -q && true"} {
		c, err := ParseCheck(text)
		if err != nil || c.String() != text || c.IsZero() {
			t.Errorf("%q: %q, %v", text, c, err)
		}
	}
	for _, text := range []string{"", "tcp:", "tcp:0", "tcp:99999", "tcp:080", "http", "http:", "http:80", "http:x/", "http:/a b", "exec:", "exec: ", "udp", "exec:a\nb", "exec:" + strings.Repeat("x", 5000)} {
		if c, err := ParseCheck(text); !errors.Is(err, ErrCheck) {
			t.Errorf("%q was read as %q", text, c)
		}
	}
}

func TestTracker(t *testing.T) {
	bad := errors.New("bad")
	for _, c := range []struct {
		name  string
		tries string // + success, - failure
		want  string // healthy after each: H or f
	}{
		{"the first decides: down", "-+-++", "ffffH"},
		{"the first decides: up", "+--+---", "HHHHHHf"},
		{"flapping does not count", "+--+--+--", "HHHHHHHHH"},
		{"back again", "+---+-++", "HHHffffH"},
	} {
		tracker, got := NewTracker(Config{}), ""
		for i, try := range c.tries {
			err := bad
			if try == '+' {
				err = nil
			}
			before := tracker.State().Healthy
			if changed := tracker.Observe(err, time.Unix(int64(i), 0)); changed != (before != tracker.State().Healthy) {
				t.Errorf("%s: try %d: changed is %v", c.name, i, changed)
			}
			if tracker.State().Healthy {
				got += "H"
			} else {
				got += "f"
			}
		}
		if got != c.want {
			t.Errorf("%s: %s gave %s, want %s", c.name, c.tries, got, c.want)
		}
	}
}

func tryOf(t *testing.T, check string, targets ...string) func(context.Context) error {
	t.Helper()
	c, err := ParseCheck(check)
	if err != nil {
		t.Fatal(err)
	}
	list, err := target.ParseAll(targets)
	if err != nil {
		t.Fatal(err)
	}
	try, err := c.Of("files", list)
	if err != nil {
		t.Fatal(err)
	}
	return try
}

func TestChecks(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/fine":
		case "/moved":
			http.Redirect(w, r, "/broken", http.StatusFound)
		case "/hangs":
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer web.Close()
	live := "80=tcp://" + web.Listener.Addr().String()
	dead := "81=unix://" + filepath.Join(t.TempDir(), "nobody")
	for _, c := range []struct {
		check   string
		targets []string
		err     string
	}{
		{"tcp", []string{live, "53=udp://127.0.0.1:9"}, ""},
		{"tcp", []string{live, dead}, "81=unix"},
		{"tcp:80", []string{live, dead}, ""},
		{"http:/fine", []string{live}, ""},
		{"http:80/moved", []string{dead, live}, ""},
		{"http:/broken", []string{live}, "503"},
		{"http:81/fine", []string{live, dead}, "nobody"},
		{"exec:test \"$SCN_SERVICE\" = files", []string{live}, ""},
		{"exec:echo no disk >&2; exit 1", []string{live}, "no disk"},
		{"exec:yes", []string{live}, "output"},
	} {
		err := tryOf(t, c.check, c.targets...)(t.Context())
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.check, err, c.err)
		}
	}
	c, _ := ParseCheck("tcp:99")
	if _, err := c.Of("files", nil); !errors.Is(err, ErrCheck) {
		t.Errorf("a check of no target: %v", err)
	}
	// One that hangs is a failure in time.
	m := Start(tryOf(t, "http:/hangs", live), Config{Interval: 200 * time.Millisecond}, nil)
	defer m.Close()
	waitFor(t, m, func(s State) bool { return !s.Healthy && errors.Is(s.Err, errSlow) })
}

func waitFor(t *testing.T, m *Monitor, want func(State) bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !want(m.State()); {
		if time.Now().After(end) {
			t.Fatalf("state %+v", m.State())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestMonitorFollowsTheTarget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	changes := make(chan bool, 10)
	m := Start(tryOf(t, "tcp", "80=unix://"+path), Config{Interval: 100 * time.Millisecond, Fall: 2}, func(s State) { changes <- s.Healthy })
	defer m.Close()
	waitFor(t, m, func(s State) bool { return s.Healthy && s.Tries > 0 })
	_ = l.Close()
	if <-changes {
		t.Error("the first change is to healthy")
	}
	if s := m.State(); s.Healthy || s.Err == nil || s.Failures < 2 {
		t.Errorf("state %+v", s)
	}
	if l, err = net.Listen("unix", path); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !<-changes {
		t.Error("not healthy again")
	}
}

func TestConfigFaults(t *testing.T) {
	err := Config{Interval: 2 * time.Hour, Rise: -1, Fall: 101}.Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("faults: %v, want three", err)
	}
}

func FuzzParseCheck(f *testing.F) {
	f.Add("http:80/x")
	f.Add("exec:true")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := ParseCheck(text); err == nil && c.String() != text {
			t.Errorf("%q became %q", text, c)
		}
	})
}
