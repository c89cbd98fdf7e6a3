package cashier

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// ask sends a request to a handler and returns the code of the answer.
func ask(t *testing.T, h http.Handler, method, path string, body []byte) (Code, *httptest.ResponseRecorder) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, bytes.NewReader(body)))
	if w.Code == http.StatusOK {
		return Accepted, w
	}
	var r Rejection
	if err := identity.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Errorf("%s %.40s: status %d without a rejection: %v", method, path, w.Code, err)
	}
	if httpStatus(r.Code) != w.Code {
		t.Errorf("%s %.40s: code %s under status %d", method, path, r.Code, w.Code)
	}
	return r.Code, w
}

func TestServerRefuses(t *testing.T) {
	l := open(t)
	s, err := NewServer(l, ServerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		method, path string
		body         []byte
		want         Code
	}{
		{"GET", "/", nil, NotFound},
		{"GET", "/v1/", nil, NotFound},
		{"GET", "/v2/status", nil, NotFound},
		{"GET", "/v1/transactions", nil, NotFound},
		{"DELETE", "/v1/status", nil, NotFound},
		{"POST", "/v1/transactions", nil, Malformed},
		{"POST", "/v1/transactions", []byte("garbage"), Malformed},
		{"POST", "/v1/transactions", bytes.Repeat([]byte{0xff}, MaxTransaction+1), TooLarge},
		{"POST", "/v1/transactions", sealed(t, alice, 1, Release{"files"}), NotRegistered},
		{"GET", "/v1/names/ab", nil, Malformed},
		{"GET", "/v1/names/Files", nil, Malformed},
		{"GET", "/v1/names/" + strings.Repeat("a", 2000), nil, Malformed},
		{"GET", "/v1/names/a%00b", nil, Malformed},
		{"GET", "/v1/names/%ff%fe%fd", nil, Malformed},
		{"GET", "/v1/accounts/nobody/names", nil, Malformed},
		{"GET", "/v1/accounts/" + alice.Node().String() + "/names", nil, Malformed},
		{"GET", "/v1/accounts/" + alice.Account().String() + "/names?after=.", nil, Malformed},
		{"GET", "/v1/blocks/x", nil, Malformed},
		{"GET", "/v1/blocks/-1", nil, Malformed},
		{"GET", "/v1/blocks/18446744073709551616", nil, Malformed},
		{"GET", "/v1/blocks/18446744073709551615", nil, Accepted},
		{"GET", "/v1/blocks/0", nil, Accepted},
		{"GET", "/v1/names/files", nil, Accepted},
		{"GET", "/v1/status", nil, Accepted},
		{"GET", "/v1/accounts/" + alice.Account().String() + "/names", nil, Accepted},
	} {
		if got, _ := ask(t, s, tt.method, tt.path, tt.body); got != tt.want {
			t.Errorf("%s %.40s: %s, want %s", tt.method, tt.path, got, tt.want)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/status", "/v1/names/files", "/v1/blocks/1"} {
		if got, _ := ask(t, s, "GET", path, nil); got != Unavailable {
			t.Errorf("%s of a closed ledger: %s", path, got)
		}
	}
	if got, _ := ask(t, s, "POST", "/v1/transactions", registration(t, alice, files, 1, "files")); got != Unavailable {
		t.Errorf("transaction to a closed ledger: %s", got)
	}
}

func TestServerLimitsRates(t *testing.T) {
	s, err := NewServer(open(t), ServerConfig{RequestRate: 0.001, RequestBurst: 5, SubmitRate: 0.001, SubmitBurst: 2})
	if err != nil {
		t.Fatal(err)
	}
	var got []Code
	for i := range 7 {
		method, path := "POST", "/v1/transactions"
		if i >= 3 {
			method, path = "GET", "/v1/status"
		}
		code, _ := ask(t, s, method, path, nil)
		got = append(got, code)
	}
	want := []Code{Malformed, Malformed, RateLimited, Accepted, Accepted, RateLimited, RateLimited}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if m := s.Metrics(); m.Requests != 7 || m.Limited != 3 {
		t.Errorf("metrics %+v", m)
	}
}

func TestLimiterForgets(t *testing.T) {
	l := newLimiter(1, 1, 1, 1)
	now := time.Now()
	for i := range 10 * maxPeers {
		l.allow(fmt.Sprint(i), true, now)
	}
	if n := len(l.young) + len(l.old); n > 2*maxPeers {
		t.Errorf("%d peers are remembered", n)
	}
	if l.allow(fmt.Sprint(10*maxPeers-1), false, now) {
		t.Error("the latest peer was forgotten")
	}
}

func TestPeerName(t *testing.T) {
	for _, tt := range []struct {
		addr net.Addr
		want string
	}{
		{nil, ""},
		{&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9}, "192.0.2.1"},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.1"), Port: 9}, "192.0.2.1"},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1:2"), Port: 9}, "2001:db8::/64"},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 9}, "fe80::/64"},
		{&net.UnixAddr{Name: "/run/x", Net: "unix"}, "/run/x"},
		{addr("nodeid:80"), "nodeid"},
		{addr("nodeid"), "nodeid"},
	} {
		if got := peerName(tt.addr); got != tt.want {
			t.Errorf("peerName(%v) = %q, want %q", tt.addr, got, tt.want)
		}
	}
}

