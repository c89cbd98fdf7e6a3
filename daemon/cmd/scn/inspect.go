package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/identity"
)

func (a *app) inspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect",
		Short: "visit providers as clients do, and show what they are like",
		Long: `Inspectors visit the providers of services as ordinary clients do, at times nobody
foresees, and have the provider's signed receipt of each visit. What many of them report
makes the providers' scores on the ledger. Any node can also look for itself: try, watch.

A visit leaves from this node and its address: its provider sees them as it sees those
of every client, and what is asked for. Priced services are paid as always, from an
account and a session key made for that provider alone.`,
		Example: example("scn inspect register --stake 100 --operator example-org", "scn inspect run", "scn inspect explain files", "scn inspect try files", "scn inspect try files --kind throughput", "scn inspect watch"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		a.inspectRegister(), a.inspectEnlist(), a.inspectRun(),
		a.inspectShow("status", "show how inspecting stands at this node", (*control.Client).Inspector),
		a.inspectShow("unregister", "take this node's account off the rosters to come", (*control.Client).UnregisterInspector),
		a.inspectPlan(), a.inspectReports(), a.inspectScore(), a.inspectExplain(), a.inspectVerify(),
		a.inspectTry(), a.inspectWatch(), a.inspectPublish())
	return cmd
}

func (a *app) inspectTry() *cobra.Command {
	q := control.VisitRequest{}
	var at string
	cmd := a.reads(&cobra.Command{
		Use:   "try NAME|ID",
		Short: "visit a provider of a service now",
		Long: `try makes one visit and shows what came of it: pass, absent (no session or no answer),
broken (it died, or nobody signed for it), wrong (not what the service's owner
published), overcharged, or void where the trouble is this node's own.

Kinds: reach opens a session; latency times an answer; throughput times a transfer;
correctness checks a block against what the owner published; mobility stays for a while
and takes the longest silence; price compares the bill with the ask on the ledger.`,
		Example: example("scn inspect try files", "scn inspect try files --kind throughput --size 1000000", "scn inspect try files --node NODEID --json"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Name = args[0]
			if at != "" {
				id, err := identity.ParseNodeID(at)
				if err != nil {
					return usageError{fmt.Errorf("--node: %w", err)}
				}
				q.Node = &id
			}
			return withClient(a, func(c *control.Client) (control.Visit, error) { return c.Visit(cmd.Context(), q) }, printVisit)
		},
	})
	f := cmd.Flags()
	f.StringVar(&q.Kind, "kind", "latency", "what to look at: "+strings.Join(control.Kinds(), ", "))
	f.StringVar(&at, "node", "", "the provider's node ID (default: the one a session would use)")
	f.Uint32Var(&q.Size, "size", 0, "bytes of a throughput visit (default 256 KiB)")
	f.BoolVar(&q.Mobile, "mobile", false, "the provider may move: ask once more where its session dies")
	return cmd
}

func printVisit(w io.Writer, v control.Visit) {
	line(w, "service", fmt.Sprintf("%s (%s)", v.Name, v.ServiceID))
	line(w, "provider", v.NodeID)
	verdict := v.Verdict
	if v.Reason != "" {
		verdict += ": " + v.Reason
	}
	line(w, v.Kind, fmt.Sprintf("%s, in %.1f ms", verdict, v.TookMS))
	if v.LatencyMS != nil {
		line(w, "latency", fmt.Sprintf("%.2f ms", *v.LatencyMS))
	}
	if v.RateKiB != nil {
		line(w, "throughput", rateText(*v.RateKiB))
	}
	if v.GapMS != nil {
		line(w, "longest silence", fmt.Sprintf("%d ms", *v.GapMS))
	}
	if !v.Content {
		line(w, "content", "nothing published to be checked: only that the session opens was looked at")
	}
	if v.Receipt == nil {
		line(w, "receipt", "none")
	} else {
		line(w, "receipt", fmt.Sprintf("signed by the provider: sent %s, received %s, %d ms", bytesText(v.Receipt.Sent), bytesText(v.Receipt.Received), v.Receipt.Milliseconds))
	}
	if v.Anomalous {
		line(w, "unusual", "far from what this provider was like before")
	}
}

func rateText(kib uint32) string {
	if kib == 0 {
		return "-"
	}
	return bytesText(uint64(kib)<<10) + "/s"
}

