package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon"
	"scn.alt/scn/daemon/control"
)

// app is what every command shares: the streams and the persistent flags.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	dir            string
	json           bool
}

// newRoot builds the whole command tree.
func newRoot(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "scn",
		Short: "reach services by name, wherever they run and however often they move",
		Long: `scn runs a node of a service-ID overlay network and controls it.

Applications reach services by name (http://files.top/) or by key, wherever they
run; sessions stay alive while client and provider change their addresses.`,
		Example: `  scn init --dir /var/lib/scn --network network.toml   # make a node
  scn up &                                             # run it
  scn serve files 80=tcp://127.0.0.1:8080 --allow all  # provide a service
  curl http://files.top/                               # use it, on any node`,
		SilenceUsage:  true,
		SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{
			HiddenDefaultCmd: false,
		},
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nrun \"%s --help\" for usage", err, cmd.CommandPath())}
	})
	root.PersistentFlags().StringVar(&a.dir, "dir", os.Getenv("SCN_DIR"), "the node's directory (or SCN_DIR; default /var/lib/scn for root)")
	root.AddCommand(
		a.initCommand(), a.upCommand(), a.statusCommand(),
		a.serveCommand(), a.unserveCommand(), a.servicesCommand(), a.serviceCommand(),
		a.accessCommand(), a.groupCommand(), a.verdictCommand(),
		a.drainCommand(), a.undrainCommand(),
		a.lookupCommand(), a.dialCommand(), a.pingCommand(), a.proxyCommand(),
		a.nameCommand(), a.priceCommand(), a.marketCommand(), a.channelCommand(), a.inspectCommand(), a.ledgerCommand(), a.stakeCommand(), a.accountCommand(), a.networkCommand(), a.linkCommand(), a.doctorCommand(),
		a.backupCommand(), a.restoreCommand(), a.versionCommand(),
	)
	wrapUsage(root)
	return root
}

// wrapUsage makes wrong arguments a usage error (exit code 2) everywhere.
func wrapUsage(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{fmt.Errorf("%w\nrun \"%s --help\" for usage", err, cmd.CommandPath())}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		wrapUsage(sub)
	}
}

// directory returns the node's directory, for commands that need one.
func (a *app) directory() (string, error) {
	switch {
	case a.dir != "":
		return filepath.Abs(a.dir)
	case os.Geteuid() == 0:
		return daemon.DefaultDir, nil
	}
	return "", usageError{fmt.Errorf("name the node's directory with --dir D or SCN_DIR")}
}

// client returns a client of the daemon: that of --dir, or root's.
func (a *app) client() (*control.Client, error) {
	if a.dir == "" {
		return control.NewClient(daemon.DefaultSocket), nil
	}
	dir, err := filepath.Abs(a.dir)
	if err != nil {
		return nil, err
	}
	socket, err := daemon.SocketOf(dir)
	if err != nil {
		return nil, err
	}
	return control.NewClient(socket), nil
}

// reads adds --json to a reading command.
func (a *app) reads(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

// example indents the lines of an example as cobra prints them.
func example(lines ...string) string { return "  " + strings.Join(lines, "\n  ") }
