package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/daemon/node"
)

// provePatience is how long a lookup waits for the proof of what it knows already.
const provePatience = 4 * time.Second

// prove puts the ledger's proof to what a name was resolved to, which came from
// whoever answered first; what was proved is what counts.
func (b backend) prove(ctx context.Context, r node.Resolution, out *control.Lookup) error {
	ctx, cancel := context.WithTimeout(ctx, provePatience)
	defer cancel()
	p, err := b.d.node.ProveName(ctx, r.Name)
	for _, l := range p.Wrong {
		out.Wrong = append(out.Wrong, control.WrongAnswer{NodeID: l.Node, What: l.What})
	}
	switch {
	case errors.Is(err, cashier.ErrAnswer):
		return err // it names who answered
	case err != nil:
		out.Unproved = err.Error()
		return nil
	}
	signed := time.Unix(p.Checkpoint.Time, 0)
	out.Proof = &control.Proof{
		Height: p.Checkpoint.Height, Block: p.Checkpoint.Block.String(), AppHash: p.Checkpoint.AppHash.String(),
		Signed: signed, AgeSeconds: max(0, b.d.node.Now().Sub(signed).Seconds()),
	}
	if p.Registered && p.Record.Service == r.Service {
		return nil
	}
	// What this host was told is not so, or no longer.
	b.d.node.ForgetName(r.Name)
	said := fmt.Sprintf("this host was told service %s, %s ago", r.Service, r.Age.Truncate(time.Second))
	if !p.Registered {
		return fmt.Errorf("%s: %w: the name is not registered, proved at height %d; %s%s", r.Name, node.ErrNotFound, p.Checkpoint.Height, said, dissent(out.Wrong))
	}
	out.ServiceID, out.AgeSeconds = p.Record.Service, 0
	out.Wrong = append(out.Wrong, control.WrongAnswer{NodeID: b.d.node.ID(), What: "remembered what is not so: " + said})
	return nil
}

func dissent(list []control.WrongAnswer) string {
	var s strings.Builder
	for _, l := range list {
		fmt.Fprintf(&s, "; node %s %s", l.NodeID, l.What)
	}
	return s.String()
}