func (a *app) inspectWatch() *cobra.Command {
	var once bool
	var interval time.Duration
	cmd := a.reads(&cobra.Command{
		Use:   "watch",
		Short: "show live what this node measured of providers",
		Long: `watch shows a table of all providers this node visited, with the latencies of its last
visits as a sparkline, and marks with ! those that were far from their own history
lately (median and MAD). It goes on until interrupted; with --once, with --json, or
where the output is no terminal it shows the table once.`,
		Example: example("scn inspect watch", "scn inspect watch --once", "scn inspect watch --json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < 100*time.Millisecond {
				return usageError{errors.New("--interval must be at least 100ms")}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			f, terminal := a.stdout.(*os.File)
			if terminal {
				info, err := f.Stat()
				terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
			}
			if once || a.json || !terminal {
				list, err := c.Measured(cmd.Context())
				if err != nil {
					return err
				}
				return a.print(list, func(w io.Writer) { printMeasured(w, list) })
			}
			return a.watchLoop(cmd.Context(), c, interval)
		},
	})
	cmd.Flags().BoolVar(&once, "once", false, "show the table once")
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "how often to look")
	return cmd
}

func (a *app) watchLoop(ctx context.Context, c *control.Client, interval time.Duration) error {
	const clear = "\x1b[H\x1b[2J"
	for {
		list, err := c.Measured(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Fprint(a.stdout, clear)
		if err := a.print(list, func(w io.Writer) { printMeasured(w, list) }); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
	}
}

// unusualFor is how long a provider is marked after something unusual.
const unusualFor = time.Hour

func printMeasured(w io.Writer, list []control.Measured) {
	line(w, "SERVICE", "PROVIDER", "CHECKS", "FAILED", "P50", "P90", "THROUGHPUT", "GAP", "LAST", "VERDICT", "LATENCY", "")
	for _, m := range list {
		mark := ""
		if m.Anomaly != nil && time.Since(*m.Anomaly) < unusualFor {
			mark = "!"
		}
		gap := "-"
		if m.GapMS > 0 {
			gap = fmt.Sprintf("%d ms", m.GapMS)
		}
		line(w, m.ServiceID.Short(), m.NodeID.Short(), m.Checks, fmt.Sprintf("%d of %d", m.Failed, m.Recent),
			fmt.Sprintf("%.1f ms", m.LatencyP50MS), fmt.Sprintf("%.1f ms", m.LatencyP90MS), rateText(m.RateKiB), gap,
			m.Last.Local().Format(time.DateTime), m.Verdict, sparkline(m.Latencies, 24), mark)
	}
}

// sparkline draws the last values as a line of bars, from the least to the largest of
// them on a logarithmic scale: latencies differ by factors.
func sparkline(values []uint32, width int) string {
	bars := []rune("▁▂▃▄▅▆▇█")
	values = values[max(0, len(values)-width):]
	if len(values) == 0 {
		return "-"
	}
	least, most := math.Inf(1), math.Inf(-1)
	logs := make([]float64, len(values))
	for i, v := range values {
		logs[i] = math.Log(float64(max(v, 1)))
		least, most = min(least, logs[i]), max(most, logs[i])
	}
	// Differences of less than a fifth are noise, and do not fill the height.
	span := max(most-least, math.Log(1.2))
	var b strings.Builder
	for _, v := range logs {
		b.WriteRune(bars[int((v-least)/span*float64(len(bars)-1)+0.5)])
	}
	return b.String()
}

func (a *app) inspectPublish() *cobra.Command {
	var port uint16
	var host, path, out string
	cmd := &cobra.Command{
		Use:   "publish SERVICE FILE",
		Short: "sign what inspectors may ask of a service",
		Long: `publish signs a manifest of a file that all providers of the service serve over HTTP, so
that any block of it can be checked at any provider. Have them serve the manifest at
/.well-known/scn-content, and the file, with range requests, at --path. A newer manifest
replaces an older one. The service's key must be in this node's directory.`,
		Example: example("scn inspect publish files ./catalogue.bin --path /catalogue.bin --output ./scn-content"),
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) (err error) {
			dir, err := a.directory()
			if err != nil {
				return err
			}
			f, err := os.Open(args[1])
			if err != nil {
				return err
			}
			defer f.Close()
			manifest, err := daemon.PublishContent(dir, args[0], f, port, host, path)
			if err != nil {
				return err
			}
			return os.WriteFile(out, manifest, 0o644)
		},
	}
	f := cmd.Flags()
	f.Uint16Var(&port, "port", 80, "port at which the providers serve it")
	f.StringVar(&host, "host", "", "Host header to ask with")
	f.StringVar(&path, "path", "/", "path at which they serve it")
	f.StringVar(&out, "output", "scn-content", "where to write the manifest")
	return cmd
}
