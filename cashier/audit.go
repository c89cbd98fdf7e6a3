package cashier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"scn.alt/scn/routing/identity"
)

// Audit fetches the whole ledger and checks it from its beginning: every hash, every
// signature, every rule. It keeps the state in memory. What the blocks lead to is
// compared with what the authority signed of its newest block; an error wrapping
// ErrCorrupt says what does not fit. progress, if not nil, is called after each block.
//
// Of a pruned ledger only the blocks that are kept can be checked, and only by
// themselves: that they follow one another up to what the authority signed, and
// every signature in them. Whether each obeyed the rules rests on the state before
// the first of them, which is the authority's word; Progress.From is then not 0.
func (c *Client) Audit(ctx context.Context, progress func(Progress)) (Status, error) {
	status, err := c.Status(ctx)
	if err != nil {
		return status, err
	}
	genesis, err := c.Genesis(ctx)
	if err != nil {
		return status, err
	}
	var r auditor
	if status.Pruned > 0 {
		r = &chainAudit{network: c.cfg.Network, rules: genesis.Rules, height: status.Pruned}
	} else if r, err = NewReplay(c.cfg.Network, genesis); err != nil {
		return status, fmt.Errorf("%w: genesis: %w", ErrCorrupt, err)
	}
	done := Progress{From: status.Pruned, Height: status.Pruned, Of: status.Height}
	for done.Height < status.Height {
		blocks, err := c.blocksPatiently(ctx, done.Height+1)
		if err != nil {
			return status, err
		}
		if len(blocks) == 0 {
			return status, fmt.Errorf("%w: block %d is not given", ErrCorrupt, done.Height+1)
		}
		for _, b := range blocks[:min(uint64(len(blocks)), status.Height-done.Height)] {
			if _, err := r.Apply(b); err != nil {
				return status, err
			}
			done.Height, done.Transactions = b.Header.Height, done.Transactions+uint64(len(b.Transactions))
			if progress != nil {
				progress(done)
			}
		}
	}
	if replay, ok := r.(*Replay); r.Block() != status.Block || ok && replay.AppHash() != status.AppHash {
		return status, fmt.Errorf("%w: the blocks lead to another state than the authority signed", ErrCorrupt)
	}
	return status, nil
}

// blocksPatiently waits where the ledger limits how much is asked.
func (c *Client) blocksPatiently(ctx context.Context, from uint64) ([]Block, error) {
	for {
		blocks, err := c.Blocks(ctx, from)
		if !errors.Is(err, ErrRateLimited) {
			return blocks, err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// auditor takes blocks in their order, and says what is wrong with one.
type auditor interface {
	Apply(Block) (Outcome, error)
	Block() Hash
}

// chainAudit checks blocks without the state they build on.
type chainAudit struct {
	network identity.NetworkID
	rules   schedule
	height  uint64 // of the last block, or of the last that was pruned
	block   Hash   // zero before the first
	time    int64
}

// Block implements auditor.
func (a *chainAudit) Block() Hash { return a.block }

// Apply implements auditor: it checks that the block follows, and every signature.
func (a *chainAudit) Apply(b Block) (Outcome, error) {
	h := b.Header
	switch {
	case h.Network != a.network || h.Height != a.height+1 || a.block != (Hash{}) && h.Previous != a.block:
		return Outcome{}, fmt.Errorf("%w: block %d does not follow block %d", ErrCorrupt, h.Height, a.height)
	case h.Time < a.time || h.Transactions != bodyHash(h.Version, b.Transactions) || h.Version != a.rules.at(h.Height):
		return Outcome{}, fmt.Errorf("%w: block %d: wrong time, transactions or rules", ErrCorrupt, h.Height)
	}
	if _, err := b.Open(); err != nil {
		return Outcome{}, err
	}
	a.height, a.block, a.time = h.Height, h.Hash(), h.Time
	return Outcome{}, nil
}
