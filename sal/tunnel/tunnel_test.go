package tunnel

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// patience bounds what must happen at some time.
const patience = 20 * time.Second

// quick is a timing for tests.
var quick = timing{
	ping: 100 * time.Millisecond, silence: 10 * time.Second, write: 2 * time.Second,
	dial: 5 * time.Second, stagger: 50 * time.Millisecond, retry: 20 * time.Millisecond, longest: 200 * time.Millisecond,
}

func noProxy(*http.Request) (*url.URL, error) { return nil, nil }

// udp opens a UDP socket on loopback.
func udp(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func addrPort(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// serve runs a server until the test ends.
func serve(t *testing.T, cfg ServerConfig) *Server {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.timing == (timing{}) {
		cfg.timing = quick
	}
	s, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func serverPort(s *Server) netip.AddrPort { return s.Addr().(*net.TCPAddr).AddrPort() }

// connect runs a client until the test ends.
func connect(t *testing.T, cfg ClientConfig) *Client {
	t.Helper()
	if cfg.Proxy == nil {
		cfg.Proxy = noProxy
	}
	if cfg.timing == (timing{}) {
		cfg.timing = quick
	}
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// exchange sends a datagram from one end until it comes out at the other, and
// returns where it came from.
func exchange(t *testing.T, from *net.UDPConn, to netip.AddrPort, at *net.UDPConn, payload []byte) netip.AddrPort {
	t.Helper()
	buffer := make([]byte, 4096)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err := from.WriteToUDPAddrPort(payload, to); err != nil {
			t.Fatal(err)
		}
		for {
			_ = at.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			n, source, err := at.ReadFromUDPAddrPort(buffer)
			if err != nil {
				break
			}
			if bytes.Equal(buffer[:n], payload) {
				return source
			}
		}
	}
	t.Fatalf("%d bytes never arrived", len(payload))
	return netip.AddrPort{}
}

func TestDatagramsBothWays(t *testing.T) {
	node, relay := udp(t), udp(t)
	s := serve(t, ServerConfig{Target: addrPort(relay)})
	c := connect(t, ClientConfig{Servers: []netip.AddrPort{serverPort(s)}, Node: addrPort(node)})
	for _, size := range []int{1, 40, 1200, 1472, MaxDatagram} {
		payload := bytes.Repeat([]byte{byte(size)}, size)
		source := exchange(t, node, c.Local(), relay, payload)
		if back := exchange(t, relay, source, node, payload); back != c.Local() {
			t.Errorf("the answer came from %s, the relay is %s", back, c.Local())
		}
	}
	if m := s.Metrics(); m.Tunnels != 1 || m.Opened != 1 || m.Received < 5 || m.Sent < 5 || m.Conns != 1 {
		t.Errorf("server counted %+v", m)
	}
	// What is too large for a message goes nowhere, and the tunnel stays.
	if _, err := node.WriteToUDPAddrPort(make([]byte, MaxDatagram+1), c.Local()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "oversize counted", func() bool { return c.Metrics().Oversize == 1 })
	exchange(t, node, c.Local(), relay, []byte("still here"))
	if m := c.Metrics(); m.Opened != 1 {
		t.Errorf("client counted %+v", m)
	}
}

func TestStrangersAtTheClientsPortAreIgnored(t *testing.T) {
	node, relay, stranger := udp(t), udp(t), udp(t)
	s := serve(t, ServerConfig{Target: addrPort(relay)})
	c := connect(t, ClientConfig{Servers: []netip.AddrPort{serverPort(s)}, Node: addrPort(node)})
	source := exchange(t, node, c.Local(), relay, []byte("known"))
	for range 20 {
		_, _ = stranger.WriteToUDPAddrPort([]byte("stranger"), c.Local())
		_, _ = stranger.WriteToUDPAddrPort([]byte("stranger"), source)
	}
	exchange(t, node, c.Local(), relay, []byte("known again"))
	if m := s.Metrics(); m.Received != c.Metrics().Sent || m.Sent != 0 {
		t.Errorf("server counted %+v", m)
	}
	buffer := make([]byte, 100)
	_ = relay.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := relay.Read(buffer); err == nil && string(buffer[:n]) == "stranger" {
		t.Error("a stranger's datagram came through")
	}
}

// proxy is an HTTP proxy that joins connections, unless told to forget them.
type proxy struct {
	*httptest.Server
	connects atomic.Int64
	auth     atomic.Value
	deaf     atomic.Bool // takes bytes and forwards none
}

func newProxy(t *testing.T) *proxy {
	p := &proxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
			return
		}
		p.connects.Add(1)
		p.auth.Store(r.Header.Get("Proxy-Authorization"))
		out, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer out.Close()
		w.WriteHeader(http.StatusOK)
		in, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer in.Close()
		_ = rw.Flush()
		var wg sync.WaitGroup
		for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
			wg.Go(func() {
				buffer := make([]byte, 4096)
				for {
					n, err := way[0].Read(buffer)
					if err != nil {
						_ = way[1].Close()
						return
					}
					if p.deaf.Load() {
						continue
					}
					if _, err := way[1].Write(buffer[:n]); err != nil {
						_ = way[0].Close()
						return
					}
				}
			})
		}
		wg.Wait()
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) of(*http.Request) (*url.URL, error) {
	u, err := url.Parse(p.URL)
	if err == nil {
		u.User = url.UserPassword("me", "secret")
	}
	return u, err
}

func TestThroughAnHTTPProxy(t *testing.T) {
	node, relay := udp(t), udp(t)
	s := serve(t, ServerConfig{Target: addrPort(relay)})
	p := newProxy(t)
	c := connect(t, ClientConfig{Servers: []netip.AddrPort{serverPort(s)}, Node: addrPort(node), Proxy: p.of})
	source := exchange(t, node, c.Local(), relay, []byte("out"))
	exchange(t, relay, source, node, []byte("back"))
	if p.connects.Load() != 1 || p.auth.Load() != "Basic bWU6c2VjcmV0" {
		t.Errorf("%d CONNECTs, authorization %q", p.connects.Load(), p.auth.Load())
	}
}

func TestSilentConnectionIsMadeAnew(t *testing.T) {
	node, relay := udp(t), udp(t)
	short := quick
	short.silence = 600 * time.Millisecond
	s := serve(t, ServerConfig{Target: addrPort(relay), timing: short})
	p := newProxy(t)
	c := connect(t, ClientConfig{Servers: []netip.AddrPort{serverPort(s)}, Node: addrPort(node), Proxy: p.of, timing: short})
	exchange(t, node, c.Local(), relay, []byte("before"))
	p.deaf.Store(true)
	eventually(t, "the client notices", func() bool { return !c.Up() })
	eventually(t, "the server notices", func() bool { return s.Metrics().Tunnels == 0 })
	p.deaf.Store(false)
	exchange(t, node, c.Local(), relay, []byte("after"))
}

func TestKickMakesANewConnectionAtOnce(t *testing.T) {
	node, relay := udp(t), udp(t)
	var connected atomic.Int64
	slow := quick
	slow.silence, slow.ping, slow.retry, slow.longest = time.Hour, time.Hour, time.Hour, time.Hour
	s := serve(t, ServerConfig{Target: addrPort(relay), timing: slow})
	c := connect(t, ClientConfig{
		Servers: []netip.AddrPort{serverPort(s)}, Node: addrPort(node), timing: slow,
		Connected: func() { connected.Add(1) },
	})
	for i := int64(1); i <= 3; i++ {
		eventually(t, "connected", func() bool { return connected.Load() == i && c.Up() })
		exchange(t, node, c.Local(), relay, fmt.Append(nil, "round ", i))
		c.Kick()
	}
	eventually(t, "old tunnels are gone", func() bool { return s.Metrics().Tunnels == 1 })
}

func TestServerThatComesBack(t *testing.T) {
	node, relay := udp(t), udp(t)
	hold, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := hold.Addr().(*net.TCPAddr).AddrPort()
	_ = hold.Close()
	// The second address is the one that answers.
	c := connect(t, ClientConfig{
		Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1"), port}, Node: addrPort(node),
	})
	eventually(t, "attempts fail", func() bool { return c.Metrics().Failed > 1 })
	s, err := Listen(ServerConfig{Listen: port.String(), Target: addrPort(relay)})
	if err != nil {
		t.Fatalf("the port was taken meanwhile: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	exchange(t, node, c.Local(), relay, []byte("now"))
	cancel()
	wg.Wait()
	eventually(t, "the tunnel ends with the server", func() bool { return !c.Up() })
}

// get asks a server as a browser would.
func get(t *testing.T, s *Server, path string, header http.Header) (*http.Response, error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	return (&http.Client{Transport: transport, Timeout: patience}).Do(r)
}

func TestBrowsersFindNothing(t *testing.T) {
	s := serve(t, ServerConfig{Target: addrPort(udp(t))})
	upgrade := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Protocol": {subprotocol},
	}
	foreign := upgrade.Clone()
	foreign.Set("Origin", "https://example.com")
	other := upgrade.Clone()
	other.Set("Sec-Websocket-Protocol", "chat")
	for _, c := range []struct {
		name, path string
		header     http.Header
	}{
		{"front page", "/", nil},
		{"the path itself", Path, nil},
		{"a page's script", Path, foreign},
		{"another protocol", Path, other},
		{"another path", "/chat", upgrade},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer, err := get(t, s, c.path, c.header)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusNotFound {
				t.Errorf("answered %s", answer.Status)
			}
			if body, _ := io.ReadAll(answer.Body); strings.Contains(strings.ToLower(string(body)), "scn") {
				t.Errorf("the page tells what it is: %q", body)
			}
		})
	}
	if m := s.Metrics(); m.RefusedRequests != 5 || m.Opened != 0 {
		t.Errorf("counted %+v", m)
	}
}

