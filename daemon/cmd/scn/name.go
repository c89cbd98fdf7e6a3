package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/identity"
)

func (a *app) nameCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "name",
		Short: "register, show, renew, transfer and release names",
		Long: `Names belong to whoever registers them first, for as long as they are paid for.
"scn serve" registers a free name by itself, and the daemon renews the names of its
account ("renew_names" in the settings); these commands do the rest.`,
		Example: example("scn name show files", "scn name register files", "scn name renew files --years 2", "scn name transfer files ACCOUNTID"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var service string
	var years int
	register := a.reads(&cobra.Command{
		Use:   "register NAME",
		Short: "register a name, or point one of yours at another service of yours",
		Long: `register takes a free name, or points one of yours at another service of yours.

Where the network has a reveal delay ("scn network params") it takes that long, so that
nobody who sees the name asked for can be quicker. The command waits; the daemon goes on
by itself if it is interrupted, or the daemon started anew.`,
		Example: example("scn name register files", "scn name register files --service SERVICEID --years 2"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := control.NameRequest{Name: args[0], Years: years}
			if service != "" {
				id, err := identity.ParseServiceID(service)
				if err != nil {
					return usageError{err}
				}
				q.Service = &id
			}
			return a.callName(func(c *control.Client) (control.Name, error) {
				v, err := c.RegisterName(cmd.Context(), q)
				if err != nil || v.Pending == nil {
					return v, err
				}
				return a.awaitName(cmd.Context(), c, v)
			})
		},
	})
	register.Flags().StringVar(&service, "service", "", "the service ID it shall mean (default: a new service of this node)")
	register.Flags().IntVar(&years, "years", 0, "for how long, 1 to 3 (default: 3 while names cost nothing, else 1)")
	renew := a.reads(&cobra.Command{
		Use:     "renew NAME",
		Short:   "pay for a name for longer, whoever's it is",
		Long:    "renew extends the lease of a name. Anybody may pay for one; when its lease has ended,\nits owner alone can.",
		Example: example("scn name renew files", "scn name renew files --years 2"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := control.NameRequest{Name: args[0], Years: years}
			return a.callName(func(c *control.Client) (control.Name, error) { return c.RenewName(cmd.Context(), q) })
		},
	})
	renew.Flags().IntVar(&years, "years", 0, "how much longer, 1 to 3 (default: as long as possible while names cost nothing, else 1)")
	show := a.reads(&cobra.Command{
		Use:     "show NAME",
		Short:   "show who holds a name and what it means",
		Example: example("scn name show files"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.callName(func(c *control.Client) (control.Name, error) { return c.ShowName(cmd.Context(), args[0]) })
		},
	})
	transfer := a.reads(&cobra.Command{
		Use:   "transfer NAME ACCOUNTID",
		Short: "offer a name to another account, which takes it with \"scn name accept\"",
		Long: `transfer offers a name to another account; it changes hands when the other side
says "scn name accept NAME". "scn name show" of any of its names, and "scn status"
with --json, print a node's account ID.`,
		Example: example("scn name transfer files ACCOUNTID"),
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			account, err := identity.ParseAccountID(args[1])
			if err != nil {
				return usageError{err}
			}
			q := control.NameRequest{Name: args[0], Account: &account}
			return a.callName(func(c *control.Client) (control.Name, error) { return c.TransferName(cmd.Context(), q) })
		},
	})
	accept := a.reads(&cobra.Command{
		Use:     "accept NAME",
		Short:   "take a name that was offered to this node's account",
		Example: example("scn name accept files"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := control.NameRequest{Name: args[0]}
			return a.callName(func(c *control.Client) (control.Name, error) { return c.AcceptName(cmd.Context(), q) })
		},
	})
	release := &cobra.Command{
		Use:     "release NAME",
		Short:   "give a name up; anybody may register it then",
		Example: example("scn name release files"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return c.ReleaseName(cmd.Context(), args[0])
		},
	}
	cmd.AddCommand(register, show, renew, transfer, accept, release)
	return cmd
}

func (a *app) callName(call func(*control.Client) (control.Name, error)) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	v, err := call(c)
	if err != nil {
		return err
	}
	return a.print(v, func(w io.Writer) {
		line(w, "name", v.Name)
		if !v.Registered {
			line(w, "state", "free")
			if p := v.Pending; p != nil {
				line(w, "being registered", pendingText(*p))
			}
			return
		}
		holder := v.Owner.String()
		if v.Mine {
			holder += " (this node)"
		}
		line(w, "held by", holder)
		line(w, "service ID", v.Service)
		line(w, "state", v.State)
		if v.Lease != nil {
			line(w, "paid for until", v.Lease.Local().Format(time.DateTime))
		}
		line(w, "ledger height", v.Height)
		if v.Expires != nil {
			line(w, "record valid until", v.Expires.Local().Format(time.DateTime))
		}
		line(w, "answer", fmt.Sprintf("from %s", v.Source))
	})
}

// awaitName shows how a registration goes on until it is over. The daemon does it; to
// stop watching stops nothing.
func (a *app) awaitName(ctx context.Context, c *control.Client, v control.Name) (control.Name, error) {
	shown := false
	defer func() {
		if shown {
			fmt.Fprintln(a.stderr)
		}
	}()
	for v.Pending != nil {
		if v.Pending.Over {
			return v, control.Errorf(control.Refused, "%s: %s", v.Name, v.Pending.Fault)
		}
		if !a.json {
			shown = true
			fmt.Fprintf(a.stderr, "\r%s: %s ", v.Name, pendingText(*v.Pending))
		}
		select {
		case <-ctx.Done():
			return v, fmt.Errorf("%w: the daemon goes on with it; \"scn name show %s\" tells how far it is", ctx.Err(), v.Name)
		case <-time.After(500 * time.Millisecond):
		}
		next, err := c.ShowName(ctx, v.Name)
		if err != nil && ctx.Err() == nil {
			return v, err
		}
		if err == nil {
			v = next
		}
	}
	if !v.Mine {
		return v, control.Errorf(control.Refused, "%s is held by account %s", v.Name, v.Owner)
	}
	return v, nil
}

// pendingText says how far a registration is.
func pendingText(p control.PendingName) string {
	switch {
	case p.Over:
		return "failed: " + p.Fault
	case p.Fault != "":
		return "waiting: " + p.Fault
	case p.Ready == nil:
		return "waiting for the ledger's next blocks"
	}
	total, past := p.Ready.Sub(p.Since), time.Since(p.Since)
	return fmt.Sprintf("waiting, %.0f of %.0f s", min(max(past, 0), total).Seconds(), total.Seconds())
}

// printNames shows the names of this node's account, and those being registered.
func printNames(w io.Writer, s control.Status) {
	if len(s.Names)+len(s.Pending) == 0 {
		return
	}
	line(w)
	line(w, "NAME", "STATE", "PAID FOR UNTIL")
	for _, v := range s.Names {
		line(w, v.Name, v.State, v.Lease.Local().Format(time.DateOnly))
	}
	for _, v := range s.Pending {
		line(w, v.Name, pendingText(v))
	}
}
