package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon/control"
)

func (a *app) linkCommand() *cobra.Command {
	var all bool
	cmd := a.reads(&cobra.Command{
		Use:   "link",
		Short: "show this host's links and what each may be used for",
		Long: `link shows every link (network interface) of this host: its addresses, its policy,
whether sessions use it now, and if not, why.

Policies: prefer (before all others), none (the faster one), metered (nothing is
sent over it while a cheaper link works), backup (kept ready, used when nothing
else works), off (never). [links] in the settings gives policies to patterns of
names; "scn link set" to one link, at once and over restarts.`,
		Example: example("scn link", "scn link --json", "scn link set wwan0 backup"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			links, err := c.Links(cmd.Context())
			if err != nil {
				return err
			}
			if !all && !a.json {
				links = shownLinks(links)
			}
			return a.print(links, func(w io.Writer) {
				line(w, "LINK", "POLICY", "STATE", "PEERS", "RTT", "SENT", "RECEIVED", "ADDRESSES")
				for _, l := range links {
					state := l.State
					if l.Why != "" {
						state += ": " + l.Why
					}
					line(w, l.Interface, fmt.Sprintf("%s (%s)", l.Policy, l.Source), state, l.Peers, rtt(l.RTTMS),
						bytesText(l.BytesSent), bytesText(l.BytesReceived), plainAddresses(l.Addresses))
				}
			})
		},
	})
	cmd.Flags().BoolVar(&all, "all", false, "containers', VPNs' and our own links too")
	cmd.AddCommand(&cobra.Command{
		Use:   "set LINK POLICY",
		Short: "set the policy of a link",
		Long: `set gives a link a policy, at once and over restarts: prefer, none, metered, backup
or off. "settings" takes it back, so that the settings file decides again. Sessions
are not dropped; those over a link that is now off move at once.`,
		Example: example("scn link set wwan0 backup", "scn link set eth1 off", "scn link set wwan0 settings"),
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return c.SetLink(cmd.Context(), control.LinkRequest{Interface: args[0], Policy: args[1]})
		},
	})
	return cmd
}

// shownLinks leaves out what is no link to other hosts.
func shownLinks(links []control.Link) []control.Link {
	var out []control.Link
	for _, l := range links {
		if !l.Ignored {
			out = append(out, l)
		}
	}
	return out
}

func rtt(ms float64) string {
	if ms == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", ms)
}

func plainAddresses(list []netip.Addr) string {
	if len(list) == 0 {
		return "-"
	}
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return strings.Join(out, " ")
}