// rawTunnel opens a WebSocket without a Client.
func rawTunnel(t *testing.T, s *Server) (*websocket.Conn, error) {
	t.Helper()
	d := websocket.Dialer{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Subprotocols: []string{subprotocol}, HandshakeTimeout: patience,
	}
	ws, answer, err := d.DialContext(t.Context(), "wss://"+s.Addr().String()+Path, nil)
	if answer != nil {
		_ = answer.Body.Close()
	}
	if err == nil {
		t.Cleanup(func() { _ = ws.Close() })
	}
	return ws, err
}

func TestBadMessagesEndTheirTunnelOnly(t *testing.T) {
	node, relay := udp(t), udp(t)
	s := serve(t, ServerConfig{Target: addrPort(relay)})
	c := connect(t, ClientConfig{Servers: []netip.AddrPort{serverPort(s)}, Node: addrPort(node)})
	exchange(t, node, c.Local(), relay, []byte("good"))
	for _, bad := range []struct {
		name string
		kind int
		size int
	}{
		{"too large", websocket.BinaryMessage, MaxDatagram + 1},
		{"much too large", websocket.BinaryMessage, 1 << 20},
		{"text", websocket.TextMessage, 10},
	} {
		t.Run(bad.name, func(t *testing.T) {
			before := s.Metrics().Oversize
			ws, err := rawTunnel(t, s)
			if err != nil {
				t.Fatal(err)
			}
			_ = ws.WriteMessage(bad.kind, make([]byte, bad.size))
			_ = ws.SetReadDeadline(time.Now().Add(patience))
			if _, _, err := ws.ReadMessage(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the tunnel went on: %v", err)
			}
			eventually(t, "counted", func() bool { return s.Metrics().Oversize == before+1 })
		})
	}
	exchange(t, node, c.Local(), relay, []byte("as before"))
	if m := c.Metrics(); m.Opened != 1 {
		t.Errorf("the other tunnel was made %d times", m.Opened)
	}
}

