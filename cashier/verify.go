package cashier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/cashier/tree"
	"scn.alt/scn/routing/identity"
)

// checkChain follows the chain back from the head over the newest blocks, all of
// them if blocks is negative, to the base they were pruned up to. It checks hashes,
// heights, times and versions of the rules, not signatures.
func checkChain(r reader, h head, base baseRow, rules schedule, blocks int) error {
	want, height, t := h.Block, h.Height, h.Time
	if height < base.Height {
		return fmt.Errorf("%w: pruned up to block %d, and the newest is %d", ErrCorrupt, base.Height, height)
	}
	for ; height > base.Height && blocks != 0; height, blocks = height-1, blocks-1 {
		b, err := loadBlock(r, height)
		if err != nil {
			return err
		}
		switch hd := b.Header; {
		case hd.Hash() != want:
			return fmt.Errorf("%w: block %d is not the one its successor names", ErrCorrupt, height)
		case hd.Network != h.Network || hd.Height != height || hd.Time > t:
			return fmt.Errorf("%w: block %d: wrong network, height or time", ErrCorrupt, height)
		case hd.Version != rules.at(height):
			return fmt.Errorf("%w: block %d made by rules of version %d", ErrCorrupt, height, hd.Version)
		default:
			want, t = hd.Previous, hd.Time
		}
	}
	if height == base.Height && want != base.Block {
		return fmt.Errorf("%w: block %d does not follow what there was before", ErrCorrupt, height+1)
	}
	above, err := readBlock(r, h.Height+1)
	if err == nil && above != nil {
		return fmt.Errorf("%w: a block above the head", ErrCorrupt)
	}
	return err
}

func loadBlock(r reader, height uint64) (Block, error) {
	raw, err := readBlock(r, height)
	if err != nil {
		return Block{}, err
	}
	if raw == nil {
		return Block{}, fmt.Errorf("%w: block %d is missing", ErrCorrupt, height)
	}
	return DecodeBlock(raw)
}

// Replay applies blocks in their order, beginning with an empty ledger of the
// network, and checks everything each of them says.
type Replay struct {
	state State
	put   func([]Change) error
	rules schedule
	head  head
	books *commitment
	nodes []tree.LogNode // of the log, made by the last block
}

// NewReplay returns a replay from genesis that keeps the state in memory.
func NewReplay(network identity.NetworkID, genesis Genesis) (*Replay, error) {
	m := memory{}
	return newReplay(network, genesis, m, m.put)
}

func newReplay(network identity.NetworkID, genesis Genesis, s State, put func([]Change) error) (*Replay, error) {
	changes, app, err := genesis.start(network)
	if err != nil {
		return nil, err
	}
	h := head{Network: network, AppHash: app, Genesis: genesisHash(mustEncode(genesis))}
	return &Replay{state: s, put: put, rules: genesis.Rules, head: h, books: newCommitment(h, changes)}, put(changes)
}

// Apply checks the next block, with every signature in it, and applies it. After
// an error the replay stays where it was.
func (r *Replay) Apply(b Block) (Outcome, error) {
	h := b.Header
	switch {
	case h.Network != r.head.Network || h.Height != r.head.Height+1 || h.Previous != r.head.Block:
		return Outcome{}, fmt.Errorf("%w: block %d does not follow block %d", ErrCorrupt, h.Height, r.head.Height)
	case h.Time < r.head.Time || h.AppHash != r.head.AppHash || h.Transactions != bodyHash(h.Version, b.Transactions):
		return Outcome{}, fmt.Errorf("%w: block %d: wrong time, app hash or transactions", ErrCorrupt, h.Height)
	case h.Version != r.rules.at(h.Height):
		return Outcome{}, fmt.Errorf("%w: block %d made by rules of version %d", ErrCorrupt, h.Height, h.Version)
	}
	txs, err := b.Open()
	if err != nil {
		return Outcome{}, err
	}
	out, err := Apply(r.state, h, txs)
	if err != nil {
		return Outcome{}, err
	}
	for i, res := range out.Results {
		if res.Rejection != nil || res.Again {
			return Outcome{}, fmt.Errorf("%w: block %d, transaction %d should not be in it: %w", ErrCorrupt, h.Height, i, res.asError())
		}
	}
	next, nodes := r.books.stage(h, out.Changes)
	if err := r.put(out.Changes); err != nil {
		r.books.discard()
		return Outcome{}, err
	}
	r.books.commit(next, h.Version)
	r.head, r.nodes = next, nodes
	return out, nil
}

