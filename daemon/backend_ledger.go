package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/identity"
)

// ledgerTimeout bounds a call to the ledger for a user who waits.
const ledgerTimeout = 20 * time.Second

// LedgerStatus implements control.Backend.
func (b backend) LedgerStatus(ctx context.Context) (control.LedgerStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	s, err := b.d.node.LedgerStatus(ctx)
	return b.ledgerStatusOf(s), explainMoney(err)
}

// LedgerBlocks implements control.Backend.
func (b backend) LedgerBlocks(ctx context.Context, last int) ([]control.LedgerBlock, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	blocks, err := b.d.node.LedgerBlocks(ctx, last)
	if err != nil {
		return nil, explainMoney(err)
	}
	out := []control.LedgerBlock{}
	for _, block := range blocks {
		h := block.Header
		v := control.LedgerBlock{
			Height: h.Height, Time: unix(h.Time), Hash: h.Hash().String(), Rules: h.Version, Transactions: []control.LedgerTransaction{},
		}
		txs, err := block.Open()
		if err != nil {
			return nil, explainMoney(err)
		}
		for _, tx := range txs {
			v.Transactions = append(v.Transactions, control.LedgerTransaction{
				ID: tx.ID().String(), Account: tx.Account, Kind: tx.Operation.Kind().String(), About: about(tx.Operation),
			})
		}
		out = append(out, v)
	}
	return out, nil
}

// LedgerAccount implements control.Backend.
func (b backend) LedgerAccount(ctx context.Context, id *identity.AccountID) (control.LedgerAccount, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	own := b.d.node.Account()
	if id == nil {
		id = &own
	}
	a, err := b.d.node.LedgerAccount(ctx, *id)
	if err != nil {
		return control.LedgerAccount{}, explainMoney(err)
	}
	c := a.Counters
	out := control.LedgerAccount{
		ID: a.ID, Mine: a.ID == own, Balance: c.Balance(), Available: c.Available(), Reserved: c.DebitsPending,
		Expected: c.CreditsPending, Debits: c.DebitsPosted, Credits: c.CreditsPosted, Names: a.Names,
		Staked: a.Staked, Key: a.Key, Height: a.Height, Time: unix(a.Time),
	}
	for _, u := range a.Unbonding {
		out.Unbonding = append(out.Unbonding, control.Unbonding{ID: u.ID, Amount: u.Amount, Since: unix(u.Since), Due: unix(u.Due)})
	}
	if !a.Recovery.IsZero() {
		out.Recovery = &a.Recovery
	}
	if !a.NewKey.IsZero() {
		since, due := unix(a.RecoverySince), unix(a.RecoveryDue)
		out.NewKey, out.RecoverySince, out.RecoveryDue = &a.NewKey, &since, &due
	}
	return out, nil
}

// Transfer implements control.Backend.
func (b backend) Transfer(ctx context.Context, q control.PaymentRequest) (control.Payment, error) {
	if err := errors.Join(missing(q.To == nil, "to"), missing(q.ID.IsZero(), "id")); err != nil {
		return control.Payment{}, explainMoney(err)
	}
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	r, err := b.d.node.Pay(ctx, cashier.Transfer{ID: q.ID, Moves: []cashier.Move{{Kind: cashier.MovePay, To: *q.To, Amount: q.Amount}}})
	return paymentOf(q.ID, r), explainMoney(err)
}

// Issue implements control.Backend.
func (b backend) Issue(ctx context.Context, q control.PaymentRequest) (control.Payment, error) {
	if err := errors.Join(missing(q.To == nil, "to"), missing(q.ID.IsZero(), "id")); err != nil {
		return control.Payment{}, explainMoney(err)
	}
	return b.issue(ctx, q.ID, cashier.Issue{ID: q.ID, To: *q.To, Amount: q.Amount})
}

// Redeem implements control.Backend.
func (b backend) Redeem(ctx context.Context, q control.PaymentRequest) (control.Payment, error) {
	if err := missing(q.ID.IsZero(), "id"); err != nil {
		return control.Payment{}, explainMoney(err)
	}
	return b.issue(ctx, q.ID, cashier.Redeem{ID: q.ID, Amount: q.Amount})
}

func (b backend) issue(ctx context.Context, id voucher.TransferID, op cashier.Operation) (control.Payment, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	r, err := b.d.node.Issue(ctx, op)
	return paymentOf(id, r), explainMoney(err)
}

