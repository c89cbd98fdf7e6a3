package underlay

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"scn.alt/scn/sal/relay"
)

// TestFloodOfStrangers has a thousand strangers ask for forwarding as fast as one
// processor lets them, while a customer has a steady stream forwarded.
func TestFloodOfStrangers(t *testing.T) {
	for _, sieve := range []bool{true, false} {
		name := "sieve"
		if !sieve {
			name = "no sieve"
		}
		t.Run(name, func(t *testing.T) {
			_, relayed, right, way, cid := bareTriangle(t, Config{Relay: &fastLimits}, Config{})
			serve(t, right)
			if !sieve {
				relayed.raw.Control(func(fd uintptr) {
					if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); err != nil {
						t.Error(err)
					}
				})
			}
			var strangers []*net.UDPConn
			for range 1000 {
				c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(loopback(relayed.Port())))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				strangers = append(strangers, c)
			}
			var flood atomic.Uint64
			var wg sync.WaitGroup
			stop := make(chan struct{})
			wg.Go(func() {
				random := rand.New(rand.NewPCG(5, 6))
				b := append(relay.Header{Type: relay.TypeForward, Node: relay.Prefix{3}}.Append(nil), make([]byte, 1200)...)
				b[relay.HeaderSize] = headerFixedBit
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					binary.BigEndian.PutUint64(b[1:], random.Uint64())
					if _, err := strangers[i%len(strangers)].Write(b); err == nil {
						flood.Add(1)
					}
				}
			})
			b := make([]byte, 0, 14*1400)
			for range 14 {
				b = append(b, shortHeader(cid, 1400)...)
			}
			sent, start := uint64(0), time.Now()
			for ; time.Since(start) < time.Second; time.Sleep(time.Millisecond) {
				way.write(b, 1400, 0)
				sent += 14
			}
			took := time.Since(start)
			close(stop)
			wg.Wait()
			time.Sleep(200 * time.Millisecond)
			m := relayed.Metrics()
			got := right.Metrics().RelayedReceived
			t.Logf("%.0f strangers' datagrams and %.1f MB of a customer a second: %d of %d delivered; the kernel dropped %d, the relay %d",
				float64(flood.Load())/took.Seconds(), float64(sent)*1400/1e6/took.Seconds(), got, sent, m.KernelDrops, m.Relay.DroppedStranger)
			if sieve && (got < sent*9/10 || m.KernelDrops < flood.Load()*99/100) {
				t.Errorf("%d of %d delivered, %d of %d dropped by the kernel", got, sent, m.KernelDrops, flood.Load())
			}
			if !sieve && m.Relay.DroppedStranger == 0 {
				t.Errorf("%+v", m)
			}
		})
	}
}