type addr string

func (addr) Network() string  { return "scn" }
func (a addr) String() string { return string(a) }

// listen serves a ledger and returns the address.
func listen(t *testing.T, s *Server) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// Raw bytes on the connection: nothing makes the server stop, and none of it holds
// a connection for long.
func TestServerAgainstGarbage(t *testing.T) {
	s, err := NewServer(open(t), ServerConfig{Timeout: 200 * time.Millisecond, IdleTimeout: 200 * time.Millisecond, MaxConnsPerPeer: 100})
	if err != nil {
		t.Fatal(err)
	}
	address := listen(t, s)
	for _, text := range []string{
		"",
		"\x00\x01\x02",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"GET / HTTP/1.1\r\n",
		"GET /v1/status HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 64<<10) + "\r\n\r\n",
		"GET /" + strings.Repeat("y", 64<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\nx",
		"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow",
		"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(c, text)
		if _, err := io.Copy(io.Discard, bufio.NewReader(c)); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("%.30q: the connection stays open", text)
		}
		_ = c.Close()
	}
	c := dial(t, address)
	must[Status](t)(c.Status(t.Context()))
}

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

func TestServerLimitsConnections(t *testing.T) {
	s, err := NewServer(open(t), ServerConfig{MaxConns: 10, MaxConnsPerPeer: 3})
	if err != nil {
		t.Fatal(err)
	}
	address := listen(t, s)
	var conns []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		// A request and its answer show that the server took the connection.
		_, _ = io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the fourth connection stays open: %v", err)
	}
	_ = c.Close()
	if n := s.Metrics().RefusedConns; n != 1 {
		t.Errorf("%d connections refused", n)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	client := dial(t, address)
	for { // as soon as the server has noticed
		if _, err := client.Status(t.Context()); err == nil {
			break
		}
	}
}

func TestServerConfig(t *testing.T) {
	if _, err := NewServer(open(t), ServerConfig{RequestRate: -1, MaxConns: -1}); err == nil || strings.Count(err.Error(), "negative") != 2 {
		t.Errorf("not all faults are told: %v", err)
	}
	if _, err := NewClient(ClientConfig{Attempts: -1}); err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("not all faults are told: %v", err)
	}
}

