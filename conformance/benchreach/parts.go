package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"scn.alt/scn/conformance/reach"
)

// table prints who reaches whom.
func (b *bench) table(ctx context.Context) error {
	return b.in(ctx, reach.Config{}, func(ctx context.Context, w *reach.World, _ string) error {
		fmt.Printf("\nWHO REACHES WHOM (NATs with a UDP timeout of %v, 20 ms from end to end and back)\n", reach.UDPTimeout)
		cells, err := w.Table(ctx, reach.TableConfig{})
		if err != nil {
			return err
		}
		t := newTable("FROM", "TO", "THEORY", "FOUND", "NAME", "FIRST BYTE", "DIRECT AFTER", "ASKED AFTER A SILENCE")
		for _, c := range cells {
			theory, direct := "relay", "—"
			if ok, _ := reach.Direct(c.From, c.To); ok {
				theory = "direct"
			}
			if c.From == reach.UDPBlocked || c.To == reach.UDPBlocked {
				theory = "tunnel"
			}
			if c.Direct {
				direct = ms(c.ToDirect)
			}
			if c.Err != nil {
				t.row(c.From, c.To, theory, c.Err)
				continue
			}
			found := c.Last.Path.Way
			if c.Direct {
				found = "direct"
			}
			t.row(c.From, c.To, theory, found, ms(c.Lookup), ms(c.FirstByte), direct, ms(c.Quiet))
		}
		t.print()
		return nil
	})
}

