package usage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/routing/identity"
)

// FormatVersion is the version of the layout on disk.
const FormatVersion = 1

// pebbleFormat is Pebble's own version, fixed so that a newer Pebble does not rewrite
// a store that an older program may have to read again.
const pebbleFormat = pebble.FormatValueSeparation

var formatKey = []byte("m/format")

// queue is how many records may wait for the disk: some seconds of a busy gateway.
const queue = 8192

// Errors of a Log.
var (
	// ErrFormat is returned for a store of another version. It is not touched.
	ErrFormat = errors.New("usage: log of a newer version: use the program that wrote it")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("usage: closed")
)

// Config configures a Log. The zero value is valid.
type Config struct {
	// Retention is how long records are kept. Default 120 d, at least 1 h: longer than
	// a channel lives, so that a statement knows all of its usage.
	Retention time.Duration
	// FlushInterval is how long records may wait before they are written, together,
	// with one fsync: what a crash loses, and what spares flash. Default 5 s, 10 ms to
	// 10 min.
	FlushInterval time.Duration
	// Clock tells the time. Default time.Now.
	Clock func() time.Time
	// Logger receives failures. Default: discard.
	Logger *slog.Logger

	fs vfs.FS // replaces the disk in tests
}

func (c Config) withDefaults() Config {
	if c.Retention == 0 {
		c.Retention = 120 * 24 * time.Hour
	}
	if c.FlushInterval == 0 {
		c.FlushInterval = 5 * time.Second
	}
	if c.Clock == nil {
		c.Clock = time.Now
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
func (c Config) Validate() error {
	var errs []error
	d := c.withDefaults()
	if d.Retention < time.Hour {
		errs = append(errs, fmt.Errorf("usage: retention of %s is below 1h", d.Retention))
	}
	if d.FlushInterval < 10*time.Millisecond || d.FlushInterval > 10*time.Minute {
		errs = append(errs, fmt.Errorf("usage: flush interval of %s is outside 10ms to 10m", d.FlushInterval))
	}
	return errors.Join(errs...)
}

// Metrics counts what a Log did.
type Metrics struct {
	// Written records are on the disk, Dropped ones found the queue full or the disk
	// failing.
	Written, Dropped uint64
}

// Log keeps usage records.
type Log struct {
	cfg Config
	db  *pebble.DB

	records chan Record
	flush   chan chan error
	stop    chan struct{}
	stopped sync.Once
	closed  error
	writer  sync.WaitGroup
	readers sync.RWMutex // held for reading while the store is read
	ended   bool         // guarded by readers

	written, dropped atomic.Uint64
}

// Open opens the log in dir, which is made when it is missing.
func Open(dir string, cfg Config) (*Log, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	fail := func(err error) (*Log, error) { return nil, fmt.Errorf("open usage log %s: %w", dir, err) }
	if err := checkFormat(dir, cfg.fs); err != nil {
		return fail(err)
	}
	if err := cfg.fs.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	db, err := pebble.Open(dir, options(cfg.fs, cfg.Logger, false))
	if err != nil {
		return fail(err)
	}
	l := &Log{cfg: cfg, db: db, records: make(chan Record, queue), flush: make(chan chan error), stop: make(chan struct{})}
	if err := db.Set(formatKey, binary.BigEndian.AppendUint64(nil, FormatVersion), pebble.Sync); err != nil {
		return fail(errors.Join(err, db.Close()))
	}
	l.writer.Go(l.write)
	return l, nil
}

// options keeps the store small: it is beside the work of a node, which may be a
// gateway of little memory.
func options(fs vfs.FS, log *slog.Logger, readOnly bool) *pebble.Options {
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
	db, err := pebble.Open(dir, options(fs, slog.New(slog.DiscardHandler), true))
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

// Record queues a record. It never waits; after Close it does nothing.
func (l *Log) Record(r Record) {
	select {
	case l.records <- r:
	default:
		l.dropped.Add(1)
	}
}

// Flush writes what is queued and returns when it is on the disk.
func (l *Log) Flush(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case l.flush <- done:
	case <-l.stop:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-done
}

// write is the goroutine that writes, until Close.
func (l *Log) write() {
	timer := time.NewTicker(l.cfg.FlushInterval)
	defer timer.Stop()
	prune := time.NewTicker(time.Hour)
	defer prune.Stop()
	l.report(l.prune())
	sequence := uint64(l.cfg.Clock().UnixMicro()) // tells records of one session and moment apart
	var waiting []Record
	save := func() error {
		for len(l.records) > 0 {
			waiting = append(waiting, <-l.records)
		}
		err := l.save(waiting, &sequence)
		waiting = waiting[:0]
		return err
	}
	for {
		select {
		case r := <-l.records:
			if waiting = append(waiting, r); len(waiting) >= queue/2 {
				l.report(save())
			}
		case <-timer.C:
			l.report(save())
		case done := <-l.flush:
			done <- save()
		case <-prune.C:
			l.report(l.prune())
		case <-l.stop:
			l.report(save())
			return
		}
	}
}

func (l *Log) report(err error) {
	if err != nil {
		l.cfg.Logger.Warn("usage records lost", "err", err)
	}
}

// save writes records with one fsync.
func (l *Log) save(records []Record, sequence *uint64) error {
	if len(records) == 0 {
		return nil
	}
	batch := l.db.NewBatch()
	for i := range records {
		*sequence++
		value, err := identity.Marshal(records[i])
		if err == nil {
			err = batch.Set(records[i].key(*sequence), value, nil)
		}
		if err != nil {
			l.dropped.Add(uint64(len(records)))
			return errors.Join(err, batch.Close())
		}
	}
	if err := batch.Commit(pebble.Sync); err != nil {
		l.dropped.Add(uint64(len(records)))
		return err
	}
	l.written.Add(uint64(len(records)))
	return nil
}

// prune deletes what is older than the retention.
func (l *Log) prune() error {
	return l.db.DeleteRange(timeKey(time.UnixMilli(0)), timeKey(l.cfg.Clock().Add(-l.cfg.Retention)), pebble.NoSync)
}

// Records yields the records of intervals that began in [since, until), oldest first,
// as they are on the disk at this moment.
func (l *Log) Records(since, until time.Time) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		l.readers.RLock()
		defer l.readers.RUnlock()
		if l.ended {
			yield(Record{}, ErrClosed)
			return
		}
		it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: timeKey(since), UpperBound: timeKey(until)})
		if err != nil {
			yield(Record{}, err)
			return
		}
		for ok := it.First(); ok; ok = it.Next() {
			value, err := it.ValueAndErr()
			var r Record
			if err == nil {
				r, err = decodeRecord(value)
			}
			if !yield(r, err) || err != nil {
				_ = it.Close() // the caller has what it wanted, or the error that counts
				return
			}
		}
		if err := it.Close(); err != nil {
			yield(Record{}, err)
		}
	}
}

// Metrics returns what the log did so far.
func (l *Log) Metrics() Metrics {
	return Metrics{Written: l.written.Load(), Dropped: l.dropped.Load()}
}

// Close writes what is queued and closes the store. It is idempotent.
func (l *Log) Close() error {
	l.stopped.Do(func() {
		close(l.stop)
		l.writer.Wait()
		l.readers.Lock()
		defer l.readers.Unlock()
		l.ended = true
		l.closed = l.db.Close()
	})
	return l.closed
}

// pebbleLog passes on what the operator must hear, and no more.
type pebbleLog struct{ log *slog.Logger }

// Infof implements pebble.Logger.
func (pebbleLog) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (p pebbleLog) Errorf(format string, args ...any) {
	p.log.Error("usage store", "err", fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger. Pebble calls it where it cannot go on.
func (p pebbleLog) Fatalf(format string, args ...any) {
	p.Errorf(format, args...)
	panic(fmt.Sprintf("usage store: "+format, args...))
}
