package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"

	"golang.org/x/sync/errgroup"

	"scn.alt/scn/cashier"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal"
)

// checkpointFile holds the newest checkpoint of the ledger this node has seen. A
// ledger restored from a backup older than it is refused until the file is removed.
const checkpointFile = stateDir + "/checkpoint"

// maxCheckpoint bounds the file: a checkpoint takes some 500 bytes.
const maxCheckpoint = 16 << 10

// seenCheckpoint keeps the newest checkpoint on disk. It implements
// cashier.CheckpointStore.
type seenCheckpoint struct {
	dir Directory
	log *slog.Logger
}

var _ cashier.CheckpointStore = seenCheckpoint{}

// Load implements cashier.CheckpointStore.
func (s seenCheckpoint) Load() ([]byte, error) {
	b, err := readBounded(s.dir.join(checkpointFile), maxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Save implements cashier.CheckpointStore.
func (s seenCheckpoint) Save(signed []byte) {
	if err := s.dir.write(checkpointFile, signed, 0o600); err != nil {
		s.log.Warn("newest checkpoint not kept", "err", err)
	}
}

// NameProof is what the ledger proves of a name, and who says otherwise.
type NameProof struct {
	Name       name.Name
	Registered bool
	// Record is that of a name which is registered, or was.
	Record name.Record
	// Checkpoint is the one it was proved under.
	Checkpoint cashier.Checkpoint
	// Wrong are the answers of nodes that serve something else, in order of node IDs.
	Wrong []WrongAnswer
}

// WrongAnswer is of a node that answers what is not so.
type WrongAnswer struct {
	Node identity.NodeID
	// What it does, as the rest of a sentence that begins with the node.
	What string
}

// ProveName asks the ledger for what it can prove of a name, and every node that
// should have the name's record for its copy. An error that matches
// cashier.ErrAnswer means that the ledger's answer did not hold; Wrong then names who
// gave it.
func (n *Node) ProveName(ctx context.Context, nm name.Name) (NameProof, error) {
	out := NameProof{Name: nm}
	var answer cashier.Answer
	var copies []routing.NameCopy
	var group errgroup.Group
	group.Go(func() (err error) {
		answer, err = n.books.Lookup(ctx, nm)
		if err == nil && n.ledger != nil {
			answer.Proof, err = n.ledger.Checkpoint(ctx) // its own word
		}
		return err
	})
	group.Go(func() error {
		copies, _ = n.router.NameCopies(ctx, nm) // nobody to ask is nobody who lies
		return nil
	})
	if err := group.Wait(); err != nil {
		if wrong, ok := errors.AsType[*cashier.AnswerError](err); ok {
			if from, ok := wrong.Server.(sal.Addr); ok {
				out.Wrong = []WrongAnswer{{from.Node, "gave an answer of the ledger that does not hold: " + wrong.Err.Error()}}
			}
		}
		return out, err
	}
	if slices.ContainsFunc(copies, func(c routing.NameCopy) bool { return c.Err == nil && c.Record.Height > answer.Height }) {
		// The name may have changed a moment ago.
		again, err := n.books.Lookup(ctx, nm)
		if err != nil {
			return out, err
		}
		if n.ledger != nil {
			if again.Proof, err = n.ledger.Checkpoint(ctx); err != nil {
				return out, err
			}
		}
		answer = again
	}
	out.Registered, out.Record, out.Checkpoint = answer.Registered, answer.Record, answer.Proof.Checkpoint
	for _, c := range copies {
		if what := otherThan(answer, c); what != "" {
			out.Wrong = append(out.Wrong, WrongAnswer{c.Node, what})
		}
	}
	return out, nil
}

// ForgetName drops what this node remembers of a name; the next who asks for it asks
// the network.
func (n *Node) ForgetName(nm name.Name) { n.names.Forget(nm) }

// otherThan says what is wrong with a node's copy of a record, given what was proved;
// nothing if it is the same.
func otherThan(proved cashier.Answer, c routing.NameCopy) string {
	switch {
	case errors.Is(c.Err, name.ErrExpired):
		return "serves a record that has expired"
	case c.Err != nil:
		return fmt.Sprintf("serves a forged record: %v", c.Err)
	case c.Record.Height > proved.Height:
		return fmt.Sprintf("serves a record of height %d, above the ledger's %d", c.Record.Height, proved.Height)
	case proved.Signed == nil:
		if c.Record.Released {
			return ""
		}
		return fmt.Sprintf("serves a record of height %d of a name that is free", c.Record.Height)
	case c.Record.Height < proved.Record.Height:
		return fmt.Sprintf("serves an older record, of height %d; the newest is of height %d", c.Record.Height, proved.Record.Height)
	case c.Record.Height != proved.Record.Height, c.Record.Service != proved.Record.Service, c.Record.Owner != proved.Record.Owner:
		return fmt.Sprintf("serves another record, of height %d and service %s", c.Record.Height, c.Record.Service)
	}
	return ""
}
