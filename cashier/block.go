package cashier

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"scn.alt/scn/cashier/tree"
	"scn.alt/scn/routing/identity"
)

// MaxBlockTransactions is the largest number of transactions in a block. The
// decoder of signed CBOR allows lists of 4096.
const MaxBlockTransactions = 4096

// MaxBlock is the largest encoded block in bytes.
const MaxBlock = MaxBlockTransactions*(MaxTransaction+3) + 1<<10

// Header chains a block to the one before it.
//
// Rules for adding a field: a new Version; readers refuse what they do not know.
type Header struct {
	// Version is that of the rules the block was made by.
	Version uint64             `cbor:"1,keyasint"`
	Network identity.NetworkID `cbor:"2,keyasint"`
	// Height is 1 for the first block. An empty ledger has height 0.
	Height uint64 `cbor:"3,keyasint"`
	// Previous is the hash of the block before, zero at height 1.
	Previous Hash `cbor:"4,keyasint"`
	// Time is when the block was made in Unix seconds, never before the previous one's.
	Time int64 `cbor:"5,keyasint"`
	// AppHash is the app hash before this block.
	AppHash Hash `cbor:"6,keyasint"`
	// Transactions is the hash of the body.
	Transactions Hash `cbor:"7,keyasint"`
}

// Block is a header and the signed transactions in their order.
type Block struct {
	Header       Header   `cbor:"1,keyasint"`
	Transactions [][]byte `cbor:"2,keyasint"`
}

// Hash identifies the block and, through Previous, all blocks before it.
func (h Header) Hash() (out Hash) {
	b, err := identity.Marshal(h)
	if err != nil {
		panic(err) // plain values always encode
	}
	s := sha256.New()
	s.Write([]byte("scn/ledger/v1 block"))
	s.Write(b)
	s.Sum(out[:0])
	return out
}

// Encode returns the block's one encoding.
func (b Block) Encode() ([]byte, error) {
	out, err := identity.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode block %d: %w", b.Header.Height, err)
	}
	return out, nil
}

// DecodeBlock reads an encoded block and checks what can be checked without its
// neighbours: sizes, version, and that header and body belong together. The
// signatures of the transactions are not checked; Open does that.
func DecodeBlock(b []byte) (Block, error) {
	if len(b) > MaxBlock {
		return Block{}, fmt.Errorf("%w: block of %d bytes, at most %d", ErrCorrupt, len(b), MaxBlock)
	}
	var out Block
	if err := identity.Unmarshal(b, &out); err != nil {
		return Block{}, fmt.Errorf("%w: block: %w", ErrCorrupt, err)
	}
	h := out.Header
	switch {
	case h.Version < rulesNames || h.Version > RulesVersion:
		return Block{}, fmt.Errorf("%w: block %d of version %d, this program knows %d", ErrFormat, h.Height, h.Version, RulesVersion)
	case h.Height == 0 || h.Time < 0:
		return Block{}, fmt.Errorf("%w: block with height %d and time %d", ErrCorrupt, h.Height, h.Time)
	case h.Transactions != bodyHash(h.Version, out.Transactions):
		return Block{}, fmt.Errorf("%w: block %d: header and transactions do not belong together", ErrCorrupt, h.Height)
	}
	return out, nil
}

// Open verifies every transaction of the block, for Apply.
func (b Block) Open() ([]Transaction, error) {
	txs := make([]Transaction, len(b.Transactions))
	for i, r := range openTransactions(b.Header.Network, b.Transactions, txs) {
		if r != nil {
			return nil, fmt.Errorf("%w: block %d, transaction %d: %w", ErrCorrupt, b.Header.Height, i, r)
		}
	}
	return txs, nil
}

// bodyHash is the root of an RFC 6962 log of the transactions, so that each can be
// shown to be in its block; under the first two rules, SHA-256 over their number and
// each with its length.
func bodyHash(version uint64, txs [][]byte) (out Hash) {
	if version >= rulesMarket {
		return tree.RootOf(txs)
	}
	s := sha256.New()
	s.Write([]byte("scn/ledger/v1 body"))
	var n [8]byte
	write := func(v int) {
		binary.BigEndian.PutUint64(n[:], uint64(v))
		s.Write(n[:])
	}
	write(len(txs))
	for _, tx := range txs {
		write(len(tx))
		s.Write(tx)
	}
	s.Sum(out[:0])
	return out
}
