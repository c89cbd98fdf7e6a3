package proofofservice

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// FormatVersion is the version of the layout on disk.
const FormatVersion = 1

// pebbleFormat is Pebble's own version, fixed so that a newer Pebble does not rewrite
// a store that an older program may have to read again.
const pebbleFormat = pebble.FormatValueSeparation

var formatKey = []byte("m/format")

// Errors of a Store.
var (
	// ErrFormat is returned for a store of another version. It is not touched.
	ErrFormat = errors.New("proofofservice: store of a newer version: use the program that wrote it")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("proofofservice: closed")
)

// StoreConfig configures a Store. The zero value is valid.
type StoreConfig struct {
	// Retention is how long measurements are kept. Default 90 d, at least 1 h.
	Retention time.Duration
	// Logger receives what Pebble has to say that is an error. Default: discard.
	Logger *slog.Logger

	fs vfs.FS // replaces the disk in tests
}

func (c StoreConfig) withDefaults() StoreConfig {
	if c.Retention == 0 {
		c.Retention = 90 * 24 * time.Hour
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.fs == nil {
		c.fs = vfs.Default
	}
	return c
}

// Validate reports every fault of the configuration.
func (c StoreConfig) Validate() error {
	if d := c.withDefaults(); d.Retention < time.Hour {
		return fmt.Errorf("proofofservice: retention of %s is below 1h", d.Retention)
	}
	return nil
}

// Point is one measurement of a provider.
type Point struct {
	Service identity.ServiceID
	Node    identity.NodeID
	At      time.Time
	Kind    evidence.Kind
	Outcome evidence.Outcome
}

// Store keeps an inspector's reports until they are done with, and what it measured.
// It is safe for concurrent use.
type Store struct {
	cfg StoreConfig
	db  *pebble.DB

	mu     sync.RWMutex // held for reading while the database is used
	closed bool         // guarded by mu
}

// OpenStore opens the store in dir, which is made when it is missing.
func OpenStore(dir string, cfg StoreConfig) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	fail := func(err error) (*Store, error) { return nil, fmt.Errorf("open inspector's store %s: %w", dir, err) }
	if err := checkFormat(dir, cfg.fs); err != nil {
		return fail(err)
	}
	if err := cfg.fs.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	db, err := pebble.Open(dir, storeOptions(cfg.fs, cfg.Logger, false))
	if err != nil {
		return fail(err)
	}
	if err := db.Set(formatKey, binary.BigEndian.AppendUint64(nil, FormatVersion), pebble.Sync); err != nil {
		return fail(errors.Join(err, db.Close()))
	}
	return &Store{cfg: cfg, db: db}, nil
}

// storeOptions keep the store small: it is beside the work of a node.
func storeOptions(fs vfs.FS, log *slog.Logger, readOnly bool) *pebble.Options {
	return &pebble.Options{
		FS: fs, FormatMajorVersion: pebbleFormat, ReadOnly: readOnly,
		MemTableSize: 1 << 20, CacheSize: 1 << 20, MaxOpenFiles: 64, Logger: pebbleLog{log},
	}
}

// checkFormat refuses a store of another version without writing to it.
func checkFormat(dir string, fs vfs.FS) error {
	desc, err := pebble.Peek(dir, fs)
	if errors.Is(err, os.ErrNotExist) || err == nil && !desc.Exists {
		return nil
	}
	if err != nil {
		return err
	}
	if desc.FormatMajorVersion > pebbleFormat {
		return ErrFormat
	}
	db, err := pebble.Open(dir, storeOptions(fs, slog.New(slog.DiscardHandler), true))
	if err != nil {
		return err
	}
	b, closer, err := db.Get(formatKey)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		err = nil // it was being made when the power failed
	case err == nil:
		if len(b) != 8 || binary.BigEndian.Uint64(b) != FormatVersion {
			err = ErrFormat
		}
		err = errors.Join(err, closer.Close())
	}
	return errors.Join(err, db.Close())
}

// Close closes the store. It may be called twice.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.db.Close()
}

// use calls f while the database is open.
func (s *Store) use(f func() error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	return f()
}

func epochKey(epoch uint64) []byte { return binary.BigEndian.AppendUint64([]byte("e/"), epoch) }

// SaveEpoch keeps the state of an epoch's report. It is on the disk when it returns:
// what is posted afterwards must not be forgotten.
func (s *Store) SaveEpoch(epoch uint64, state []byte) error {
	return s.use(func() error { return s.db.Set(epochKey(epoch), state, pebble.Sync) })
}

