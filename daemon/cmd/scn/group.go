package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/identity"
)

// maxGroupFile bounds the group files that are read, in bytes.
const maxGroupFile = 128 << 10

func (a *app) groupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "keep signed lists of nodes and accounts for access rules",
		Long: `A group is a list of nodes and accounts, signed by the group's key, which lies with
whoever created it. Rules name it as group:NAME. Others import the list as a file;
one that is altered, older than the last, or expired lets nobody in, and a deny rule
for it then denies everybody.`,
		Example: example(
			"scn group create staff NODEID ACCOUNTID",
			"scn group add staff NODEID",
			"scn group export staff staff.group",
			"scn group import staff staff.group --id GROUPID"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.groupShow(), a.groupExport(), a.groupImport(),
		a.groupChange("create NAME [MEMBER...]", "make a group with a key of its own", control.GroupCreate, "scn group create staff NODEID account:ID"),
		a.groupChange("add NAME [MEMBER...]", "add members, and sign the list anew", control.GroupChange, "scn group add staff NODEID"),
		a.groupChange("remove NAME MEMBER...", "take members away", control.GroupChange, "scn group remove staff NODEID"),
		a.groupChange("forget NAME", "remove a group that no rule names", control.GroupForget, "scn group forget staff"))
	return cmd
}

// groupChange makes one of the commands that change a group of this node.
func (a *app) groupChange(use, short, do, sample string) *cobra.Command {
	var valid time.Duration
	verb, _, _ := strings.Cut(use, " ")
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example(sample), Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := control.GroupRequest{Do: do, Name: args[0], ValidSeconds: int64(valid / time.Second)}
			switch {
			case verb == "remove" && len(args) < 2:
				return usageError{fmt.Errorf("name the members to remove, as in \"scn group remove %s MEMBER\"", args[0])}
			case verb == "forget" && len(args) > 1:
				return usageError{fmt.Errorf("scn group forget takes one group; \"scn group remove %s MEMBER\" removes members", args[0])}
			case verb == "remove":
				q.Remove = args[1:]
			default:
				q.Add = args[1:]
			}
			return a.withAccess(func(b control.AccessBackend) error {
				g, err := b.ChangeGroup(cmd.Context(), q)
				if err != nil || do == control.GroupForget {
					return err
				}
				return a.print(g, func(w io.Writer) { printGroup(w, g) })
			})
		},
	}
	if do != control.GroupForget {
		cmd.Flags().DurationVar(&valid, "valid", 0, "how long the list is believed (default one year, 8760h)")
	}
	return a.reads(cmd)
}

func (a *app) groupShow() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:     "show [NAME]",
		Short:   "show the groups that rules may name, or one with its members",
		Example: example("scn group show", "scn group show staff --json"),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAccess(func(b control.AccessBackend) error {
				v, err := b.Rules(cmd.Context())
				if err != nil {
					return err
				}
				if len(args) == 0 {
					return a.print(v.Groups, func(w io.Writer) { printGroups(w, v.Groups) })
				}
				for _, g := range v.Groups {
					if g.Name == args[0] {
						return a.print(g, func(w io.Writer) { printGroup(w, g) })
					}
				}
				return control.Errorf(control.NotFound, "no group %q: \"scn group show\" lists them", args[0])
			})
		},
	})
}

func printGroups(w io.Writer, groups []control.Group) {
	if len(groups) == 0 {
		return
	}
	line(w)
	line(w, "GROUP", "MEMBERS", "EXPIRES", "KEY", "STATE")
	for _, g := range groups {
		line(w, g.Name, len(g.Members), g.Expires.Local().Format(time.DateTime), where(g), state(g))
	}
}

func printGroup(w io.Writer, g control.Group) {
	line(w, "group", g.Name)
	line(w, "ID", g.ID)
	line(w, "number", g.Sequence)
	line(w, "expires", g.Expires.Local().Format(time.DateTime))
	line(w, "key", where(g))
	line(w, "state", state(g))
	for _, m := range g.Members {
		line(w, "member", m)
	}
}

func where(g control.Group) string {
	if g.Mine {
		return "on this node"
	}
	return "elsewhere"
}

func state(g control.Group) string {
	if g.Fault != "" {
		return g.Fault
	}
	return "valid"
}

func (a *app) groupExport() *cobra.Command {
	return &cobra.Command{
		Use:     "export NAME [FILE]",
		Short:   "write the signed list for others to import",
		Example: example("scn group export staff > staff.group", "scn group export staff staff.group"),
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAccess(func(b control.AccessBackend) error {
				v, err := b.ExportGroup(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if len(args) == 2 {
					return os.WriteFile(args[1], v.List, 0o644)
				}
				_, err = a.stdout.Write(v.List)
				return err
			})
		},
	}
}

func (a *app) groupImport() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "import NAME FILE",
		Short: "take a list that somebody else signed, or its newer version",
		Long: `import takes a group's signed list. The first import fixes the group's key: compare
the ID it prints with the owner's, or demand it with --id. Later lists must be of the
same key, and no older.`,
		Example: example("scn group import staff staff.group --id GROUPID"),
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := readFile(args[1], maxGroupFile)
			if err != nil {
				return err
			}
			q := control.GroupRequest{Do: control.GroupImport, Name: args[0], List: list}
			if id != "" {
				want, err := identity.ParseGroupID(id)
				if err != nil {
					return usageError{err}
				}
				q.ID = &want
			}
			return a.withAccess(func(b control.AccessBackend) error {
				g, err := b.ChangeGroup(cmd.Context(), q)
				if err != nil {
					return err
				}
				return a.print(g, func(w io.Writer) { printGroup(w, g) })
			})
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "the group's ID, which the list must be of")
	return a.reads(cmd)
}
