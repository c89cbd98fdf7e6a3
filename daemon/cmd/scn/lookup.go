package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/identity"
)

func (a *app) lookupCommand() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:   "lookup NAME|ID",
		Short: "show what a name means and who provides it",
		Long: `Shows what a name means and who provides it. The ledger proves it: its answer is
checked against a checkpoint signed a moment ago, and nodes that serve an older or a
forged record are named.`,
		Example: example("scn lookup files", "scn lookup files.top --json",
			"scn lookup fgpkbg5ync7xia5wwhreyog2dmlsowsmyauxh6rdxu2r3bre5fyisvyc"),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			v, err := c.Lookup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(v, func(w io.Writer) {
				line(w, "name", v.Name)
				if v.Expired {
					line(w, "expired", "its lease has ended: it resolves a while longer, unless its owner renews it")
				}
				line(w, "service ID", v.ServiceID)
				line(w, "addresses", optional(v.IPv4)+" "+optional(v.IPv6))
				line(w, "answer", fmt.Sprintf("from %s, %.0f s old", v.Source, v.AgeSeconds))
				switch {
				case v.Proof != nil:
					line(w, "proof", fmt.Sprintf("proved at height %d, signed by the ledger %.0f s ago", v.Proof.Height, v.Proof.AgeSeconds))
				case v.Unproved != "":
					line(w, "proof", "none: "+v.Unproved)
				}
				for _, l := range v.Wrong {
					line(w, "wrong", fmt.Sprintf("node %s %s", l.NodeID, l.What))
				}
				for _, p := range v.Ports {
					line(w, "port", fmt.Sprintf("%d/%s", p.Number, p.Protocol))
				}
				line(w)
				line(w, "PROVIDER", "PRIORITY", "WEIGHT", "SEQUENCE", "EXPIRES", "FROM", "SCORE", "SAMPLE", "P50/P90", "LAST CHECK", "LOCATORS")
				for _, p := range v.Providers {
					expires := "-"
					if p.Expires != nil {
						expires = p.Expires.Local().Format(time.DateTime)
					}
					score, found := "-", findings(p.Score)
					if p.Score != nil {
						score = scoreText(p.Score.Score)
					}
					line(w, p.NodeID, p.Priority, p.Weight, p.Sequence, expires, p.Source, score, found[0], found[1], found[4], addresses(p.Locators)+byRelays(p.Relays))
				}
			})
		},
	})
}

func (a *app) pingCommand() *cobra.Command {
	var count int
	var interval, timeout time.Duration
	cmd := &cobra.Command{
		Use:     "ping NAME|ID",
		Short:   "measure the overlay's round trip to a service's provider",
		Example: example("scn ping files", "scn ping files --count 1 --timeout 2s"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 0 || interval < 10*time.Millisecond || timeout <= 0 {
				return usageError{errors.New("--count must not be negative, --interval at least 10ms, --timeout positive")}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			return a.pingLoop(cmd.Context(), c, args[0], count, interval, timeout)
		},
	}
	f := cmd.Flags()
	f.IntVar(&count, "count", 4, "how many; 0 means until interrupted")
	f.DurationVar(&interval, "interval", time.Second, "pause between two")
	f.DurationVar(&timeout, "timeout", 5*time.Second, "how long to wait for each")
	return a.reads(cmd)
}

func (a *app) pingLoop(ctx context.Context, c *control.Client, name string, count int, interval, timeout time.Duration) error {
	var answered, sent int
	var sum, least, most float64
	var results []control.Ping
	least = math.Inf(1)
	var last error
	for i := 0; (count == 0 || i < count) && ctx.Err() == nil; i++ {
		if i > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(interval):
			}
		}
		if ctx.Err() != nil {
			break
		}
		sent++
		one, cancel := context.WithTimeout(ctx, timeout)
		p, err := c.Ping(one, name)
		cancel()
		if err != nil {
			last = err
			var e *control.Error
			if errors.As(err, &e) && e.Code != control.Unreachable {
				return err
			}
			if !a.json && ctx.Err() == nil {
				fmt.Fprintf(a.stdout, "%s: %s\n", name, err)
			}
			continue
		}
		answered++
		sum, least, most = sum+p.RTTMS, min(least, p.RTTMS), max(most, p.RTTMS)
		results = append(results, p)
		if !a.json {
			fmt.Fprintf(a.stdout, "%s: answered by %s, %.2f ms\n", name, p.NodeID.Short(), p.RTTMS)
		}
	}
	if a.json {
		if err := a.print(results, nil); err != nil {
			return err
		}
	} else if answered > 0 {
		fmt.Fprintf(a.stdout, "%d of %d answered, min %.2f ms, mean %.2f ms, max %.2f ms\n",
			answered, sent, least, sum/float64(answered), most)
	}
	if answered == 0 && last != nil {
		return last
	}
	return nil
}

// byRelays lists the relays of a node behind its addresses.
func byRelays(relays []identity.NodeID) string {
	var b strings.Builder
	for i, id := range relays {
		if i == 0 {
			b.WriteString(" by relay")
		}
		b.WriteString(" " + id.Short())
	}
	return b.String()
}
