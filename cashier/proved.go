package cashier

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"scn.alt/scn/cashier/tree"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// proved is the part of an answer that needs no belief: rows of the state, each
// proved present or absent under a checkpoint, and that the checkpoint continues the
// one the asker has seen.
type proved struct {
	Checkpoint  []byte      `cbor:"1,keyasint"`
	Consistency []Hash      `cbor:"2,keyasint,omitempty"`
	Rows        []provedRow `cbor:"3,keyasint,omitempty"`
}

// provedRow is one row, in the order of the keys that belong to the question.
type provedRow struct {
	// Value is empty for a row that is absent: no row of a tree is empty.
	Value []byte `cbor:"1,keyasint,omitempty"`
	Proof []byte `cbor:"2,keyasint"`
}

// nameKeys are the rows an answer about a name rests on: its own, and what its life
// depends on besides.
func nameKeys(n name.Name) [][]byte { return [][]byte{nameKey(n), parametersKey, leaseStartKey} }

// accountKeys are the rows an answer about an account rests on.
func accountKeys(a identity.AccountID) [][]byte {
	return [][]byte{accountKey(a), moneyKey(a), keysKey(a), stakeKey(a)}
}

// prove calls read with the state of one moment, and proves the rows with these keys
// under a checkpoint of the same moment. since is the height of a checkpoint the
// asker has seen. It waits for a block being written, so that the checkpoint is of
// what is on the disk.
func (l *Ledger) prove(ctx context.Context, since uint64, keys [][]byte, read func(rows, Checkpoint) error) (proved, error) {
	for {
		changed := l.changes()
		var c Checkpoint
		var proofs [][]byte
		list := make([]row, len(keys))
		behind := false
		err := l.snapshot(func(s rows, h head) (err error) {
			for i, key := range keys {
				list[i].key = key
				if list[i].value, err = s.Get(key); err != nil {
					return err
				}
			}
			c, proofs, err = l.books.prove(h, list)
			behind = c.Height < h.Height
			if err == nil {
				c.Time = l.now().Unix()
				err = read(s, c)
			}
			return err
		})
		if errors.Is(err, errMoved) {
			if !behind {
				continue // a block came after the snapshot
			}
			select {
			case <-changed: // the block in the snapshot is about to be committed to
				continue
			case <-l.stop:
				return proved{}, ErrClosed
			case <-ctx.Done():
				return proved{}, ctx.Err()
			}
		}
		if err != nil {
			return proved{}, err
		}
		out, err := l.attest(c, since)
		for i, r := range list {
			out.Rows = append(out.Rows, provedRow{r.value, proofs[i]})
		}
		return out, err
	}
}

// attest signs a checkpoint, and shows that it continues that of a height before.
func (l *Ledger) attest(c Checkpoint, since uint64) (proved, error) {
	signed, err := l.signCheckpoint(c)
	if err != nil {
		return proved{}, err
	}
	out := proved{Checkpoint: signed.Signed}
	if since < c.Height {
		out.Consistency, err = l.Consistency(since, c.Height)
	}
	return out, err
}

// Consistency shows that the log of the first to blocks begins with that of the first
// from blocks, for tree.VerifyConsistency.
func (l *Ledger) Consistency(from, to uint64) (out []Hash, err error) {
	if to > l.head.Load().Height || from > to {
		return nil, reject(NotFound, "no blocks %d to %d", from, to)
	}
	err = l.read(func(s rows) error {
		hashes, err := tree.Consistency(from, to, func(level uint8, index uint64) (tree.Hash, error) {
			h, err := readLog(s.r, level, index)
			return tree.Hash(h), err
		})
		out = ownHashes(hashes)
		return err
	})
	return out, err
}

// sinceOf reads the height of the checkpoint the asker has seen; 0 if he tells none.
func sinceOf(r *http.Request) (uint64, error) {
	text := r.URL.Query().Get("since")
	if text == "" {
		return 0, nil
	}
	since, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, reject(Malformed, "since")
	}
	return since, nil
}

func (s *Server) checkpoint(r *http.Request) (any, error) {
	since, err := sinceOf(r)
	if err != nil {
		return nil, err
	}
	c, err := s.ledger.Checkpoint(r.Context())
	if err != nil {
		return nil, err
	}
	return s.ledger.attest(c.Checkpoint, since)
}

func openProved(b []byte) (p proved, err error) {
	err = identity.Unmarshal(b, &p)
	return p, err
}

// openRows verifies the rows of an answer under a checkpoint and returns them as a
// state of their own.
func (p proved) openRows(c Checkpoint, keys [][]byte) (memory, error) {
	if len(p.Rows) != len(keys) {
		return nil, fmt.Errorf("%d rows, not %d", len(p.Rows), len(keys))
	}
	out := memory{}
	for i, key := range keys {
		r := p.Rows[i]
		proof, err := tree.ParseProof(r.Proof)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", rowName(key), err)
		}
		root := tree.Hash(*c.Roots.at(treeOf(key)))
		if len(r.Value) == 0 {
			err = proof.Absent(root, key)
		} else {
			err = proof.Present(root, key, r.Value)
			out[string(key)] = r.Value
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", rowName(key), err)
		}
	}
	return out, nil
}
