package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/identity"
)

func (a *app) ledgerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "look into the network's books, pay, and check that they are right",
		Long: `The ledger keeps names and money: who owns which name, and how many credits each
account has. Amounts are credits with up to six places, like 1.5. Nothing costs
anything unless the network's founder sets it ("scn network params").`,
		Example: example("scn ledger status", "scn ledger account", "scn ledger transfer --to ACCOUNTID --amount 1.5", "scn ledger verify"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		a.ledgerStatus(), a.ledgerBlocks(), a.ledgerAccount(), a.ledgerVerify(), a.ledgerParams(),
		a.ledgerClock(), a.ledgerStatement(), a.ledgerBackup(), a.ledgerRestore(),
		a.ledgerPayment("transfer", "pay another account", `transfer pays credits of this node's account to another.

A payment counts once under its ID, for 23 hours: where it is not known whether one
arrived, run the command again with the --id it printed.`, true,
			func(ctx context.Context, c *control.Client, q control.PaymentRequest) (control.Payment, error) {
				return c.Transfer(ctx, q)
			}),
		a.ledgerPayment("issue", "make money and pay it to an account (issuer only)",
			"issue makes new credits, up to the network's cap. Only the issuer can: the founder,\nunless the founder named another account.", true,
			func(ctx context.Context, c *control.Client, q control.PaymentRequest) (control.Payment, error) {
				return c.Issue(ctx, q)
			}),
		a.ledgerPayment("redeem", "take money of the issuer's out of the world (issuer only)",
			"redeem takes credits out of the issuer's own account and out of the world.", false,
			func(ctx context.Context, c *control.Client, q control.PaymentRequest) (control.Payment, error) {
				return c.Redeem(ctx, q)
			}))
	return cmd
}

// withClient calls the daemon and prints what it answers.
func withClient[T any](a *app, call func(*control.Client) (T, error), text func(io.Writer, T)) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	v, err := call(c)
	if err != nil {
		return err
	}
	return a.print(v, func(w io.Writer) { text(w, v) })
}

func (a *app) ledgerStatus() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:     "status",
		Short:   "show where the ledger stands, and how much money there is",
		Example: example("scn ledger status", "scn ledger status --json | jq .supply"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(a, func(c *control.Client) (control.LedgerStatus, error) { return c.LedgerStatus(cmd.Context()) }, printLedger)
		},
	})
}

func printLedger(w io.Writer, s control.LedgerStatus) {
	line(w, "height", s.Height)
	line(w, "block", s.Block)
	line(w, "app hash", s.AppHash)
	if s.Height > 0 {
		line(w, "made", s.BlockTime.Local().Format(time.DateTime))
	}
	line(w, "rules", fmt.Sprintf("version %d", s.Rules))
	line(w, "money", fmt.Sprintf("%s credits in %d accounts, %s reserved", s.Supply.Circulating, s.Supply.Accounts, s.Supply.Reserved))
	supplyCap := ""
	for _, p := range s.Parameters {
		if p.Name == "supply_cap" {
			supplyCap = ", cap " + p.Value
		}
	}
	line(w, "issued", fmt.Sprintf("%s, redeemed %s%s", s.Supply.Issued, s.Supply.Redeemed, supplyCap))
	line(w, "treasury", s.Supply.Treasury)
	if s.Pruned > 0 {
		line(w, "pruned", fmt.Sprintf("blocks up to %d", s.Pruned))
	}
	if s.Authority {
		printHeld(w, s.ClockHeldSeconds)
	}
	if s.RolledBack != "" {
		line(w, "put back", s.RolledBack+": no transactions are taken; see scn ledger restore --help")
	}
}

func (a *app) ledgerBlocks() *cobra.Command {
	var last int
	cmd := a.reads(&cobra.Command{
		Use:     "blocks",
		Short:   "show the newest blocks and what is in them",
		Example: example("scn ledger blocks", "scn ledger blocks --last 100 --json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(a, func(c *control.Client) ([]control.LedgerBlock, error) { return c.LedgerBlocks(cmd.Context(), last) },
				func(w io.Writer, blocks []control.LedgerBlock) {
					line(w, "HEIGHT", "TIME", "BLOCK", "TRANSACTIONS")
					for _, b := range blocks {
						line(w, b.Height, b.Time.Local().Format(time.DateTime), b.Hash[:16], len(b.Transactions))
						for _, tx := range b.Transactions {
							line(w, "", "", tx.ID[:16], fmt.Sprintf("%s %s by %s", tx.Kind, tx.About, tx.Account))
						}
					}
				})
		},
	})
	cmd.Flags().IntVar(&last, "last", 10, "how many, 1 to 1000")
	return cmd
}

func (a *app) ledgerAccount() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:     "account [ID]",
		Short:   "show what an account has; without an ID, this node's own",
		Example: example("scn ledger account", "scn ledger account ACCOUNTID --json"),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var id *identity.AccountID
			if len(args) > 0 {
				parsed, err := identity.ParseAccountID(args[0])
				if err != nil {
					return usageError{err}
				}
				id = &parsed
			}
			return withClient(a, func(c *control.Client) (control.LedgerAccount, error) { return c.LedgerAccount(cmd.Context(), id) },
				func(w io.Writer, v control.LedgerAccount) {
					line(w, "account", v.ID)
					line(w, "balance", v.Balance)
					line(w, "available", v.Available)
					line(w, "reserved", fmt.Sprintf("%s for others, %s by others for this one", v.Reserved, v.Expected))
					line(w, "ever", fmt.Sprintf("%s received, %s paid", v.Credits, v.Debits))
					line(w, "names", v.Names)
					line(w, "as of", fmt.Sprintf("height %d, %s", v.Height, v.Time.Local().Format(time.DateTime)))
				})
		},
	})
}

