package cashier

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// Receipt says where an accepted transaction stands, and brings the record it
// made.
type Receipt struct {
	// ID is the transaction's.
	ID Hash `cbor:"1,keyasint"`
	// Height and Index are its block and its place in it.
	Height uint64 `cbor:"2,keyasint"`
	Index  uint32 `cbor:"3,keyasint,omitzero"`
	// Again is true if it had been accepted by an earlier submission.
	Again bool `cbor:"4,keyasint,omitzero"`
	// Record is the name's signed record as it is now, for its owner to publish.
	// Empty for a transaction about no name.
	Record []byte `cbor:"5,keyasint,omitempty"`
	// Paid is what was settled of channels, and Refused the vouchers of a SettleBatch
	// that were not: all others were. Both are told with the first acceptance only.
	Paid    voucher.Amount `cbor:"6,keyasint,omitzero"`
	Refused []Refusal      `cbor:"7,keyasint,omitempty"`
}

// Ledger is the embedded engine: the state machine on a Pebble store under one
// goroutine. See the package comment.
//
// Its methods return *Rejection for whatever is refused, ErrClosed after Close,
// the context's error when it ends first, and errors wrapping ErrCorrupt when the
// store is broken.
type Ledger struct {
	// Constant after Open.
	cfg   Config
	dir   string
	key   identity.PrivateKey
	store *store
	rules schedule
	gate  *gate
	time  *timekeeper
	queue chan *submission
	stop  chan struct{} // closed by Close: the engine answers all and ends
	// chores are done by the engine between two blocks.
	chores chan chore
	wg     sync.WaitGroup

	// Atomic.
	head       atomic.Pointer[head]             // written by the engine only
	checkpoint atomic.Pointer[SignedCheckpoint] // the last one signed
	failure    atomic.Pointer[error]
	queued     atomic.Int64  // bytes of batches that wait for their answer
	begin      atomic.Uint64 // blocks up to this height are pruned
	rolledBack atomic.Pointer[Rollback]
	metrics    metrics

	books *commitment // staged by the engine, proved from by all

	allowance allowance

	promise  sync.Mutex
	promised Checkpoint // guarded by promise: what the file says

	epoch time.Duration // owned by the engine: as long as the newest parameters say

	// Owned by the engine: see seedDuty.
	duty       voucher.TransferID // tried last
	dutyAt     uint64
	unfinished bool // an epoch is being judged
	seedSecret identity.PrivateKey

	clockMu sync.Mutex
	noted   time.Duration // guarded by clockMu: what the file says is held of the clock

	// readers counts who reads the store; it grows only under mu while not closed.
	readers sync.WaitGroup

	mu      sync.Mutex
	closed  bool          // guarded by mu
	changed chan struct{} // guarded by mu; closed when the head changes, and replaced
}

// maxQueued bounds the batches of vouchers that wait, in bytes: eight blocks full of
// them. What is small is bounded by its number.
const maxQueued = 8 * MaxBlock

// submission is a transaction on its way into a block.
type submission struct {
	tx     Transaction
	queued time.Time
	reply  chan answer // one answer, buffered
}

type answer struct {
	result Result
	err    error
}

