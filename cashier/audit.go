package cashier

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Audit fetches the whole ledger and checks it from its beginning: every hash, every
// signature, every rule. It keeps the state in memory. What the blocks lead to is
// compared with what the authority signed of its newest block; an error wrapping
// ErrCorrupt says what does not fit. progress, if not nil, is called after each block.
func (c *Client) Audit(ctx context.Context, progress func(Progress)) (Status, error) {
	status, err := c.Status(ctx)
	if err != nil {
		return status, err
	}
	genesis, err := c.Genesis(ctx)
	if err != nil {
		return status, err
	}
	r, err := NewReplay(c.cfg.Network, genesis)
	if err != nil {
		return status, fmt.Errorf("%w: genesis: %w", ErrCorrupt, err)
	}
	done := Progress{Of: status.Height}
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
	if r.Block() != status.Block || r.AppHash() != status.AppHash {
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
