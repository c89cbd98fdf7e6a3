package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/identity"
)

// priceFlags are those of scn price, as text.
type priceFlags struct {
	perGiB, perHour     string
	loss, window        uint32
	free                bool
	grant, node, payees string
}

func (a *app) priceCommand() *cobra.Command {
	var f priceFlags
	cmd := a.reads(&cobra.Command{
		Use:   "price [SERVICE]",
		Short: "ask money for a service of this node, or show what is asked",
		Long: `price puts a price on a service this node provides. Clients then pay while bytes and
seconds are delivered, out of a channel they open; what was promised is settled on the
ledger in each epoch.

The first price of a service is in force at once. A change is announced and comes into
force an epoch later; channels opened before keep their price. --free withdraws it.

A service that another node owns needs its owner's grant. There, "scn price SERVICE
--for NODEID --account ACCOUNTID" prints a token; here, give it once with --grant.`,
		Example: example("scn price files --per-gib 0.05", "scn price files --per-gib 0.05 --per-hour 0.01 --loss-allowance 2000",
			"scn price files --free", "scn price"),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return withClient(a, func(c *control.Client) ([]control.Price, error) { return c.Prices(cmd.Context()) }, printPrices)
			}
			q, err := f.request(args[0])
			if err != nil {
				return usageError{err}
			}
			return withClient(a, func(c *control.Client) (control.Price, error) { return c.SetPrice(cmd.Context(), q) }, printPrice)
		},
	})
	flags := cmd.Flags()
	flags.StringVar(&f.perGiB, "per-gib", "", "credits for a GiB, like 0.05")
	flags.StringVar(&f.perHour, "per-hour", "", "credits for an hour in which a session is open")
	flags.Uint32Var(&f.loss, "loss-allowance", 0, "lost datagram bytes to write off, in parts per million")
	flags.Uint32Var(&f.window, "max-window", 0, "most bytes to deliver ahead of payment (default: 16 MiB)")
	flags.BoolVar(&f.free, "free", false, "ask nothing any more")
	flags.StringVar(&f.grant, "grant", "", "token of the service's owner, once")
	flags.StringVar(&f.node, "for", "", "print such a token, for this node ID")
	flags.StringVar(&f.payees, "account", "", "with --for: the account that is paid")
	return cmd
}

// request reads the flags, and reports all that is wrong.
func (f priceFlags) request(name string) (q control.PriceRequest, err error) {
	var errs []error
	amount := func(flag, text string) (v voucher.Amount) {
		if text == "" {
			return 0
		}
		v, err := voucher.ParseAmount(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", flag, err))
		}
		return v
	}
	q = control.PriceRequest{
		Name: name, PerGiB: amount("per-gib", f.perGiB), PerHour: amount("per-hour", f.perHour),
		LossAllowance: f.loss, MaxWindow: f.window, Free: f.free, Grant: f.grant,
	}
	if f.loss > voucher.MaxLossAllowance {
		errs = append(errs, fmt.Errorf("--loss-allowance: at most %d", voucher.MaxLossAllowance))
	}
	if f.window != 0 && f.window < voucher.MinAskWindow {
		errs = append(errs, fmt.Errorf("--max-window: at least %d", voucher.MinAskWindow))
	}
	if f.node != "" {
		id, err := identity.ParseNodeID(f.node)
		if err != nil {
			errs = append(errs, fmt.Errorf("--for: %w", err))
		}
		account, err := identity.ParseAccountID(f.payees)
		if err != nil {
			errs = append(errs, fmt.Errorf("--account: %w", err))
		}
		q.For, q.Account = &id, &account
	}
	asks := q.PerGiB > 0 || q.PerHour > 0
	given := 0
	for _, is := range []bool{asks, f.free, f.node != ""} {
		if is {
			given++
		}
	}
	if len(errs) == 0 && given != 1 {
		errs = append(errs, errors.New("say one of: a price above 0 (--per-gib, --per-hour), --free, --for NODEID --account ACCOUNTID"))
	}
	return q, errors.Join(errs...)
}

func askText(v *control.Ask) string {
	if v == nil {
		return "free"
	}
	return voucher.Price{PerGiB: v.PerGiB, PerHour: v.PerHour}.String()
}

// changeText says what a price becomes, and when.
func changeText(next *control.Ask) string {
	switch {
	case next == nil:
		return "-"
	case next.From == nil:
		return askText(next)
	}
	return askText(next) + " from " + next.From.Local().Format(time.DateTime)
}

