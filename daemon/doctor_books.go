package daemon

import (
	"context"
	"fmt"
	"time"

	"scn.alt/scn/daemon/control"
)

// checkBooks looks at the ledger of an authority; elsewhere there is nothing to look
// at.
func checkBooks(ctx context.Context, client *control.Client) []Finding {
	c, err := client.LedgerClock(ctx)
	if err != nil {
		return nil
	}
	out := []Finding{{"ledger's clock", Good, "the ledger follows this host's clock", ""}}
	if held := time.Duration(c.HeldSeconds * float64(time.Second)); held != 0 {
		out[0] = Finding{
			"ledger's clock", Bad, fmt.Sprintf("the clock jumped by %s and the ledger's time did not follow", held.Round(time.Second)),
			"set this host's clock right; if it is right: scn ledger clock --accept",
		}
	}
	s, err := client.LedgerStatus(ctx)
	switch {
	case err != nil:
		return append(out, Finding{"ledger", Bad, err.Error(), "look at the daemon's log"})
	case s.RolledBack != "":
		return append(out, Finding{
			"ledger", Bad, "it was put back to an older state and takes no transactions: " + s.RolledBack,
			"restore a newer backup (scn ledger restore FILE), or say that there is none (scn ledger restore --accept-rollback)",
		})
	}
	return append(out, Finding{"ledger", Good, fmt.Sprintf("%d blocks, kept from %d", s.Height, s.Pruned+1), ""})
}