// A ledger's answer is worth nothing unless an authority signed it, and about the
// very thing asked.
func TestClientAgainstLiars(t *testing.T) {
	l := open(t)
	for _, n := range []name.Name{"files", "mail", "shop"} {
		must[Receipt](t)(wallet(alice, l).Register(t.Context(), n, files))
	}
	var reply atomic.Pointer[[]byte]
	var status atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status.Load() == http.StatusFound {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		}
		w.WriteHeader(int(status.Load()))
		_, _ = w.Write(*reply.Load())
	}))
	t.Cleanup(server.Close)
	c := dial(t, server.Listener.Addr().String())
	set := func(code int, b []byte) { status.Store(int64(code)); reply.Store(&b) }

	for _, tt := range []struct {
		name string
		code int
		body []byte
	}{
		{"empty", 200, nil},
		{"garbage", 200, []byte("garbage")},
		{"too long", 200, make([]byte, maxReply+1)},
		{"error without a rejection", 500, []byte("oops")},
		{"rejection that rejects nothing", 400, mustEncode(Rejection{})},
		{"redirect", http.StatusFound, nil},
		{"status by a stranger", 200, must[[]byte](t)(sealAs(alice, typeStatus, Status{Network: network}))},
		{"status of another network", 200, must[[]byte](t)(sealAs(authority, typeStatus, Status{Network: bob.Network()}))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set(tt.code, tt.body)
			if _, err := c.Status(t.Context()); !errors.Is(err, ErrAnswer) {
				t.Errorf("status believed: %v", err)
			}
			if strings.HasPrefix(tt.name, "status") {
				return
			}
			if _, err := c.Submit(t.Context(), []byte("x")); !errors.Is(err, ErrAnswer) {
				t.Errorf("receipt believed: %v", err)
			}
			if _, err := c.Blocks(t.Context(), 1); tt.name != "too long" && !errors.Is(err, ErrAnswer) {
				t.Errorf("blocks believed: %v", err)
			}
			for _, err := range c.Names(t.Context(), alice.Account()) {
				if !errors.Is(err, ErrAnswer) {
					t.Errorf("names believed: %v", err)
				}
			}
		})
	}
	t.Run("blocks that do not follow", func(t *testing.T) {
		blocks := must[[][]byte](t)(l.Blocks(t.Context(), 1, 10, 1<<20))
		for _, bad := range [][][]byte{{blocks[1]}, {blocks[0], blocks[2]}, {blocks[0], blocks[0]}} {
			set(200, mustEncode(blocksReply{bad}))
			if _, err := c.Blocks(t.Context(), 1); !errors.Is(err, ErrAnswer) {
				t.Errorf("believed: %v", err)
			}
		}
	})
	t.Run("names for ever", func(t *testing.T) {
		var page namesReply
		for i := range maxNamesPage {
			page.Names = append(page.Names, OwnedName{Name: name.Name(fmt.Sprintf("name-%03d", i))})
		}
		set(200, mustEncode(page))
		var last error
		n := 0
		for _, err := range c.Names(t.Context(), alice.Account()) {
			last = err
			n++
		}
		if !errors.Is(last, ErrAnswer) || n != maxNamesPage+1 {
			t.Errorf("%d names, %v", n, last)
		}
	})
}