// Open opens the ledger in dir, or makes an empty one. The key is the authority's:
// it signs name records and answers. Open checks the newest blocks; Verify checks
// all. The caller closes the ledger.
func Open(dir string, key identity.PrivateKey, cfg Config) (*Ledger, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if key.IsZero() {
		return nil, errors.New("cashier: no authority key")
	}
	cfg = cfg.withDefaults()
	cfg.authority = key.Node()
	s, h, err := openLedgerStore(dir, cfg)
	if err != nil {
		return nil, err
	}
	genesis, err := s.genesis()
	var base baseRow
	if err == nil {
		base, err = s.base(s.db, cfg.Network)
	}
	if err == nil {
		err = checkChain(s.db, h, base, genesis.Rules, cfg.CheckBlocks)
	}
	var books *commitment
	if err == nil {
		books, err = openCommitment(rows{s.db}, h, schedule(genesis.Rules).at(h.Height))
		if errors.Is(err, ErrCorrupt) {
			// Which row it is, the blocks tell.
			cfg.Logger.Error("ledger corrupt, looking for what is wrong", "height", h.Height, "err", err)
			err = errors.Join(err, s.verify(func() error { return nil }, cfg, nil))
		}
	}
	held, heldErr := readHeld(cfg.fs, dir)
	if err := errors.Join(err, heldErr); err != nil {
		return nil, errors.Join(err, s.close())
	}
	l := &Ledger{
		cfg: cfg, dir: dir, key: key, store: s, rules: genesis.Rules, books: books,
		time: newTimekeeper(cfg, h.Time, held), noted: held,
		queue: make(chan *submission, cfg.MaxQueue),
		stop:  make(chan struct{}), chores: make(chan chore), changed: make(chan struct{}),
	}
	l.head.Store(&h)
	l.begin.Store(base.Height)
	if err := errors.Join(l.loadParameters(), l.checkPromise()); err != nil {
		return nil, errors.Join(err, s.close())
	}
	l.gate = newGate(l.stop)
	for range l.gate.workers() {
		l.wg.Go(l.gate.run)
	}
	l.wg.Go(l.run)
	l.wg.Go(l.keep)
	cfg.Logger.Info("ledger open", "height", h.Height, "dir", dir)
	return l, nil
}

func (l *Ledger) loadParameters() error {
	var p Parameters
	_, err := read(rows{l.store.db}, parametersKey, &p)
	l.allowance.parameters.Store(&p)
	return err
}

// Close answers what waits with ErrClosed, waits for the block being written and
// closes the store. It is idempotent.
func (l *Ledger) Close() error {
	l.mu.Lock()
	first := !l.closed
	if first {
		l.closed = true
		close(l.stop)
	}
	l.mu.Unlock()
	l.wg.Wait()
	l.readers.Wait()
	if !first {
		return nil
	}
	if err := l.failed(); err != nil {
		return err // Pebble's locks may be held for ever; the process should end
	}
	return errors.Join(l.notePromise(), l.store.close())
}

// Submit brings a signed transaction into a block and returns when it is on the
// disk. Submitting one again that was accepted returns its first receipt. If ctx
// ends first, the transaction may or may not have been accepted: submit it again.
// Submit keeps signed, which must not be changed any more.
func (l *Ledger) Submit(ctx context.Context, signed []byte) (Receipt, error) {
	return l.submitAs(ctx, signed, nil)
}

func (l *Ledger) submitAs(ctx context.Context, signed []byte, limit func(*Transaction) error) (Receipt, error) {
	l.metrics.submitted.Add(1)
	r, err := l.submit(ctx, signed, limit)
	if err != nil {
		l.metrics.count(err)
	}
	return r, err
}

// submit asks limit, if not nil, about a transaction once it is known who signed it.
func (l *Ledger) submit(ctx context.Context, signed []byte, limit func(*Transaction) error) (Receipt, error) {
	if err := l.refusal(); err != nil {
		return Receipt{}, err
	}
	tx, err := l.gate.open(ctx, l.cfg.Network, signed)
	if err != nil {
		return Receipt{}, err
	}
	if limit != nil {
		if err := limit(&tx); err != nil {
			return Receipt{}, err
		}
	}
	if err := l.ownDuty(&tx); err != nil {
		return Receipt{}, err
	}
	if _, money := tx.Operation.(identified); !money {
		place, again, err := l.placeOf(tx.id)
		if err != nil {
			return Receipt{}, err
		}
		if again {
			return l.receipt(&tx, Result{Height: place.Height, Index: place.Index, Again: true})
		}
		if err := l.checkRealZone(ctx, &tx); err != nil {
			return Receipt{}, err
		}
	}
	taken, err := l.admit(&tx)
	if err != nil {
		return Receipt{}, err
	}
	if len(signed) > MaxTransaction {
		defer l.queued.Add(-int64(len(signed)))
		if l.queued.Add(int64(len(signed))) > maxQueued {
			return Receipt{}, &Rejection{Code: OverCapacity, RetryAfter: 1}
		}
	}
	s := &submission{tx: tx, queued: time.Now(), reply: make(chan answer, 1)}
	if err := l.enqueue(s); err != nil {
		return Receipt{}, err
	}
	select {
	case a := <-s.reply:
		if a.err != nil {
			return Receipt{}, a.err
		}
		if a.result.Rejection != nil {
			return Receipt{}, a.result.Rejection
		}
		if taken && a.result.Again {
			l.allowance.giveBack(tx.Account)
		}
		return l.receipt(&tx, a.result)
	case <-ctx.Done():
		return Receipt{}, ctx.Err()
	}
}

