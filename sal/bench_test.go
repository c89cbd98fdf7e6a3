package sal

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/saltest"
)

// BenchmarkThroughput carries one stream between two nodes on loopback.
func BenchmarkThroughput(b *testing.B) {
	client, server, _ := testPair(b)
	service := saltest.Key(150).Service()
	server.Handle(service, func(_ context.Context, in *Incoming) {
		if c, err := in.Accept(); err == nil {
			_, _ = io.Copy(io.Discard, c)
			_ = c.CloseWrite()
			c.Close()
		}
	})
	client.cfg.Resolver.(*saltest.Resolver).SetService(service, candidate(server))
	c, err := client.Dial(b.Context(), service, 1)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 128<<10)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	_ = c.CloseWrite()
	_, _ = io.Copy(io.Discard, c)
	c.Close()
}

// BenchmarkSessions opens a session, exchanges a few bytes and closes it; many at
// a time.
func BenchmarkSessions(b *testing.B) {
	client, server, service := testPair(b)
	_ = server
	benchSessions(b, func() (net.Conn, error) { return client.Dial(b.Context(), service, 80) })
}

// BenchmarkSessionsEarly does the same without waiting for the answer.
func BenchmarkSessionsEarly(b *testing.B) {
	client, _, service := testPair(b)
	benchSessions(b, func() (net.Conn, error) { return client.DialEarly(b.Context(), service, 80) })
}

func benchSessions(b *testing.B, dial func() (net.Conn, error)) {
	b.ReportAllocs()
	b.SetParallelism(16 / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		buf := make([]byte, 64)
		for pb.Next() {
			c, err := dial()
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := c.Write(buf); err != nil {
				b.Error(err)
			}
			if _, err := io.ReadFull(c, buf); err != nil {
				b.Error(err)
			}
			c.Close()
		}
	})
}

// BenchmarkRequests exchanges small requests and answers over 16 open sessions.
func BenchmarkRequests(b *testing.B) {
	client, _, service := testPair(b)
	const parallel = 16
	var wg sync.WaitGroup
	turns := make(chan struct{}, b.N)
	for range b.N {
		turns <- struct{}{}
	}
	close(turns)
	b.ReportAllocs()
	b.ResetTimer()
	for range parallel {
		wg.Go(func() {
			c, err := client.Dial(b.Context(), service, 80)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			buf := make([]byte, 200)
			for range turns {
				if _, err := c.Write(buf); err != nil {
					b.Error(err)
				}
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkDatagramFlood carries datagrams of 1200 bytes one way, as fast as the
// writer is let; it reports the share that was lost.
func BenchmarkDatagramFlood(b *testing.B) {
	client, server, service := testPair(b)
	arrived := countDatagrams(server, service)
	c, err := client.DialPacket(b.Context(), service, 80)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 1200)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.StopTimer()
	time.Sleep(50 * time.Millisecond)
	b.ReportMetric(100*float64(int64(n)-arrived.Load())/float64(n), "%lost")
}

// BenchmarkDatagramPaced carries datagrams of 1200 bytes one way at a given rate, in
// bursts once a millisecond as iperf3 does, and reports where any were lost: in the
// sender's queue, between the two nodes, or before the reader.
func BenchmarkDatagramPaced(b *testing.B) {
	for _, rate := range []int{50, 100, 200} {
		b.Run(fmt.Sprintf("%dMbps", rate), func(b *testing.B) {
			client, server, service := testPair(b)
			arrived := countDatagrams(server, service)
			c, err := client.DialPacket(b.Context(), service, 80)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			buf := make([]byte, 1200)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			n := int64(0)
			start := time.Now()
			for b.Loop() {
				for {
					due := int64(time.Since(start).Seconds() * float64(rate) * 1e6 / 8 / float64(len(buf)))
					if due > n {
						break
					}
					time.Sleep(time.Millisecond)
				}
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
				n++
			}
			b.StopTimer()
			time.Sleep(200 * time.Millisecond)
			lost := func(k int64) float64 { return 100 * float64(k) / float64(n) }
			sent, received := client.Metrics(), server.Metrics()
			b.ReportMetric(lost(n-arrived.Load()), "%lost")
			b.ReportMetric(lost(int64(sent.DatagramsDropped)), "%sender")
			b.ReportMetric(lost(int64(sent.DatagramsSent-received.DatagramsReceived)), "%between")
			b.ReportMetric(lost(int64(received.DatagramsReceived)-arrived.Load()), "%reader")
			for _, l := range client.allLinks() {
				s := l.quic.ConnectionStats()
				b.ReportMetric(lost(int64(s.PacketsLost)), "%quic")
				b.ReportMetric(float64(s.CongestionWindow), "cwnd")
			}
		})
	}
}

// countDatagrams makes a node serve a service that reads datagrams and counts them.
func countDatagrams(server *Node, service identity.ServiceID) *atomic.Int64 {
	var arrived atomic.Int64
	server.Handle(service, func(_ context.Context, in *Incoming) {
		c, err := in.AcceptPacket()
		if err != nil {
			return
		}
		defer c.Close()
		for {
			if _, err := c.ReadDatagram(); err != nil {
				return
			}
			arrived.Add(1)
		}
	})
	return &arrived
}

// BenchmarkDatagrams exchanges datagrams of 1200 bytes one by one.
func BenchmarkDatagrams(b *testing.B) {
	client, _, service := testPair(b)
	c, err := client.DialPacket(b.Context(), service, 80)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 1200)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}
