package suite

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scn.alt/scn/conformance/netns"
)

// tcpServer accepts connections on a host and hands each to serve.
func tcpServer(t *testing.T, h *netns.Host, address string, serve func(net.Conn)) {
	t.Helper()
	l, err := h.Listen("tcp", address)
	must(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := make(map[net.Conn]struct{})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = struct{}{}
			mu.Unlock()
			wg.Go(func() {
				defer func() {
					c.Close()
					mu.Lock()
					delete(open, c)
					mu.Unlock()
				}()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
}

// copyBack returns everything to its sender.
func copyBack(c net.Conn) { _, _ = io.Copy(c, c) }

// dialMany opens connections from one thread of the host.
func dialMany(t *testing.T, h *netns.Host, address string, count int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, count)
	errs := make([]error, 16)
	var wg sync.WaitGroup
	for worker := range errs {
		wg.Go(func() {
			h.Do(func() {
				d := net.Dialer{Timeout: 30 * time.Second}
				for i := worker; i < count; i += len(errs) {
					if conns[i], errs[worker] = d.Dial("tcp", address); errs[worker] != nil {
						return
					}
				}
			})
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
	must(t, errors.Join(errs...))
	return conns
}

// Reference: issue "Shown by" 5: 1,000 concurrent sessions with 4 moves: no byte
// wrong.
func TestThousandSessions(t *testing.T) {
	const sessions, block = 1000, 1024
	w := newWorld(t)
	echo := w.echo(t, "echo")
	tcpServer(t, w.provider.host, "127.0.0.1:9000", copyBack)
	w.serve(t, "sum", "9000=tcp://127.0.0.1:9000")
	address, err := w.client.Resolve(within(t, 20*time.Second), "ip4", "sum.top")
	must(t, err)
	began := time.Now()
	conns := dialMany(t, w.client.host, net.JoinHostPort(address.String(), "9000"), sessions)
	t.Logf("%d sessions opened in %v", sessions, time.Since(began).Round(time.Millisecond))

	var stop atomic.Bool
	var rounds atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, sessions)
	for i, c := range conns {
		wg.Go(func() {
			// Every session has a stream of its own, so that no byte of one can
			// pass for one of another.
			random := rand.NewChaCha8([32]byte(binary.BigEndian.AppendUint64(make([]byte, 24), uint64(i))))
			sent, got := make([]byte, block), make([]byte, block)
			for n := 0; !stop.Load(); n++ {
				_, _ = random.Read(sent)
				_ = c.SetDeadline(time.Now().Add(60 * time.Second))
				if _, errs[i] = c.Write(sent); errs[i] != nil {
					return
				}
				if _, errs[i] = io.ReadFull(c, got); errs[i] != nil {
					return
				}
				if !bytes.Equal(sent, got) {
					errs[i] = fmt.Errorf("block %d is wrong", n)
					return
				}
				rounds.Add(1)
				time.Sleep(time.Duration(150+i%100) * time.Millisecond)
			}
		})
	}
	time.Sleep(time.Second)
	for _, s := range append(moves[:len(moves):len(moves)], moves[0]) {
		s.play(w)
		usable := time.Now()
		silence, err := echo.Recovered(within(t, 20*time.Second), usable, 200*time.Millisecond)
		must(t, err)
		before := rounds.Load()
		eventually(t, 30*time.Second, func() error {
			if done := rounds.Load() - before; done < sessions {
				return fmt.Errorf("%s: only %d blocks came back since", s.name, done)
			}
			return nil
		})
		t.Logf("%s: silence %v, all streams go on", s.name, silence.Round(100*time.Microsecond))
	}
	stop.Store(true)
	wg.Wait()
	bad := 0
	for i, err := range errs {
		if err != nil {
			if bad++; bad < 5 {
				t.Errorf("session %d: %v", i, err)
			}
		}
	}
	t.Logf("%d blocks of %d bytes came back, %d sessions failed", rounds.Load(), block, bad)
	if bad > 0 {
		t.Errorf("%d of %d sessions failed", bad, sessions)
	}
}

// Reference: issue "Shown by" 5: 200 readers that stop reading: the 201st session
// keeps ≥ 0.9 of its speed.
func TestReadersThatStopReading(t *testing.T) {
	w := newWorld(t)
	// All hosts share one kernel's memory for TCP. Unread data of 200 connections,
	// at both ends at once, is enough to make it shrink the buffers of all others.
	for _, a := range []*actor{w.client, w.provider} {
		a.host.Sysctl("ipv4/tcp_rmem", "4096 131072 1048576")
		a.host.Sysctl("ipv4/tcp_wmem", "4096 16384 1048576")
	}
	var flooded atomic.Int64
	tcpServer(t, w.provider.host, "127.0.0.1:9001", func(c net.Conn) {
		flood := make([]byte, 64<<10)
		for {
			n, err := c.Write(flood)
			if err != nil {
				return
			}
			flooded.Add(int64(n))
		}
	})
	w.serve(t, "flood", "9001=tcp://127.0.0.1:9001")
	address, err := w.client.Resolve(within(t, 20*time.Second), "ip4", "flood.top")
	must(t, err)
	target := net.JoinHostPort(address.String(), "9001")
	speed := func() float64 {
		c := dialMany(t, w.client.host, target, 1)[0]
		defer c.Close()
		buf := make([]byte, 256<<10)
		total, began := 0, time.Now()
		warm := began.Add(300 * time.Millisecond)
		var counted time.Time
		for time.Since(began) < 1800*time.Millisecond {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, err := c.Read(buf)
			must(t, err)
			if now := time.Now(); now.After(warm) {
				if counted.IsZero() {
					counted = now
					continue
				}
				total += n
			}
		}
		return float64(total) / time.Since(counted).Seconds()
	}
	// The machine is shared and noisy: both are measured in turns, and the best
	// of each tells what is possible.
	var free, beside float64
	for round := range 6 {
		alone := max(speed(), speed())
		free = max(free, alone)
		stalled := dialMany(t, w.client.host, target, 200)
		for _, c := range stalled { // each has begun, and then stops
			_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
			_, err := io.ReadFull(c, make([]byte, 1024))
			must(t, err)
		}
		// Buffers and windows on the way are filled first: wait for the standstill.
		var last int64
		eventually(t, 30*time.Second, func() error {
			time.Sleep(500 * time.Millisecond)
			now := flooded.Load()
			moved := now - last
			if last = now; moved > 0 {
				return fmt.Errorf("%d bytes more were sent to readers that do not read", moved)
			}
			return nil
		})
		among := max(speed(), speed())
		beside = max(beside, among)
		t.Logf("round %d: alone %.0f Mb/s, among readers that stopped %.0f Mb/s", round, alone*8/1e6, among*8/1e6)
		for _, c := range stalled {
			c.Close()
		}
		if round >= 1 && beside >= 0.9*free {
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	t.Logf("the best: alone %.0f Mb/s, among 200 readers that stopped %.0f Mb/s: %.2f", free*8/1e6, beside*8/1e6, beside/free)
	if beside < 0.9*free {
		t.Errorf("200 readers that stopped reading took a session down to %.2f of its speed", beside/free)
	}
}

// Reference: issue "Shown by" 6: two providers of one service: weights hold
// within ±5 points over 1,000 sessions; kill one, and new sessions succeed within
// 1 s.
func TestTwoProviders(t *testing.T) {
	const sessions = 1000
	w := newWorld(t)
	second := w.actor("second", rack2)
	w.join(t, second)
	for i, a := range []*actor{w.provider, second} {
		tcpServer(t, a.host, "127.0.0.1:9002", func(c net.Conn) { fmt.Fprintln(c, i) })
	}
	ctx := within(t, 90*time.Second)
	w.serve(t, "pair", "9002=tcp://127.0.0.1:9002", "--weight", "75")
	_, err := w.provider.Run(ctx, "service", "grant", "pair", second.ID, "--weight", "25")
	must(t, err)
	must(t, second.Serve(ctx, "pair", "9002=tcp://127.0.0.1:9002", "--weight", "25"))
	eventually(t, 60*time.Second, func() error {
		l, err := w.client.Lookup(ctx, "pair")
		if err == nil && len(l.Providers) != 2 {
			err = fmt.Errorf("%d providers known, want 2", len(l.Providers))
		}
		return err
	})
	address, err := w.client.Resolve(ctx, "ip4", "pair.top")
	must(t, err)
	target := net.JoinHostPort(address.String(), "9002")
	// who opens a session and returns which provider answered.
	who := func(ctx context.Context) (int, error) {
		c, err := w.client.host.Dial(ctx, "tcp", target)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		line, err := io.ReadAll(c)
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(string(bytes.TrimSpace(line)))
	}
	// Both answer before anything is counted.
	var seen [2]bool
	eventually(t, 30*time.Second, func() error {
		i, err := who(ctx)
		if err != nil {
			return err
		}
		if seen[i] = true; !seen[0] || !seen[1] {
			return fmt.Errorf("answers came from %v", seen)
		}
		return nil
	})
	var counts [2]int
	for range sessions {
		i, err := who(ctx)
		must(t, err)
		counts[i]++
	}
	share := float64(counts[0]) / sessions
	t.Logf("of %d sessions the provider of weight 75 had %.1f %%", sessions, share*100)
	if share < 0.70 || share > 0.80 {
		t.Errorf("the provider of weight 75 had %.1f %% of the sessions", share*100)
	}

	w.provider.Kill()
	killed := time.Now()
	for i := range 20 {
		attempt, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		began := time.Now()
		got, err := who(attempt)
		cancel()
		if err != nil {
			t.Fatalf("session %d after the kill: %v", i, err)
		}
		took := time.Since(began)
		if i == 0 {
			t.Logf("the first session after the kill was there in %v", took)
		}
		if took > time.Second || got != 1 {
			t.Errorf("session %d, %v after the kill, took %v and reached provider %d", i, time.Since(killed), took, got)
		}
	}
}
