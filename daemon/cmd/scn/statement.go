package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/identity"
)

func (a *app) ledgerStatement() *cobra.Command {
	var since, until, account string
	var csv bool
	cmd := a.reads(&cobra.Command{
		Use:   "statement",
		Short: "print an invoice: what was used, promised and settled in a period",
		Long: `statement puts the three layers of a bill side by side, for each payment channel used in
a period: what its sessions used, as this node recorded it; what the newest voucher
promises; and what the ledger has moved. The last two are sums over the channel's whole
life, and so is USED BY NOW. UNPROMISED is usage beyond the voucher (below zero where
it pays ahead), UNSETTLED what was promised and not yet moved.

--since takes a date, a time (RFC 3339) or how long ago, like 24h or 30d.`,
		Example: example("scn ledger statement", "scn ledger statement --since 2026-11-01 --csv", "scn ledger statement --since 7d --account ACCOUNTID --json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := statementRequest(since, until, account, time.Now())
			if err == nil && csv && a.json {
				err = errors.New("--csv or --json, not both")
			}
			if err != nil {
				return usageError{err}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			s, err := c.Statement(cmd.Context(), q)
			if err != nil {
				return err
			}
			if csv {
				_, err := io.WriteString(a.stdout, s.CSV)
				return err
			}
			return a.print(s, func(w io.Writer) { printStatement(w, s) })
		},
	})
	cmd.Flags().StringVar(&since, "since", "30d", "beginning of the period")
	cmd.Flags().StringVar(&until, "until", "", "end of the period (default: now)")
	cmd.Flags().StringVar(&account, "account", "", "only what this account paid or was paid")
	cmd.Flags().BoolVar(&csv, "csv", false, "print comma-separated values")
	return cmd
}

func statementRequest(since, until, account string, now time.Time) (q control.StatementRequest, err error) {
	var errs []error
	if q.Since, err = parseMoment(since, now); err != nil {
		errs = append(errs, fmt.Errorf("--since: %w", err))
	}
	if until != "" {
		if q.Until, err = parseMoment(until, now); err != nil {
			errs = append(errs, fmt.Errorf("--until: %w", err))
		} else if !q.Until.After(q.Since) {
			errs = append(errs, errors.New("--until: the period ends before it begins"))
		}
	}
	if account != "" {
		id, err := identity.ParseAccountID(account)
		if err != nil {
			errs = append(errs, fmt.Errorf("--account: %w", err))
		}
		q.Account = &id
	}
	return q, errors.Join(errs...)
}

// parseMoment reads a date, a time, or how long before now.
func parseMoment(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.DateTime} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	var days int
	var rest string
	if n, _ := fmt.Sscanf(text, "%dd%s", &days, &rest); n == 1 && days >= 0 && days < 100_000 {
		return now.AddDate(0, 0, -days), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is no date (2026-11-01), time (2026-11-01T12:00:00Z) or duration (24h, 30d)", text)
}

func printStatement(w io.Writer, s control.Statement) {
	line(w, "period", s.Since.Local().Format(time.DateTime)+" to "+s.Until.Local().Format(time.DateTime))
	if s.Account != nil {
		line(w, "account", *s.Account)
	}
	if s.LedgerError != "" {
		line(w, "settled", "as last known: "+s.LedgerError)
	}
	line(w, "paid", fmt.Sprintf("%s used; of these channels %s settled, %s promised and not yet settled", s.Paid, s.SettledPaid, s.UnsettledPaid))
	line(w, "earned", fmt.Sprintf("%s used; of these channels %s settled, %s promised and not yet settled", s.Earned, s.SettledEarned, s.UnsettledEarned))
	if len(s.Lines) == 0 {
		return
	}
	line(w)
	line(w, "CHANNEL", "", "SERVICE", "PEER", "SESSIONS", "SENT", "RECEIVED", "TIME", "PRICE", "USED", "USED BY NOW", "PROMISED", "SETTLED", "UNPROMISED", "UNSETTLED")
	for _, l := range s.Lines {
		channel := "-"
		if !l.Channel.IsZero() {
			channel = l.Channel.Short()
		}
		cells := append(make([]any, 0, 15),
			channel, l.Direction, l.Service.Short(), l.Peer.Short(), l.Sessions, bytesText(l.Sent), bytesText(l.Received),
			(time.Duration(l.Milliseconds) * time.Millisecond).Round(100*time.Millisecond),
			voucher.Price{PerGiB: l.PerGiB, PerHour: l.PerHour})
		if l.Channel.IsZero() {
			line(w, cells...)
			continue
		}
		line(w, append(cells, l.Used, l.UsedAll, l.Promised, l.Settled, l.Unpromised, l.Unsettled)...)
	}
}
