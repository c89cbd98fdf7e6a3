package cashier

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/cashier/tree"
	"scn.alt/scn/routing/identity"
)

// pebbleFormat is Pebble's own version, fixed so that a newer Pebble does not
// rewrite a store that an older program may have to read again.
const pebbleFormat = pebble.FormatValueSeparation

var (
	formatKey  = []byte("m/format")
	headKey    = []byte("m/head")
	genesisKey = []byte("m/genesis")
)

const (
	statePrefix = "s/"
	blockPrefix = "b/"
	logPrefix   = "l/"
)

// head is the newest block and the state after it.
type head struct {
	Network identity.NetworkID `cbor:"1,keyasint"`
	Height  uint64             `cbor:"2,keyasint"`
	Block   Hash               `cbor:"3,keyasint"`
	AppHash Hash               `cbor:"4,keyasint"`
	Time    int64              `cbor:"5,keyasint"`
	// Genesis is the hash of m/genesis.
	Genesis Hash `cbor:"6,keyasint,omitzero"`
	// Chain covers the rows that are in no tree, under the third rules.
	Chain Hash `cbor:"7,keyasint,omitzero"`
	// Log are the hashes that cover the log of all blocks; its size is Height.
	Log []Hash `cbor:"8,keyasint,omitempty"`
}

func (h head) equal(o head) bool {
	return h.Network == o.Network && h.Height == o.Height && h.Block == o.Block && h.AppHash == o.AppHash &&
		h.Time == o.Time && h.Genesis == o.Genesis && h.Chain == o.Chain && slices.Equal(h.Log, o.Log)
}

// store is the ledger's Pebble database.
type store struct {
	db        *pebble.DB
	dir       string          // the ledger's, with the snapshots in it
	authority identity.NodeID // who signed them

	keeping sync.Mutex // held by who makes, reads or removes snapshots
}

// reader is a database or a snapshot of one.
type reader interface {
	Get(key []byte) ([]byte, io.Closer, error)
	NewIter(o *pebble.IterOptions) (*pebble.Iterator, error)
}

// rows are the state's rows in a database or snapshot.
type rows struct{ r reader }

// The store is in a folder of this name in the ledger's, made under the other name.
const (
	storeDir    = "store"
	storeDirNew = "store.new"
)

// openLedgerStore opens the store in dir and reads its head. A new store is made
// beside its place, complete, and then renamed: a power cut while it is made
// leaves what the next try sweeps away, not half a store.
func openLedgerStore(dir string, cfg Config) (*store, head, error) {
	fail := func(err error) (*store, head, error) { return nil, head{}, fmt.Errorf("open ledger %s: %w", dir, err) }
	fs, path := cfg.fs, cfg.fs.PathJoin(dir, storeDir)
	if err := errors.Join(finishRestore(fs, dir), fs.RemoveAll(fs.PathJoin(dir, backupDir)), fs.RemoveAll(fs.PathJoin(dir, restoringDir))); err != nil {
		return fail(err)
	}
	if _, err := fs.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := createStore(dir, path, cfg); err != nil {
			return fail(err)
		}
	} else if err != nil {
		return fail(err)
	} else if err := checkFormat(path, cfg); err != nil {
		return fail(err)
	}
	s, err := openStore(path, fs, cfg.Logger)
	if err != nil {
		return fail(err)
	}
	s.dir, s.authority = dir, cfg.authority
	h, err := s.load(cfg.Network)
	if err != nil {
		return fail(errors.Join(err, s.close()))
	}
	return s, h, nil
}