// SetLedgerParameters implements control.Backend.
func (b backend) SetLedgerParameters(ctx context.Context, q control.ParametersRequest) (control.LedgerStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	s, err := b.d.node.SetLedgerParameters(ctx, func(p *cashier.Parameters) error { return setParameters(p, q.Set) })
	return b.ledgerStatusOf(s), explainMoney(err)
}

// VerifyLedger implements control.Backend.
func (b backend) VerifyLedger(ctx context.Context, progress func(control.LedgerProgress)) (control.LedgerStatus, error) {
	s, err := b.d.node.VerifyLedger(ctx, func(p cashier.Progress) {
		progress(progressOf(p))
	})
	return b.ledgerStatusOf(s), explainMoney(err)
}

func (b backend) ledgerStatusOf(s cashier.Status) control.LedgerStatus {
	return b.booksOf(control.LedgerStatus{
		Pruned: s.Pruned,
		Height: s.Height, Block: s.Block.String(), AppHash: s.AppHash.String(), BlockTime: unix(s.BlockTime), Time: unix(s.Time),
		Rules: s.Rules, Authority: b.d.node.Ledger() != nil,
		Parameters: parametersOf(s.Parameters, identity.AccountID(s.Network)),
		Supply: control.LedgerSupply{
			Issued: s.Supply.Issued, Redeemed: s.Supply.Redeemed, Circulating: s.Supply.Circulating(),
			Reserved: s.Supply.Pending, Treasury: s.Supply.Treasury, Accounts: s.Supply.Accounts,
		},
	})
}

func paymentOf(id voucher.TransferID, r cashier.Receipt) control.Payment {
	return control.Payment{ID: id, Transaction: r.ID.String(), Height: r.Height, Index: r.Index, Again: r.Again}
}

// about says in a few words what an operation does.
func about(op cashier.Operation) string {
	switch op := op.(type) {
	case cashier.Register:
		return string(op.Name)
	case cashier.Update:
		return string(op.Name)
	case cashier.Offer:
		return string(op.Name)
	case cashier.Accept:
		return string(op.Name)
	case cashier.Release:
		return string(op.Name)
	case cashier.Issue:
		return fmt.Sprintf("%s to %s", op.Amount, op.To)
	case cashier.RevealName:
		return string(op.Name)
	case cashier.RenewName:
		return string(op.Name)
	case cashier.Redeem:
		return op.Amount.String()
	case cashier.Stake:
		return op.Amount.String()
	case cashier.Unstake:
		return op.Amount.String()
	case cashier.RotateKey:
		return "to key " + op.Key.String()
	case cashier.Recover:
		return op.Account.String()
	case cashier.Bind:
		return op.Node.String()
	case cashier.Transfer:
		parts := make([]string, len(op.Moves))
		for i, m := range op.Moves {
			to := m.To
			if to.IsZero() {
				to = m.From
			}
			parts[i] = fmt.Sprintf("%s %s %s", m.Kind, m.Amount, to)
		}
		return strings.Join(parts, ", ")
	}
	return ""
}

// explainMoney gives errors of the ledger the code their command exits with.
func explainMoney(err error) error {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
	}
	switch {
	case is(cashier.ErrCorrupt):
		return control.Errorf(control.Failed, "%w", err)
	case is(cashier.ErrZeroAmount, cashier.ErrDeadline, cashier.ErrUnknown, cashier.ErrTooLarge):
		return control.Errorf(control.BadRequest, "%w", err)
	case is(cashier.ErrNoHold, cashier.ErrPruned, cashier.ErrNotFound):
		return control.Errorf(control.NotFound, "%w", err)
	case is(cashier.ErrDuplicateID):
		return control.Errorf(control.Refused, "%w: choose another --id, or leave it out", err)
	case is(cashier.ErrCap):
		return control.Errorf(control.Refused, "%w (\"scn network params supply_cap=A\" raises the cap)", err)
	case is(cashier.ErrFunds, cashier.ErrOverflow, cashier.ErrHoldSettled, cashier.ErrExceedsHold, cashier.ErrNotAllowed,
		cashier.ErrWrongNetwork, cashier.ErrSignature, cashier.ErrExpired, cashier.ErrStaleSequence, cashier.ErrRateLimited, cashier.ErrRolledBack, cashier.ErrAllowanceUsed, cashier.ErrNotFunded):
		return control.Errorf(control.Refused, "%w", err)
	case is(cashier.ErrUnreachable, cashier.ErrOverCapacity):
		return control.Errorf(control.Unreachable, "%w (\"scn doctor\" looks for the cause)", err)
	}
	return explain(err)
}

func unix(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
