package sal

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"scn.alt/scn/sal/saltest"
)

// stranger is a peer that speaks QUIC and TLS as a node does, and nothing else as
// it should.
func stranger(t *testing.T, i int, to *Node) *quic.Conn {
	t.Helper()
	cert, err := certificate(saltest.Key(i))
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	transport := &quic.Transport{Conn: socket}
	conn, err := transport.Dial(timeoutContext(t, 20*time.Second), loopbackAddr(to), baseTLS(cert, testNetwork), quicConfig(Config{}.withDefaults()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.CloseWithError(0, "")
		_ = transport.Close()
		_ = socket.Close()
	})
	return conn
}

func loopbackAddr(n *Node) *net.UDPAddr {
	port := n.Locators()[0].Port()
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
}

// TestGarbageStreams: whatever an authenticated peer sends on its streams and in
// its datagrams is refused and counted, and hurts nobody else.
func TestGarbageStreams(t *testing.T) {
	client, server, service := testPair(t)
	conn := stranger(t, 66, server)
	open := openMessage{Protocol: 6, Port: 1, Service: service}.Append(nil)
	for i := range 100 {
		s, err := conn.OpenStreamSync(timeoutContext(t, 20*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		switch b := make([]byte, 1+i*3); i % 4 {
		case 0:
			_, _ = rand.Read(b)
			_, _ = s.Write(b)
			_ = s.Close()
		case 1: // truncated
			_, _ = s.Write(open[:i%len(open)])
			_ = s.Close()
		case 2: // reset in the middle
			_, _ = s.Write(open[:i%len(open)])
			s.CancelWrite(quic.StreamErrorCode(i))
			s.CancelRead(quic.StreamErrorCode(i))
		case 3: // a protocol nobody knows
			bad := openMessage{Protocol: 99, Service: service}.Append(nil)
			_, _ = s.Write(bad)
			answer := make([]byte, 2)
			_, _ = s.Read(answer)
			if answer[1] != byte(StatusBadRequest) {
				t.Errorf("answer %x", answer)
			}
		}
		junk := make([]byte, i)
		_, _ = rand.Read(junk)
		_ = conn.SendDatagram(junk)
	}
	eventually(t, "garbage is counted", func() bool {
		m := server.Metrics()
		return m.Malformed > 40 && m.DatagramsMalformed > 10
	})
	if conn.Context().Err() != nil {
		t.Error("the connection was closed")
	}
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c)
	c.Close()
	_ = conn.CloseWithError(0, "")
	eventually(t, "nothing is left", func() bool { return server.Metrics().OpenSessions <= 1 && openLinks(server) == 1 })
}

// TestGarbageHello closes the connection.
func TestGarbageHello(t *testing.T) {
	_, server, _ := testPair(t)
	conn := stranger(t, 66, server)
	s, err := conn.OpenUniStream()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = s.Write(make([]byte, 100))
	select {
	case <-conn.Context().Done():
	case <-time.After(10 * time.Second):
		t.Fatal("still open")
	}
	if err := context.Cause(conn.Context()); !strings.Contains(err.Error(), "0x6") {
		t.Errorf("closed with %v", err)
	}
}

// TestHandshakeFlood: above the threshold clients have to prove their address, and
// a node with a proper one still gets in.
func TestHandshakeFlood(t *testing.T) {
	r := &saltest.Resolver{}
	client := testNode(t, 1, r)
	server := testNode(t, 2, r, func(c *Config) { c.retryAfter = 4 })
	service := provide(r, 100, server)
	server.Handle(service, echo)

	// Handshakes that never get beyond their first packets: the client does not
	// read what comes back.
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 24 {
		socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer socket.Close()
			transport := &quic.Transport{Conn: &deaf{PacketConn: socket, ctx: ctx}}
			defer transport.Close()
			_, _ = transport.Dial(ctx, loopbackAddr(server), &tls.Config{
				InsecureSkipVerify: true, NextProtos: []string{protocolName(testNetwork)},
			}, nil)
		})
	}
	eventually(t, "Retry is demanded", func() bool { return server.Metrics().Retries > 0 })
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c)
	c.Close()
	cancel()
	wg.Wait()
	t.Logf("%d Retry packets, %d handshakes pending", server.Metrics().Retries, server.Metrics().HandshakesPending)
}

// deaf is a socket that hears nothing.
type deaf struct {
	net.PacketConn
	ctx context.Context
}

func (d *deaf) ReadFrom([]byte) (int, net.Addr, error) {
	<-d.ctx.Done()
	return 0, nil, net.ErrClosed
}

// TestMute: a peer whose key is no single Ed25519 key, or who has none, is refused
// in the handshake.
func TestMute(t *testing.T) {
	_, server, _ := testPair(t)
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	transport := &quic.Transport{Conn: socket}
	defer socket.Close()
	defer transport.Close()
	conn, err := transport.Dial(timeoutContext(t, 20*time.Second), loopbackAddr(server), &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{protocolName(testNetwork)},
	}, nil)
	if err == nil {
		select {
		case <-conn.Context().Done():
		case <-time.After(10 * time.Second):
			t.Fatal("a client without a certificate was taken")
		}
	}
	if openLinks(server) != 0 {
		t.Error("a connection without a node")
	}
}
