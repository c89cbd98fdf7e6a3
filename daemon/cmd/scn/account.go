package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/identity"
)

func (a *app) accountCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account",
		Short: "show an account's keys, change them, recover an account whose key is lost",
		Long: `An account keeps its ID for ever; the key that signs for it may change. "rotate" makes
a new one. An account named beforehand ("recovery set") may give it another key when its
own is lost, after a delay in which its own key may object.`,
		Example: example("scn account show", "scn account rotate", "scn account recovery set ACCOUNTID"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	recovery := &cobra.Command{
		Use:     "recovery",
		Short:   "name who may recover this node's account; recover another",
		Example: example("scn account recovery set ACCOUNTID", "scn account recovery start ACCOUNTID", "scn account recovery cancel"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	recovery.AddCommand(
		a.recovery("set ACCOUNTID", "set", "name the account that may recover this node's (none: nobody may)", cobra.ExactArgs(1)),
		a.recovery("cancel", "cancel", "stop a recovery of this node's account", cobra.NoArgs),
		a.recovery("start ACCOUNTID", "start", "begin to recover an account that named this node's", cobra.ExactArgs(1)),
		a.recovery("finish ACCOUNTID", "finish", "make this node speak for an account it recovered, from its next start on", cobra.ExactArgs(1)),
	)
	cmd.AddCommand(
		a.reads(&cobra.Command{
			Use:     "show [ID]",
			Short:   "show who signs for an account, and who may change that",
			Example: example("scn account show", "scn account show ACCOUNTID --json"),
			Args:    cobra.MaximumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				var id *identity.AccountID
				if len(args) > 0 {
					parsed, err := identity.ParseAccountID(args[0])
					if err != nil {
						return usageError{err}
					}
					id = &parsed
				}
				return withClient(a, func(c *control.Client) (control.LedgerAccount, error) { return c.LedgerAccount(cmd.Context(), id) }, printKeys)
			},
		}),
		a.reads(&cobra.Command{
			Use:   "rotate",
			Short: "make a new key that signs for this node's account from now on",
			Long: `rotate makes a new key that signs for this node's account from now on. The old one
signs no more: make a new "scn backup", for an older one holds only the old key. Peers
go on knowing the node's account by its first key, which stays where it is.`,
			Example: example("scn account rotate"),
			Args:    cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return withClient(a, func(c *control.Client) (control.LedgerAccount, error) { return c.RotateKey(cmd.Context()) }, printKeys)
			},
		}),
		recovery)
	return cmd
}

func (a *app) recovery(use, what, short string, args cobra.PositionalArgs) *cobra.Command {
	return a.reads(&cobra.Command{
		Use: use, Short: short, Args: args,
		Example: example("scn account recovery " + use),
		RunE: func(cmd *cobra.Command, args []string) error {
			var q control.AccountRequest
			if len(args) > 0 && (what != "set" || args[0] != "none") {
				id, err := identity.ParseAccountID(args[0])
				if err != nil {
					return usageError{err}
				}
				q.Account = &id
			}
			return withClient(a, func(c *control.Client) (control.LedgerAccount, error) { return c.Recovery(cmd.Context(), what, q) }, printKeys)
		},
	})
}

func printKeys(w io.Writer, v control.LedgerAccount) {
	line(w, "account", v.ID)
	if v.Key == v.ID {
		line(w, "key", "its own")
	} else {
		line(w, "key", v.Key)
	}
	if v.Recovery == nil {
		line(w, "recovery", "nobody")
	} else {
		line(w, "recovery", *v.Recovery)
	}
	if v.NewKey != nil {
		total, past := v.RecoveryDue.Sub(*v.RecoverySince), time.Since(*v.RecoverySince)
		line(w, "being recovered", fmt.Sprintf("by key %s, from %s on (%.0f %% of the time is over): \"scn account recovery cancel\" stops it",
			*v.NewKey, v.RecoveryDue.Local().Format(time.DateTime), min(max(100*past.Seconds()/total.Seconds(), 0), 100)))
	}
}
