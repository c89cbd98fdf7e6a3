package underlay

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"scn.alt/scn/routing/identity"
)

// peer is one node of a test: a socket with a quic-go transport on it.
type peer struct {
	*Socket
	tr   *quic.Transport
	ln   *quic.Listener
	tls  *tls.Config
	node identity.NodeID
}

func testTLS(tb testing.TB) *tls.Config {
	tb.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		tb.Fatal(err)
	}
	return &tls.Config{
		Certificates:       []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		InsecureSkipVerify: true,
		NextProtos:         []string{"test"},
		MinVersion:         tls.VersionTLS13,
	}
}

func testQUIC() *quic.Config {
	return &quic.Config{
		InitialPacketSize:          1400,
		DisablePathMTUDiscovery:    true,
		MaxIdleTimeout:             2 * time.Minute,
		HandshakeIdleTimeout:       10 * time.Second,
		InitialStreamReceiveWindow: 8 << 20, MaxStreamReceiveWindow: 16 << 20,
		InitialConnectionReceiveWindow: 32 << 20, MaxConnectionReceiveWindow: 64 << 20,
	}
}

// newPeer opens a socket with a transport. listen also makes it a server.
func newPeer(tb testing.TB, name byte, cfg Config, listen bool) *peer {
	tb.Helper()
	s, err := Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	p := &peer{Socket: s, tls: testTLS(tb)}
	for i := range p.node {
		p.node[i] = name
	}
	p.tr = &quic.Transport{Conn: s, ConnectionIDGenerator: s.ConnectionIDGenerator(), StatelessResetKey: &quic.StatelessResetKey{name}}
	if listen {
		if p.ln, err = p.tr.Listen(p.tls, testQUIC()); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Cleanup(func() {
		p.tr.Close()
		s.Close()
	})
	return p
}

// session is one end of a connection with its association.
type session struct {
	*quic.Conn
	a *Association
}

func exported(tb testing.TB, c *quic.Conn) []byte {
	tb.Helper()
	state := c.ConnectionState().TLS
	secret, err := state.ExportKeyingMaterial(ExporterLabel, nil, SecretSize)
	if err != nil {
		tb.Fatal(err)
	}
	return secret
}

func (p *peer) accept(tb testing.TB, from *peer) *session {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
	defer cancel()
	c, err := p.ln.Accept(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	a, err := p.Accepted(c.RemoteAddr(), from.node)
	if err != nil {
		tb.Fatal(err)
	}
	a.SetSessions(1)
	if err := a.Bind(exported(tb, c), false); err != nil {
		tb.Fatal(err)
	}
	return &session{c, a}
}

func (p *peer) dial(tb testing.TB, to *peer, locators ...netip.AddrPort) *session {
	tb.Helper()
	a, err := p.Dial(to.node, locators)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
	defer cancel()
	c, err := p.tr.Dial(ctx, a.Addr(), p.tls, testQUIC())
	if err != nil {
		tb.Fatalf("dial %v: %v", locators, err)
	}
	a.SetSessions(1)
	if err := a.Bind(exported(tb, c), true); err != nil {
		tb.Fatal(err)
	}
	return &session{c, a}
}

func connect(tb testing.TB, client, server *peer, locators ...netip.AddrPort) (c, s *session) {
	tb.Helper()
	done := make(chan *session, 1)
	go func() { done <- server.accept(tb, client) }()
	c = client.dial(tb, server, locators...)
	select {
	case s = <-done:
	case <-time.After(20 * time.Second):
		tb.Fatal("not accepted")
	}
	return c, s
}

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

func loopback6(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.IPv6Loopback(), port) }

// eventually waits for a condition that becomes true soon.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("never: %s", what)
		}
	}
}

func sameAddr(a, b net.Addr) bool { return a.String() == b.String() }

func TestServerMigratesToMadeUpAddress(t *testing.T) {
	for _, tc := range []struct {
		name    string
		locator func(uint16) netip.AddrPort
	}{{"IPv4", loopback}, {"IPv6", loopback6}} {
		t.Run(tc.name, func(t *testing.T) {
			server := newPeer(t, 's', Config{AllowLoopback: true}, true)
			client := newPeer(t, 'c', Config{AllowLoopback: true}, false)
			c, s := connect(t, client, server, tc.locator(server.Port()))
			if !sameAddr(c.RemoteAddr(), c.a.Addr()) {
				t.Errorf("client sees %v, want %v", c.RemoteAddr(), c.a.Addr())
			}
			st, err := c.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				in, err := s.AcceptStream(t.Context())
				if err != nil {
					return
				}
				buf := make([]byte, 1<<10)
				for {
					n, err := in.Read(buf)
					if err != nil {
						return
					}
					if _, err := in.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
			echo := func() {
				t.Helper()
				if _, err := st.Write([]byte("ping")); err != nil {
					t.Fatal(err)
				}
				var b [4]byte
				st.SetReadDeadline(time.Now().Add(20 * time.Second))
				for n := 0; n < 4; {
					m, err := st.Read(b[n:])
					if err != nil {
						t.Fatal(err)
					}
					n += m
				}
			}
			for i := 0; !sameAddr(s.RemoteAddr(), s.a.Addr()); i++ {
				if i == 1000 {
					t.Fatalf("server still sees %v, want %v", s.RemoteAddr(), s.a.Addr())
				}
				echo()
				time.Sleep(time.Millisecond)
			}
			echo()
			if lost := s.ConnectionStats().PacketsLost; lost > 2 {
				t.Errorf("%d packets lost", lost)
			}
			t.Logf("client: %+v", client.Metrics())
			t.Logf("server: %+v", server.Metrics())
			t.Logf("info: %+v", s.a.Info())
		})
	}
}