// bothMove prints the silence when both ends move at once.
func (b *bench) bothMove(ctx context.Context) error {
	fmt.Printf("\nBOTH MOVE AT ONCE, %d times, 20 ms from end to end: silence of a 2 ms UDP echo\n", b.moves)
	t := newTable("", "MEDIAN", "95 %", "WORST", "AT REST", "95 % ALLOWED")
	for _, c := range []struct {
		name, limit string
		kind        reach.Kind
		alone       bool
	}{
		{"public addresses, DHT alone", "", reach.Public, true},
		{"public addresses, home relay", "250 ms", reach.Public, false},
		{"behind carriers and homes, home relay", "250 ms", reach.CarrierAndHome, false},
	} {
		err := b.in(ctx, reach.Config{NoRelays: c.alone}, func(ctx context.Context, w *reach.World, _ string) error {
			s, err := w.BothMove(ctx, reach.MoveConfig{Moves: b.moves, Kind: c.kind})
			if err != nil {
				return err
			}
			t.row(c.name, ms(s.Percentile(50)), ms(s.Percentile(95)), ms(s.Percentile(100)), ms(s.Rest), c.limit)
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	t.print()
	return nil
}

// train prints what a ride does to sessions.
func (b *bench) train(ctx context.Context) error {
	return b.in(ctx, reach.Config{}, func(ctx context.Context, w *reach.World, dir string) error {
		programs := filepath.Join(dir, "programs")
		if err := os.Mkdir(programs, 0o700); err != nil {
			return err
		}
		cfg := reach.RideConfig{Seed: b.seed, Duration: b.ride, Dir: programs}
		if b.verbose {
			cfg.Say = func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
		}
		rides, err := w.Ride(ctx, cfg)
		if err != nil {
			return err
		}
		fmt.Printf("\nA TRAIN, %v, seed %d: a new network every 5–20 s, bursts of loss, tunnels of 2 s\n", b.ride, b.seed)
		columns := []string{""}
		for _, r := range rides {
			columns = append(columns, fmt.Sprintf("%d MODEM(S)", r.Modems))
		}
		t := newTable(columns...)
		line := func(name string, value func(*reach.Ride) any) {
			cells := make([]any, 0, 1+len(rides))
			cells = append(cells, name)
			for _, r := range rides {
				cells = append(cells, value(r))
			}
			t.row(cells...)
		}
		line("handovers, bursts, tunnels", func(r *reach.Ride) any { return fmt.Sprintf("%d, %d, %d", r.Handovers, r.Bursts, r.Tunnels) })
		line("all sessions alive", func(r *reach.Ride) any {
			if r.Err != nil {
				return r.Err
			}
			return "yes"
		})
		line("ssh: lines answered, slowest", func(r *reach.Ride) any { return fmt.Sprintf("%d, %s", r.Lines, ms(r.Slowest)) })
		line("MQTT: messages, in order, none missing", func(r *reach.Ride) any { return r.Messages })
		line("50 kB/s UDP stream: packets lost", func(r *reach.Ride) any { return share(r.StreamLost, r.StreamSent) })
		line("2 ms ticker: packets lost", func(r *reach.Ride) any { return share(r.TickerLost, r.TickerSent) })
		bounds, _, _ := rides[0].Histogram()
		for i, bound := range bounds {
			line(fmt.Sprintf("ticker silent for %v or more", bound), func(r *reach.Ride) any {
				_, counts, _ := r.Histogram()
				sum := 0
				for _, n := range counts[i:] {
					sum += n
				}
				return sum
			})
		}
		line("all silences of 100 ms and more", func(r *reach.Ride) any {
			_, _, noticed := r.Histogram()
			return noticed.Round(100 * time.Millisecond)
		})
		t.print()
		return nil
	})
}

// relay prints what a relay costs and bears.
func (b *bench) relay(ctx context.Context) error {
	return b.in(ctx, reach.Config{}, func(ctx context.Context, w *reach.World, _ string) error {
		r, err := w.Relaying(ctx, reach.RelayingConfig{})
		if err != nil {
			return err
		}
		fmt.Printf("\nA RELAY: one TCP stream through TUN devices, Mb/s\n")
		t := newTable("", "BESIDE", "RELAY", "RATIO", "WANTED")
		ratio := func(name string, beside, relay float64, wanted string) {
			t.row(name, fmt.Sprintf("%.0f", beside), fmt.Sprintf("%.0f", relay), fmt.Sprintf("%.2f", relay/beside), wanted)
		}
		ratio("direct, relayed", r.Direct, r.Relayed, "≥ 0.6")
		ratio(fmt.Sprintf("100 Mb/s customer, flood of %d strangers beside the relay, at it", reach.Strangers), r.Calm, r.Flooded, "≥ 0.9")
		ratio("unlimited customer, the same", r.CalmFast, r.FloodedFast, "")
		t.print()
		fmt.Printf("(%d packets of strangers reached the relay)\n", r.Flood)
		return nil
	})
}

// crowd prints what many registered nodes take.
func (b *bench) crowd(ctx context.Context) error {
	return b.in(ctx, reach.Config{OneRelay: true}, func(ctx context.Context, w *reach.World, _ string) error {
		c, err := w.Crowd(ctx, b.nodes, 40*time.Second)
		if err != nil {
			return err
		}
		fmt.Printf("\nA RELAY WITH %d NODES registered in %.0f s\n", c.Registered, c.Took.Seconds())
		t := newTable("", "NONE", "ALL", "WANTED")
		t.row("resident memory, MB", c.Empty/1e6, c.Full/1e6, "< 400")
		t.print()
		fmt.Printf("(%d bytes each; the nodes were %d processes)\n", c.PerNode(), c.Processes)
		return nil
	})
}

// columns is a table in the making.
type columns struct{ w *tabwriter.Writer }

func newTable(head ...string) columns {
	t := columns{tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)}
	cells := make([]any, 0, len(head))
	for _, h := range head {
		cells = append(cells, h)
	}
	t.row(cells...)
	return t
}

func (t columns) row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, c)
	}
	fmt.Fprintln(t.w)
}

func (t columns) print() { _ = t.w.Flush() }

func ms(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

func share(part, whole int) string {
	if whole == 0 {
		return "none sent"
	}
	return fmt.Sprintf("%d of %d (%.1f %%)", part, whole, 100*float64(part)/float64(whole))
}