// A connection that breaks after the ledger took the transaction: the client asks
// again, and the transaction counts once.
func TestClientRetries(t *testing.T) {
	l := open(t)
	s, err := NewServer(l, ServerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	address := listen(t, s)
	var dials atomic.Int32
	c, err := NewClient(ClientConfig{
		Network: network, Authorities: []identity.NodeID{authority.Node()}, Backoff: time.Millisecond,
		Dial: func(ctx context.Context) (net.Conn, error) {
			n := dials.Add(1)
			if n == 1 {
				return nil, errors.New("no route yet")
			}
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", address)
			if n == 2 && err == nil {
				conn = &deafConn{conn}
			}
			return conn, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Submit(t.Context(), registration(t, alice, files, 1, "files"))
	if err != nil || !r.Again || r.Height != 1 {
		t.Errorf("%+v, %v after %d dials", r, err, dials.Load())
	}
	must[Status](t)(c.Status(t.Context()))
	if n := dials.Load(); n != 3 {
		t.Errorf("%d dials: the connection is not kept", n)
	}
	if m := l.Metrics(); m.Accepted != 1 {
		t.Errorf("accepted %d times", m.Accepted)
	}
}

// deafConn sends, waits until an answer is there, and breaks.
type deafConn struct{ net.Conn }

func (c *deafConn) Read(b []byte) (int, error) {
	if n, err := c.Conn.Read(b); err != nil {
		return n, err
	}
	_ = c.Close()
	return 0, io.ErrUnexpectedEOF
}

func TestClientUnreachable(t *testing.T) {
	refused := errors.New("no route")
	c, err := NewClient(ClientConfig{
		Network: network, Authorities: []identity.NodeID{authority.Node()}, Backoff: time.Millisecond,
		Dial: func(context.Context) (net.Conn, error) { return nil, refused },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Lookup(t.Context(), "files"); !errors.Is(err, ErrUnreachable) || !errors.Is(err, refused) || strings.Contains(err.Error(), "http") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Lookup(ctx, "files"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestNamesByClient(t *testing.T) {
	l := open(t, func(c *Config) { c.Parameters.MaxNames = 1000 })
	c := serve(t, l, ServerConfig{})
	w := wallet(alice, l)
	var want []name.Name
	for i := range maxNamesPage + 10 {
		want = append(want, name.Name(fmt.Sprintf("name-%03d", i)))
		must[Receipt](t)(w.Register(t.Context(), want[i], files))
	}
	var got []name.Name
	for n, err := range c.Names(t.Context(), alice.Account()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for range c.Names(t.Context(), alice.Account()) {
		break
	}
}

// Every rejection survives the wire, and matches its sentinel afterwards.
func TestRejections(t *testing.T) {
	for c := range Code(len(codeTexts)) {
		r := Rejection{Code: c, Name: "files", Owner: alice.Account(), Service: files.Service(), Sequence: 3, Time: 4, RetryAfter: 5, Detail: "more"}
		var got Rejection
		if err := identity.Unmarshal(mustEncode(r), &got); err != nil || got != r {
			t.Errorf("%s: %+v, %v", c, got, err)
		}
		if !errors.Is(fmt.Errorf("wrapped: %w", &got), &Rejection{Code: c}) || errors.Is(&got, &Rejection{Code: c + 1}) {
			t.Errorf("%s does not match its own kind alone", c)
		}
		if c.String() == "" || !strings.Contains(got.Error(), c.String()) || !strings.Contains(got.Error(), "files") {
			t.Errorf("%s: %v", c, &got)
		}
	}
	if Code(999).String() != "code 999" || Kind(99).String() != "kind-99" {
		t.Error("unknown code or kind")
	}
	if asRejection(io.EOF).Code != Internal || asRejection(ErrClosed).Code != Unavailable {
		t.Error("asRejection")
	}
}

func FuzzAnswers(f *testing.F) {
	l := open(f)
	must[Receipt](f)(wallet(alice, l).Register(f.Context(), "files", files))
	server := must[*Server](f)(NewServer(l, ServerConfig{}))
	for _, path := range []string{pathNames + "files", pathNames + "other", pathAccounts + alice.Account().String(), pathCheckpoint + "?since=1", pathChannels + voucher.ChannelID{1}.String()} {
		w := httptest.NewRecorder()
		server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		f.Add(w.Body.Bytes())
	}
	f.Add(mustEncode(Receipt{ID: Hash{1}, Height: 1}))
	f.Add(mustEncode(&Rejection{Code: NameTaken, Name: "files"}))
	f.Add(mustEncode(namesReply{[]OwnedName{{Name: "files"}}}))
	f.Add(mustEncode(channelsReply{Channels: []Channel{{State: ChannelOpen, Deposit: 5}}}))
	f.Add(mustEncode(asksReply{Asks: []PostedAsk{{Ask: testAsk(epoch, 1)}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &Client{cfg: ClientConfig{Network: network, Authorities: []identity.NodeID{authority.Node()}, Clock: time.Now}}
		if got, err := c.openName(nil, "files", b); err == nil && (got.Name != "files" || !got.Registered) {
			t.Errorf("%+v", got)
		}
		if got, err := c.openAccount(nil, alice.Account(), b); err == nil && got.ID != alice.Account() {
			t.Errorf("%+v", got)
		}
		if got, found, err := c.openChannel(nil, voucher.ChannelID{1}, b); err == nil && found && got.ID != (voucher.ChannelID{1}) {
			t.Errorf("%+v", got)
		}
		if p, err := openProved(b); err == nil {
			_, _ = c.accept(nil, p)
		}
		for _, v := range []any{new(Receipt), new(Rejection), new(namesReply), new(blocksReply), new(Status), new(Channel), new(channelsReply), new(asksReply)} {
			_ = identity.Unmarshal(b, v)
		}
	})
}
