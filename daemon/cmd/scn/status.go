package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) statusCommand() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:     "status",
		Short:   "show the node, its services and its peers",
		Example: example("scn status", "scn status --json | jq .peers"),
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
			return a.print(s, func(w io.Writer) {
				line(w, "node", s.NodeID)
				line(w, "account", s.AccountID)
				line(w, "network", fmt.Sprintf("%s (%s), zone .%s", s.Network.Name, s.Network.ID, s.Network.Zone))
				line(w, "version", s.Version)
				line(w, "listen", s.Listen)
				line(w, "locators", addresses(s.Locators))
				line(w, "DHT", fmt.Sprintf("%s, %d peers", s.DHT.Mode, s.DHT.Peers))
				if s.TUN != nil {
					line(w, "TUN", fmt.Sprintf("%s %s %s", s.TUN.Name, s.TUN.IPv4, s.TUN.IPv6))
				}
				if s.DNS != nil {
					line(w, "DNS", fmt.Sprintf("%s, operating system by %s", strings.Join(s.DNS.Listen, " "), s.DNS.OS))
				}
				for _, warning := range s.Warnings {
					line(w, "warning", warning)
				}
				if len(s.Services) > 0 {
					line(w)
					line(w, "SERVICE", "STATE", "SESSIONS", "TARGETS")
					for _, v := range s.Services {
						line(w, v.Name, v.State, v.Sessions, strings.Join(v.Targets, " "))
					}
				}
				if len(s.Peers) > 0 {
					line(w)
					line(w, "PEER", "PATH", "RTT", "MTU", "SESSIONS", "MOVES", "LAST GAP", "SENT", "RECEIVED")
					for _, p := range s.Peers {
						line(w, p.NodeID.Short(), fmt.Sprintf("%s→%s", p.Path.Local, p.Path.Remote),
							fmt.Sprintf("%.1f ms", p.Path.RTTMS), p.Path.MTU, p.Sessions, p.Moves,
							fmt.Sprintf("%.0f ms", p.LastGapMS), bytesText(p.BytesSent), bytesText(p.BytesReceived))
					}
				}
			})
		},
	})
}
