package sal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/sal/saltest"
)

// send writes zeros until deadline and returns how many bytes the other end read.
func throughput(t testing.TB, client *Node, server *Node, d time.Duration) float64 {
	t.Helper()
	service := saltest.Key(150).Service()
	received := make(chan int64, 1)
	server.Handle(service, func(_ context.Context, in *Incoming) {
		c, err := in.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		n, _ := io.Copy(io.Discard, c)
		received <- n
	})
	client.cfg.Resolver.(*saltest.Resolver).SetService(service, candidate(server))
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 128<<10)
	start := time.Now()
	_ = c.SetWriteDeadline(start.Add(d))
	for {
		if _, err := c.Write(buf); err != nil {
			break
		}
	}
	_ = c.SetWriteDeadline(time.Time{})
	_ = c.CloseWrite()
	n := <-received
	return float64(n) / time.Since(start).Seconds()
}

// TestStalledReaders: 200 readers that stop reading do not slow the 201st down.
func TestStalledReaders(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	client, server, _ := testPair(t)
	service := saltest.Key(151).Service()
	stalled := make(chan *Conn, 200)
	server.Handle(service, func(_ context.Context, in *Incoming) {
		if c, err := in.Accept(); err == nil {
			stalled <- c
		}
	})
	client.cfg.Resolver.(*saltest.Resolver).SetService(service, candidate(server))

	throughput(t, client, server, 300*time.Millisecond) // warm up
	// What is guarded against is a standstill; under the race detector the 200
	// blocked writers themselves cost too much to tell more.
	want := 0.9
	if raceEnabled {
		want = 0.5
	}
	var beside, alone float64
	for round := range 8 { // the machine is shared: sum up over rounds
		before := throughput(t, client, server, 400*time.Millisecond)
		var writers sync.WaitGroup
		var conns []*Conn
		for range 200 {
			c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			writers.Go(func() {
				_, _ = c.Write(make([]byte, 8<<20)) // until its window is full, and longer
			})
		}
		time.Sleep(500 * time.Millisecond)
		during := throughput(t, client, server, 400*time.Millisecond)
		for _, c := range conns {
			_ = c.SetLinger(0)
			c.Close()
		}
		for range conns {
			(<-stalled).Close()
		}
		writers.Wait()
		after := throughput(t, client, server, 400*time.Millisecond)
		beside += during
		alone += (before + after) / 2
		t.Logf("before %.0f, beside 200 stalled %.0f, after %.0f MB/s: ratio %.2f so far",
			before/1e6, during/1e6, after/1e6, beside/alone)
		if round > 0 && beside >= want*alone {
			return
		}
	}
	t.Errorf("ratio %.2f", beside/alone)
}

