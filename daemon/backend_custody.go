package daemon

import (
	"context"
	"errors"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// Stake implements control.Backend.
func (b backend) Stake(ctx context.Context, q control.PaymentRequest) (control.Payment, error) {
	return b.pledge(ctx, q, b.d.node.Stake)
}

// Unstake implements control.Backend.
func (b backend) Unstake(ctx context.Context, q control.PaymentRequest) (control.Payment, error) {
	return b.pledge(ctx, q, b.d.node.Unstake)
}

func (b backend) pledge(ctx context.Context, q control.PaymentRequest, call func(context.Context, voucher.TransferID, voucher.Amount) (cashier.Receipt, error)) (control.Payment, error) {
	if err := missing(q.ID.IsZero(), "id"); err != nil {
		return control.Payment{}, explainMoney(err)
	}
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	r, err := call(ctx, q.ID, q.Amount)
	return paymentOf(q.ID, r), explainMoney(err)
}

// RotateKey implements control.Backend.
func (b backend) RotateKey(ctx context.Context, _ control.AccountRequest) (control.LedgerAccount, error) {
	return b.account(ctx, nil, func(ctx context.Context) error {
		_, err := b.d.node.RotateAccountKey(ctx)
		return err
	})
}

// SetRecovery implements control.Backend.
func (b backend) SetRecovery(ctx context.Context, q control.AccountRequest) (control.LedgerAccount, error) {
	var to identity.AccountID
	if q.Account != nil {
		to = *q.Account
	}
	return b.account(ctx, nil, func(ctx context.Context) error { return b.d.node.SetRecovery(ctx, to) })
}

// CancelRecovery implements control.Backend.
func (b backend) CancelRecovery(ctx context.Context, _ control.AccountRequest) (control.LedgerAccount, error) {
	return b.account(ctx, nil, b.d.node.CancelRecovery)
}

// Recover implements control.Backend.
func (b backend) Recover(ctx context.Context, q control.AccountRequest) (control.LedgerAccount, error) {
	if err := missing(q.Account == nil, "account_id"); err != nil {
		return control.LedgerAccount{}, explainMoney(err)
	}
	return b.account(ctx, q.Account, func(ctx context.Context) error {
		_, err := b.d.node.Recover(ctx, *q.Account)
		return err
	})
}

// FinishRecovery implements control.Backend.
func (b backend) FinishRecovery(ctx context.Context, q control.AccountRequest) (control.LedgerAccount, error) {
	if err := missing(q.Account == nil, "account_id"); err != nil {
		return control.LedgerAccount{}, explainMoney(err)
	}
	return b.account(ctx, q.Account, func(ctx context.Context) error { return b.d.node.FinishRecovery(ctx, *q.Account) })
}

// account does something about an account, and shows it as it is then.
func (b backend) account(ctx context.Context, id *identity.AccountID, do func(context.Context) error) (control.LedgerAccount, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	if err := do(ctx); err != nil {
		return control.LedgerAccount{}, explainMoney(err)
	}
	v, err := b.LedgerAccount(ctx, id)
	return v, errors.Join(err)
}

// Bind implements control.Backend.
func (b backend) Bind(ctx context.Context, q control.BindRequest) ([]control.Binding, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	var nm name.Name
	if q.Name != "" {
		var err error
		if nm, err = b.name(q.Name); err != nil {
			return nil, explain(err)
		}
	}
	if err := b.d.node.Bind(ctx, nm, q.Remove); err != nil {
		return nil, explainMoney(err)
	}
	return b.Bindings(ctx, nil)
}

// Bindings implements control.Backend.
func (b backend) Bindings(ctx context.Context, node *identity.NodeID) ([]control.Binding, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	own := b.d.node.ID()
	if node == nil {
		node = &own
	}
	all, err := b.d.node.Bindings(ctx, *node)
	out := make([]control.Binding, 0, len(all.Bindings))
	for _, v := range all.Bindings {
		one := control.Binding{AccountID: v.Account, NodeID: v.Node, Height: v.Height, Time: unix(v.Time)}
		if !v.Service.IsZero() {
			one.ServiceID = &v.Service
		}
		out = append(out, one)
	}
	return out, explainMoney(err)
}
