package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// genesisParameter is the network file's text of what accounts begin with:
// "ACCOUNTID=AMOUNT ACCOUNTID=AMOUNT".
const genesisParameter = "genesis_credits"

// maxBlocks bounds how many of the newest blocks are shown at once.
const maxBlocks = 1000

// LedgerStatus says where the ledger stands, by its authority's word.
func (n *Node) LedgerStatus(ctx context.Context) (cashier.Status, error) { return n.books.Status(ctx) }

// LedgerAccount says what an account has.
func (n *Node) LedgerAccount(ctx context.Context, id identity.AccountID) (cashier.Account, error) {
	return n.books.Account(ctx, id)
}

// LedgerBlocks returns the newest blocks, the oldest of them first.
func (n *Node) LedgerBlocks(ctx context.Context, last int) ([]cashier.Block, error) {
	if last < 1 || last > maxBlocks {
		return nil, fmt.Errorf("%w: 1 to %d blocks are shown at once", ErrRequest, maxBlocks)
	}
	status, err := n.books.Status(ctx)
	if err != nil {
		return nil, err
	}
	var out []cashier.Block
	from := uint64(1)
	if status.Height > uint64(last) {
		from = status.Height - uint64(last) + 1
	}
	for from <= status.Height {
		page, err := n.blocksFrom(ctx, from)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return nil, fmt.Errorf("%w: block %d", ErrNotFound, from)
		}
		page = page[:min(uint64(len(page)), status.Height-from+1)]
		out, from = append(out, page...), from+uint64(len(page))
	}
	return out, nil
}

func (n *Node) blocksFrom(ctx context.Context, from uint64) ([]cashier.Block, error) {
	if n.client != nil {
		return n.client.Blocks(ctx, from)
	}
	raw, err := n.ledger.Blocks(ctx, from, 256, 1<<20)
	if err != nil {
		return nil, err
	}
	out := make([]cashier.Block, len(raw))
	for i, b := range raw {
		if out[i], err = cashier.DecodeBlock(b); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// VerifyLedger checks every block from the first, with every signature, rule and
// hash: on the authority its own store, row by row; elsewhere what the authority
// gives out, against what it signed.
func (n *Node) VerifyLedger(ctx context.Context, progress func(cashier.Progress)) (cashier.Status, error) {
	if n.client != nil {
		return n.client.Audit(ctx, progress)
	}
	if err := n.ledger.Verify(ctx, progress); err != nil {
		return cashier.Status{}, err
	}
	return n.ledger.Status(ctx)
}

// Pay makes a transfer of this node's account. Under one ID it counts once.
func (n *Node) Pay(ctx context.Context, t cashier.Transfer) (cashier.Receipt, error) {
	return n.wallet.Pay(ctx, t)
}

// Issue makes or redeems money, if this node has the issuer's key.
func (n *Node) Issue(ctx context.Context, op cashier.Operation) (cashier.Receipt, error) {
	status, err := n.books.Status(ctx)
	if err != nil {
		return cashier.Receipt{}, err
	}
	if status.Parameters.Issuer == n.Account() {
		return n.wallet.Pay(ctx, op)
	}
	w, err := n.founderWallet()
	if err != nil {
		return cashier.Receipt{}, err
	}
	return w.Pay(ctx, op)
}

// SetLedgerParameters changes the rules of the ledger. Only the founder can.
func (n *Node) SetLedgerParameters(ctx context.Context, change func(*cashier.Parameters) error) (cashier.Status, error) {
	w, err := n.founderWallet()
	if err != nil {
		return cashier.Status{}, err
	}
	status, err := n.books.Status(ctx)
	if err != nil {
		return cashier.Status{}, err
	}
	if err := change(&status.Parameters); err != nil {
		return cashier.Status{}, err
	}
	if _, err := w.SetParameters(ctx, status.Parameters); err != nil {
		return cashier.Status{}, err
	}
	return n.books.Status(ctx)
}

// founderWallet signs with the network's key, where this node has it.
func (n *Node) founderWallet() (*cashier.Wallet, error) {
	key, err := n.dir.NetworkKey()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFounder
	}
	if err != nil {
		return nil, err
	}
	return cashier.NewWallet(key, n.Network().ID, n.books, n.Now), nil
}

// parseGenesis reads the network file's text of what accounts begin with.
func parseGenesis(text string) ([]cashier.GenesisBalance, error) {
	var out []cashier.GenesisBalance
	for _, field := range strings.Fields(text) {
		id, amount, ok := strings.Cut(field, "=")
		if !ok {
			return nil, fmt.Errorf("network parameter %s: %q is not ACCOUNTID=AMOUNT", genesisParameter, field)
		}
		account, err := identity.ParseAccountID(id)
		if err != nil {
			return nil, fmt.Errorf("network parameter %s: %w", genesisParameter, err)
		}
		credits, err := voucher.ParseAmount(amount)
		if err != nil {
			return nil, fmt.Errorf("network parameter %s: %w", genesisParameter, err)
		}
		out = append(out, cashier.GenesisBalance{Account: account, Amount: credits})
	}
	return out, nil
}
