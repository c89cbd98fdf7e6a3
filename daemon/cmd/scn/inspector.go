package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/identity"
)

func (a *app) inspectRegister() *cobra.Command {
	var stake, operator, network string
	cmd := a.reads(&cobra.Command{
		Use:   "register",
		Short: "make this node's account an inspector on the ledger",
		Long: `register puts a stake aside and has the account admitted as an inspector, from the epoch
after next but one. Two inspectors are independent where both their labels differ; an
operator gives all of its own the same. Then have it inspect with "scn inspect run".`,
		Example: example("scn inspect register --stake 100 --operator example-org --network as64500"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := control.RegisterRequest{Operator: operator, Network: network}
			if q.Network == "" {
				q.Network = operator
			}
			if stake != "" {
				amount, err := voucher.ParseAmount(stake)
				if err != nil {
					return usageError{fmt.Errorf("--stake: %w", err)}
				}
				q.Stake = amount
				_, _ = rand.Read(q.ID[:]) // never fails
			}
			return withClient(a, func(c *control.Client) (control.Inspector, error) { return c.RegisterInspector(cmd.Context(), q) }, printInspector)
		},
	})
	f := cmd.Flags()
	f.StringVar(&stake, "stake", "", "credits to put aside first; none where enough is staked")
	f.StringVar(&operator, "operator", "", "who runs it: 1 to 32 of a-z, 0-9, dash and dot")
	f.StringVar(&network, "network", "", "the network it is in, like as64500 (default: the operator)")
	return cmd
}

func (a *app) inspectRun() *cobra.Command {
	var stop bool
	cmd := a.reads(&cobra.Command{
		Use:   "run",
		Short: "have the daemon inspect, also after it is started anew",
		Long: `run has the running daemon visit the providers its plan names, commit to what it saw and
show it an epoch later; --stop ends that, and loses the reports under way.`,
		Example: example("scn inspect run", "scn inspect run --stop"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(a, func(c *control.Client) (control.Inspector, error) {
				return c.SetInspecting(cmd.Context(), control.InspectRequest{On: !stop})
			}, printInspector)
		},
	})
	cmd.Flags().BoolVar(&stop, "stop", false, "inspect no more")
	return cmd
}

// inspectShow makes a command that shows how inspecting stands afterwards.
func (a *app) inspectShow(use, short string, call func(*control.Client, context.Context) (control.Inspector, error)) *cobra.Command {
	return a.reads(&cobra.Command{
		Use: use, Short: short, Example: example("scn inspect "+use, "scn inspect "+use+" --json"), Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(a, func(c *control.Client) (control.Inspector, error) { return call(c, cmd.Context()) }, printInspector)
		},
	})
}

func printInspector(w io.Writer, v control.Inspector) {
	switch {
	case v.Needed == 0:
		line(w, "network", "takes no inspectors (the founder sets inspector_stake)")
	case v.Epoch == 0:
		line(w, "network", fmt.Sprintf("nobody inspects or is inspected yet; an inspector stakes %s", v.Needed))
	default:
		line(w, "network", fmt.Sprintf("epoch %d of %d s, %d inspectors, %d providers", v.Epoch, v.EpochSecs, v.Inspectors, v.Providers))
	}
	switch {
	case !v.Registered:
		line(w, "account", fmt.Sprintf("no inspector (stake %s needed)", v.Needed))
	default:
		line(w, "account", fmt.Sprintf("operator %s, network %s, staked %s, from epoch %d", v.Operator, v.Network, v.Staked, v.From))
		if v.To != 0 {
			line(w, "leaves", fmt.Sprintf("with epoch %d", v.To))
		}
		line(w, "rows", fmt.Sprintf("%d done of %d planned", v.Done, v.Planned))
		if v.UnpaidUntil > v.Epoch {
			line(w, "unpaid", fmt.Sprintf("until epoch %d", v.UnpaidUntil))
		}
	}
	state := "stopped"
	switch {
	case v.Running:
		state = "inspecting"
	case v.Wanted:
		state = "starting"
	}
	line(w, "daemon", state)
	line(w, "visits", fmt.Sprintf("%d: %d passed, %d failed, %d void, %d unusual", v.Visits, v.Passed, v.Failed, v.Void, v.Anomalies))
	line(w, "reports", fmt.Sprintf("%d committed, %d shown, %d answers, %d errors", v.Commits, v.Reveals, v.Answers, v.Errors))
}