// Height returns the height of the last block applied.
func (r *Replay) Height() uint64 { return r.head.Height }

// AppHash returns the app hash after the last block applied.
func (r *Replay) AppHash() Hash { return r.head.AppHash }

// Block returns the hash of the last block applied.
func (r *Replay) Block() Hash { return r.head.Block }

func (r Result) asError() error {
	if r.Rejection != nil {
		return r.Rejection
	}
	return errors.New("accepted before")
}

// Progress is how far a verification has come.
type Progress struct {
	// Height is the last block checked, Of the one to reach, and From the one it
	// began after: 0, or where the blocks were pruned.
	Height, Of, From uint64
	// Transactions is how many were checked.
	Transactions uint64
}

// Verify replays every block from the first there is, which in a pruned ledger
// follows a snapshot that is checked as well. It checks every hash and signature, and
// compares the outcome with every row of the store. It works on a snapshot, beside
// the running ledger, with the state in a scratch store in memory. progress, if
// not nil, is called after each block. An error wrapping ErrCorrupt says what is
// wrong; the ledger itself goes on.
func (l *Ledger) Verify(ctx context.Context, progress func(Progress)) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.readers.Done()
	stopped := func() error {
		select {
		case <-l.stop:
			return ErrClosed
		default:
			return ctx.Err()
		}
	}
	return l.store.verify(stopped, l.cfg, progress)
}

// verify is Verify for a store that no ledger may have been opened on.
func (s *store) verify(stopped func() error, cfg Config, progress func(Progress)) error {
	scratch, err := pebble.Open("verify", &pebble.Options{
		FS: vfs.NewMem(), DisableWAL: true, FormatMajorVersion: pebbleFormat, Logger: storeLogger{cfg.Logger},
	})
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	s.keeping.Lock() // until the snapshot it begins with is read
	snapshot := s.db.NewSnapshot()
	replay, err := s.begin(snapshot, scratch, cfg)
	s.keeping.Unlock()
	if err == nil {
		err = verify(stopped, snapshot, replay, scratch, progress)
	}
	return errors.Join(err, snapshot.Close(), scratch.Close())
}

// begin returns a replay in scratch from where the ledger begins: its genesis, or
// the snapshot up to which its blocks are pruned.
func (s *store) begin(r reader, scratch *pebble.DB, cfg Config) (*Replay, error) {
	if err := checkMeta(r); err != nil {
		return nil, err
	}
	if _, err := readForks(r, cfg.Network, s.authority); err != nil {
		return nil, err
	}
	var h head
	if ok, err := s.readHead(r, &h); err != nil || !ok {
		return nil, errors.Join(err, headUnless(ok))
	}
	var genesis Genesis
	raw, err := get(r, genesisKey)
	if err != nil {
		return nil, err
	}
	if err := identity.Unmarshal(raw, &genesis); err != nil {
		return nil, fmt.Errorf("%w: genesis: %w", ErrCorrupt, err)
	}
	if h.Genesis != genesisHash(mustEncode(genesis)) {
		return nil, fmt.Errorf("%w: the genesis is not the one the head names", ErrCorrupt)
	}
	put := func(changes []Change) error {
		b := scratch.NewBatch()
		defer b.Close()
		if err := setRows(b, changes); err != nil {
			return err
		}
		return b.Commit(pebble.NoSync)
	}
	base, err := s.base(r, cfg.Network)
	if err != nil {
		return nil, err
	}
	if base.Height == 0 {
		return newReplay(cfg.Network, genesis, rows{scratch}, put)
	}
	at, err := s.copySnapshot(base, scratch, cfg)
	if err != nil {
		return nil, err
	}
	if at.Genesis != h.Genesis {
		return nil, fmt.Errorf("%w: the snapshot is of another genesis", ErrCorrupt)
	}
	rules := schedule(genesis.Rules)
	books, err := openCommitment(rows{scratch}, at, rules.at(at.Height))
	return &Replay{state: rows{scratch}, put: put, rules: rules, head: at, books: books}, err
}