// LoadEpoch returns the state of an epoch's report, and nil if there is none.
func (s *Store) LoadEpoch(epoch uint64) (state []byte, err error) {
	err = s.use(func() error {
		b, closer, err := s.db.Get(epochKey(epoch))
		if errors.Is(err, pebble.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		state = append([]byte{}, b...)
		return closer.Close()
	})
	return state, err
}

// ForgetEpochs drops the reports of all epochs before one.
func (s *Store) ForgetEpochs(before uint64) error {
	return s.use(func() error { return s.db.DeleteRange(epochKey(0), epochKey(before), pebble.NoSync) })
}

// The length of a series' key and value.
const (
	seriesPrefix = 2 + 2*identity.Size
	pointKey     = seriesPrefix + 8
	pointValue   = 1 + evidence.OutcomeSize
)

func seriesKey(service identity.ServiceID, node identity.NodeID) []byte {
	return append(append(append(make([]byte, 0, pointKey), "t/"...), service[:]...), node[:]...)
}

// Add keeps a measurement. Two of one provider within a millisecond are one.
func (s *Store) Add(p Point) error {
	key := binary.BigEndian.AppendUint64(seriesKey(p.Service, p.Node), ms(p.At))
	value := p.Outcome.Append([]byte{byte(p.Kind)})
	return s.use(func() error { return s.db.Set(key, value, pebble.NoSync) })
}

// Series returns what was measured of a provider since a time, in the order of time.
// The error ends it.
func (s *Store) Series(service identity.ServiceID, node identity.NodeID, since time.Time) iter.Seq2[Point, error] {
	low := binary.BigEndian.AppendUint64(seriesKey(service, node), ms(since))
	high := binary.BigEndian.AppendUint64(seriesKey(service, node), 1<<63)
	return s.scan(low, high)
}

// All returns everything that was measured, one provider after the other.
func (s *Store) All() iter.Seq2[Point, error] { return s.scan([]byte("t/"), []byte("t0")) }

func (s *Store) scan(low, high []byte) iter.Seq2[Point, error] {
	return func(yield func(Point, error) bool) {
		err := s.use(func() (err error) {
			it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: low, UpperBound: high})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, it.Close()) }()
			for it.First(); it.Valid(); it.Next() {
				p, err := parsePoint(it.Key(), it.Value())
				if err != nil {
					return err
				}
				if !yield(p, nil) {
					return errStop
				}
			}
			return it.Error()
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(Point{}, err)
		}
	}
}

// errStop ends a scan whose reader has enough.
var errStop = errors.New("proofofservice: enough")

// parsePoint reads a row of the series.
func parsePoint(key, value []byte) (Point, error) {
	if len(key) != pointKey || len(value) != pointValue {
		return Point{}, fmt.Errorf("%w: a point of %d and %d bytes", ErrState, len(key), len(value))
	}
	o, err := evidence.ParseOutcome(value[1:])
	if err != nil || value[0] >= evidence.Kinds {
		return Point{}, fmt.Errorf("%w: a point: %w", ErrState, err)
	}
	at := binary.BigEndian.Uint64(key[seriesPrefix:])
	return Point{
		Service: identity.ServiceID(key[2:34]), Node: identity.NodeID(key[34:66]),
		At: time.UnixMilli(int64(at & (1<<62 - 1))), Kind: evidence.Kind(value[0]), Outcome: o,
	}, nil
}

// Trim drops measurements that are older than the retention.
func (s *Store) Trim(now time.Time) error {
	before := ms(now.Add(-s.cfg.Retention))
	return s.use(func() (err error) {
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte("t/"), UpperBound: []byte("t0")})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, it.Close()) }()
		// From one provider's first row to the next one's: ranges, not rows.
		for ok := it.First(); ok && len(it.Key()) == pointKey; {
			prefix := append([]byte{}, it.Key()[:seriesPrefix]...)
			end := binary.BigEndian.AppendUint64(append([]byte{}, prefix...), before)
			if err := s.db.DeleteRange(binary.BigEndian.AppendUint64(append([]byte{}, prefix...), 0), end, pebble.NoSync); err != nil {
				return err
			}
			ok = it.SeekGE(binary.BigEndian.AppendUint64(prefix, 1<<63))
		}
		return it.Error()
	})
}

// pebbleLog passes on what is an error.
type pebbleLog struct{ log *slog.Logger }

func (pebbleLog) Infof(string, ...any) {}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.log.Error("pebble", "err", fmt.Sprintf(format, args...))
}

func (l pebbleLog) Fatalf(format string, args ...any) {
	l.log.Error("pebble", "err", fmt.Sprintf(format, args...))
	panic("proofofservice: pebble: " + fmt.Sprintf(format, args...))
}