func (l *Ledger) enqueue(s *submission) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if err := l.failed(); err != nil {
		return err
	}
	select {
	case l.queue <- s:
		return nil
	default:
		return &Rejection{Code: OverCapacity, RetryAfter: 1}
	}
}

// placeOf looks an accepted transaction about names up.
func (l *Ledger) placeOf(id Hash) (place placeRow, ok bool, err error) {
	err = l.read(func(s rows) (err error) {
		ok, err = read(s, placeKey(id), &place)
		return err
	})
	return place, ok, err
}

// checkRealZone asks the hook about a name to be registered that is free here.
func (l *Ledger) checkRealZone(ctx context.Context, tx *Transaction) error {
	var n name.Name
	switch op := tx.Operation.(type) {
	case Register:
		n = op.Name
	case RevealName:
		n = op.Name
	}
	if n == "" || l.cfg.RealZone == nil {
		return nil
	}
	taken := false
	err := l.read(func(s rows) error {
		ends, err := leasesOf(s)
		if err != nil {
			return err
		}
		var row nameRow
		found, err := read(s, nameKey(n), &row)
		taken = found && ends.phase(&row, l.now().Unix()) != NameFree
		return err
	})
	if err != nil || taken {
		return err // the machine says by whom
	}
	exists, controlled, err := l.cfg.RealZone(ctx, n, tx.Account)
	switch {
	case err != nil:
		l.cfg.Logger.Warn("real zone not reached", "name", string(n), "err", err)
		return &Rejection{
			Code: Unavailable, Name: n, RetryAfter: 5,
			Detail: "whether it exists in the Internet's zone could not be found out",
		}
	case exists && !controlled:
		return &Rejection{
			Code: ExistsElsewhere, Name: n,
			Detail: fmt.Sprintf("put TXT %q at _scn.%s there, or choose another name", RealZoneProof(tx.Account), n),
		}
	}
	return nil
}

// receipt describes a result, with the name's record as it is now.
func (l *Ledger) receipt(tx *Transaction, r Result) (Receipt, error) {
	out := Receipt{ID: tx.id, Height: r.Height, Index: r.Index, Again: r.Again, Paid: r.Paid, Refused: r.Refused}
	if n, ok := nameOf(tx.Operation); ok {
		answer, err := l.Lookup(context.Background(), n)
		if err != nil {
			return Receipt{}, err
		}
		out.Record = answer.Signed
	}
	return out, nil
}

// read calls f with the state while the store is open.
func (l *Ledger) read(f func(rows) error) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.readers.Done()
	return f(rows{l.store.db})
}

// enter keeps the store open until readers.Done.
func (l *Ledger) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	l.readers.Add(1)
	return nil
}

func (l *Ledger) failed() error {
	if p := l.failure.Load(); p != nil {
		return fmt.Errorf("%w: %w", &Rejection{Code: Unavailable, Detail: "the ledger's store failed"}, *p)
	}
	return nil
}

// nameOf returns the name an operation is about.
func nameOf(op Operation) (name.Name, bool) {
	switch op := op.(type) {
	case Register:
		return op.Name, true
	case Update:
		return op.Name, true
	case Offer:
		return op.Name, true
	case Accept:
		return op.Name, true
	case Release:
		return op.Name, true
	case RevealName:
		return op.Name, true
	case RenewName:
		return op.Name, true
	}
	return "", false
}
