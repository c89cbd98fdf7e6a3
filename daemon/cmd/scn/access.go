package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon"
	"scn.alt/scn/daemon/control"
)

func (a *app) accessCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "access",
		Short: "say who may use a service, and see why somebody may or may not",
		Long: `Each service has rules, in order, kept in access.toml of the node's directory:

  allow WHO [PORTS] [# note]
  ask   WHO [PORTS] [# note]     hold the session until "scn verdict" or a program decides
  deny  WHO [PORTS] [# note]

WHO is all, a node's ID, account:ID, or group:NAME ("scn group"). PORTS are such as
443, 443/tcp, 8000-8100/udp, tcp, or several with commas; without them the rule is
for every port. A deny rule that matches wins, wherever it stands; else the first
allow or ask rule that matches decides; else nobody may.

A rule that another makes pointless is refused; but denying a node, account or group
takes away what allowed just that.

Changes are in force at once: sessions they forbid are ended, others notice nothing.
The commands work without a daemon too. After an edit by hand: kill -HUP the daemon
("scn up --check" lists every fault).`,
		Example: example(
			"scn access show files",
			"scn access allow files group:staff --ports 443/tcp",
			"scn access deny files NODEID --note 'lost laptop'",
			"scn access explain NODEID files --port 443"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.accessShow(), a.accessSet(), a.accessRemove(), a.accessExplain())
	for _, action := range []string{"allow", "ask", "deny"} {
		cmd.AddCommand(a.accessAdd(action))
	}
	return cmd
}

// withAccess calls f with the daemon, or with the files where none runs.
func (a *app) withAccess(f func(b control.AccessBackend) error) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	err = f(c)
	var e *control.Error
	if !errors.As(err, &e) || e.Code != control.NotRunning {
		return err
	}
	dir, dirErr := a.directory()
	if dirErr != nil {
		return err
	}
	b, closer, dirErr := daemon.OfflineAccess(dir)
	switch {
	case errors.Is(dirErr, fs.ErrPermission):
		return err // the files are not for this user; the socket may be
	case dirErr != nil:
		return dirErr
	}
	return errors.Join(f(b), closer())
}

func (a *app) accessShow() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:     "show [NAME]",
		Short:   "show the rules of every service, or of one",
		Example: example("scn access show", "scn access show files --json"),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAccess(func(b control.AccessBackend) error {
				v, err := b.Rules(cmd.Context())
				if err != nil {
					return err
				}
				if len(args) == 1 {
					if v.Services = only(v.Services, args[0]); len(v.Services) == 0 {
						return control.Errorf(control.NotFound, "there are no rules for %s: nobody may use it (scn access allow %s WHO)", args[0], args[0])
					}
				}
				return a.print(v, func(w io.Writer) {
					for _, s := range v.Services {
						printRules(w, s)
					}
					printGroups(w, v.Groups)
				})
			})
		},
	})
}

// only keeps the service named, with its zone or without.
func only(list []control.ServiceRules, name string) []control.ServiceRules {
	for _, s := range list {
		if s.Name == name || strings.HasPrefix(name, s.Name+".") {
			return []control.ServiceRules{s}
		}
	}
	return nil
}

func printRules(w io.Writer, s control.ServiceRules) {
	line(w, s.Name)
	for i, text := range s.Rules {
		line(w, fmt.Sprintf("  %d", i+1), text)
	}
	line(w, "  -", "deny all (default)")
}

func (a *app) accessSet() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:   "set NAME RULE...",
		Short: "replace the rules of a service; each rule is one argument",
		Example: example(
			"scn access set files 'allow group:staff 443/tcp' 'deny NODEID # lost laptop'",
			"scn access set files 'allow all'"),
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeRules(cmd.Context(), control.RulesRequest{Name: args[0], Set: args[1:]})
		},
	})
}

func (a *app) accessAdd(action string) *cobra.Command {
	var ports, note string
	cmd := &cobra.Command{
		Use:     action + " NAME WHO...",
		Short:   "add a rule that will " + action + " these",
		Example: example("scn access "+action+" files NODEID", "scn access "+action+" files group:staff --ports 443/tcp,8000-8100"),
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := control.RulesRequest{Name: args[0]}
			for _, who := range args[1:] {
				q.Add = append(q.Add, ruleText(action, who, ports, note))
			}
			return a.changeRules(cmd.Context(), q)
		},
	}
	cmd.Flags().StringVar(&ports, "ports", "", "only these: 443, 443/tcp, 8000-8100/udp, tcp; several with commas")
	cmd.Flags().StringVar(&note, "note", "", "kept with the rule, for people")
	return a.reads(cmd)
}

func ruleText(action, who, ports, note string) string {
	text := action + " " + who
	if ports != "" {
		text += " " + strings.ReplaceAll(ports, " ", "")
	}
	if note != "" {
		text += " # " + note
	}
	return text
}

func (a *app) accessRemove() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "remove NAME RULE... | remove NAME --all",
		Short:   "take rules away",
		Example: example("scn access remove files 'allow all'", "scn access remove files --all"),
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 1) {
				return usageError{errors.New("name the rules to remove as \"scn access show\" prints them, or say --all")}
			}
			return a.changeRules(cmd.Context(), control.RulesRequest{Name: args[0], Remove: args[1:], Forget: all})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "forget every rule of the service: nobody may use it")
	return a.reads(cmd)
}

func (a *app) changeRules(ctx context.Context, q control.RulesRequest) error {
	return a.withAccess(func(b control.AccessBackend) error {
		v, err := b.ChangeRules(ctx, q)
		if err != nil {
			return err
		}
		return a.print(v, func(w io.Writer) { printRules(w, v) })
	})
}

func (a *app) accessExplain() *cobra.Command {
	q := control.ExplainRequest{}
	cmd := &cobra.Command{
		Use:   "explain WHO NAME",
		Short: "say whether somebody may use a service, and which rule decides",
		Long: `explain says of a node or account what would become of its sessions to a service of
this node, which rule decides, and why. It asks the running daemon, which knows the
accounts of connected nodes; without one it reads the files.`,
		Example: example("scn access explain NODEID files", "scn access explain NODEID files --port 443 --account ACCOUNTID"),
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Who, q.Name = args[0], args[1]
			return a.withAccess(func(b control.AccessBackend) error {
				v, err := b.Explain(cmd.Context(), q)
				if err != nil {
					return err
				}
				return a.print(v, func(w io.Writer) { printExplanation(w, v) })
			})
		},
	}
	f := cmd.Flags()
	f.Uint16Var(&q.Port, "port", 0, "only this port (default: every port of the service)")
	f.StringVar(&q.Protocol, "protocol", "", "only tcp or udp")
	f.StringVar(&q.Account, "account", "", "take this account for the node's")
	return a.reads(cmd)
}

func printExplanation(w io.Writer, v control.Explanation) {
	if v.NodeID != nil {
		line(w, "node", v.NodeID)
	}
	if v.AccountID != nil {
		line(w, "account", v.AccountID)
	}
	if v.Note != "" {
		line(w, "note", v.Note)
	}
	for _, p := range v.Ports {
		line(w)
		line(w, fmt.Sprintf("%s %d/%s", v.Name, p.Port, p.Protocol), strings.ToUpper(p.Verdict))
		line(w, "  because", p.Reason)
		for i, s := range p.Steps {
			mark := "no"
			if s.Matched {
				mark = "yes"
			}
			line(w, fmt.Sprintf("  rule %d", i+1), fmt.Sprintf("%s: %s: %s", mark, s.Rule, s.Why))
		}
	}
}
