package cashier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"scn.alt/scn/routing/identity"
)

// maxForks is how many of the newest forks a ledger tells.
const maxForks = 32

type forksReply struct {
	Forks [][]byte `cbor:"1,keyasint"`
}

func (s *Server) witness(r *http.Request) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, reject(Malformed, "body not received")
	}
	return struct{}{}, s.ledger.Witness(r.Context(), body)
}

func (s *Server) forks(r *http.Request) (any, error) {
	all, err := s.ledger.Forks(r.Context())
	return forksReply{all[max(0, len(all)-maxForks):]}, err
}

// dispute does what a client can about a ledger that does not continue what it
// signed before. Where the authority has stated a fork that says why, the newer
// history counts from now on; else the authority is shown what it signed, so that
// it notices. The error stays the same but for that.
func (c *Client) dispute(ctx context.Context, err error) error {
	var before, got SignedCheckpoint
	if rollback, ok := errors.AsType[*RollbackError](err); ok {
		before, got = rollback.Seen, rollback.Got
	} else if fork, ok := errors.AsType[*ForkError](err); ok {
		before, got = fork.Seen, fork.Got
	} else {
		return err
	}
	forks, failure := c.Forks(ctx)
	for _, f := range forks {
		if f.Excuses(before.Checkpoint) && f.Time >= before.Time {
			c.seen.replace(got)
			return fmt.Errorf("%w; its authority has stated that the ledger goes on from block %d, which is believed from now on", err, f.Height)
		}
	}
	return errors.Join(err, failure, c.Witness(ctx, before.Signed))
}

// replace forgets what was seen for what counts now.
func (s *seen) replace(c SignedCheckpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = &c
	if s.store != nil {
		s.store.Save(c.Signed)
	}
}

// Forks asks for the forks the ledger has stated, the oldest first.
func (c *Client) Forks(ctx context.Context) (out []Fork, err error) {
	err = c.call(ctx, http.MethodGet, pathForks, nil, maxReply, func(b []byte) error {
		var reply forksReply
		if err := identity.Unmarshal(b, &reply); err != nil {
			return err
		}
		if len(reply.Forks) > maxForks {
			return fmt.Errorf("%d forks, at most %d", len(reply.Forks), maxForks)
		}
		out = nil
		for _, signed := range reply.Forks {
			f, err := OpenFork(c.cfg.Network, c.cfg.Authorities, signed)
			if err != nil {
				return err
			}
			out = append(out, f)
		}
		return nil
	})
	return out, err
}

// Witness shows the ledger a checkpoint that it signed. ErrRolledBack says that it
// has lost what it promised then.
func (c *Client) Witness(ctx context.Context, signed []byte) error {
	return c.call(ctx, http.MethodPost, pathWitness, signed, maxReply, func([]byte) error { return nil })
}