// checkMeta looks for rows that are of no kind there is, or of another format.
func checkMeta(r reader) error {
	if _, err := readFormat(r); err != nil {
		return err
	}
	return eachRow(r, "", func(key, _ []byte) error {
		k := string(key)
		switch {
		case strings.HasPrefix(k, statePrefix), strings.HasPrefix(k, logPrefix), strings.HasPrefix(k, forkPrefix),
			strings.HasPrefix(k, blockPrefix) && len(k) == len(blockPrefix)+8,
			k == string(formatKey), k == string(headKey), k == string(genesisKey), k == string(baseKey):
			return nil
		}
		return fmt.Errorf("%w: row %q should not be there", ErrCorrupt, key)
	})
}

// verify replays the blocks of a store after those that were replayed, to its head.
func verify(stopped func() error, r reader, replay *Replay, scratch *pebble.DB, progress func(Progress)) error {
	raw, err := get(r, headKey)
	if err != nil {
		return err
	}
	var h head
	if err := identity.Unmarshal(raw, &h); err != nil {
		return fmt.Errorf("%w: head: %w", ErrCorrupt, err)
	}
	network := replay.head.Network
	done := Progress{From: replay.Height(), Height: replay.Height(), Of: h.Height}
	if err := checkBlockKeys(r, done.From, h.Height); err != nil {
		return err
	}
	for done.Height < h.Height {
		if err := stopped(); err != nil {
			return err
		}
		b, err := loadBlock(r, done.Height+1)
		if err != nil {
			return err
		}
		if _, err := replay.Apply(b); err != nil {
			return err
		}
		if err := putLog(scratch, replay.nodes); err != nil {
			return err
		}
		done.Height, done.Transactions = done.Height+1, done.Transactions+uint64(len(b.Transactions))
		if progress != nil {
			progress(done)
		}
	}
	if !replay.head.equal(h) {
		return fmt.Errorf("%w: the head is not what the blocks lead to", ErrCorrupt)
	}
	for _, prefix := range []string{statePrefix, logPrefix} {
		if err := compareRows(r, scratch, prefix); err != nil {
			return err
		}
	}
	s := rows{scratch}
	return errors.Join(sumUp(s, network), sumMarket(s, network), sumStakes(s, network), sumDeposits(s, network), sumInspection(s, network))
}

