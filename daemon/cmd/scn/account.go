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
		a.accountBind(), a.accountBindings(), recovery)
	return cmd
}

func (a *app) accountBind() *cobra.Command {
	var q control.BindRequest
	cmd := a.reads(&cobra.Command{
		Use:   "bind [NAME]",
		Short: "say on the ledger that this node's account speaks from this node",
		Long: `bind writes on the ledger that this node's account speaks from this node, and, with the
name of a service of its own, for that service: signed by the keys of all of them, for
everybody to look up. Access rules on accounts need none of it.`,
		Example: example("scn account bind", "scn account bind files", "scn account bind files --remove"),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				q.Name = args[0]
			}
			return withClient(a, func(c *control.Client) ([]control.Binding, error) { return c.Bind(cmd.Context(), q) }, printBindings)
		},
	})
	cmd.Flags().BoolVar(&q.Remove, "remove", false, "end the binding")
	return cmd
}

func (a *app) accountBindings() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:     "bindings [NODEID]",
		Short:   "show which accounts speak from a node; without an ID, this one",
		Example: example("scn account bindings", "scn account bindings NODEID --json"),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var node *identity.NodeID
			if len(args) > 0 {
				id, err := identity.ParseNodeID(args[0])
				if err != nil {
					return usageError{err}
				}
				node = &id
			}
			return withClient(a, func(c *control.Client) ([]control.Binding, error) { return c.Bindings(cmd.Context(), node) }, printBindings)
		},
	})
}

func printBindings(w io.Writer, list []control.Binding) {
	line(w, "ACCOUNT", "NODE", "SERVICE", "SINCE")
	for _, v := range list {
		service := "-"
		if v.ServiceID != nil {
			service = v.ServiceID.String()
		}
		line(w, v.AccountID, v.NodeID, service, v.Time.Local().Format(time.DateTime))
	}
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