// ledgerPayment makes one of the commands that move money.
func (a *app) ledgerPayment(use, short, long string, payee bool, call func(context.Context, *control.Client, control.PaymentRequest) (control.Payment, error)) *cobra.Command {
	var to, amount, id string
	sample := "scn ledger " + use + " --amount 1.5"
	if payee {
		sample = "scn ledger " + use + " --to ACCOUNTID --amount 1.5"
	}
	cmd := a.reads(&cobra.Command{
		Use: use, Short: short, Long: long, Example: example(sample), Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := paymentRequest(to, amount, id, payee)
			if err != nil {
				return usageError{err}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			p, err := call(cmd.Context(), c, q)
			if e, ok := errors.AsType[*control.Error](err); ok && e.Code == control.Unreachable {
				return control.Errorf(e.Code, "%w\nwhether it was done is not known; to make sure, run it again with --id %s", err, q.ID)
			}
			if err != nil {
				return err
			}
			return a.print(p, func(w io.Writer) {
				line(w, "done", fmt.Sprintf("in block %d%s", p.Height, map[bool]string{true: ", before; it counts once"}[p.Again]))
				line(w, "ID", p.ID)
				line(w, "transaction", p.Transaction)
			})
		},
	})
	if payee {
		cmd.Flags().StringVar(&to, "to", "", "the account that is paid")
	}
	cmd.Flags().StringVar(&amount, "amount", "", "credits, like 1.5")
	cmd.Flags().StringVar(&id, "id", "", "the payment's own ID, 32 hexadecimal digits (default: drawn at random)")
	return cmd
}

// paymentRequest reads the flags of a payment, and reports all that is wrong.
func paymentRequest(to, amount, id string, payee bool) (q control.PaymentRequest, err error) {
	var errs []error
	if payee {
		account, err := identity.ParseAccountID(to)
		if err != nil {
			errs = append(errs, fmt.Errorf("--to: %w", err))
		}
		q.To = &account
	}
	if q.Amount, err = voucher.ParseAmount(amount); err != nil {
		errs = append(errs, fmt.Errorf("--amount: %w", err))
	} else if q.Amount == 0 {
		errs = append(errs, errors.New("--amount: nothing to pay"))
	}
	if id == "" {
		q.ID, err = voucher.NewTransferID(rand.Reader)
	} else if q.ID, err = voucher.ParseTransferID(id); err == nil && q.ID.IsZero() {
		err = voucher.ErrID
	}
	if err != nil {
		errs = append(errs, fmt.Errorf("--id: %w", err))
	}
	return q, errors.Join(errs...)
}

func (a *app) ledgerVerify() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:   "verify",
		Short: "check every block, signature, rule and sum from the beginning",
		Long: `verify replays the whole ledger. On the network's authority it checks the store, row
by row; on any other node it fetches the blocks and checks that they lead to what the
authority signed. It changes nothing.`,
		Example: example("scn ledger verify", "scn ledger verify --json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			var last control.LedgerProgress
			start := time.Now()
			s, err := c.VerifyLedger(cmd.Context(), func(p control.LedgerProgress) {
				last = p
				if !a.json {
					fmt.Fprintf(a.stderr, "\rblock %d of %d, %d transactions", p.Height, p.Of, p.Transactions)
				}
			})
			if !a.json && last.Of > 0 {
				fmt.Fprintln(a.stderr)
			}
			if err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) {
				line(w, "right", fmt.Sprintf("%d blocks, %d transactions in %.1f s", last.Height-last.From, last.Transactions, time.Since(start).Seconds()))
				switch {
				case last.From > 0 && s.Authority:
					line(w, "from", fmt.Sprintf("the snapshot of block %d, which was checked as well", last.From))
				case last.From > 0:
					line(w, "from", fmt.Sprintf("block %d: earlier ones are pruned, so signatures and the chain were checked, not the rules", last.From+1))
				default:
					line(w, "from", "the beginning")
				}
				printLedger(w, s)
			})
		},
	})
}

func (a *app) ledgerParams() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:     "params",
		Short:   "show the rules the network's founder set",
		Example: example("scn ledger params", "scn ledger params --json"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.showParams(cmd.Context(), nil) },
	})
}

// networkParams shows the rules of the ledger, or changes them.
func (a *app) networkParams() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:   "params [KEY=VALUE...]",
		Short: "show or set the rules of the network's ledger",
		Long: `params shows the rules of the ledger, with what each is for; the founder changes
them with KEY=VALUE. Credits are decimal, times like 90s, 2h or 7d. What is 0 is free,
or off.`,
		Example: example("scn network params", "scn network params transfer_fee=0.001 supply_cap=1000000"),
		RunE: func(cmd *cobra.Command, args []string) error {
			set := map[string]string{}
			for _, arg := range args {
				key, value, ok := strings.Cut(arg, "=")
				if _, twice := set[key]; !ok || twice {
					return usageError{fmt.Errorf("%q: want KEY=VALUE, each key once", arg)}
				}
				set[key] = value
			}
			return a.showParams(cmd.Context(), set)
		},
	})
}

func (a *app) showParams(ctx context.Context, set map[string]string) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	var v control.LedgerStatus
	if len(set) > 0 {
		v, err = c.SetLedgerParameters(ctx, control.ParametersRequest{Set: set})
	} else {
		v, err = c.LedgerStatus(ctx)
	}
	if err != nil {
		return err
	}
	values := map[string]string{}
	for _, p := range v.Parameters {
		values[p.Name] = p.Value
	}
	return a.print(values, func(w io.Writer) {
		for _, p := range v.Parameters {
			line(w, p.Name, p.Value, fmt.Sprintf("%s: %s", p.Unit, p.About))
		}
	})
}
