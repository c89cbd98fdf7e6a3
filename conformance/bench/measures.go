package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"scn.alt/scn/conformance/overlay"
)

// idle measures what a daemon without sessions takes.
func idle(ctx context.Context, _ *bench, r *rig, t *table) error {
	const window = 10 * time.Second
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(5 * time.Second): // start-up is over
	}
	pid := r.provider.PID()
	before, _, err := usage(pid)
	if err != nil {
		return err
	}
	time.Sleep(window)
	after, memory, err := usage(pid)
	if err != nil {
		return err
	}
	cpu := float64(after-before) / float64(window) * 100
	t.limit("idle daemon, % of a core", cpu, 1, "%.2f")
	t.limit("idle daemon, MB resident", float64(memory)/1e6, 80, "%.0f")
	return nil
}

// usage returns the processor time and the resident memory of a process.
func usage(pid int) (cpu time.Duration, memory int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest) // from field 3 of proc(5) on
	if len(fields) < 22 {
		return 0, 0, fmt.Errorf("process %d: %q", pid, text)
	}
	var numbers [3]int64
	for i, f := range []int{14, 15, 24} {
		if numbers[i], err = strconv.ParseInt(fields[f-3], 10, 64); err != nil {
			return 0, 0, err
		}
	}
	const ticks = 100 // per second, on every Linux there is
	return time.Duration(numbers[0]+numbers[1]) * time.Second / ticks, numbers[2] * int64(os.Getpagesize()), nil
}

// names measures how fast a name that is known is answered.
func names(ctx context.Context, _ *bench, r *rig, t *table) error {
	servers := r.client.Host.Resolvers()
	if len(servers) == 0 {
		return fmt.Errorf("the client has no name server")
	}
	c, err := r.client.Host.Dial(ctx, "udp", net.JoinHostPort(servers[0], "53"))
	if err != nil {
		return err
	}
	defer c.Close()
	conn := &dns.Conn{Conn: c}
	var took []time.Duration
	for range 500 {
		q := new(dns.Msg)
		q.SetQuestion("bench.top.", dns.TypeA)
		began := time.Now()
		_ = c.SetDeadline(began.Add(5 * time.Second))
		if err := conn.WriteMsg(q); err != nil {
			return err
		}
		m, err := conn.ReadMsg()
		if err != nil {
			return err
		}
		if len(m.Answer) == 0 {
			return fmt.Errorf("no answer: %s", m)
		}
		took = append(took, time.Since(began))
	}
	t.limit("cached name, ms, median", milliseconds(median(took)), 1, "%.3f")
	return nil
}

// throughput is one TCP stream of iperf3.
func throughput(ctx context.Context, b *bench, r *rig, t *table) error {
	return compare(ctx, b, r, t, "one TCP stream, Mb/s", 0.8, func(host string) (float64, error) {
		out, err := r.client.Host.Command(ctx, "iperf3", "-c", host, "-p", "5201", "-t", seconds(b.length), "-O", "1", "--json").Output()
		if err != nil {
			return 0, fmt.Errorf("%w: %s", err, out)
		}
		var report struct {
			End struct {
				Received struct {
					Rate float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			} `json:"end"`
		}
		if err := json.Unmarshal(out, &report); err != nil {
			return 0, err
		}
		return report.End.Received.Rate / 1e6, nil
	})
}

func requests(ctx context.Context, b *bench, r *rig, t *table) error {
	return compare(ctx, b, r, t, "HTTP keep-alive requests/s, 16 connections", 0.8, func(host string) (float64, error) {
		return wrk(ctx, b, r, host)
	})
}

func connections(ctx context.Context, b *bench, r *rig, t *table) error {
	return compare(ctx, b, r, t, "new TCP connections/s", 0.7, func(host string) (float64, error) {
		return wrk(ctx, b, r, host, "-H", "Connection: close")
	})
}

var wrkRate = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)

func wrk(ctx context.Context, b *bench, r *rig, host string, options ...string) (float64, error) {
	args := append([]string{"-t", "2", "-c", "16", "-d", seconds(b.length) + "s"}, options...)
	var errs bytes.Buffer
	cmd := r.client.Host.Command(ctx, "wrk", append(args, "http://"+host+":8080/")...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%w: %s%s", err, out, errs.Bytes())
	}
	found := wrkRate.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("wrk printed no rate: %s", out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}

// compare measures every target in turns and enters the medians.
func compare(ctx context.Context, b *bench, r *rig, t *table, name string, want float64, measure func(host string) (float64, error)) error {
	rates := make([][]float64, len(r.targets))
	for range b.rounds {
		for i, target := range r.targets {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			rate, err := measure(target.host)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", name, target.name, err)
			}
			rates[i] = append(rates[i], rate)
		}
	}
	t.ratio(name, median(rates[0]), median(rates[1]), median(rates[2]), want)
	return nil
}

// gaps measures the silence of a UDP echo over ten moves of each kind.
func gaps(ctx context.Context, _ *bench, r *rig, t *table) error {
	echo, err := overlay.StartEcho(ctx, r.client.Host, "bench.top:7")
	if err != nil {
		return err
	}
	defer echo.Close()
	away := [2][2]int{{lan1, lan3}, {lan2, lan4}}
	at := [2]int{}
	move := func(who ...int) {
		var wg sync.WaitGroup
		for _, i := range who {
			at[i] = 1 - at[i]
			r.number++
			to, number := r.net.LANs[away[i][at[i]]], r.number
			wg.Go(func() { r.links[i].Move(to, number) })
		}
		wg.Wait()
	}
	for _, kind := range []struct {
		name  string
		who   []int
		limit float64
	}{
		{"silence, ms, client moves, median of 10", []int{0}, 50},
		{"silence, ms, provider moves, median of 10", []int{1}, 50},
		{"silence, ms, both move, median of 10", []int{0, 1}, 1000},
	} {
		var silences []time.Duration
		for range 10 {
			bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
			err := echo.Settle(bounded, 300*time.Millisecond)
			if err == nil {
				move(kind.who...)
				usable := time.Now()
				var silence time.Duration
				silence, err = echo.Recovered(bounded, usable, 300*time.Millisecond)
				silences = append(silences, silence)
			}
			cancel()
			if err != nil {
				return fmt.Errorf("%s: %w", kind.name, err)
			}
		}
		t.limit(kind.name, milliseconds(median(silences)), kind.limit, "%.1f")
	}
	return nil
}

func median[T int64 | float64 | time.Duration](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