func (a *app) inspectPlan() *cobra.Command {
	var epoch uint64
	cmd := a.reads(&cobra.Command{
		Use:     "plan",
		Short:   "show this node's plan of an epoch, which nobody else knows yet",
		Example: example("scn inspect plan", "scn inspect plan --epoch 41 --json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(a, func(c *control.Client) (control.Plan, error) { return c.Plan(cmd.Context(), epoch) }, func(w io.Writer, p control.Plan) {
				line(w, "epoch", p.Epoch)
				line(w, "ROW", "SERVICE", "PROVIDER", "KIND", "BYTES", "NOT BEFORE")
				for _, r := range p.Rows {
					line(w, r.Row, r.ServiceID.Short(), r.NodeID.Short(), r.Kind, r.Size, r.From.Local().Format(time.TimeOnly))
				}
			})
		},
	})
	cmd.Flags().Uint64Var(&epoch, "epoch", 0, "which epoch (default: the running one)")
	return cmd
}

func printReports(w io.Writer, v control.Reports) {
	line(w, "epoch", v.Epoch)
	line(w, "INSPECTOR", "OPERATOR", "NETWORK", "ROWS", "PASSED", "FAILED", "VOID", "OMITTED", "SHOWN", "VERIFIED")
	for _, r := range v.Reports {
		verified := "yes"
		if r.Fault != "" {
			verified = r.Fault
		}
		line(w, shortAccount(r.Inspector), r.Operator, r.Network, r.Rows, r.Passed, r.Failed, r.Void, r.Omitted, fmt.Sprintf("%d of %d", r.Shown, r.Challenged), verified)
	}
}

func (a *app) inspectReports() *cobra.Command {
	var epoch uint64
	cmd := a.reads(&cobra.Command{
		Use:   "reports",
		Short: "show the reports of an epoch, each verified",
		Long: `reports shows what inspectors revealed of an epoch. Each is verified here: the plan is
recomputed from the proof, the commitment and every value are checked.`,
		Example: example("scn inspect reports", "scn inspect reports --epoch 41 --json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(a, func(c *control.Client) (control.Reports, error) { return c.Reports(cmd.Context(), epoch) }, printReports)
		},
	})
	cmd.Flags().Uint64Var(&epoch, "epoch", 0, "which epoch (default: the newest that was shown)")
	return cmd
}

func (a *app) inspectVerify() *cobra.Command {
	var epoch uint64
	cmd := a.reads(&cobra.Command{
		Use:   "verify",
		Short: "verify the reports of an epoch, and fail if any is wrong",
		Long: `verify recomputes the plan of every report of an epoch from its proof and the seed, checks
the commitment and all values, and names every difference; it ends with an error if there
is one. What follows of the reports, scores and pay, the ledger's own verification covers
("scn ledger verify").`,
		Example: example("scn inspect verify", "scn inspect verify --epoch 41 --json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			faults := 0
			err := withClient(a, func(c *control.Client) (control.Reports, error) {
				v, err := c.Reports(cmd.Context(), epoch)
				for _, r := range v.Reports {
					if r.Fault != "" {
						faults++
					}
				}
				return v, err
			}, printReports)
			if err == nil && faults > 0 {
				err = fmt.Errorf("%d reports are wrong", faults)
			}
			return err
		},
	})
	cmd.Flags().Uint64Var(&epoch, "epoch", 0, "which epoch (default: the newest that was shown)")
	return cmd
}

func (a *app) inspectScore() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:     "score NAME|ID",
		Short:   "show how the providers of a service stand on the ledger",
		Example: example("scn inspect score files", "scn inspect score files --json"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(a, func(c *control.Client) (control.Scores, error) { return c.Scores(cmd.Context(), args[0]) }, printScores)
		},
	})
}

func printScores(w io.Writer, v control.Scores) {
	line(w, "service", fmt.Sprintf("%s (%s)", v.Name, v.ServiceID))
	line(w, "PROVIDER", "SCORE", "SAMPLE", "OPERATORS", "FAILED", "P50", "P90", "THROUGHPUT", "GAP", "LAST CHECK", "")
	for _, s := range v.Scores {
		line(w, s.NodeID.Short(), scoreText(s.Score), s.Sample, s.Operators, fmt.Sprintf("%.1f %%", float64(s.Failures)/1e4),
			latencyText(s.LatencyP50MS), latencyText(s.LatencyP90MS), rateText(s.RateKiB), fmt.Sprintf("%d ms", s.GapMS), epochText(s.LastEpoch), standingText(s))
	}
}

func scoreText(millionths uint32) string { return fmt.Sprintf("%.3f", float64(millionths)/1e6) }

func latencyText(ms float64) string {
	if ms == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", ms)
}

func epochText(epoch uint64) string {
	if epoch == 0 {
		return "-"
	}
	return fmt.Sprintf("epoch %d", epoch)
}