// checkBlockKeys checks that there are no blocks but those to be replayed.
func checkBlockKeys(r reader, after, last uint64) error {
	for _, span := range [][2][]byte{
		{[]byte(blockPrefix), blockKey(after + 1)},
		{blockKey(last + 1), successor([]byte(blockPrefix))},
	} {
		it, err := r.NewIter(&pebble.IterOptions{LowerBound: span[0], UpperBound: span[1]})
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		found := it.First()
		var key []byte
		if found {
			key = append(key, it.Key()...)
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		if found {
			return fmt.Errorf("%w: block %q should not be there", ErrCorrupt, key)
		}
	}
	return nil
}

func putLog(scratch *pebble.DB, nodes []tree.LogNode) error {
	b := scratch.NewBatch()
	defer b.Close()
	if err := setLog(b, nodes); err != nil {
		return err
	}
	return b.Commit(pebble.NoSync)
}

// compareRows checks that two databases hold the same below a prefix.
func compareRows(a, b reader, prefix string) error {
	bounds := &pebble.IterOptions{LowerBound: []byte(prefix), UpperBound: successor([]byte(prefix))}
	x, err := a.NewIter(bounds)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	y, err := b.NewIter(bounds)
	if err != nil {
		return errors.Join(fmt.Errorf("verify: %w", err), x.Close())
	}
	x.First()
	y.First()
	for x.Valid() && y.Valid() && bytes.Equal(x.Key(), y.Key()) && bytes.Equal(x.Value(), y.Value()) {
		x.Next()
		y.Next()
	}
	name := func(it *pebble.Iterator) string {
		if prefix == logPrefix {
			return "node of the log of blocks"
		}
		return rowName(it.Key()[len(statePrefix):])
	}
	var found error
	switch {
	case x.Valid() && y.Valid() && bytes.Equal(x.Key(), y.Key()):
		found = fmt.Errorf("%w: %s is not what the blocks lead to: %s (row %q)", ErrCorrupt, name(x), difference(x.Value(), y.Value()), x.Key())
	case x.Valid() && (!y.Valid() || bytes.Compare(x.Key(), y.Key()) < 0):
		found = fmt.Errorf("%w: %s should not be there (row %q)", ErrCorrupt, name(x), x.Key())
	case y.Valid():
		found = fmt.Errorf("%w: %s is missing (row %q)", ErrCorrupt, name(y), y.Key())
	}
	return errors.Join(found, unreadable(errors.Join(x.Error(), y.Error(), x.Close(), y.Close())))
}

// difference says where two values first differ.
func difference(got, want []byte) string {
	for i := range min(len(got), len(want)) {
		if d := got[i] ^ want[i]; d != 0 {
			return fmt.Sprintf("byte %d is %#02x and should be %#02x (bits %08b)", i, got[i], want[i], d)
		}
	}
	return fmt.Sprintf("%d bytes, should be %d", len(got), len(want))
}

// sumUp adds up every account and every hold, and compares the sums with the
// totals kept from block to block.
func sumUp(s rows, network identity.NetworkID) error {
	var t, sum totals
	raw, err := s.Get(totalsKey)
	if err != nil || raw == nil {
		return err // no money yet
	}
	if t, err = decodeTotals(raw); err != nil {
		return err
	}
	var failure error
	supply := SupplyAccount(network)
	err = s.scan([]byte{'b'}, nil, func(key, value []byte) bool {
		var c Counters
		if c, failure = decodeCounters(value); failure != nil {
			return false
		}
		sum.debitsPending = sum.debitsPending.change(0, c.DebitsPending)
		sum.debitsPosted = sum.debitsPosted.change(0, c.DebitsPosted)
		sum.creditsPending = sum.creditsPending.change(0, c.CreditsPending)
		sum.creditsPosted = sum.creditsPosted.change(0, c.CreditsPosted)
		if identity.AccountID(key[1:]) == supply {
			sum.issued, sum.redeemed = c.DebitsPosted, c.CreditsPosted
			return true
		}
		sum.accounts++
		if _, ok := c.available(); !ok {
			failure = fmt.Errorf("%w: account %s is below zero: %+v", ErrCorrupt, identity.AccountID(key[1:]), c)
		}
		return failure == nil
	})
	if err := errors.Join(failure, err); err != nil {
		return err
	}
	var held wide
	err = s.scan([]byte{holdRef}, nil, func(_, value []byte) bool {
		var h holdRow
		if h, failure = decodeHold(value); failure == nil && h.state == holdPending {
			sum.holds++
			held = held.change(0, h.amount)
		}
		return failure == nil
	})
	if err := errors.Join(failure, err); err != nil {
		return err
	}
	if sum != t || held != t.debitsPending {
		return fmt.Errorf("%w: the accounts add up to %+v, the totals are %+v, reserved %s", ErrCorrupt, sum, t, held)
	}
	return nil
}

// memory is a State in a map, for replays and tests.
type memory map[string][]byte

// Get implements State.
func (m memory) Get(key []byte) ([]byte, error) { return m[string(key)], nil }

func (m memory) put(changes []Change) error {
	for _, c := range changes {
		if c.Value == nil {
			delete(m, string(c.Key))
		} else {
			m[string(c.Key)] = c.Value
		}
	}
	return nil
}
