package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/identity"
)

func (a *app) nameCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "name",
		Short:   "register, show, transfer and release names",
		Long:    `Names belong to whoever registers them first. "scn serve" registers a free name by itself; these commands do the rest.`,
		Example: example("scn name show files", "scn name register files", "scn name transfer files ACCOUNTID"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var service string
	register := a.reads(&cobra.Command{
		Use:     "register NAME",
		Short:   "register a name, or point one of yours at another service of yours",
		Example: example("scn name register files", "scn name register files --service SERVICEID"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := control.NameRequest{Name: args[0]}
			if service != "" {
				id, err := identity.ParseServiceID(service)
				if err != nil {
					return usageError{err}
				}
				q.Service = &id
			}
			return a.callName(func(c *control.Client) (control.Name, error) { return c.RegisterName(cmd.Context(), q) })
		},
	})
	register.Flags().StringVar(&service, "service", "", "the service ID it shall mean (default: a new service of this node)")
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
	cmd.AddCommand(register, show, transfer, accept, release)
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
			return
		}
		holder := v.Owner.String()
		if v.Mine {
			holder += " (this node)"
		}
		line(w, "held by", holder)
		line(w, "service ID", v.Service)
		line(w, "ledger height", v.Height)
		if v.Expires != nil {
			line(w, "record valid until", v.Expires.Local().Format(time.DateTime))
		}
		line(w, "answer", fmt.Sprintf("from %s", v.Source))
	})
}
