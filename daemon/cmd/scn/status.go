package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon/control"
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
				line(w, "NAT", s.NAT)
				line(w, "DHT", fmt.Sprintf("%s, %d peers", s.DHT.Mode, s.DHT.Peers))
				for _, r := range s.Relays {
					line(w, relayKind(r), fmt.Sprintf("%s, %s, %.1f ms", r.NodeID.Short(), r.State, r.RTTMS))
				}
				if r := s.Relay; r != nil {
					line(w, "relaying", fmt.Sprintf("for %d nodes, %s forwarded, %d datagrams dropped", r.Registrations, bytesText(r.ForwardedBytes), r.Dropped.Sum()))
				}
				if s.TUN != nil {
					line(w, "TUN", fmt.Sprintf("%s %s %s", s.TUN.Name, s.TUN.IPv4, s.TUN.IPv6))
				}
				if s.DNS != nil {
					line(w, "DNS", fmt.Sprintf("%s, operating system by %s", strings.Join(s.DNS.Listen, " "), s.DNS.OS))
				}
				if g := s.Gateway; g != nil {
					line(w, "gateway", fmt.Sprintf("%s: %v, %d devices, %d refused", strings.Join(g.Interfaces, " "), g.Networks, g.Devices, g.Refused))
				}
				printPay(w, s.Pay)
				for _, warning := range s.Warnings {
					line(w, "warning", warning)
				}
				if len(s.Services) > 0 {
					line(w)
					line(w, "SERVICE", "STATE", "SESSIONS", "TARGETS")
					for _, v := range s.Services {
						line(w, v.Name, serviceState(v), v.Sessions, strings.Join(v.Targets, " "))
					}
				}
				printNames(w, s)
				if len(s.Peers) > 0 {
					line(w)
					line(w, "PEER", "PATH", "RTT", "MTU", "SESSIONS", "MOVES", "LAST GAP", "SENT", "RECEIVED")
					for _, p := range s.Peers {
						line(w, p.NodeID.Short(), pathText(p.Path),
							fmt.Sprintf("%.1f ms", p.Path.RTTMS), p.Path.MTU, p.Sessions, p.Moves,
							fmt.Sprintf("%.0f ms", p.LastGapMS), bytesText(p.BytesSent), bytesText(p.BytesReceived))
					}
				}
			})
		},
	})
}

func relayKind(r control.Relay) string {
	if r.Home {
		return "home relay"
	}
	return "peer's relay"
}

// pathText shows a path and, unless it is plainly direct, why it is the one it is.
func pathText(p control.Path) string {
	text := fmt.Sprintf("%s %s→%s", p.Way, p.Local, p.Remote)
	if p.Way == control.Relayed {
		text = p.Way
	}
	if p.Relay != nil {
		text += " by " + p.Relay.Short()
	}
	if why := strings.TrimPrefix(strings.TrimPrefix(p.Why, p.Way), ": "); why != "" && p.Way != control.Direct {
		text += " (" + why + ")"
	}
	return text
}