// standingText is what else is to be said of a provider.
func standingText(s control.Score) string {
	switch {
	case s.Suspended:
		return fmt.Sprintf("suspended until epoch %d", s.Until)
	case s.Wrong:
		return "answers wrongly"
	case !s.Listed:
		return "not inspected any more"
	case s.Probation:
		return "on probation"
	}
	return ""
}

// explained is what scn inspect explain shows.
type explained struct {
	control.Scores
	Reports []explainedEpoch `json:"epochs"`
}

type explainedEpoch struct {
	Epoch  uint64         `json:"epoch"`
	Visits []explainedRow `json:"visits"`
	Faults []string       `json:"faults"`
}

type explainedRow struct {
	Inspector identity.AccountID `json:"inspector"`
	Operator  string             `json:"operator"`
	control.SeenVisit
}

func (a *app) inspectExplain() *cobra.Command {
	var epochs int
	cmd := a.reads(&cobra.Command{
		Use:   "explain NAME|ID",
		Short: "show the reports behind the scores of a service, each verified",
		Long: `explain shows how the providers of a service stand, and every row of the last epochs'
reports about them. Each report is verified from the ledger down: plan, proof,
commitment, values. Older reports are not kept by the ledger, only what follows of them.`,
		Example: example("scn inspect explain files", "scn inspect explain files --epochs 1 --json"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if epochs < 1 || epochs > 16 {
				return usageError{fmt.Errorf("--epochs: %d is not between 1 and 16", epochs)}
			}
			return withClient(a, func(c *control.Client) (explained, error) { return explainScores(cmd.Context(), c, args[0], epochs) }, printExplained)
		},
	})
	cmd.Flags().IntVar(&epochs, "epochs", 3, "how many epochs to look at, the newest shown first")
	return cmd
}

func explainScores(ctx context.Context, c *control.Client, name string, epochs int) (v explained, err error) {
	if v.Scores, err = c.Scores(ctx, name); err != nil {
		return v, err
	}
	v.Reports = []explainedEpoch{}
	for epoch := uint64(0); epochs > 0; epochs-- {
		r, err := c.Reports(ctx, epoch)
		if err != nil {
			if epoch == 0 {
				return v, err
			}
			break // not kept any more
		}
		e := explainedEpoch{Epoch: r.Epoch, Visits: []explainedRow{}, Faults: []string{}}
		for _, report := range r.Reports {
			if report.Fault != "" {
				e.Faults = append(e.Faults, fmt.Sprintf("report of %s: %s", report.Inspector, report.Fault))
			}
			for _, visit := range report.Visits {
				if visit.ServiceID == v.ServiceID {
					e.Visits = append(e.Visits, explainedRow{report.Inspector, report.Operator, visit})
				}
			}
		}
		v.Reports = append(v.Reports, e)
		if r.Epoch <= 1 {
			break
		}
		epoch = r.Epoch - 1
	}
	return v, nil
}

func printExplained(w io.Writer, v explained) {
	printScores(w, v.Scores)
	for _, e := range v.Reports {
		line(w)
		line(w, "epoch", e.Epoch)
		for _, fault := range e.Faults {
			line(w, "WRONG", fault)
		}
		line(w, "PROVIDER", "INSPECTOR", "OPERATOR", "KIND", "VERDICT", "LATENCY", "THROUGHPUT", "GAP")
		for _, r := range e.Visits {
			verdict := r.Verdict
			if r.Reason != "" {
				verdict += ": " + r.Reason
			}
			line(w, r.NodeID.Short(), shortAccount(r.Inspector), r.Operator, r.Kind, verdict, latencyText(float64(r.LatencyUS)/1000), rateText(r.RateKiB), r.GapMS)
		}
	}
}

// shortAccount is enough of an account's ID to tell inspectors apart.
func shortAccount(id identity.AccountID) string { return id.String()[:10] }

func (a *app) inspectEnlist() *cobra.Command {
	var q control.EnlistRequest
	cmd := a.reads(&cobra.Command{
		Use:   "enlist SERVICE",
		Short: "have a service of this node inspected",
		Long: `enlist binds this node and the service to its account on the ledger and lists it among
those that are inspected. A service with a price is listed by itself. --withdraw ends it.`,
		Example: example("scn inspect enlist files", "scn inspect enlist camera --mobile", "scn inspect enlist files --withdraw"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Name = args[0]
			return withClient(a, func(c *control.Client) (control.Inspector, error) { return c.EnlistProvider(cmd.Context(), q) }, printInspector)
		},
	})
	cmd.Flags().BoolVar(&q.Mobile, "mobile", false, "this node moves often: it is judged by the tables for such")
	cmd.Flags().Uint32Var(&q.RateKiB, "rate", 0, "throughput it promises, in KiB a second")
	cmd.Flags().BoolVar(&q.Withdraw, "withdraw", false, "not to be inspected any more")
	return cmd
}
