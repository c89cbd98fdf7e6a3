package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon/control"
)

func (a *app) networkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "network",
		Short:   "show the network, its rules, and say who may join it",
		Example: example("scn network show", "scn network admit NODEID", "scn network set relay_tcp_port 8443"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	show := a.reads(&cobra.Command{
		Use:     "show",
		Short:   "show the network file this node follows",
		Example: example("scn network show", "scn network show --json"),
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
			n := s.Network
			return a.print(n, func(w io.Writer) {
				line(w, "network", n.Name)
				line(w, "ID", n.ID)
				line(w, "zone", "."+n.Zone)
				line(w, "version", n.Sequence)
				line(w, "admission", n.Admission)
				line(w, "file", n.File)
				for _, b := range n.Bootstrap {
					line(w, "bootstrap", b.Node.String()+" "+addresses(b.Addresses))
				}
				for _, id := range n.Authorities {
					line(w, "authority", id)
				}
				for _, key := range slices.Sorted(maps.Keys(n.Parameters)) {
					line(w, "parameter", fmt.Sprint(key, " = ", n.Parameters[key]))
				}
				for _, id := range n.Members {
					line(w, "member", id)
				}
			})
		},
	})
	change := func(use, short string, call func(*control.Client, *cobra.Command, control.NameRequest) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " NODEID", Short: short,
			Long:    short + ". Only the network's founder can; the new network file spreads by itself.",
			Example: example("scn network " + use + " NODEID"),
			Args:    cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				var q control.NameRequest
				return a.withNode(args, &q, func(c *control.Client) error { return call(c, cmd, q) })
			},
		}
	}
	set := &cobra.Command{
		Use: "set PARAMETER [VALUE]", Short: "set a parameter of the network file",
		Long: `set changes a parameter that all nodes of the network go by; without a value it takes its default
again. Only the network's founder can; the new network file spreads by itself.

  relay_tcp_port   where relays listen for hosts whose network blocks UDP (443)
  real_zone_proof  whoever registers a name that exists in the Internet's own zone
                   proves control of it there (false)`,
		Example: example("scn network set relay_tcp_port 8443"),
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return c.SetParameter(cmd.Context(), control.ParameterRequest{Name: args[0], Value: strings.Join(args[1:], "")})
		},
	}
	cmd.AddCommand(show, set, a.networkParams(),
		change("admit", "let a node in and make admission a list", func(c *control.Client, cmd *cobra.Command, q control.NameRequest) error {
			return c.Admit(cmd.Context(), q)
		}),
		change("remove", "take a node's admission back", func(c *control.Client, cmd *cobra.Command, q control.NameRequest) error {
			return c.Remove(cmd.Context(), q)
		}))
	return cmd
}
