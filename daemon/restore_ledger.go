package daemon

import (
	"context"
	"errors"
	"io"
	"path/filepath"

	"scn.alt/scn/cashier"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/daemon/node"
)

// RestoreLedger puts the ledger of a backup into the directory of an authority whose
// daemon is stopped. A ledger that is there is moved aside if force says so.
func RestoreLedger(ctx context.Context, dir string, in io.Reader, force bool, unpacked func(uint64), verified func(control.LedgerProgress)) (cashier.Restored, error) {
	d, err := node.OpenDirectory(dir)
	if err != nil {
		return cashier.Restored{}, err
	}
	key, err := d.NodeKey()
	if err != nil {
		return cashier.Restored{}, err
	}
	file, _, err := d.Network()
	if err != nil {
		return cashier.Restored{}, err
	}
	if !file.IsAuthority(key.Node()) {
		return cashier.Restored{}, control.Errorf(control.Refused, "this node is no authority of %s: it keeps no ledger", file.Name)
	}
	lock, err := d.Lock()
	if err != nil {
		return cashier.Restored{}, err
	}
	defer lock.Close()
	out, err := cashier.Restore(ctx, filepath.Join(dir, "ledger"), in, cashier.RestoreConfig{
		Network: file.ID, Authority: key.Node(), Force: force, Unpacked: unpacked,
		Verified: func(p cashier.Progress) { verified(progressOf(p)) },
	})
	if errors.Is(err, cashier.ErrNotEmpty) {
		return out, control.Errorf(control.Refused, "%w: --force moves it aside", err)
	}
	if err != nil {
		return out, control.Errorf(control.Failed, "%w", err)
	}
	return out, nil
}

func progressOf(p cashier.Progress) control.LedgerProgress {
	return control.LedgerProgress{From: p.From, Height: p.Height, Of: p.Of, Transactions: p.Transactions}
}