func createStore(dir, path string, cfg Config) error {
	fs, fresh := cfg.fs, cfg.fs.PathJoin(dir, storeDirNew)
	if err := fs.RemoveAll(fresh); err != nil {
		return err
	}
	if err := makeDir(fs, dir); err != nil {
		return err
	}
	s, err := openStore(fresh, fs, cfg.Logger)
	if err != nil {
		return err
	}
	if err := errors.Join(s.create(cfg.Network, cfg.genesis()), s.close(), syncDir(fs, fresh)); err != nil {
		return err
	}
	if err := fs.Rename(fresh, path); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

// makeDir makes dir so that it survives a power cut.
func makeDir(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(dir); err == nil {
		return nil
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(fs, fs.PathDir(dir))
}

func openStore(path string, fs vfs.FS, log *slog.Logger) (*store, error) {
	db, err := pebble.Open(path, storeOptions(fs, log, false))
	if err != nil {
		return nil, err
	}
	return &store{db: db}, nil
}

// load brings the store to the newest format and reads the head.
func (s *store) load(network identity.NetworkID) (head, error) {
	if err := s.migrate(); err != nil {
		return head{}, err
	}
	var h head
	switch ok, err := s.readHead(s.db, &h); {
	case err != nil:
		return head{}, err
	case !ok:
		return head{}, fmt.Errorf("%w: no head", ErrCorrupt)
	case h.Network != network:
		return head{}, fmt.Errorf("%w: the store belongs to %s", ErrNetwork, h.Network)
	}
	return h, nil
}

// create writes an empty ledger.
func (s *store) create(network identity.NetworkID, g Genesis) error {
	changes, app, err := g.start(network)
	if err != nil {
		return err
	}
	encoded := mustEncode(g)
	h := head{Network: network, AppHash: app, Genesis: genesisHash(encoded)}
	b := s.db.NewBatch()
	defer b.Close()
	err = errors.Join(
		b.Set(formatKey, appendUint64(nil, formatVersion), nil),
		b.Set(genesisKey, encoded, nil),
		setRows(b, changes),
		b.Set(headKey, mustEncode(h), nil),
	)
	if err != nil {
		return err
	}
	return s.commit(b)
}

// write stores a block, its changes and the new head: all of it or nothing, and on
// the disk before it returns.
func (s *store) write(block Block, changes []Change, h head, nodes []tree.LogNode) error {
	encoded, err := block.Encode()
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	defer b.Close()
	err = errors.Join(
		b.Set(blockKey(h.Height), encoded, nil),
		setRows(b, changes),
		setLog(b, nodes),
		b.Set(headKey, mustEncode(h), nil),
	)
	if err != nil {
		return err
	}
	return s.commit(b)
}

// commit writes b and syncs. Pebble ends the process on an error of the write-ahead
// log; here it becomes an error, after which the store must not be used any more.
func (s *store) commit(b *pebble.Batch) (err error) {
	defer func() {
		if r := recover(); r != nil {
			fatal, ok := r.(storeFailure)
			if !ok {
				panic(r)
			}
			err = fatal
		}
	}()
	return b.Commit(pebble.Sync)
}

func (s *store) readHead(r reader, h *head) (bool, error) {
	b, err := get(r, headKey)
	if err != nil || b == nil {
		return false, err
	}
	if err := identity.Unmarshal(b, h); err != nil {
		return false, fmt.Errorf("%w: head: %w", ErrCorrupt, err)
	}
	return true, nil
}

// readBlock reads the encoded block at a height; nil if there is none.
func readBlock(r reader, height uint64) ([]byte, error) { return get(r, blockKey(height)) }

// readLog reads a node of the log of blocks.
func readLog(r reader, level uint8, index uint64) (Hash, error) {
	b, err := get(r, logKey(level, index))
	if err != nil {
		return Hash{}, err
	}
	if len(b) != len(Hash{}) {
		return Hash{}, fmt.Errorf("%w: node %d.%d of the log has %d bytes", ErrCorrupt, level, index, len(b))
	}
	return Hash(b), nil
}

func (s *store) close() error { return s.db.Close() }

// Get implements State.
func (r rows) Get(key []byte) ([]byte, error) {
	return get(r.r, append([]byte(statePrefix), key...))
}

// scan calls yield with every row whose key has the prefix and is above after, in
// order, until it returns false. Key and value are valid during the call only.
func (r rows) scan(prefix, after []byte, yield func(key, value []byte) bool) error {
	lower := append([]byte(statePrefix), prefix...)
	upper := successor(lower)
	if after != nil {
		lower = append(append([]byte(statePrefix), after...), 0)
	}
	it, err := r.r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return unreadable(err)
	}
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return errors.Join(unreadable(err), it.Close())
		}
		if !yield(it.Key()[len(statePrefix):], v) {
			break
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return unreadable(err)
	}
	return nil
}

func blockKey(height uint64) []byte { return appendUint64([]byte(blockPrefix), height) }

func logKey(level uint8, index uint64) []byte {
	return appendUint64(append([]byte(logPrefix), level), index)
}

// successor returns the first key above all keys with the prefix.
func successor(prefix []byte) []byte {
	out := append([]byte(nil), prefix...)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i]++; out[i] != 0 {
			return out[:i+1]
		}
	}
	return nil
}

func setRows(b *pebble.Batch, changes []Change) error {
	for _, c := range changes {
		key := append([]byte(statePrefix), c.Key...)
		var err error
		if c.Value == nil {
			err = b.Delete(key, nil)
		} else {
			err = b.Set(key, c.Value, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func setLog(b *pebble.Batch, nodes []tree.LogNode) error {
	for _, n := range nodes {
		if err := b.Set(logKey(n.Level, n.Index), n.Hash[:], nil); err != nil {
			return err
		}
	}
	return nil
}

// unreadable tells damage from a disk that does not answer.
func unreadable(err error) error {
	switch {
	case err == nil:
		return nil
	case pebble.IsCorruptionError(err):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return fmt.Errorf("read ledger: %w", err)
}

// get returns a copy of a value, never nil for a key that exists.
func get(r reader, key []byte) ([]byte, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(err)
	}
	out := append(make([]byte, 0, len(v)), v...)
	return out, closer.Close()
}

// storeFailure is what the store's logger panics with where Pebble expects the
// process to end.
type storeFailure struct{ text string }

func (f storeFailure) Error() string { return "cashier: store failed: " + f.text }

// storeLogger passes Pebble's few messages on.
type storeLogger struct{ log *slog.Logger }

func (l storeLogger) Infof(string, ...any) {}

func (l storeLogger) Errorf(format string, args ...any) {
	l.log.Error("ledger store", "err", fmt.Sprintf(format, args...))
}

func (l storeLogger) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.log.Error("ledger store failed", "err", text)
	panic(storeFailure{text})
}
