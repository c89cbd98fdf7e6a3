package cashier

import (
	"context"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
)

// AdmitInspector makes the account an inspector, with a key and labels. It needs a
// stake first; see Parameters.InspectorStake.
func (w *Wallet) AdmitInspector(ctx context.Context, key evidence.VRFKey, operator, network evidence.Label) (Receipt, error) {
	a := evidence.Admission{Account: w.account, Key: key, Operator: operator, Network: network}
	return w.once(ctx, func(id voucher.TransferID) Operation { return AdmitInspector{id, a.Append(nil)} })
}

// WithdrawInspector takes the account off the rosters to come.
func (w *Wallet) WithdrawInspector(ctx context.Context) (Receipt, error) {
	return w.once(ctx, func(id voucher.TransferID) Operation { return WithdrawInspector{id} })
}

// ListProvider lists a provider whose node and service are bound to the account, or that
// the account asks money for. Its revenue is the ledger's to count.
func (w *Wallet) ListProvider(ctx context.Context, p evidence.Provider) (Receipt, error) {
	return w.once(ctx, func(id voucher.TransferID) Operation { return ListProvider{id, p.Append(nil), false} })
}

// UnlistProvider takes a provider off the rosters to come.
func (w *Wallet) UnlistProvider(ctx context.Context, p evidence.Provider) (Receipt, error) {
	return w.once(ctx, func(id voucher.TransferID) Operation { return ListProvider{id, p.Append(nil), true} })
}

// CommitReport commits to the account's report on an epoch; see evidence.CommitOf.
func (w *Wallet) CommitReport(ctx context.Context, epoch uint64, commit evidence.Commit) (Receipt, error) {
	return w.once(ctx, func(id voucher.TransferID) Operation { return CommitReport{id, epoch, commit} })
}

// RevealReport shows the report the account committed to.
func (w *Wallet) RevealReport(ctx context.Context, r *evidence.Reveal) (Receipt, error) {
	report := r.Append(nil)
	return w.once(ctx, func(id voucher.TransferID) Operation { return RevealReport{id, report} })
}

// ChallengeReport asks an inspector for the detail of a row.
func (w *Wallet) ChallengeReport(ctx context.Context, c evidence.Challenge) (Receipt, error) {
	return w.once(ctx, func(id voucher.TransferID) Operation { return ChallengeReport{id, c.Append(nil)} })
}

// AnswerChallenge shows the detail of a row of the account's.
func (w *Wallet) AnswerChallenge(ctx context.Context, a *evidence.Answer) (Receipt, error) {
	answer := a.Append(nil)
	return w.once(ctx, func(id voucher.TransferID) Operation { return AnswerChallenge{id, answer} })
}

// CommitCanary commits the founder to what it knows of a provider in epochs to come.
func (w *Wallet) CommitCanary(ctx context.Context, c evidence.Canary) (Receipt, error) {
	return w.once(ctx, func(id voucher.TransferID) Operation { return CommitCanary{id, c.Commit(w.network)} })
}

// RevealCanary shows a canary whose epochs have passed.
func (w *Wallet) RevealCanary(ctx context.Context, c evidence.Canary) (Receipt, error) {
	return w.once(ctx, func(id voucher.TransferID) Operation { return RevealCanary{id, c.Append(nil)} })
}
