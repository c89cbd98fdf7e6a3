package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scn.alt/scn/routing/identity"
)

// fakeBackend answers what the tests ask for; other calls panic with a nil Backend.
type fakeBackend struct {
	Backend
	served ServeRequest
	err    error
	dial   func() (net.Conn, error)
}

func (f *fakeBackend) Status(context.Context) (Status, error) {
	return Status{Version: "test", Services: []Service{}, Peers: []Peer{}}, f.err
}

func (f *fakeBackend) Serve(_ context.Context, q ServeRequest) (Service, error) {
	f.served = q
	return Service{Name: q.Name, Targets: q.Targets}, f.err
}

func (f *fakeBackend) Dial(context.Context, string, uint16) (net.Conn, error) { return f.dial() }

func startServer(t *testing.T, b Backend) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: Handler(b)}}
	s.Start()
	t.Cleanup(s.Close)
	c := NewClient(path)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestCallsRoundTrip(t *testing.T) {
	b := &fakeBackend{}
	c := startServer(t, b)
	weight := uint16(7)
	q := ServeRequest{Name: "files", Targets: []string{"80=tcp://127.0.0.1:8080"}, Allow: []string{"all"}, Weight: &weight}
	s, err := c.Serve(t.Context(), q)
	if err != nil || s.Name != "files" {
		t.Fatalf("Serve = %+v, %v", s, err)
	}
	if diff := cmp.Diff(q, b.served); diff != "" {
		t.Errorf("request changed on the way (-sent +received):\n%s", diff)
	}
	st, err := c.Status(t.Context())
	if err != nil || st.Version != "test" || st.Services == nil {
		t.Fatalf("Status = %+v, %v", st, err)
	}
}

func TestErrorsKeepTheirCode(t *testing.T) {
	for _, code := range []Code{Failed, BadRequest, NotFound, Refused, Unreachable} {
		b := &fakeBackend{err: Errorf(code, "because of %s", code)}
		_, err := startServer(t, b).Status(t.Context())
		var e *Error
		if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, string(code)) {
			t.Errorf("code %s came back as %v", code, err)
		}
	}
}

func TestExitCodes(t *testing.T) {
	want := map[Code]int{Failed: 1, BadRequest: 2, NotRunning: 3, NotFound: 4, Refused: 5, Unreachable: 6}
	for code, exit := range want {
		if got := ExitCode(Errorf(code, "x")); got != exit {
			t.Errorf("ExitCode(%s) = %d, want %d", code, got, exit)
		}
	}
	if ExitCode(nil) != 0 || ExitCode(errors.New("x")) != 1 {
		t.Error("nil is not 0, or a plain error not 1")
	}
}

func TestNoDaemon(t *testing.T) {
	_, err := NewClient(filepath.Join(t.TempDir(), "none")).Status(t.Context())
	if ExitCode(err) != 3 || !strings.Contains(err.Error(), "scn up") {
		t.Errorf("error %v: want exit code 3 and advice", err)
	}
}

func TestBodiesAreStrictAndBounded(t *testing.T) {
	h := Handler(&fakeBackend{})
	for name, body := range map[string]string{
		"unknown field": `{"name":"files","nonsense":1}`,
		"no JSON":       `nonsense`,
		"huge":          `{"name":"` + strings.Repeat("a", maxBody) + `"}`,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/serve", strings.NewReader(body)))
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s: status %d, want 400", name, w.Code)
		}
	}
}

func FuzzServeBody(f *testing.F) {
	f.Add([]byte(`{"name":"files","targets":["80=tcp://127.0.0.1:8080"],"allow":["all"]}`))
	f.Add([]byte(`{"name":`))
	h := Handler(&fakeBackend{})
	f.Fuzz(func(t *testing.T, body []byte) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/serve", bytes.NewReader(body)))
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest {
			t.Errorf("status %d", w.Code)
		}
	})
}

// TestDialHalfClose sends all it has, ends its direction, and still gets the answer.
func TestDialHalfClose(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		b, err := io.ReadAll(c) // ends only by the half-close
		if err == nil {
			_, err = c.Write(bytes.ToUpper(b))
		}
		done <- err
	}()
	c := startServer(t, &fakeBackend{dial: func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }})
	conn, err := c.Dial(t.Context(), "echo", 7)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil || string(b) != "HELLO" {
		t.Fatalf("read %q, %v", b, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestDialBroken must not look like an end: the reader would take half a file for all.
func TestDialBroken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = io.WriteString(c, "half")
			_, _ = c.Read(make([]byte, 1))
			_ = c.(*net.TCPConn).SetLinger(0)
			err = c.Close()
		}
		done <- err
	}()
	c := startServer(t, &fakeBackend{dial: func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }})
	conn, err := c.Dial(t.Context(), "echo", 7)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got := make([]byte, 4)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "half" {
		t.Fatalf("read %q, %v", got, err)
	}
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(got); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("read after a reset: %v, want io.ErrUnexpectedEOF", err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestDialRefusal(t *testing.T) {
	c := startServer(t, &fakeBackend{dial: func() (net.Conn, error) { return nil, Errorf(Refused, "no") }})
	if _, err := c.Dial(t.Context(), "echo", 7); ExitCode(err) != 5 {
		t.Errorf("error %v, want exit code 5", err)
	}
}

func ExampleExitCode() {
	err := Errorf(NotFound, "%s: not found", identity.ServiceID{}.Short())
	fmt.Println(ExitCode(err))
	// Output: 4
}
