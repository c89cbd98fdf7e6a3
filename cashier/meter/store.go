package meter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// ErrCorrupt is returned by Open for a store whose content makes no sense.
var ErrCorrupt = errors.New("meter: store corrupt")

// ErrNewer is returned by Open for a store of a newer version; it was not touched.
var ErrNewer = errors.New("meter: the store is of a newer version")

// storeVersion is the version of the layout.
const storeVersion = 1

// storeFormat is Pebble's own, fixed so that an older program can go on.
const storeFormat = pebble.FormatValueSeparation

var versionKey = []byte("m/format")

// The prefixes of the rows.
const (
	payerPrefix = "c/"
	payeePrefix = "p/"
)

// payerRow is what a payer keeps.
type payerRow struct {
	Sequence uint64         `cbor:"1,keyasint"`
	Amount   voucher.Amount `cbor:"2,keyasint"`
	// Bytes are those received when it was written, Newest the voucher signed last by
	// then; empty if there was none.
	Bytes  uint64 `cbor:"3,keyasint,omitzero"`
	Newest []byte `cbor:"4,keyasint,omitempty"`
}

// payeeRow is what a payee keeps.
type payeeRow struct {
	Peer    identity.NodeID `cbor:"1,keyasint"`
	Channel channelRow      `cbor:"2,keyasint"`
	Carried uint64          `cbor:"3,keyasint,omitzero"`
	Newest  []byte          `cbor:"4,keyasint,omitempty"`
}

// channelRow is a Channel but for its ID.
type channelRow struct {
	Client       identity.AccountID `cbor:"1,keyasint"`
	Ask          voucher.Ask        `cbor:"2,keyasint"`
	Session      voucher.SessionKey `cbor:"3,keyasint"`
	Deposit      voucher.Amount     `cbor:"4,keyasint"`
	Settled      voucher.Amount     `cbor:"5,keyasint,omitzero"`
	Sequence     uint64             `cbor:"6,keyasint,omitzero"`
	Bytes        uint64             `cbor:"7,keyasint,omitzero"`
	Milliseconds uint64             `cbor:"8,keyasint,omitzero"`
	Expires      int64              `cbor:"9,keyasint,omitzero"`
	Open         bool               `cbor:"10,keyasint,omitzero"`
}

func rowOf(c Channel) channelRow {
	return channelRow{c.Client, c.Ask, c.SessionKey, c.Deposit, c.Settled, c.Sequence, c.Bytes, c.Milliseconds, c.Expires, c.Open}
}

func (r channelRow) channel(id voucher.ChannelID) Channel {
	return Channel{
		ID: id, Client: r.Client, Ask: r.Ask, SessionKey: r.Session, Deposit: r.Deposit, Settled: r.Settled,
		Sequence: r.Sequence, Bytes: r.Bytes, Milliseconds: r.Milliseconds, Expires: r.Expires, Open: r.Open,
	}
}

func rowVoucher(v voucher.Voucher) []byte {
	if v.Sequence == 0 {
		return nil
	}
	return v.Append(nil)
}

func keptVoucher(b []byte) (voucher.Voucher, error) {
	if len(b) == 0 {
		return voucher.Voucher{}, nil
	}
	return voucher.ParseVoucher(b)
}

// write is a row on its way to disk; a nil value deletes it. done is called once the
// disk has it, or with the reason why it has not.
type write struct {
	key, value []byte
	done       func(error)
}

// keeper writes rows: one goroutine, one fsync for all that wait.
type keeper struct {
	dir string
	fs  vfs.FS
	log *slog.Logger

	wake chan struct{} // cap 1
	stop chan struct{}
	wg   sync.WaitGroup
	db   *pebble.DB // owned by the goroutine once it runs; nil before the first row

	mu     sync.Mutex // guards below
	queue  []write
	closed bool
	syncs  uint64
	rows   uint64
}