func printPrice(w io.Writer, p control.Price) {
	if p.Grant != "" {
		line(w, "grant", p.Grant)
		line(w, "use", fmt.Sprintf("scn price %s --per-gib A --grant TOKEN, on that node", p.Name))
		return
	}
	line(w, "service", p.Name)
	line(w, "price", askText(p.Now))
	if p.Next != nil {
		line(w, "announced", changeText(p.Next))
	}
	if p.Now != nil {
		line(w, "valid until", p.Now.Until.Local().Format(time.DateTime)+", posted anew before")
	}
}

func printPrices(w io.Writer, prices []control.Price) {
	line(w, "SERVICE", "PRICE", "ANNOUNCED")
	for _, p := range prices {
		line(w, p.Name, askText(p.Now), changeText(p.Next))
	}
}

func (a *app) marketCommand() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:   "market NAME",
		Short: "show who offers a service, at which price and how near",
		Long: `market lists the providers of a service side by side: what each asks by the ledger's
word, the round trip as measured now, how long its record is good, and its score where
inspectors have tested it. FIRST marks the one the next session would try first, by
pay.policy in the settings.`,
		Example: example("scn market files", "scn market files --json"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(a, func(c *control.Client) (control.Market, error) { return c.Market(cmd.Context(), args[0]) }, printMarket)
		},
	})
}

func printMarket(w io.Writer, m control.Market) {
	line(w, "service", fmt.Sprintf("%s (%s)", m.Name, m.Service))
	line(w, "policy", m.Policy)
	if m.LedgerError != "" {
		line(w, "prices", "not known: "+m.LedgerError)
	}
	line(w)
	line(w, "FIRST", "PROVIDER", "PRICE", "ANNOUNCED", "RTT", "SCORE", "SAMPLE", "P50/P90", "THROUGHPUT", "GAP", "LAST CHECK", "RECORD UNTIL", "")
	for _, o := range m.Offers {
		first, rtt, score, until := "", "-", "-", "-"
		if o.First {
			first = "*"
		}
		if o.RTTMS != nil {
			rtt = fmt.Sprintf("%.1f ms", *o.RTTMS)
		}
		if o.Score != nil {
			score = fmt.Sprintf("%.3f", float64(*o.Score)/1e6)
		}
		if o.Expires != nil {
			until = o.Expires.Local().Format(time.DateTime)
		}
		found := findings(o.Standing)
		line(w, first, o.NodeID.Short(), askText(o.Now), changeText(o.Next), rtt, score, found[0], found[1], found[2], found[3], found[4], until, o.Refused)
	}
}

// findings are the columns of what inspectors found of a provider.
func findings(s *control.Score) [5]string {
	if s == nil || s.Sample == 0 {
		return [5]string{"-", "-", "-", "-", "-"}
	}
	last := epochText(s.LastEpoch)
	if s.Suspended {
		last += ", suspended"
	}
	gap := "-"
	if s.GapMS > 0 {
		gap = fmt.Sprintf("%d ms", s.GapMS)
	}
	return [5]string{fmt.Sprint(s.Sample), latencyText(s.LatencyP50MS) + " / " + latencyText(s.LatencyP90MS), rateText(s.RateKiB), gap, last}
}

func (a *app) channelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "channel",
		Short: "show, open, top up and close payment channels",
		Long: `Priced services are paid out of channels: a deposit on the ledger for one provider,
from which it is paid as it delivers. This node opens, tops up and closes them by
itself, within the settings (pay.budget_per_day and others, see "scn up --help"); these
commands do it by hand. What is left of a deposit comes back when the channel ends.`,
		Example: example("scn channel list", "scn channel open files --deposit 2", "scn channel topup CHANNELID --amount 1", "scn channel close CHANNELID"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	list := a.reads(&cobra.Command{
		Use:     "list",
		Short:   "show the channels this node pays from, and is paid by",
		Example: example("scn channel list", "scn channel list --json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(a, func(c *control.Client) ([]control.PayChannel, error) { return c.PayChannels(cmd.Context()) },
				func(w io.Writer, list []control.PayChannel) {
					line(w, "CHANNEL", "DIRECTION", "PEER", "STATE", "PRICE", "DEPOSIT", "PROMISED", "SETTLED", "VOUCHERS", "BYTES", "UNTIL")
					for _, c := range list {
						line(w, c.ID, direction(c), c.NodeID.Short(), c.State, voucher.Price{PerGiB: c.PerGiB, PerHour: c.PerHour},
							c.Deposit, c.Promised, c.Settled, c.Vouchers, bytesText(c.Bytes), until(c))
					}
				})
		},
	})
	cmd.AddCommand(list,
		a.channelChange("open SERVICE", "deposit", "open a channel to a provider of a service", `open puts a deposit into a new channel to one provider: the one a session would use, or
that of --node. Its budget still counts.`,
			example("scn channel open files --deposit 2", "scn channel open files --deposit 2 --node NODEID"), (*control.Client).OpenChannel),
		a.channelChange("topup CHANNELID", "amount", "add to the deposit of a channel", "topup adds credits to an open channel. The budget still counts.",
			example("scn channel topup CHANNELID --amount 1"), (*control.Client).TopUpChannel),
		a.channelChange("close CHANNELID", "", "close a channel and get back what is left", `close ends a channel. Its provider has the ledger's grace (24 hours by default) to settle
what it was promised; then the rest comes back to this node's account by itself, also
over restarts.`, example("scn channel close CHANNELID"), (*control.Client).CloseChannel))
	return cmd
}

