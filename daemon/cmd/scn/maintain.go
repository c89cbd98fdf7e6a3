package main

import (
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon"
)

func (a *app) doctorCommand() *cobra.Command {
	var repair bool
	cmd := a.reads(&cobra.Command{
		Use:     "doctor",
		Short:   "find what is wrong with this host and say what to do",
		Long:    "doctor checks TUN, capabilities, port 53, resolver, clock, reachability and MTU, and changes nothing;\nwith --repair it first puts back the host's resolver after a daemon that was killed, guardian and all.",
		Example: example("scn doctor", "scn doctor --json", "scn doctor --repair"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir := a.dir
			if dir == "" {
				dir = daemon.DefaultDir
			}
			if repair {
				if err := daemon.Repair(dir); err != nil {
					return err
				}
			}
			findings := daemon.Doctor(cmd.Context(), dir)
			bad := false
			for _, f := range findings {
				bad = bad || f.State == daemon.Bad
			}
			err := a.print(findings, func(w io.Writer) {
				for _, f := range findings {
					line(w, f.State, f.Check, f.Found)
					if f.Advice != "" {
						line(w, "", "", "→ "+f.Advice)
					}
				}
			})
			if err == nil && bad {
				err = quietError{1}
			}
			return err
		},
	})
	cmd.Flags().BoolVar(&repair, "repair", false, "put the host's resolver back first")
	return cmd
}

func (a *app) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "write all keys and state of the node into one file (- is standard output)",
		Long: `backup writes a node's keys, settings, services and state into one file, readable by
you alone. Whoever has the file is the node: keep it safe. It works while the
daemon runs; on the network's authority stop the daemon first, so that the ledger
is whole.`,
		Example: example("scn backup node.scn"),
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := a.directory()
			if err != nil {
				return err
			}
			if args[0] == "-" {
				return daemon.Backup(dir, a.stdout)
			}
			return daemon.BackupFile(dir, args[0])
		},
	}
}

func (a *app) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "restore FILE",
		Short:   "make the node of a backup again, in an empty directory",
		Example: example("scn --dir /var/lib/scn restore node.scn"),
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := a.directory()
			if err != nil {
				return err
			}
			in := a.stdin
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			if err := daemon.Restore(dir, in); err != nil {
				return err
			}
			fmt.Fprintf(a.stderr, "restored to %s; next: scn --dir %s up\n", dir, dir)
			return nil
		},
	}
}

func (a *app) versionCommand() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:     "version",
		Short:   "print the version",
		Example: example("scn version"),
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": daemon.Version(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			return a.print(v, func(w io.Writer) {
				line(w, "scn", v["version"], v["go"], v["platform"])
			})
		},
	})
}
