package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/daemon/control"
)

func (a *app) stakeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stake",
		Short: "put credits aside as a pledge, and take them back",
		Long: `A stake is money of this node's account that is put aside as a pledge. What is taken
out of it comes back when the unbonding time has passed ("scn network params"); until
then it can still be judged.`,
		Example: example("scn stake add 100", "scn stake remove 40", "scn stake show"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		a.pledge("add", "put an amount aside", func(ctx context.Context, c *control.Client, q control.PaymentRequest) (control.Payment, error) {
			return c.Stake(ctx, q)
		}),
		a.pledge("remove", "take an amount out; it comes back after the unbonding time", func(ctx context.Context, c *control.Client, q control.PaymentRequest) (control.Payment, error) {
			return c.Unstake(ctx, q)
		}),
		a.reads(&cobra.Command{
			Use:     "show",
			Short:   "show what is staked, and what is on its way back",
			Example: example("scn stake show", "scn stake show --json"),
			Args:    cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return withClient(a, func(c *control.Client) (control.LedgerAccount, error) { return c.LedgerAccount(cmd.Context(), nil) }, printStake)
			},
		}))
	return cmd
}

func (a *app) pledge(use, short string, call func(context.Context, *control.Client, control.PaymentRequest) (control.Payment, error)) *cobra.Command {
	var id string
	var wait bool
	cmd := a.reads(&cobra.Command{
		Use:     use + " AMOUNT",
		Short:   short,
		Example: example("scn stake " + use + " 1.5"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := paymentRequest("", args[0], id, false)
			if err != nil {
				return usageError{err}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if _, err := call(cmd.Context(), c, q); err != nil {
				return err
			}
			v, err := c.LedgerAccount(cmd.Context(), nil)
			if err != nil {
				return err
			}
			if wait {
				if v, err = a.awaitUnbonding(cmd.Context(), c, v, q.ID); err != nil {
					return err
				}
			}
			return a.print(v, func(w io.Writer) { printStake(w, v) })
		},
	})
	cmd.Flags().StringVar(&id, "id", "", "an ID of its own, 32 hexadecimal digits: under one ID it counts once (default: drawn at random)")
	if use == "remove" {
		cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is back; the ledger goes on by itself")
	}
	return cmd
}

// awaitUnbonding shows how an amount comes back until it is there.
func (a *app) awaitUnbonding(ctx context.Context, c *control.Client, v control.LedgerAccount, id voucher.TransferID) (control.LedgerAccount, error) {
	for {
		at := -1
		for i, u := range v.Unbonding {
			if u.ID == id {
				at = i
			}
		}
		if at < 0 {
			fmt.Fprintln(a.stderr)
			return v, nil
		}
		if !a.json {
			fmt.Fprintf(a.stderr, "\r%s", unbondingText(v.Unbonding[at], time.Now()))
		}
		select {
		case <-ctx.Done():
			return v, fmt.Errorf("%w: it comes back all the same", ctx.Err())
		case <-time.After(time.Second):
		}
		next, err := c.LedgerAccount(ctx, nil)
		if err != nil {
			return v, err
		}
		v = next
	}
}

func unbondingText(u control.Unbonding, now time.Time) string {
	total, past := u.Due.Sub(u.Since), now.Sub(u.Since)
	percent := 100.0
	if total > 0 {
		percent = min(max(100*past.Seconds()/total.Seconds(), 0), 100)
	}
	return fmt.Sprintf("%s back on %s (%.0f %% of the time is over)", u.Amount, u.Due.Local().Format(time.DateTime), percent)
}

func printStake(w io.Writer, v control.LedgerAccount) {
	line(w, "staked", v.Staked)
	for _, u := range v.Unbonding {
		line(w, "unbonding", unbondingText(u, time.Now()))
	}
	line(w, "available", v.Available)
}