// openKeeper opens the store, unless there is none yet.
func openKeeper(dir string, fs vfs.FS, log *slog.Logger) (*keeper, error) {
	k := &keeper{dir: dir, fs: fs, log: log, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	if names, err := fs.List(dir); err != nil || len(names) == 0 {
		return k, nil
	}
	if err := k.open(); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *keeper) options(readOnly bool) *pebble.Options {
	return &pebble.Options{
		FS: k.fs, FormatMajorVersion: storeFormat, MemTableSize: 1 << 20, CacheSize: 1 << 20, MaxOpenFiles: 64,
		Logger: storeLogger{k.log}, ReadOnly: readOnly,
	}
}

// open opens the store. A new one is made beside its place, complete, and then
// renamed: a power cut leaves what the next try sweeps away, not half a store.
func (k *keeper) open() (err error) {
	fail := func(err error) error { return fmt.Errorf("open meter store %s: %w", k.dir, err) }
	if names, err := k.fs.List(k.dir); err == nil && len(names) > 0 {
		if err := k.check(); err != nil {
			return fail(err)
		}
	} else if err := k.create(); err != nil {
		return fail(err)
	}
	db, err := pebble.Open(k.dir, k.options(false))
	if err != nil {
		return fail(err)
	}
	k.db = db
	return nil
}

// create makes an empty store.
func (k *keeper) create() error {
	fresh, parent := k.dir+".new", k.fs.PathDir(k.dir)
	err := errors.Join(k.fs.RemoveAll(fresh), k.fs.RemoveAll(k.dir), k.fs.MkdirAll(parent, 0o700))
	if err != nil {
		return err
	}
	db, err := pebble.Open(fresh, k.options(false))
	if err != nil {
		return err
	}
	err = db.Set(versionKey, binary.BigEndian.AppendUint64(nil, storeVersion), pebble.Sync)
	if err := errors.Join(err, db.Close(), k.syncDir(fresh)); err != nil {
		return err
	}
	if err := k.fs.Rename(fresh, k.dir); err != nil {
		return err
	}
	return k.syncDir(parent)
}

func (k *keeper) syncDir(path string) error {
	d, err := k.fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// check reads the version of the layout; Pebble writes to what it opens, so it is
// opened for reading alone.
func (k *keeper) check() error {
	db, err := pebble.Open(k.dir, k.options(true))
	if err != nil {
		return nil // what is wrong with it, opening it will tell
	}
	value, closer, err := db.Get(versionKey)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		err = fmt.Errorf("%w: no version", ErrCorrupt)
	case err == nil && len(value) != 8:
		err = errors.Join(ErrCorrupt, closer.Close())
	case err == nil:
		if v := binary.BigEndian.Uint64(value); v > storeVersion {
			err = fmt.Errorf("%w: %d, this program knows %d", ErrNewer, v, storeVersion)
		}
		err = errors.Join(err, closer.Close())
	}
	return errors.Join(err, db.Close())
}

// load calls the functions with every row there is, before start.
func (k *keeper) load(payers func(voucher.ChannelID, payerRow) error, payees func(voucher.ChannelID, payeeRow) error) error {
	if k.db == nil {
		return nil
	}
	it, err := k.db.NewIter(nil)
	if err != nil {
		return err
	}
	for it.First(); it.Valid() && err == nil; it.Next() {
		err = loadRow(it.Key(), it.Value(), payers, payees)
	}
	return errors.Join(err, it.Error(), it.Close())
}

func loadRow(key, value []byte, payers func(voucher.ChannelID, payerRow) error, payees func(voucher.ChannelID, payeeRow) error) error {
	if string(key) == string(versionKey) {
		return nil
	}
	if len(key) != len(payerPrefix)+len(voucher.ChannelID{}) {
		return fmt.Errorf("%w: key %x", ErrCorrupt, key)
	}
	id := voucher.ChannelID(key[len(payerPrefix):])
	var err error
	switch string(key[:len(payerPrefix)]) {
	case payerPrefix:
		var r payerRow
		if err = identity.Unmarshal(value, &r); err == nil {
			err = payers(id, r)
		}
	case payeePrefix:
		var r payeeRow
		if err = identity.Unmarshal(value, &r); err == nil {
			err = payees(id, r)
		}
	default:
		err = errors.New("unknown row")
	}
	if err != nil {
		return fmt.Errorf("%w: row %x: %w", ErrCorrupt, key, err)
	}
	return nil
}

// start begins to write.
func (k *keeper) start() { k.wg.Go(k.run) }

// put queues a row. It does not wait. The queue is bounded by the number of channels:
// none has two rows of a kind waiting.
func (k *keeper) put(w write) {
	k.mu.Lock()
	closed := k.closed
	if !closed {
		k.queue = append(k.queue, w)
	}
	k.mu.Unlock()
	if closed {
		w.done(ErrClosed)
		return
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *keeper) run() {
	for {
		k.mu.Lock()
		queue := k.queue
		k.queue = nil
		k.mu.Unlock()
		if len(queue) > 0 {
			err := k.commit(queue)
			if err != nil {
				k.log.Error("cannot keep vouchers on disk", "err", err)
			}
			for _, w := range queue {
				w.done(err)
			}
			continue
		}
		select {
		case <-k.wake:
		case <-k.stop:
			return
		}
	}
}

// commit writes rows, all or none, and returns once the disk has them.
func (k *keeper) commit(rows []write) (err error) {
	defer func() {
		if r := recover(); r != nil {
			failure, ok := r.(storeFailure)
			if !ok {
				panic(r)
			}
			err = failure
		}
	}()
	if k.db == nil {
		if err := k.open(); err != nil {
			return err
		}
	}
	b := k.db.NewBatch()
	defer b.Close()
	for _, w := range rows {
		if w.value == nil {
			err = errors.Join(err, b.Delete(w.key, nil))
		} else {
			err = errors.Join(err, b.Set(w.key, w.value, nil))
		}
	}
	if err != nil {
		return err
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return err
	}
	k.mu.Lock()
	k.syncs++
	k.rows += uint64(len(rows))
	k.mu.Unlock()
	return nil
}

// close writes what is queued and closes the store.
func (k *keeper) close() error {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
	close(k.stop)
	k.wg.Wait()
	k.mu.Lock()
	queue := k.queue
	k.queue = nil
	k.mu.Unlock()
	var err error
	if len(queue) > 0 {
		err = k.commit(queue)
		for _, w := range queue {
			w.done(err)
		}
	}
	if k.db != nil {
		err = errors.Join(err, k.db.Close())
	}
	return err
}

func payerKey(id voucher.ChannelID) []byte { return append([]byte(payerPrefix), id[:]...) }
func payeeKey(id voucher.ChannelID) []byte { return append([]byte(payeePrefix), id[:]...) }

// mustMarshal encodes a row: these types cannot fail.
func mustMarshal(v any) []byte {
	b, err := identity.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("meter: encode %T: %v", v, err))
	}
	return b
}

// storeFailure is what the store's logger panics with where Pebble expects the
// process to end.
type storeFailure struct{ text string }

func (f storeFailure) Error() string { return "meter: store failed: " + f.text }

// storeLogger passes Pebble's few messages on.
type storeLogger struct{ log *slog.Logger }

func (l storeLogger) Infof(string, ...any) {}

func (l storeLogger) Errorf(format string, args ...any) {
	l.log.Error("meter store", "err", fmt.Sprintf(format, args...))
}

func (l storeLogger) Fatalf(format string, args ...any) {
	panic(storeFailure{fmt.Sprintf(format, args...)})
}
