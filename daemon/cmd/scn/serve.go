package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/identity"
)

func (a *app) serveCommand() *cobra.Command {
	q := control.ServeRequest{}
	var priority, weight uint16
	cmd := &cobra.Command{
		Use:   "serve NAME [PORT=]tcp://HOST:PORT|udp://HOST:PORT|PORT=unix:///PATH ... [--allow all|ID,...]",
		Short: "provide a service by name, from now on and over restarts",
		Long: `serve gives a service a name and provides it: sessions to NAME.top are carried to
the targets. The name is registered if it is free. --allow says who may use the
service: "all", or node IDs, account:ID and group:NAME; nobody may unless you say so.
It sets the service's allow rules ("scn access"); deny rules stay, and without
--allow all rules stay as they are.

With --check the node looks at intervals whether the targets work, and while they do
not it refuses new sessions, so that clients turn to the service's next provider.
Checks: tcp (every stream target accepts), http:/path (status below 400), exec:COMMAND
(exit code 0).`,
		Example: example(
			"scn serve files 80=tcp://127.0.0.1:8080 --allow all",
			"scn serve web 80=tcp://127.0.0.1:8080 --allow all --check http:/healthz --check-interval 5s",
			"scn serve db tcp://127.0.0.1:5432 --allow ID1,ID2 --proxy-protocol",
			"scn serve dns 53=udp://127.0.0.1:5353 53=tcp://127.0.0.1:5353 --allow all"),
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Name, q.Targets = args[0], args[1:]
			if cmd.Flags().Changed("priority") {
				q.Priority = &priority
			}
			if cmd.Flags().Changed("weight") {
				q.Weight = &weight
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			s, err := c.Serve(cmd.Context(), q)
			if err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) {
				line(w, "name", s.Name)
				line(w, "service ID", s.ID)
				line(w, "targets", strings.Join(s.Targets, " "))
				line(w, "allowed", strings.Join(s.Allow, " "))
				line(w, "state", s.State)
			})
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&q.Allow, "allow", nil, "who may use it: all, or node IDs, account:ID, group:NAME, separated by commas")
	f.BoolVar(&q.ProxyProtocol, "proxy-protocol", false, "tell the target who called, by PROXY protocol v2")
	f.Uint16Var(&priority, "priority", 0, "lower is used first (RFC 2782)")
	f.Uint16Var(&weight, "weight", 100, "share of sessions among providers of one priority (RFC 2782)")
	f.StringVar(&q.Check, "check", "", "whether the targets work: tcp, http:/path or exec:COMMAND")
	f.StringVar(&q.CheckInterval, "check-interval", "", "time between two checks (default 5s)")
	f.IntVar(&q.CheckRise, "check-rise", 0, "successes in a row that make it healthy (default 2)")
	f.IntVar(&q.CheckFall, "check-fall", 0, "failures in a row that make it fail (default 3)")
	return a.reads(cmd)
}

func (a *app) unserveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "unserve NAME",
		Short:   "stop providing a service; its name stays yours",
		Example: example("scn unserve files"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return c.Unserve(cmd.Context(), args[0])
		},
	}
}

func (a *app) servicesCommand() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:     "services",
		Short:   "list the services this node provides",
		Example: example("scn services", "scn services --json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(s.Services, func(w io.Writer) {
				line(w, "NAME", "STATE", "HEALTH", "SESSIONS", "ALLOWED", "TARGETS", "SERVICE ID")
				for _, v := range s.Services {
					line(w, v.Name, serviceState(v), healthText(v.Health), v.Sessions, strings.Join(v.Allow, ","), strings.Join(v.Targets, " "), v.ID)
				}
			})
		},
	})
}

func (a *app) serviceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "service",
		Short: "say which other nodes may provide a service",
		Long: `A service's owner grants other nodes the right to provide it. A grant names only
the node: its key stays its own, and the service's key stays with the owner.`,
		Example: example("scn service grant files NODEID --weight 50", "scn service revoke files NODEID"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var priority, weight uint16
	grant := &cobra.Command{
		Use:     "grant NAME NODEID",
		Short:   "let a node provide a service; there: scn serve NAME ...",
		Example: example("scn service grant files NODEID", "scn service grant files NODEID --priority 10 --weight 50"),
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := control.NameRequest{Priority: priority, Weight: &weight}
			return a.withNode(args, &q, func(c *control.Client) error { return c.Grant(cmd.Context(), q) })
		},
	}
	grant.Flags().Uint16Var(&priority, "priority", 0, "lower is used first (RFC 2782)")
	grant.Flags().Uint16Var(&weight, "weight", 100, "share of sessions among providers of one priority (RFC 2782)")
	revoke := &cobra.Command{
		Use:     "revoke NAME NODEID",
		Short:   "take a grant back",
		Example: example("scn service revoke files NODEID"),
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var q control.NameRequest
			return a.withNode(args, &q, func(c *control.Client) error { return c.Revoke(cmd.Context(), q) })
		},
	}
	cmd.AddCommand(grant, revoke)
	return cmd
}

// withNode fills q from NAME NODEID and calls the daemon.
func (a *app) withNode(args []string, q *control.NameRequest, call func(*control.Client) error) error {
	node, err := identity.ParseNodeID(args[len(args)-1])
	if err != nil {
		return usageError{err}
	}
	q.Node = &node
	if len(args) > 1 {
		q.Name = args[0]
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	return call(c)
}
