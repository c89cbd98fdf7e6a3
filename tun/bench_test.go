package tun

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"scn.alt/scn/tun/tuntest"
)

// BenchmarkThroughput sends through the device and an overlay of one loopback
// connection, in 128 KiB writes.
func BenchmarkThroughput(b *testing.B) {
	for _, opaque := range []bool{false, true} {
		for _, up := range []bool{true, false} {
			b.Run(fmt.Sprintf("opaque=%v,up=%v", opaque, up), func(b *testing.B) {
				o := &tuntest.Overlay{Opaque: opaque}
				e := openEdge(b, o, nil)
				s := testService(1)
				chunk := make([]byte, 128<<10)
				received := make(chan int64, 1)
				source := func(c net.Conn, n int) {
					for range n {
						if _, err := c.Write(chunk); err != nil {
							return
						}
					}
					_ = c.(*net.TCPConn).CloseWrite()
				}
				sink := func(c net.Conn) {
					buf := make([]byte, 1<<20)
					var total int64
					for {
						n, err := c.Read(buf)
						total += int64(n)
						if err != nil {
							break
						}
					}
					received <- total
				}
				count := make(chan int, 1)
				o.Serve(s, "tcp", 80, listen(b, func(c *net.TCPConn) {
					if up {
						sink(c)
					} else {
						source(c, <-count)
					}
				}))
				a, _, err := e.Assign(b.Context(), s)
				if err != nil {
					b.Fatal(err)
				}
				c := mustDial(b, "tcp", a, 80)
				b.SetBytes(int64(len(chunk)))
				b.ResetTimer()
				// The count must be known to the far end, so b.N, not b.Loop.
				var wg sync.WaitGroup
				if up {
					wg.Go(func() { source(c, b.N) })
				} else {
					count <- b.N
					wg.Go(func() { sink(c) })
				}
				if got := <-received; got != int64(b.N)*int64(len(chunk)) {
					b.Fatalf("%d bytes of %d", got, int64(b.N)*int64(len(chunk)))
				}
				wg.Wait()
				b.StopTimer()
				m := e.Metrics()
				b.ReportMetric(float64(m.BytesRead)/float64(m.PacketsRead), "B/packet")
			})
		}
	}
}

// BenchmarkRoundTrip sends 64 bytes and waits for them.
func BenchmarkRoundTrip(b *testing.B) {
	o := &tuntest.Overlay{Opaque: true}
	e := openEdge(b, o, nil)
	s := testService(1)
	o.Serve(s, "tcp", 80, listen(b, echo))
	a, _, err := e.Assign(b.Context(), s)
	if err != nil {
		b.Fatal(err)
	}
	c := mustDial(b, "tcp", a, 80)
	buf := make([]byte, 64)
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkConnect opens and closes connections one after the other.
func BenchmarkConnect(b *testing.B) {
	for _, warm := range []bool{true, false} {
		b.Run(fmt.Sprintf("early=%v", warm), func(b *testing.B) {
			o := &tuntest.Overlay{Opaque: true}
			e := openEdge(b, o, func(c *Config) {
				if !warm {
					c.Warm = -1
				}
			})
			s := testService(1)
			o.Serve(s, "tcp", 80, listen(b, echo))
			a, _, err := e.Assign(b.Context(), s)
			if err != nil {
				b.Fatal(err)
			}
			to := netip.AddrPortFrom(a, 80).String()
			for b.Loop() {
				c, err := net.Dial("tcp", to)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = c.Write([]byte("x"))
				if _, err := c.Read(make([]byte, 1)); err != nil {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
}

// BenchmarkRequests sends 100-byte requests for 200-byte answers on 16 connections.
func BenchmarkRequests(b *testing.B) {
	for _, queues := range []int{1, 2} {
		b.Run(fmt.Sprintf("queues=%d", queues), func(b *testing.B) {
			o := &tuntest.Overlay{Opaque: true}
			e := openEdge(b, o, func(c *Config) { c.Queues = queues })
			s := testService(1)
			o.Serve(s, "tcp", 80, listen(b, func(c *net.TCPConn) {
				request, answer := make([]byte, 100), make([]byte, 200)
				for {
					if _, err := io.ReadFull(c, request); err != nil {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}))
			a, _, err := e.Assign(b.Context(), s)
			if err != nil {
				b.Fatal(err)
			}
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				c, err := net.Dial("tcp", netip.AddrPortFrom(a, 80).String())
				if err != nil {
					b.Error(err)
					return
				}
				defer c.Close()
				request, answer := make([]byte, 100), make([]byte, 200)
				for pb.Next() {
					if _, err := c.Write(request); err != nil {
						b.Error(err)
						return
					}
					if _, err := io.ReadFull(c, answer); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
