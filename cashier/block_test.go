package cashier

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func goodBlock(t testing.TB) Block {
	t.Helper()
	b := Block{
		Header:       Header{Version: RulesVersion, Network: network, Height: 1, Time: 1_800_000_000, AppHash: Hash{1}},
		Transactions: [][]byte{registration(t, alice, files, 1, "files"), sealed(t, alice, 2, Release{"files"})},
	}
	b.Header.Transactions = bodyHash(b.Header.Version, b.Transactions)
	return b
}

func TestGoldenBlock(t *testing.T) {
	b := Block{
		Header:       Header{Version: 1, Network: network, Height: 2, Previous: Hash{1}, Time: 1_800_000_000, AppHash: Hash{2}},
		Transactions: [][]byte{{0xaa}, {0xbb, 0xcc}},
	}
	b.Header.Transactions = bodyHash(b.Header.Version, b.Transactions)
	want := unhex(t, `
		a2                          # block, a map of 2
		01 a7                       # 1: header, a map of 7
		   01 01                    # 1: version 1
		   02 58 20                 # 2: network
		      9064bd922b1c3cce4d52b9b6dcee1a5dbf82a814284cb27d43131f2c591e3b4f
		   03 02                    # 3: height 2
		   04 58 20                 # 4: previous block
		      0100000000000000000000000000000000000000000000000000000000000000
		   05 1a 6b49d200           # 5: time 1800000000
		   06 58 20                 # 6: app hash before it
		      0200000000000000000000000000000000000000000000000000000000000000
		   07 58 20                 # 7: hash of the transactions
		      6243ce8fd2e33bddfd226acd21323007c53e675a4d75a86d791ff26343c3c2de
		02 82                       # 2: transactions, 2
		   41 aa
		   42 bbcc
	`)
	got := must[[]byte](t)(b.Encode())
	if !bytes.Equal(got, want) {
		t.Fatalf("block\n%x, want\n%x", got, want)
	}
	if h := "8ef6b6a9f61e4fb989ce4e618676a86756a8b59c23e6eb8edc6d9c1fc1101235"; b.Header.Hash().String() != h {
		t.Errorf("hash %s, want %s", b.Header.Hash(), h)
	}
}

func TestBlockRoundTrip(t *testing.T) {
	b := goodBlock(t)
	raw := must[[]byte](t)(b.Encode())
	got := must[Block](t)(DecodeBlock(raw))
	if diff := cmp.Diff(b, got); diff != "" {
		t.Fatal(diff)
	}
	if txs := must[[]Transaction](t)(got.Open()); len(txs) != 2 || txs[1].Operation.Kind() != KindRelease {
		t.Errorf("transactions %+v", txs)
	}
	for i := range raw {
		if _, err := DecodeBlock(raw[:i]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: %v", i, err)
		}
		// A flip in the header changes the hash; one in the body is noticed at once.
		flipped := bytes.Clone(raw)
		flipped[i] ^= 1 << (i % 8)
		if d, err := DecodeBlock(flipped); err == nil && d.Header.Hash() == b.Header.Hash() {
			t.Errorf("byte %d flipped, and nobody noticed", i)
		}
	}
	if _, err := DecodeBlock(append(raw, 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a trailing byte: %v", err)
	}
}

func TestDecodeBlockRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Block)
		want   error
	}{
		{"newer version", func(b *Block) { b.Header.Version++ }, ErrFormat},
		{"height 0", func(b *Block) { b.Header.Height = 0 }, ErrCorrupt},
		{"negative time", func(b *Block) { b.Header.Time = -1 }, ErrCorrupt},
		{"transaction left out", func(b *Block) { b.Transactions = b.Transactions[:1] }, ErrCorrupt},
		{"transactions exchanged", func(b *Block) {
			b.Transactions[0], b.Transactions[1] = b.Transactions[1], b.Transactions[0]
		}, ErrCorrupt},
		{"boundary moved", func(b *Block) {
			x, y := b.Transactions[0], b.Transactions[1]
			b.Transactions = [][]byte{append(bytes.Clone(x), y[0]), y[1:]}
		}, ErrCorrupt},
		{"too many transactions", func(b *Block) {
			b.Transactions = make([][]byte, MaxBlockTransactions+1)
			b.Header.Transactions = bodyHash(b.Header.Version, b.Transactions)
		}, ErrCorrupt},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := goodBlock(t)
			tt.change(&b)
			if _, err := DecodeBlock(must[[]byte](t)(b.Encode())); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := DecodeBlock(make([]byte, MaxBlock+1)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("too large: %v", err)
	}
}

// The largest block there can be is within the bounds of its decoder.
func TestLargestBlock(t *testing.T) {
	b := Block{Header: Header{Version: 1, Network: network, Height: 1<<63 - 1, Time: 1<<62 + 1}}
	for range MaxBlockTransactions {
		b.Transactions = append(b.Transactions, make([]byte, MaxTransaction))
	}
	b.Header.Transactions = bodyHash(b.Header.Version, b.Transactions)
	raw := must[[]byte](t)(b.Encode())
	if _, err := DecodeBlock(raw); err != nil || len(raw) > MaxBlock {
		t.Errorf("%d bytes: %v", len(raw), err)
	}
}

func FuzzDecodeBlock(f *testing.F) {
	f.Add(must[[]byte](f)(goodBlock(f).Encode()))
	f.Add(must[[]byte](f)(Block{Header: Header{Version: 1, Height: 1, Transactions: bodyHash(1, nil)}}.Encode()))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := DecodeBlock(raw)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
				t.Errorf("%x: %v", raw, err)
			}
			return
		}
		if again, err := b.Encode(); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%x has a second encoding %x, %v", raw, again, err)
		}
		_, _ = b.Open()
	})
}
