package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pires/go-proxyproto"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/tun/address"
)

func TestParse(t *testing.T) {
	for s, want := range map[string]Target{
		"80=tcp://127.0.0.1:8080":   {80, "tcp", "127.0.0.1:8080"},
		"tcp://127.0.0.1:8080":      {8080, "tcp", "127.0.0.1:8080"},
		"tcp://[::1]:22":            {22, "tcp", "[::1]:22"},
		"tcp://localhost:22":        {22, "tcp", "localhost:22"},
		"53=udp://10.0.0.2:5353":    {53, "udp", "10.0.0.2:5353"},
		"80=unix:///run/app.sock":   {80, "unix", "/run/app.sock"},
		"80=unix:///run/a=b.sock":   {80, "unix", "/run/a=b.sock"},
		"65535=tcp://[fe80::1%e]:1": {65535, "tcp", "[fe80::1%e]:1"},
	} {
		got, err := Parse(s)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%s: %+v, %v", got, again, err)
		}
	}
	for s, want := range map[string]string{
		"":                                       "no scheme",
		"8080":                                   "no scheme",
		"127.0.0.1:8080":                         "no scheme",
		"http://127.0.0.1:8080":                  "unknown scheme",
		"0=tcp://127.0.0.1:1":                    "service port",
		"65536=tcp://127.0.0.1:1":                "service port",
		"+80=tcp://127.0.0.1:1":                  "service port",
		"x=tcp://127.0.0.1:1":                    "service port",
		"=tcp://127.0.0.1:1":                     "service port",
		"tcp://127.0.0.1":                        "HOST:PORT",
		"tcp://127.0.0.1:0":                      "target port",
		"tcp://127.0.0.1:http":                   "target port",
		"tcp://:80":                              "host is missing",
		"tcp://0.0.0.0:80":                       "listen on",
		"tcp://[::]:80":                          "listen on",
		"tcp://a/b:80":                           "host",
		"tcp://127.0.0.1:80/path":                "target port",
		"tcp://::1:80":                           "brackets",
		"unix:///run/x":                          "needs the service's port",
		"80=unix://run/x":                        "not absolute",
		"80=unix:///" + strings.Repeat("x", 200): "107",
		strings.Repeat("x", 2000):                "1024",
	} {
		_, err := Parse(s)
		if !errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
}

func TestParseAllReportsEverything(t *testing.T) {
	_, err := ParseAll([]string{"80=tcp://127.0.0.1:1", "80=tcp://127.0.0.1:2", "80=udp://127.0.0.1:1", "x", "tcp://:1"})
	for _, want := range []string{"already", `"x"`, "host is missing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
	if strings.Count(err.Error(), "\n") != 2 {
		t.Error(err)
	}
	if _, err := ParseAll(nil); !errors.Is(err, ErrTarget) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"80=tcp://127.0.0.1:8080", "tcp://[::1]:22", "80=unix:///x", "53=udp://h:5", "=", "://"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Parse(s)
		if err != nil {
			return
		}
		if got.Port == 0 {
			t.Fatalf("%q: no port", s)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Fatalf("%q → %s → %+v, %v", s, got, again, err)
		}
	})
}

// session plays the layer that hands a session in: the caller's end is client.
type session struct {
	client   net.Conn
	rejected error
	accepted bool
	reason   chan error // what a datagram session was closed with
}

// reasoned is a datagram session that is told why it ends.
type reasoned struct {
	net.Conn
	reason chan error
}

func (c reasoned) CloseWithError(err error) error {
	c.reason <- err
	return c.Close()
}

func (s *session) incoming(t *testing.T, port uint16, protocol record.Protocol) Incoming {
	t.Helper()
	accept := func() (net.Conn, error) {
		s.accepted = true
		var server net.Conn
		s.client, server = tcpPair(t)
		return server, nil
	}
	return Incoming{
		Peer: identity.NodeID{1}, Service: identity.ServiceID{2}, Port: port, Protocol: protocol,
		Accept: accept,
		AcceptPacket: func() (net.Conn, error) {
			s.accepted = true
			var server net.Conn
			s.client, server = packetPair(t)
			s.reason = make(chan error, 1)
			return reasoned{server, s.reason}, nil
		},
		Reject: func(err error) { s.rejected = err },
	}
}

func tcpPair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// packetPair is two connected unixgram sockets: boundaries are kept, and one end sees
// the other's close.
func packetPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	dir := t.TempDir()
	a := &net.UnixAddr{Name: filepath.Join(dir, "a"), Net: "unixgram"}
	b := &net.UnixAddr{Name: filepath.Join(dir, "b"), Net: "unixgram"}
	ca, err := net.ListenUnixgram("unixgram", a)
	if err != nil {
		t.Fatal(err)
	}
	cb, err := net.ListenUnixgram("unixgram", b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ca.Close(); cb.Close() })
	_ = ca.SetDeadline(time.Now().Add(30 * time.Second))
	return sendTo{ca, b}, sendTo{cb, a}
}