// TestOverCapacity: sessions nobody reads use the budget up; sessions whose reader
// waits do not.
func TestOverCapacity(t *testing.T) {
	r := &saltest.Resolver{}
	client := testNode(t, 1, r)
	server := testNode(t, 2, r, func(c *Config) { c.MemoryBudget = 20 * 128 << 10 })
	reading, unread := provide(r, 100, server), provide(r, 101, server)
	server.Handle(reading, echo)
	held := make(chan *Conn, 100)
	server.Handle(unread, func(_ context.Context, in *Incoming) {
		if c, err := in.Accept(); err == nil {
			held <- c
		}
	})
	var conns []net.Conn
	for range 60 {
		c, err := client.Dial(timeoutContext(t, 20*time.Second), reading, 1)
		if err != nil {
			// The walk may meet readers that have only just begun.
			time.Sleep(2 * walkInterval)
			if c, err = client.Dial(timeoutContext(t, 20*time.Second), reading, 1); err != nil {
				t.Fatalf("a session whose reader waits: %v", err)
			}
		}
		exchange(t, c)
		conns = append(conns, c)
	}
	refused := 0
	time.Sleep(2 * walkInterval)
	for range 40 {
		c, err := client.Dial(timeoutContext(t, 20*time.Second), unread, 1)
		if errors.Is(err, ErrOverCapacity) && errors.Is(err, syscall.EAGAIN) {
			refused++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	if refused < 15 || refused > 25 {
		t.Errorf("%d of 40 sessions refused, with room for 20", refused)
	}
	if server.Metrics().OverCapacity == 0 {
		t.Error("not counted")
	}
	for _, c := range conns {
		c.Close()
	}
	for len(held) > 0 {
		(<-held).Close()
	}
	eventually(t, "the budget is given back", func() bool { return server.Metrics().MemoryReserved == 0 })
	c, err := client.Dial(timeoutContext(t, 20*time.Second), unread, 1)
	if err != nil {
		t.Fatalf("after the others were closed: %v", err)
	}
	c.Close()
}

// TestWindowEstimate: the estimate follows quic-go's auto-tuning from above.
func TestWindowEstimate(t *testing.T) {
	b := budget{limit: 1 << 40, walk: func() int64 { return 0 }, now: time.Now}
	var w window
	if !w.open(&b, 100, 1000) {
		t.Fatal("refused")
	}
	// The fastest growth there can be: the window doubles when more than half of it
	// was read since it last did.
	read, size, epoch := 0, 100, 0
	for range 3000 {
		read++
		if read-epoch > size/2 {
			size, epoch = min(2*size, 1000), read
		}
		w.add(1)
		if got := int(w.size.Load()); got < size {
			t.Fatalf("after %d bytes the window may be %d, the estimate is %d", read, size, got)
		}
	}
	if got := b.nominal.Load(); got != 1000 {
		t.Errorf("reserved %d", got)
	}
	w.close()
	if got := b.nominal.Load(); got != 0 {
		t.Errorf("left %d", got)
	}
}

func TestMaxSessionsPerPeer(t *testing.T) {
	r := &saltest.Resolver{}
	client := testNode(t, 1, r)
	server := testNode(t, 2, r, func(c *Config) { c.MaxSessionsPerPeer = 5 })
	service := provide(r, 100, server)
	server.Handle(service, echo)
	var conns []*Conn
	for range 5 {
		c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	if _, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1); !errors.Is(err, ErrOverCapacity) {
		t.Errorf("sixth: %v", err)
	}
	for _, c := range conns {
		c.Close()
	}
	eventually(t, "another session", func() bool {
		c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// TestListenBacklog: what nobody accepts is refused, not queued for ever.
func TestListenBacklog(t *testing.T) {
	client, server, service := testPair(t)
	l, err := server.Listen(service, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Listen(service, 1); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listener: %v", err)
	}
	for range listenBacklog {
		if _, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1); !errors.Is(err, ErrOverCapacity) {
		t.Errorf("beyond the backlog: %v", err)
	}
	l.Close()
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1)
	if err != nil {
		t.Fatalf("Handle behind the closed listener: %v", err)
	}
	exchange(t, c)
	c.Close()
}

// TestThousandSessions: 1,000 sessions at a time, each of which gets back exactly
// what it sent.
func TestThousandSessions(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	client, _, service := testPair(t)
	sessions := 1000
	if raceEnabled {
		sessions = 200 // every access is watched: the same with less of it
	}
	const size = 40_000
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range sessions {
		wg.Go(func() {
			c, err := client.Dial(timeoutContext(t, time.Minute), service, uint16(i))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			<-start
			data := make([]byte, size)
			random := rand.New(rand.NewPCG(uint64(i), 0))
			for j := range data {
				data[j] = byte(random.Uint32())
			}
			wg.Go(func() {
				for off := 0; off < size; off += 5000 {
					if _, err := c.Write(data[off : off+5000]); err != nil {
						t.Error(err)
						return
					}
				}
				_ = c.CloseWrite()
			})
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("session %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	eventually(t, "all sessions are open", func() bool { return client.Metrics().OpenSessions == sessions || t.Failed() })
	close(start)
	wg.Wait()
}
