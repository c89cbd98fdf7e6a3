package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"

	"scn.alt/scn/cashier"
	"scn.alt/scn/daemon/control"
)

// books returns the ledger of an authority.
func (b backend) books() (*cashier.Ledger, error) {
	if l := b.d.node.Ledger(); l != nil {
		return l, nil
	}
	return nil, control.Errorf(control.NotFound, "this node keeps no ledger: run this on the network's authority")
}

// LedgerClock implements control.BooksBackend.
func (b backend) LedgerClock(context.Context) (control.LedgerClock, error) {
	l, err := b.books()
	if err != nil {
		return control.LedgerClock{}, err
	}
	return clockOf(l.Clock()), nil
}

// AcceptLedgerClock implements control.BooksBackend.
func (b backend) AcceptLedgerClock(context.Context) (control.LedgerClock, error) {
	l, err := b.books()
	if err != nil {
		return control.LedgerClock{}, err
	}
	c, err := l.AcceptClock()
	if errors.Is(err, cashier.ErrClockBehind) {
		return control.LedgerClock{}, control.Errorf(control.Refused, "%w", err)
	}
	return clockOf(c), explainMoney(err)
}

// AcceptLedgerRollback implements control.BooksBackend.
func (b backend) AcceptLedgerRollback(context.Context) (control.LedgerFork, error) {
	l, err := b.books()
	if err != nil {
		return control.LedgerFork{}, err
	}
	f, err := l.AcceptRollback()
	return control.LedgerFork{
		Height: f.Height, Block: f.Block.String(), PromisedHeight: f.PromisedHeight, PromisedBlock: f.PromisedBlock.String(), Time: unix(f.Time),
	}, explainMoney(err)
}

// BackupLedger implements control.BooksBackend.
func (b backend) BackupLedger(ctx context.Context, w io.Writer) (control.LedgerBackup, error) {
	l, err := b.books()
	if err != nil {
		return control.LedgerBackup{}, err
	}
	v, err := l.Backup(ctx, w, nil)
	if err != nil {
		b.d.log.Warn("ledger's backup", "err", err)
	}
	return backupOf(v), explainMoney(err)
}

func clockOf(c cashier.Clock) control.LedgerClock {
	return control.LedgerClock{Time: c.Time.UTC(), HeldSeconds: c.Held.Seconds()}
}

func backupOf(v cashier.Backup) control.LedgerBackup {
	return control.LedgerBackup{Height: v.Height, Block: v.Block.String(), Time: unix(v.Time), Files: v.Files, Bytes: v.Bytes}
}

// booksOf adds to the status of an authority's ledger what its operator must know.
func (b backend) booksOf(v control.LedgerStatus) control.LedgerStatus {
	l := b.d.node.Ledger()
	if l == nil {
		return v
	}
	v.ClockHeldSeconds = l.Clock().Held.Seconds()
	if r := l.Rollback(); r != nil {
		v.RolledBack = fmt.Sprintf("block %d was promised, and the newest is %d", r.Promised.Height, r.Height)
	}
	return v
}
