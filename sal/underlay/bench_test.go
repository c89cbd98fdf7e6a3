package underlay

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// BenchmarkThroughput sends one stream over loopback: through the mobile socket,
// and for comparison through a plain UDP socket.
func BenchmarkThroughput(b *testing.B) {
	b.Run("underlay", func(b *testing.B) {
		server := newPeer(b, 's', Config{AllowLoopback: true}, true)
		client := newPeer(b, 'c', Config{AllowLoopback: true}, false)
		c, s := connect(b, client, server, loopback(server.Port()))
		settle(b, c, s)
		benchmarkStream(b, c.Conn, s.Conn)
		m := server.Metrics()
		b.ReportMetric(float64(m.Received)/float64(m.Reads), "datagrams/read")
	})
	b.Run("plain", func(b *testing.B) {
		open := func() *quic.Transport {
			pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				b.Fatal(err)
			}
			tr := &quic.Transport{Conn: pc, ConnectionIDLength: connectionIDLen}
			b.Cleanup(func() { tr.Close(); pc.Close() })
			return tr
		}
		server, client := open(), open()
		ln, err := server.Listen(testTLS(b), testQUIC())
		if err != nil {
			b.Fatal(err)
		}
		accepted := make(chan *quic.Conn, 1)
		go func() {
			c, err := ln.Accept(b.Context())
			if err == nil {
				accepted <- c
			}
		}()
		c, err := client.Dial(b.Context(), server.Conn.LocalAddr(), testTLS(b), testQUIC())
		if err != nil {
			b.Fatal(err)
		}
		benchmarkStream(b, c, <-accepted)
	})
}

// settle waits until the server's connection is at the made-up address and the
// path's MTU is known.
func settle(tb testing.TB, c, s *session) {
	tb.Helper()
	eventually(tb, "connection settled", func() bool {
		if err := c.SendDatagram(nil); err == nil {
			tb.Fatal("datagrams are off")
		}
		st, err := c.OpenUniStream()
		if err != nil {
			tb.Fatal(err)
		}
		st.Write([]byte{1})
		st.Close()
		in, err := s.AcceptUniStream(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		io.Copy(io.Discard, in)
		return sameAddr(s.RemoteAddr(), s.a.Addr()) && c.a.Info().MTU >= 1500 && s.a.Info().MTU >= 1500
	})
}

func benchmarkStream(b *testing.B, from, to *quic.Conn) {
	const chunk = 1 << 20
	buf := make([]byte, chunk)
	out, err := from.OpenUniStreamSync(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	got := make(chan int64, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		in, err := to.AcceptUniStream(ctx)
		if err != nil {
			got <- -1
			return
		}
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, in, make([]byte, 256<<10))
		got <- n
	}()
	b.SetBytes(chunk)
	b.ReportAllocs()
	sent := int64(0)
	for b.Loop() {
		if _, err := out.Write(buf); err != nil {
			b.Fatal(err)
		}
		sent += chunk
	}
	out.Close()
	if n := <-got; n != sent {
		b.Fatalf("received %d of %d bytes", n, sent)
	}
	b.ReportMetric(float64(from.ConnectionStats().PacketsLost)/float64(b.N), "lost/op")
}

// BenchmarkRelayed sends one stream over loopback, directly to the relay and through
// it, where it takes its share of the same processors.
func BenchmarkRelayed(b *testing.B) {
	w := newTriangle(b, fastLimits)
	b.Run("direct", func(b *testing.B) {
		settle(b, w.l, w.lr)
		benchmarkStream(b, w.l.Conn, w.lr.Conn)
	})
	c, s := connect(b, w.left, w.right, through(w.relay, w.right))
	b.Run("relayed", func(b *testing.B) {
		settle(b, c, s)
		before := w.relay.Metrics()
		benchmarkStream(b, c.Conn, s.Conn)
		after := w.relay.Metrics()
		b.ReportMetric(float64(after.Relay.Forwarded-before.Relay.Forwarded)/float64(after.Reads-before.Reads), "datagrams/read")
		b.ReportMetric(float64(after.Relay.DroppedBusy-before.Relay.DroppedBusy)/float64(b.N), "busy/op")
	})
}
