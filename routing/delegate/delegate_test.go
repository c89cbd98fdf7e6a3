package delegate

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a node's records.
type fake struct {
	mu     sync.Mutex
	values map[string][][]byte
	err    error // after the values, or of Store
	hold   chan struct{}
}

func (f *fake) Find(ctx context.Context, key string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		f.mu.Lock()
		values, err := f.values[key], f.err
		f.mu.Unlock()
		for _, v := range values {
			if !yield(v, nil) {
				return
			}
		}
		if f.hold != nil {
			select {
			case <-f.hold:
			case <-ctx.Done():
			}
		}
		if err == nil && len(values) == 0 {
			err = ErrNotFound
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

func (f *fake) Store(_ context.Context, key string, value []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	f.values[key] = append(f.values[key], bytes.Clone(value))
	return nil
}

// serve runs a server on loopback TCP, which has the semantics of sessions that
// matter here.
func serve(t *testing.T, records Records, cfg ServerConfig) (*Server, func() net.Conn) {
	t.Helper()
	s, err := NewServer(records, cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return s, func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

func onePeer(net.Addr) string { return "peer" }

func collect(seq iter.Seq2[[]byte, error]) (values []string, err error) {
	for v, e := range seq {
		if e != nil {
			return values, e
		}
		values = append(values, string(v))
	}
	return values, nil
}

func TestGetAndPut(t *testing.T) {
	records := &fake{values: map[string][][]byte{"/a": {[]byte("old"), []byte("new")}}}
	s, dial := serve(t, records, ServerConfig{})
	values, err := collect(Get(t.Context(), dial(), "/a"))
	if err != nil || strings.Join(values, " ") != "old new" {
		t.Errorf("found %q, %v", values, err)
	}
	if _, err := collect(Get(t.Context(), dial(), "/b")); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing there: %v", err)
	}
	large := bytes.Repeat([]byte{7}, MaxValue)
	if err := Put(t.Context(), dial(), "/b", large); err != nil {
		t.Fatal(err)
	}
	if values, err := collect(Get(t.Context(), dial(), "/b")); err != nil || len(values) != 1 || values[0] != string(large) {
		t.Errorf("found %d values, %v", len(values), err)
	}
	if m := s.Metrics(); m.Gets != 3 || m.Puts != 1 || m.Failed+m.Refused+m.Limited+m.Malformed != 0 {
		t.Errorf("counted %+v", m)
	}
}

func TestErrorsTravel(t *testing.T) {
	for _, c := range []struct{ theirs, ours error }{
		{ErrNotFound, ErrNotFound},
		{fmt.Errorf("record: %w", ErrRefused), ErrRefused},
		{ErrBusy, ErrBusy},
		{io.ErrNoProgress, ErrUnavailable},
	} {
		_, dial := serve(t, &fake{values: map[string][][]byte{}, err: c.theirs}, ServerConfig{})
		if err := Put(t.Context(), dial(), "/a", []byte("v")); !errors.Is(err, c.ours) {
			t.Errorf("put: %v became %v", c.theirs, err)
		}
		if _, err := collect(Get(t.Context(), dial(), "/a")); !errors.Is(err, c.ours) {
			t.Errorf("get: %v became %v", c.theirs, err)
		}
	}
}

// The first value comes at once, and who has enough leaves.
func TestFirstValueIsNotHeldUp(t *testing.T) {
	records := &fake{values: map[string][][]byte{"/a": {[]byte("first")}}, hold: make(chan struct{})}
	s, dial := serve(t, records, ServerConfig{})
	for v, err := range Get(t.Context(), dial(), "/a") {
		if err != nil || string(v) != "first" {
			t.Fatalf("%q, %v", v, err)
		}
		break
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if values, err := collect(Get(ctx, dial(), "/a")); len(values) != 1 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v", values, err)
	}
	close(records.hold)
	for end := time.Now().Add(10 * time.Second); s.Metrics().Open > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d requests are still open", s.Metrics().Open)
		}
	}
}

func TestAskingTooMuch(t *testing.T) {
	s, dial := serve(t, &fake{values: map[string][][]byte{"/a": {[]byte("v")}}}, ServerConfig{Rate: 0.001, Burst: 3, Peer: onePeer})
	var limited int
	for range 5 {
		if _, err := collect(Get(t.Context(), dial(), "/a")); errors.Is(err, ErrBusy) {
			limited++
		} else if err != nil {
			t.Error(err)
		}
	}
	if limited != 2 || s.Metrics().Limited != 2 {
		t.Errorf("%d of 5 were held back, counted %+v", limited, s.Metrics())
	}
}

func TestOpenRequestsAreBounded(t *testing.T) {
	records := &fake{values: map[string][][]byte{"/a": {[]byte("v")}}, hold: make(chan struct{})}
	_, dial := serve(t, records, ServerConfig{MaxOpenPerPeer: 2, Peer: onePeer})
	next := make([]func() ([]byte, error, bool), 0, 2)
	for range 2 {
		n, stop := iter.Pull2(Get(t.Context(), dial(), "/a"))
		t.Cleanup(stop)
		if _, err, ok := n(); err != nil || !ok {
			t.Fatal(err, ok)
		}
		next = append(next, n)
	}
	if _, err := collect(Get(t.Context(), dial(), "/a")); !errors.Is(err, ErrBusy) {
		t.Errorf("a third: %v", err)
	}
	close(records.hold)
	for _, n := range next {
		if _, err, ok := n(); err != nil || ok {
			t.Error(err, ok)
		}
	}
	if _, err := collect(Get(t.Context(), dial(), "/a")); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// Reference: package comment, byte by byte.
func TestWireFormat(t *testing.T) {
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"get", request{operation: get, key: "/k"}.append(nil), "01" + "01" + "02" + "2f6b" + "00000000"},
		{"put", request{operation: put, key: "/k", value: []byte("v")}.append(nil), "01" + "02" + "02" + "2f6b" + "00000001" + "76"},
		{"value", appendValue(nil, []byte("v")), "01" + "00000001" + "76"},
		{"end", appendEnd(nil, refused), "02" + "02"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s is %s, want %s", c.name, got, c.want)
		}
	}
}