// channelCall is a call that changes a channel.
type channelCall func(*control.Client, context.Context, control.ChannelRequest) (control.PayChannel, error)

// channelChange makes one of the commands that change a channel.
func (a *app) channelChange(use, amountFlag, short, long, samples string, call channelCall) *cobra.Command {
	var amount, node string
	cmd := a.reads(&cobra.Command{
		Use: use, Short: short, Long: long, Example: samples, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := channelRequest(cmd.Name() == "open", args[0], node, amountFlag, amount)
			if err != nil {
				return usageError{err}
			}
			return withClient(a, func(c *control.Client) (control.PayChannel, error) { return call(c, cmd.Context(), q) }, printChannel)
		},
	})
	if amountFlag != "" {
		cmd.Flags().StringVar(&amount, amountFlag, "", "credits, like 1.5")
	}
	if cmd.Name() == "open" {
		cmd.Flags().StringVar(&node, "node", "", "the provider's node ID (default: the one a session would use)")
	}
	return cmd
}

func channelRequest(opens bool, what, node, amountFlag, amount string) (q control.ChannelRequest, err error) {
	var errs []error
	if opens {
		q.Name = what
	} else if q.ID, err = voucher.ParseChannelID(what); err != nil {
		errs = append(errs, err)
	}
	if node != "" {
		id, err := identity.ParseNodeID(node)
		if err != nil {
			errs = append(errs, fmt.Errorf("--node: %w", err))
		}
		q.Node = &id
	}
	if amountFlag != "" {
		if q.Amount, err = voucher.ParseAmount(amount); err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", amountFlag, err))
		} else if q.Amount == 0 {
			errs = append(errs, fmt.Errorf("--%s: nothing to pay", amountFlag))
		}
	}
	return q, errors.Join(errs...)
}

func direction(c control.PayChannel) string {
	if c.Paying {
		return "paying"
	}
	return "earning"
}

// until is when a channel ends, or gives back.
func until(c control.PayChannel) string {
	switch {
	case c.Deadline != nil:
		return "back " + c.Deadline.Local().Format(time.DateTime)
	case c.Expires != nil:
		return c.Expires.Local().Format(time.DateTime)
	}
	return "-"
}

func printChannel(w io.Writer, c control.PayChannel) {
	line(w, "channel", c.ID)
	line(w, "state", c.State)
	line(w, "provider", c.NodeID)
	line(w, "price", voucher.Price{PerGiB: c.PerGiB, PerHour: c.PerHour})
	line(w, "deposit", c.Deposit)
	line(w, "promised", fmt.Sprintf("%s, settled %s", c.Promised, c.Settled))
	line(w, "until", until(c))
}

// printPay shows how paying goes, as part of the status.
func printPay(w io.Writer, p *control.Pay) {
	if p == nil {
		return
	}
	budget := "no limit"
	if p.Budget != nil {
		budget = "of " + p.Budget.String()
	}
	line(w, "paid today", fmt.Sprintf("%s %s, %s in %d open channels; policy %s", p.Spent, budget, p.Committed, p.Channels, p.Policy))
	if p.Earned > 0 {
		line(w, "earned", fmt.Sprintf("%s promised, %s of it settled", p.Earned, p.Settled))
	}
	for _, r := range p.Refused {
		line(w, "not paid", fmt.Sprintf("%s at %s, %s: %s", r.Service.Short(), r.NodeID.Short(), r.At.Local().Format(time.TimeOnly), r.Reason))
	}
}
