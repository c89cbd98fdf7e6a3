package cashier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"scn.alt/scn/routing/identity"
)

// MaxCheckpointAge is how old a checkpoint may be for what is proved under it to
// count as current. Shorter would refuse hosts whose clocks are a little off.
const MaxCheckpointAge = time.Hour

// Checkpoint is where a ledger stands and all its app hash is made of, as signed by
// the authority: who holds it can check any row, block or transaction the authority
// ever claims, and that its history only grows.
//
// Rules for adding a field: next integer key, omitzero, never reuse a key.
type Checkpoint struct {
	Network identity.NetworkID `cbor:"1,keyasint"`
	// Height is that of the newest block, and the size of the log of blocks.
	Height uint64 `cbor:"2,keyasint"`
	// Block is the hash of the newest block, AppHash the app hash after it, Rules the
	// version of the rules it was made by; 0 before the first block.
	Block   Hash   `cbor:"3,keyasint"`
	AppHash Hash   `cbor:"4,keyasint"`
	Rules   uint64 `cbor:"5,keyasint,omitzero"`
	// Roots, Log and Chain are what the app hash is made of under the third rules.
	// Log is the root of an RFC 6962 log whose entries are the hashes of all blocks.
	Roots Roots `cbor:"6,keyasint"`
	Log   Hash  `cbor:"7,keyasint"`
	Chain Hash  `cbor:"8,keyasint,omitzero"`
	// BlockTime is when the newest block was made, Time when this was signed, in Unix
	// seconds.
	BlockTime int64 `cbor:"9,keyasint"`
	Time      int64 `cbor:"10,keyasint"`
}

// SignedCheckpoint is a checkpoint with its signature.
type SignedCheckpoint struct {
	Checkpoint
	Signed []byte
}

// String describes the checkpoint in a line.
func (c Checkpoint) String() string {
	return fmt.Sprintf("height %d, block %x, signed %s", c.Height, c.Block[:4], time.Unix(c.Time, 0).UTC().Format(time.DateTime))
}

// validate checks what can be checked of a checkpoint alone.
func (c Checkpoint) validate(network identity.NetworkID) error {
	switch {
	case c.Network != network:
		return fmt.Errorf("checkpoint: %w", ErrNetwork)
	case c.Rules > RulesVersion:
		return fmt.Errorf("%w: checkpoint by rules of version %d, this program knows %d", ErrFormat, c.Rules, RulesVersion)
	case c.Rules >= rulesMarket && c.AppHash != appHash(c.Height, c.Roots, c.Log, c.Chain):
		return errors.New("checkpoint: the app hash is not made of these roots")
	}
	return nil
}

// seal signs the checkpoint.
func (c Checkpoint) seal(key identity.PrivateKey) (SignedCheckpoint, error) {
	signed, err := sealAs(key, typeCheckpoint, c)
	return SignedCheckpoint{c, signed}, err
}

// OpenCheckpoint verifies a checkpoint that an authority of the network signed.
func OpenCheckpoint(network identity.NetworkID, authorities []identity.NodeID, signed []byte) (SignedCheckpoint, error) {
	var c Checkpoint
	if err := openAnswer(typeCheckpoint, signed, authorities, &c); err != nil {
		return SignedCheckpoint{}, err
	}
	return SignedCheckpoint{c, signed}, c.validate(network)
}

// Checkpoint returns the newest block's, signed now.
func (l *Ledger) Checkpoint(context.Context) (SignedCheckpoint, error) {
	if err := l.enter(); err != nil {
		return SignedCheckpoint{}, err
	}
	defer l.readers.Done()
	c := l.books.checkpoint()
	c.Time = l.now().Unix()
	return l.signCheckpoint(c)
}

// signCheckpoint signs a checkpoint, once for all who ask within a second.
func (l *Ledger) signCheckpoint(c Checkpoint) (SignedCheckpoint, error) {
	if p := l.checkpoint.Load(); p != nil && p.Height == c.Height && p.Block == c.Block && p.Time == c.Time {
		return *p, nil
	}
	signed, err := c.seal(l.key)
	if err == nil {
		l.checkpoint.Store(&signed)
	}
	return signed, err
}
