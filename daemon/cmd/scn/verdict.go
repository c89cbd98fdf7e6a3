package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon/control"
)

func (a *app) verdictCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verdict",
		Short: "decide about sessions that wait, because a rule says ask",
		Long: `A session whose rule is "ask" is held until somebody decides: the program of [verdict]
in the settings, if there is one, or you. Whoever is first counts. After the timeout
(10 s) the session fails; the question stays in the list, so that your decision counts
for the next try.

The program gets a JSON object on standard input and answers with one on standard
output:

  {"question":"q7","service":"files","service_id":"...","node_id":"...",
   "account_id":"...","port":80,"protocol":"tcp","deadline":"..."}

  {"verdict":"allow","cache":"10m"}                    let it through
  {"verdict":"deny"}                                   refuse it
  {"verdict":"pay"}                                    refuse it: payment is asked
  {"verdict":"wake","wake":["wakeonlan","MAC"]}        wake the target, if it sleeps
  {"verdict":"ask"}                                    leave it to the user

One that crashes, or answers nonsense, denies. It runs with the daemon's rights.`,
		Example: example("scn access ask files all", "scn verdict list", "scn verdict allow q7 --for 1h"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.verdictList(),
		a.verdictDecide("allow", "let a session through, and those like it", true),
		a.verdictDecide("deny", "refuse a session, and those like it", true),
		a.verdictDecide("pay", "refuse a session and say that payment is asked", true),
		a.verdictDecide("forget", "forget a decision, or a question that was missed", false))
	return cmd
}

func (a *app) verdictDecide(verb, short string, remembers bool) *cobra.Command {
	var life time.Duration
	cmd := &cobra.Command{
		Use:     verb + " QUESTION",
		Short:   short,
		Example: example("scn verdict " + verb + " q7"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			q := control.VerdictRequest{ID: args[0], ForSeconds: int64(life / time.Second)}
			if remembers {
				q.Verdict = verb
			}
			return c.Decide(cmd.Context(), q)
		},
	}
	if remembers {
		cmd.Flags().DurationVar(&life, "for", 10*time.Minute, "how long it counts for the same node, account and port")
	}
	return cmd
}

func (a *app) verdictList() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:     "list",
		Short:   "list the sessions that wait, waited in vain, or are decided",
		Example: example("scn verdict list", "scn verdict list --json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			v, err := c.Verdicts(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(v, func(w io.Writer) {
				line(w, "QUESTION", "STATE", "SERVICE", "PORT", "SINCE", "NODE", "ACCOUNT")
				for state, list := range [][]control.Question{v.Open, v.Missed, v.Remembered} {
					for _, q := range list {
						text := [...]string{"waits", "missed", ""}[state]
						if q.Until != nil {
							text = fmt.Sprintf("%s until %s", q.Verdict, q.Until.Local().Format(time.TimeOnly))
						}
						line(w, q.ID, text, q.Service, fmt.Sprintf("%d/%s", q.Port, q.Protocol),
							q.Since.Local().Format(time.TimeOnly), q.NodeID, optional(q.AccountID))
					}
				}
			})
		},
	})
}
