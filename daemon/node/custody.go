package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// A node's account is the key in account.key until its key is rotated: the account
// keeps that ID, and the key that signs for it is in account-signing.key. What is to be
// the next key is on the disk, as account-signing.key.new, before the ledger is asked,
// so that no answer that is lost loses the account. A node that took over another
// account, by recovery, has its ID in account.id.
const (
	accountIDFile  = "account.id"
	signingKeyFile = "account-signing.key"
	nextKeyFile    = signingKeyFile + ".new"
	recoveryDir    = "recovery" // keys for the accounts this node recovers
)

// ErrNotRecovered is returned for a recovery that has not come to its end.
var ErrNotRecovered = errors.New("the account is not recovered yet")

// accountIdentity reads which account a node speaks for, and the key it signs with.
func (d Directory) accountIdentity() (identity.AccountID, identity.PrivateKey, error) {
	own, err := d.AccountKey()
	if err != nil {
		return identity.AccountID{}, own, err
	}
	id := own.Account()
	b, err := readBounded(d.join(accountIDFile), 1<<10)
	switch {
	case err == nil:
		if id, err = identity.ParseAccountID(strings.TrimSpace(string(b))); err != nil {
			return id, own, fmt.Errorf("%s: %w", d.join(accountIDFile), err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return id, own, err
	}
	key, err := d.readKey(signingKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return id, own, nil
	}
	return id, key, err
}

// settleKey makes the ledger's word on a rotation that was cut off the node's own.
func (n *Node) settleKey(ctx context.Context) error {
	next, err := n.dir.readKey(nextKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	a, err := n.books.Account(ctx, n.Account())
	if err != nil {
		return err
	}
	if a.Key != next.Account() {
		return os.Remove(n.dir.join(nextKeyFile))
	}
	if err := os.Rename(n.dir.join(nextKeyFile), n.dir.join(signingKeyFile)); err != nil {
		return err
	}
	n.wallet.UseKey(next)
	return nil
}

// settleKeys is settleKey with its lock.
func (n *Node) settleKeys(ctx context.Context) error {
	n.keysMu.Lock()
	defer n.keysMu.Unlock()
	return n.settleKey(ctx)
}

// RotateAccountKey makes a new key that signs for this node's account from now on. The
// old one signs no more; peers still know the node by it (Hello), so it is kept.
func (n *Node) RotateAccountKey(ctx context.Context) (identity.AccountID, error) {
	n.keysMu.Lock()
	defer n.keysMu.Unlock()
	if err := n.settleKey(ctx); err != nil {
		return identity.AccountID{}, err
	}
	next, err := n.dir.makeKey(nextKeyFile)
	if err != nil {
		return identity.AccountID{}, err
	}
	if _, err := n.wallet.RotateKey(ctx, next); err != nil {
		if refused(err) {
			err = errors.Join(err, os.Remove(n.dir.join(nextKeyFile)))
		}
		return identity.AccountID{}, err
	}
	return next.Account(), os.Rename(n.dir.join(nextKeyFile), n.dir.join(signingKeyFile))
}

// SetRecovery names the account that may recover this node's, the zero account none.
func (n *Node) SetRecovery(ctx context.Context, account identity.AccountID) error {
	_, err := n.wallet.SetRecovery(ctx, account)
	return err
}

// CancelRecovery stops the recovery of this node's account.
func (n *Node) CancelRecovery(ctx context.Context) error {
	_, err := n.wallet.CancelRecovery(ctx)
	return err
}

// recoveryKey is where the key is kept that an account is to have.
func (d Directory) recoveryKey(account identity.AccountID) string {
	return filepath.Join(recoveryDir, account.String()+".key")
}

// Recover begins to recover another account, whose recovery account is this node's,
// with a new key that stays in this node's directory.
func (n *Node) Recover(ctx context.Context, account identity.AccountID) (cashier.Account, error) {
	n.keysMu.Lock()
	defer n.keysMu.Unlock()
	file := n.dir.recoveryKey(account)
	key, err := n.dir.readKey(file)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = n.dir.makeKey(file)
	}
	if err != nil {
		return cashier.Account{}, err
	}
	if _, err := n.wallet.Recover(ctx, account, key); err != nil {
		return cashier.Account{}, err
	}
	return n.books.Account(ctx, account)
}

// FinishRecovery makes this node speak for an account it recovered, from its next start
// on. The account it had is left as it is.
func (n *Node) FinishRecovery(ctx context.Context, account identity.AccountID) error {
	n.keysMu.Lock()
	defer n.keysMu.Unlock()
	key, err := n.dir.readKey(n.dir.recoveryKey(account))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: account %s: this node recovers it not", ErrNotFound, account)
	}
	if err != nil {
		return err
	}
	a, err := n.books.Account(ctx, account)
	if err != nil {
		return err
	}
	if a.Key != key.Account() {
		return fmt.Errorf("%w: account %s", ErrNotRecovered, account)
	}
	// The key first: an ID without it would be an account nobody can sign for.
	return errors.Join(
		n.dir.write(signingKeyFile, key.MarshalPEM(), 0o600),
		n.dir.write(accountIDFile, []byte(account.String()+"\n"), 0o600),
	)
}

// Stake puts an amount of this node's account aside as a pledge. Under one ID it counts
// once.
func (n *Node) Stake(ctx context.Context, id voucher.TransferID, amount voucher.Amount) (cashier.Receipt, error) {
	return n.wallet.Stake(ctx, id, amount)
}

// Unstake takes an amount out of the stake; it comes back when the unbonding time has
// passed.
func (n *Node) Unstake(ctx context.Context, id voucher.TransferID, amount voucher.Amount) (cashier.Receipt, error) {
	return n.wallet.Unstake(ctx, id, amount)
}

// Bind says on the ledger that this node's account speaks from this node, and, with the
// name of a service this node owns, for that service; or ends that. Off the ledger a
// node tells its peers the same by itself (Hello).
func (n *Node) Bind(ctx context.Context, nm name.Name, remove bool) error {
	var service *identity.PrivateKey
	if nm != "" {
		key, err := n.dir.ServiceKey(string(nm))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", nm, ErrNotOwned)
		}
		if err != nil {
			return err
		}
		service = &key
	}
	if !remove {
		_, err := n.wallet.Bind(ctx, n.key, service)
		return err
	}
	var id identity.ServiceID
	if service != nil {
		id = service.Service()
	}
	_, err := n.wallet.Unbind(ctx, n.ID(), id)
	return err
}

// Bindings says which accounts speak from a node, by the ledger's word.
func (n *Node) Bindings(ctx context.Context, node identity.NodeID) (cashier.Bindings, error) {
	return n.books.Bindings(ctx, node)
}