type sendTo struct {
	*net.UnixConn
	to *net.UnixAddr
}

func (c sendTo) Write(b []byte) (int, error) { return c.WriteToUnix(b, c.to) }

// serve listens on network and handles one connection.
func serve(t *testing.T, network, addr string, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(30 * time.Second))
				handle(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

func upper(c net.Conn) {
	b, _ := io.ReadAll(c)
	_, _ = c.Write(bytes.ToUpper(b))
}

func provider(t *testing.T, cfg Config, targets ...string) *Provider {
	t.Helper()
	list, err := ParseAll(targets)
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(list, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// handle runs one session and returns it once it was answered, with a channel that has
// Handle's error at the end.
func handle(ctx context.Context, t *testing.T, p *Provider, port uint16, protocol record.Protocol) (*session, <-chan error) {
	t.Helper()
	s := &session{}
	answered := make(chan struct{})
	in := s.incoming(t, port, protocol)
	once := sync.OnceFunc(func() { close(answered) })
	accept, acceptPacket, reject := in.Accept, in.AcceptPacket, in.Reject
	in.Accept = func() (net.Conn, error) { defer once(); return accept() }
	in.AcceptPacket = func() (net.Conn, error) { defer once(); return acceptPacket() }
	in.Reject = func(err error) { defer once(); reject(err) }
	done := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { done <- p.Handle(ctx, in) })
	t.Cleanup(wg.Wait)
	<-answered
	return s, done
}

func TestStreams(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	serve(t, "unix", socket, upper)
	p := provider(t, Config{}, "80=tcp://"+serve(t, "tcp", "127.0.0.1:0", upper), "81=unix://"+socket)
	for _, port := range []uint16{80, 81} {
		s, done := handle(t.Context(), t, p, port, record.TCP)
		if s.rejected != nil {
			t.Fatal(s.rejected)
		}
		fmt.Fprint(s.client, "hello")
		_ = s.client.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(s.client); err != nil || string(got) != "HELLO" {
			t.Errorf("%q, %v", got, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	want := Metrics{Streams: 2, BytesIn: 10, BytesOut: 10}
	if diff := cmp.Diff(want, p.Metrics()); diff != "" {
		t.Error(diff)
	}
}

func TestRefusalsAreTruthful(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	p := provider(t, Config{}, "80=tcp://"+gone, "81=unix:///nowhere/socket")
	for port, protocol := range map[uint16]record.Protocol{80: record.TCP, 81: record.TCP, 82: record.TCP, 83: record.UDP} {
		s, done := handle(t.Context(), t, p, port, protocol)
		if s.accepted || !errors.Is(s.rejected, syscall.ECONNREFUSED) {
			t.Errorf("port %d: accepted %v, rejected with %v", port, s.accepted, s.rejected)
		}
		if err := <-done; err == nil {
			t.Error("no error")
		}
	}
	slow := provider(t, Config{DialTimeout: 20 * time.Millisecond, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}, "80=tcp://192.0.2.1:80")
	s, _ := handle(t.Context(), t, slow, 80, record.TCP)
	if !errors.Is(s.rejected, context.DeadlineExceeded) {
		t.Error(s.rejected)
	}
	denied := provider(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, syscall.EACCES
	}}, "80=unix:///x")
	if s, _ = handle(t.Context(), t, denied, 80, record.TCP); errors.Is(s.rejected, syscall.EACCES) || !errors.Is(s.rejected, syscall.ECONNREFUSED) {
		t.Errorf("our own lack of rights is told as the caller's: %v", s.rejected)
	}
}

func TestResetIsCarriedToTheTarget(t *testing.T) {
	got := make(chan error, 1)
	p := provider(t, Config{}, "80=tcp://"+serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		_, err := io.Copy(io.Discard, c)
		got <- err
	}))
	s, done := handle(t.Context(), t, p, 80, record.TCP)
	_ = s.client.(*net.TCPConn).SetLinger(0)
	s.client.Close()
	if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("a reset counts as a clean end")
	}
}

