package cashier

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"scn.alt/scn/cashier/tree"
)

// CheckpointStore keeps the newest checkpoint a client has seen of its network, so
// that a ledger cannot go back behind it unnoticed.
type CheckpointStore interface {
	// Load returns what was saved last, nil if nothing was.
	Load() ([]byte, error)
	// Save keeps a signed checkpoint. A store that cannot says so itself: what was
	// asked is answered all the same.
	Save(signed []byte)
}

// ErrRollback is matched by a *RollbackError: a ledger that is older than it was
// before, as after the restoring of an old backup.
var ErrRollback = errors.New("cashier: ledger went back")

// ErrFork is matched by a *ForkError: a ledger that has another history than before.
var ErrFork = errors.New("cashier: ledger has another history than before")

// ErrStale is matched by a *StaleError: an answer under a checkpoint too old to count.
var ErrStale = errors.New("cashier: answer is not current")

// RollbackError names the checkpoint that was seen and the older one a ledger shows
// now, both signed by an authority.
type RollbackError struct {
	Seen, Got SignedCheckpoint
}

// Error describes both.
func (e *RollbackError) Error() string {
	return fmt.Sprintf("%v: it was at %s, and shows %s", ErrRollback, e.Seen, e.Got)
}

// Is reports whether target is ErrRollback.
func (e *RollbackError) Is(target error) bool { return target == ErrRollback }

// ForkError names two checkpoints of which neither continues the other, or was not
// shown to. With both signatures it is evidence against the authority.
type ForkError struct {
	Seen, Got SignedCheckpoint
	// Err says why, if it is not that both are of one height.
	Err error
}

// Error describes both.
func (e *ForkError) Error() string {
	s := fmt.Sprintf("%v: %s does not continue %s", ErrFork, e.Got, e.Seen)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is reports whether target is ErrFork.
func (e *ForkError) Is(target error) bool { return target == ErrFork }

// Unwrap returns why.
func (e *ForkError) Unwrap() error { return e.Err }

// StaleError tells how old an answer's checkpoint is, by this host's clock; negative
// for one from the future.
type StaleError struct {
	Checkpoint SignedCheckpoint
	Age        time.Duration
}

// Error describes it.
func (e *StaleError) Error() string {
	if e.Age < 0 {
		return fmt.Sprintf("%v: its checkpoint was signed %s from now; is this host's clock right?", ErrStale, -e.Age)
	}
	return fmt.Sprintf("%v: its checkpoint, %s, was signed %s ago, at most %s is allowed", ErrStale, e.Checkpoint, e.Age, MaxCheckpointAge)
}

// Is reports whether target is ErrStale.
func (e *StaleError) Is(target error) bool { return target == ErrStale }

// seen is the newest checkpoint of a client.
type seen struct {
	store CheckpointStore // nil: in memory only

	mu     sync.Mutex
	loaded bool              // guarded by mu
	newest *SignedCheckpoint // guarded by mu; nil before the first
}

// before returns what was seen when a question is asked. The answer is held against
// that, not against what other questions learn meanwhile: answers may overtake each
// other.
func (c *Client) before() (*SignedCheckpoint, error) {
	s := &c.seen
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.loaded && s.store != nil {
		signed, err := s.store.Load()
		if err != nil {
			return nil, fmt.Errorf("cashier: newest checkpoint seen: %w", err)
		}
		if signed != nil {
			cp, err := OpenCheckpoint(c.cfg.Network, c.cfg.Authorities, signed)
			if err != nil {
				return nil, fmt.Errorf("cashier: newest checkpoint seen: %w", err)
			}
			s.newest = &cp
		}
	}
	s.loaded = true
	return s.newest, nil
}

// since is the query that tells a ledger what was seen.
func since(before *SignedCheckpoint) string {
	if before == nil {
		return ""
	}
	return "?since=" + strconv.FormatUint(before.Height, 10)
}

// accept verifies the checkpoint of an answer, and that it continues what was seen.
func (c *Client) accept(before *SignedCheckpoint, p proved) (SignedCheckpoint, error) {
	cp, err := OpenCheckpoint(c.cfg.Network, c.cfg.Authorities, p.Checkpoint)
	if err != nil {
		return cp, err
	}
	if before != nil {
		if err := follows(*before, cp, p.Consistency); err != nil {
			return cp, err
		}
	}
	age := c.cfg.Clock().Sub(time.Unix(cp.Time, 0)).Truncate(time.Second)
	if age > MaxCheckpointAge || age < -MaxCheckpointAge {
		return cp, &StaleError{cp, age}
	}
	s := &c.seen
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.newest; n == nil || cp.Height > n.Height {
		s.newest = &cp
		if s.store != nil {
			s.store.Save(cp.Signed)
		}
	}
	return cp, nil
}

// follows checks that a checkpoint continues one seen before.
func follows(before, next SignedCheckpoint, consistency []Hash) error {
	switch {
	case next.Height < before.Height:
		return &RollbackError{before, next}
	case next.Height == before.Height:
		if next.Block != before.Block || next.AppHash != before.AppHash || next.Log != before.Log || next.Roots != before.Roots {
			return &ForkError{Seen: before, Got: next}
		}
		return nil
	}
	err := tree.VerifyConsistency(before.Height, next.Height, treeHashes(consistency), tree.Hash(before.Log), tree.Hash(next.Log))
	if err != nil {
		return &ForkError{before, next, err}
	}
	return nil
}

// Checkpoint asks where the ledger stands. What it returns continues every checkpoint
// this client has seen, and becomes the newest of them.
func (c *Client) Checkpoint(ctx context.Context) (SignedCheckpoint, error) {
	before, err := c.before()
	if err != nil {
		return SignedCheckpoint{}, err
	}
	var out SignedCheckpoint
	err = c.call(ctx, http.MethodGet, pathCheckpoint+since(before), nil, maxReply, func(b []byte) error {
		p, err := openProved(b)
		if err == nil {
			out, err = c.accept(before, p)
		}
		return err
	})
	return out, err
}