func TestIdleTunnelsAreClosed(t *testing.T) {
	s := serve(t, ServerConfig{Target: addrPort(udp(t)), IdleTimeout: 300 * time.Millisecond})
	ws, err := rawTunnel(t, s)
	if err != nil {
		t.Fatal(err)
	}
	_ = ws.SetReadDeadline(time.Now().Add(patience))
	if _, _, err := ws.ReadMessage(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a tunnel that answers pings and carries nothing stays: %v", err)
	}
	eventually(t, "it is forgotten", func() bool { m := s.Metrics(); return m.Tunnels == 0 && m.Conns == 0 })
}

func TestConnectionsAreBounded(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  ServerConfig
	}{
		{"in all", ServerConfig{MaxConns: 3}},
		{"by source", ServerConfig{MaxConnsPerSource: 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Target = addrPort(udp(t))
			s := serve(t, c.cfg)
			var open []*websocket.Conn
			for range 3 {
				ws, err := rawTunnel(t, s)
				if err != nil {
					t.Fatal(err)
				}
				open = append(open, ws)
			}
			if _, err := rawTunnel(t, s); err == nil {
				t.Error("a fourth was let in")
			}
			if m := s.Metrics(); m.RefusedConns != 1 || m.Conns != 3 {
				t.Errorf("counted %+v", m)
			}
			_ = open[0].Close()
			eventually(t, "a place is free again", func() bool {
				ws, err := rawTunnel(t, s)
				if err == nil {
					_ = ws.Close()
				}
				return err == nil
			})
		})
	}
}

