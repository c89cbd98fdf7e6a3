package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon"
	"scn.alt/scn/daemon/control"
)

func (a *app) ledgerClock() *cobra.Command {
	var accept bool
	cmd := a.reads(&cobra.Command{
		Use:   "clock",
		Short: "show the ledger's time, or let it jump to the host's clock (authority only)",
		Long: `clock shows the ledger's time. When the host's clock jumps by more than ten minutes
while the ledger runs, or is more than 30 days after the newest block when it is
opened, the ledger's time goes on as before: a wrong clock must not make everything
expire. Set the clock right and the ledger follows it; or, if the clock is right,
let the ledger's time jump with --accept. It never goes back.`,
		Example: example("scn ledger clock", "scn ledger clock --accept"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(a, func(c *control.Client) (control.LedgerClock, error) {
				if accept {
					return c.AcceptLedgerClock(cmd.Context())
				}
				return c.LedgerClock(cmd.Context())
			}, func(w io.Writer, v control.LedgerClock) {
				line(w, "ledger's time", v.Time.Local().Format(time.DateTime))
				printHeld(w, v.HeldSeconds)
			})
		},
	})
	cmd.Flags().BoolVar(&accept, "accept", false, "the host's clock is right: let the ledger's time jump to it")
	return cmd
}

// printHeld says that the ledger does not follow the clock, if so.
func printHeld(w io.Writer, seconds float64) {
	if held := time.Duration(seconds * float64(time.Second)).Round(time.Second); held > 0 {
		line(w, "clock", fmt.Sprintf("%s ahead of the ledger's time: set it right, or scn ledger clock --accept", held))
	} else if held < 0 {
		line(w, "clock", fmt.Sprintf("%s behind the ledger's time: set it right", -held))
	}
}

func (a *app) ledgerBackup() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:   "backup FILE",
		Short: "write the running ledger into one file (authority only)",
		Long: `backup writes the ledger as of one block into one file, while it goes on taking
transactions. It holds no keys. A file that exists is not overwritten.`,
		Example: example("scn ledger backup ledger-$(date +%F).tar"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			v, err := c.BackupLedger(cmd.Context(), f, func(n uint64) { a.tell("%d MB written", n>>20) })
			if err := errors.Join(err, f.Sync(), f.Close(), syncFolder(args[0])); err != nil {
				return errors.Join(err, os.Remove(args[0]))
			}
			a.told()
			return a.print(v, func(w io.Writer) {
				line(w, "file", args[0])
				line(w, "holds", fmt.Sprintf("%d blocks, the newest of %s", v.Height, v.Time.Local().Format(time.DateTime)))
				line(w, "size", fmt.Sprintf("%d bytes in %d files", v.Bytes, v.Files))
			})
		},
	})
}

// syncFolder brings the name of a new file to the disk.
func syncFolder(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// tell overwrites a line of progress; told ends it.
func (a *app) tell(format string, args ...any) {
	if !a.json {
		fmt.Fprintf(a.stderr, "\r"+format, args...)
	}
}

func (a *app) told() {
	if !a.json {
		fmt.Fprintln(a.stderr)
	}
}

func (a *app) ledgerRestore() *cobra.Command {
	var force, accept bool
	cmd := a.reads(&cobra.Command{
		Use:   "restore FILE | --accept-rollback",
		Short: "put the ledger of a backup in place (authority only, daemon stopped)",
		Long: `restore verifies a backup whole, every signature and every block, and then puts it in
place. A ledger that is there already stays, unless --force moves it aside.

A restored ledger may be older than what it promised: whoever holds a newer
checkpoint of it shows that, and so does a note outside the ledger. It then takes
no transactions. Restore a newer backup; if there is none, run restore
--accept-rollback while the daemon runs: it states, signed, that what came later is
lost.`,
		Example: example("scn ledger restore ledger.tar", "scn ledger restore --force ledger.tar", "scn ledger restore --accept-rollback"),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if accept != (len(args) == 0) {
				return usageError{errors.New("want a FILE or --accept-rollback, one of them")}
			}
			if accept {
				return a.acceptRollback(cmd.Context())
			}
			return a.restoreLedger(cmd.Context(), args[0], force)
		},
	})
	cmd.Flags().BoolVar(&force, "force", false, "move a ledger that is there aside")
	cmd.Flags().BoolVar(&accept, "accept-rollback", false, "state that what the ledger promised and does not have is lost")
	return cmd
}

func (a *app) acceptRollback(ctx context.Context) error {
	return withClient(a, func(c *control.Client) (control.LedgerFork, error) { return c.AcceptLedgerRollback(ctx) },
		func(w io.Writer, f control.LedgerFork) {
			line(w, "stated", fmt.Sprintf("the ledger goes on from block %d; up to block %d what was promised is lost", f.Height, f.PromisedHeight))
		})
}

func (a *app) restoreLedger(ctx context.Context, path string, force bool) error {
	dir, err := a.directory()
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := daemon.RestoreLedger(ctx, dir, f, force,
		func(n uint64) { a.tell("%d MB unpacked", n>>20) },
		func(p control.LedgerProgress) { a.tell("block %d of %d verified", p.Height, p.Of) })
	a.told()
	if err != nil {
		return err
	}
	return a.print(r, func(w io.Writer) {
		line(w, "restored", fmt.Sprintf("%d blocks, the newest of %s", r.Height, time.Unix(r.Time, 0).Format(time.DateTime)))
		line(w, "verified", fmt.Sprintf("blocks %d to %d, %d transactions", r.From+1, r.Height, r.Transactions))
		if r.Replaced != "" {
			line(w, "moved aside", r.Replaced)
		}
	})
}