func TestProxyHeader(t *testing.T) {
	network := identity.NetworkID{9}
	for _, n := range []identity.NetworkID{{}, network} {
		headers := make(chan *proxyproto.Header, 1)
		addr := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			pc := proxyproto.NewConn(c)
			b, _ := io.ReadAll(pc)
			headers <- pc.ProxyHeader()
			_, _ = c.Write(b)
		})
		p := provider(t, Config{ProxyProtocol: true, Network: n}, "80=tcp://"+addr)
		s, _ := handle(t.Context(), t, p, 80, record.TCP)
		fmt.Fprint(s.client, "body")
		_ = s.client.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(s.client); err != nil || string(got) != "body" {
			t.Fatalf("%q, %v", got, err)
		}
		h := <-headers
		if h == nil {
			t.Fatal("no header")
		}
		wantSrc, wantDst := "0.0.0.0:0", "0.0.0.0:80"
		if !n.IsZero() {
			wantSrc = "[" + address.IPv6(n, identity.ServiceID{1}).String() + "]:0"
			wantDst = "[" + address.IPv6(n, identity.ServiceID{2}).String() + "]:80"
		}
		if h.Version != 2 || h.SourceAddr.String() != wantSrc || h.DestinationAddr.String() != wantDst {
			t.Errorf("%s → %s, want %s → %s", h.SourceAddr, h.DestinationAddr, wantSrc, wantDst)
		}
		tlvs, err := h.TLVs()
		if err != nil || len(tlvs) != 2 || tlvs[0].Type != TLVNode || string(tlvs[0].Value) != (identity.NodeID{1}).String() {
			t.Errorf("%v, %v", tlvs, err)
		}
	}
}

func TestDatagrams(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := l.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = l.WriteTo(bytes.ToUpper(buf[:n]), from)
		}
	})
	p := provider(t, Config{PacketIdle: 200 * time.Millisecond}, "53=udp://"+l.LocalAddr().String())
	s, done := handle(t.Context(), t, p, 53, record.UDP)
	buf := make([]byte, 70000)
	for _, size := range []int{0, 1, 8 << 10, 60000, 65507} {
		msg := bytes.Repeat([]byte("a"), size)
		if _, err := s.client.Write(msg); err != nil {
			t.Fatal(err)
		}
		if n, err := s.client.Read(buf); err != nil || n != size || !bytes.Equal(buf[:n], bytes.ToUpper(msg)) {
			t.Fatalf("%d bytes: %d, %v", size, n, err)
		}
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error("idle:", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("an idle session never ends")
	}
	l.Close()
	wg.Wait()

	// A target that is gone refuses by ICMP, and the caller is told.
	s, done = handle(t.Context(), t, p, 53, record.UDP)
	if _, err := s.client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, syscall.ECONNREFUSED) || !errors.Is(<-s.reason, syscall.ECONNREFUSED) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a refused session never ends")
	}
}

// TestDatagramBurst: what a target sends while nobody reads its answers waits for a
// reader.
func TestDatagramBurst(t *testing.T) {
	l, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	list, err := ParseAll([]string{"53=udp://" + l.LocalAddr().String()})
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(list, Config{})
	if err != nil {
		t.Fatal(err)
	}
	up, err := p.dial(t.Context(), list[0], Incoming{Protocol: record.UDP})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	if _, err := up.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	_, from, err := l.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	const burst = 150 // the kernel's default holds 92
	for range burst {
		if _, err := l.WriteToUDPAddrPort(buf[:1200], from); err != nil {
			t.Fatal(err)
		}
	}
	_ = up.SetReadDeadline(time.Now().Add(10 * time.Second))
	for n := range burst {
		if _, err := up.Read(buf); err != nil {
			t.Fatalf("%d of %d datagrams: %v", n, burst, err)
		}
	}
}

// TestDatagramRightsAreNotTheCallers: a firewall on the provider that forbids it to send
// refuses; that is not the caller's lack of rights.
func TestDatagramRightsAreNotTheCallers(t *testing.T) {
	p := provider(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) {
		_, up := net.Pipe()
		return forbidden{up}, nil
	}}, "53=udp://127.0.0.1:1")
	s, done := handle(t.Context(), t, p, 53, record.UDP)
	if _, err := s.client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-done
	if err := <-s.reason; !errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EPERM) {
		t.Errorf("the caller is told %v", err)
	}
}

type forbidden struct{ net.Conn }

func (forbidden) Write([]byte) (int, error) {
	return 0, &net.OpError{Op: "write", Net: "udp", Err: os.NewSyscallError("write", syscall.EPERM)}
}

func TestContextEndsSessions(t *testing.T) {
	p := provider(t, Config{}, "80=tcp://"+serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), "53=udp://127.0.0.1:1")
	ctx, cancel := context.WithCancel(t.Context())
	_, done := handle(ctx, t, p, 80, record.TCP)
	_, done2 := handle(ctx, t, p, 53, record.UDP)
	cancel()
	for _, d := range []<-chan error{done, done2} {
		select {
		case err := <-d:
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("never ends")
		}
	}
	if m := p.Metrics(); m.Active != 0 {
		t.Errorf("%+v", m)
	}
}