func TestSourcesAreCountedByHost(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1:1", "192.0.2.1:2", true},
		{"192.0.2.1:1", "192.0.2.2:1", false},
		{"[2001:db8::1]:1", "[2001:db8::2]:1", true},
		{"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
		{"[::ffff:192.0.2.1]:1", "192.0.2.1:1", true},
	} {
		a := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.a))
		b := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.b))
		if got := sourceOf(a) == sourceOf(b); got != c.same {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}

// A tunnel that takes nothing holds a bounded number of datagrams: the rest is
// dropped, and counted.
func TestSlowTunnelDrops(t *testing.T) {
	relay := udp(t)
	s := serve(t, ServerConfig{Target: addrPort(relay)})
	ws, err := rawTunnel(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.WriteMessage(websocket.BinaryMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 100)
	_ = relay.SetReadDeadline(time.Now().Add(patience))
	_, tunnel, err := relay.ReadFromUDPAddrPort(buffer)
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, 1400)
	for i := 0; s.Metrics().Dropped == 0; i++ {
		if _, err := relay.WriteToUDPAddrPort(payload, tunnel); err != nil && s.Metrics().Tunnels > 0 {
			t.Fatal(err)
		}
		if i%32 == 0 {
			time.Sleep(time.Millisecond)
		}
		if i > 1_000_000 {
			t.Fatalf("a reader that reads nothing was given %d datagrams, none dropped", i)
		}
	}
	eventually(t, "the write deadline ends it", func() bool { return s.Metrics().Tunnels == 0 })
}

func TestConfigFaults(t *testing.T) {
	if err := (ServerConfig{MaxConns: -1}).Validate(); err == nil || strings.Count(err.Error(), "tunnel:") != 3 {
		t.Errorf("server: %v", err)
	}
	if err := (ClientConfig{}).Validate(); err == nil || strings.Count(err.Error(), "tunnel:") != 2 {
		t.Errorf("client: %v", err)
	}
	if _, err := Listen(ServerConfig{}); err == nil {
		t.Error("an empty configuration listens")
	}
	if _, err := Open(ClientConfig{}); err == nil {
		t.Error("an empty configuration opens")
	}
}

// A server that never ends its answer is given up.
func TestEndlessAnswerIsRefused(t *testing.T) {
	cert, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n")
				for {
					n, err := io.WriteString(c, "X-Filler: "+strings.Repeat("x", 1000)+"\r\n")
					sent.Add(int64(n))
					if err != nil {
						return
					}
				}
			})
		}
	})
	once := quick
	once.retry, once.longest = time.Hour, time.Hour
	c := connect(t, ClientConfig{
		Servers: []netip.AddrPort{l.Addr().(*net.TCPAddr).AddrPort()}, Node: addrPort(udp(t)), timing: once,
	})
	eventually(t, "given up", func() bool { return c.Metrics().Failed == 1 })
	_ = l.Close()
	wg.Wait()
	if sent.Load() > 16<<20 {
		t.Errorf("%d bytes were taken", sent.Load())
	}
}