func TestTruncated(t *testing.T) {
	whole := request{operation: put, key: "/key", value: []byte("value")}.append(nil)
	for n := range whole {
		if _, err := readRequest(bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("a request cut to %d bytes is one", n)
		}
	}
	answer := appendValue(nil, []byte("value"))
	for n := range answer {
		if _, _, _, err := readAnswer(bytes.NewReader(answer[:n])); err == nil {
			t.Errorf("an answer cut to %d bytes is one", n)
		}
	}
}

func TestMalformed(t *testing.T) {
	s, dial := serve(t, &fake{values: map[string][][]byte{}}, ServerConfig{})
	for name, text := range map[string]string{
		"version":       "02" + "01" + "02" + "2f6b" + "00000000",
		"operation":     "01" + "03" + "02" + "2f6b" + "00000000",
		"no key":        "01" + "01" + "00" + "00000000",
		"long key":      "01" + "01" + "ff",
		"long value":    "01" + "02" + "02" + "2f6b" + "00010001",
		"get and value": "01" + "01" + "02" + "2f6b" + "00000001" + "76",
		"put and none":  "01" + "02" + "02" + "2f6b" + "00000000",
	} {
		t.Run(name, func(t *testing.T) {
			b, err := hex.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			before := s.Metrics().Malformed
			c := dial()
			defer c.Close()
			if _, err := c.Write(b); err != nil {
				t.Fatal(err)
			}
			answer, _ := io.ReadAll(c)
			if !bytes.HasPrefix(appendEnd(nil, malformed), answer) || s.Metrics().Malformed != before+1 {
				t.Errorf("answered %x, counted %d", answer, s.Metrics().Malformed-before)
			}
		})
	}
	if err := Put(t.Context(), dial(), strings.Repeat("k", MaxKey+1), []byte("v")); !errors.Is(err, ErrProtocol) {
		t.Errorf("a long key was sent: %v", err)
	}
}

// A node that answers a lookup with ever more values is not listened to for ever.
func TestTooManyValues(t *testing.T) {
	here, there := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = readRequest(there)
		for {
			if _, err := there.Write(appendValue(nil, []byte("v"))); err != nil {
				return
			}
		}
	})
	values, err := collect(Get(t.Context(), here, "/a"))
	if !errors.Is(err, ErrProtocol) || len(values) != maxValues+1 {
		t.Errorf("%d values, %v", len(values), err)
	}
	wg.Wait()
}

func TestLimiterForgets(t *testing.T) {
	l := newLimiter(1, 1)
	for i := range 3 * maxPeers {
		p, ok := l.enter(fmt.Sprint("peer ", i), 1, time.Now())
		if !ok {
			t.Fatalf("peer %d was held back", i)
		}
		l.leave(p)
		if len(l.young)+len(l.old) > 2*maxPeers {
			t.Fatalf("%d peers remembered", len(l.young)+len(l.old))
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add(request{operation: get, key: "/scn/name/files"}.append(nil))
	f.Add(request{operation: put, key: "/scn/name/files", value: []byte("record")}.append(nil))
	f.Add([]byte{1, 1, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readRequest(bytes.NewReader(b))
		if err != nil {
			return
		}
		if again := r.append(nil); !bytes.HasPrefix(b, again) {
			t.Errorf("%x was read as %+v, which is %x", b, r, again)
		}
	})
}

func FuzzReadAnswer(f *testing.F) {
	f.Add(appendValue(nil, []byte("record")))
	f.Add(appendEnd(nil, notFound))
	f.Add([]byte{1, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		value, s, end, err := readAnswer(bytes.NewReader(b))
		if err != nil {
			return
		}
		again := appendValue(nil, value)
		if end {
			again = appendEnd(nil, s)
			_ = s.err()
		}
		if !bytes.HasPrefix(b, again) {
			t.Errorf("%x was read as %x", b, again)
		}
	})
}
