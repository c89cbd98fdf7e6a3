package cashier

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"os"
	"slices"
	"strconv"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/routing/identity"
)

// A snapshot is the state at a height, as a store of its own whose files are hard
// links to the ledger's: it costs what has been rewritten since. Below the oldest
// snapshot that is kept, blocks are pruned; what is checked from then on begins
// there.
//
//	<ledger>/snapshots/<height>/    Pebble's files; m/ and s/ and l/ as they were
//	<ledger>/snapshots/<height>/manifest   baseRow, signed by the authority
//	m/base                          the same, of the snapshot blocks are pruned up to
const (
	snapshotsDir = "snapshots"
	manifestFile = "manifest"
	freshDir     = "new" // of a snapshot in the making, beside the others
)

var baseKey = []byte("m/base")

// baseRow says where a pruned ledger begins.
//
// Rules for adding a field: next integer key, omitzero, never reuse a key.
type baseRow struct {
	Network identity.NetworkID `cbor:"1,keyasint"`
	Height  uint64             `cbor:"2,keyasint"`
	Block   Hash               `cbor:"3,keyasint"`
	Time    int64              `cbor:"4,keyasint"`
	// Head is the hash of m/head, Rows that of all rows, of the state and of the log.
	Head Hash `cbor:"5,keyasint"`
	Rows Hash `cbor:"6,keyasint"`
}

// openBase verifies a baseRow the authority signed.
func openBase(authority identity.NodeID, network identity.NetworkID, b []byte) (base baseRow, err error) {
	if err := openAnswer(typeBase, b, []identity.NodeID{authority}, &base); err != nil {
		return base, fmt.Errorf("%w: base: %w", ErrCorrupt, err)
	}
	if base.Network != network || base.Height == 0 {
		return base, fmt.Errorf("%w: base of another network, or of no block", ErrCorrupt)
	}
	return base, nil
}

// base reads where the ledger begins: the zero row in an archive.
func (s *store) base(r reader, network identity.NetworkID) (baseRow, error) {
	b, err := get(r, baseKey)
	if err != nil || b == nil {
		return baseRow{}, err
	}
	return openBase(s.authority, network, b)
}

// snapshotPath is the folder of the snapshot at a height.
func snapshotPath(fs vfs.FS, dir string, height uint64) string {
	return fs.PathJoin(dir, snapshotsDir, strconv.FormatUint(height, 10))
}

// snapshotSpans are what of a store a snapshot needs: no blocks.
var snapshotSpans = []pebble.CheckpointSpan{
	{Start: []byte(logPrefix), End: successor([]byte(logPrefix))},
	{Start: []byte("m/"), End: successor([]byte("m/"))},
	{Start: []byte(statePrefix), End: successor([]byte(statePrefix))},
}

// takeSnapshot makes a snapshot of the newest state, beside the running engine.
func (l *Ledger) takeSnapshot() (baseRow, error) {
	fs := l.cfg.fs
	fresh := fs.PathJoin(l.dir, snapshotsDir, freshDir)
	if err := errors.Join(fs.RemoveAll(fresh), makeDir(fs, fs.PathJoin(l.dir, snapshotsDir))); err != nil {
		return baseRow{}, err
	}
	if err := l.checkpointTo(fresh, pebble.WithRestrictToSpans(snapshotSpans)); err != nil {
		return baseRow{}, fmt.Errorf("snapshot: %w", err)
	}
	base, err := l.describe(fresh)
	if err != nil || base.Height == 0 {
		return baseRow{}, errors.Join(err, fs.RemoveAll(fresh))
	}
	path := snapshotPath(fs, l.dir, base.Height)
	if _, err := fs.Stat(path); err == nil {
		return base, fs.RemoveAll(fresh) // there is one of this height
	}
	signed, err := sealAs(l.key, typeBase, base)
	if err != nil {
		return baseRow{}, err
	}
	err = errors.Join(writeFile(fs, fs.PathJoin(fresh, manifestFile), signed), syncDir(fs, fresh))
	if err == nil {
		err = errors.Join(fs.Rename(fresh, path), syncDir(fs, fs.PathDir(path)))
	}
	return base, err
}

// describe reads a snapshot's head and all its rows.
func (l *Ledger) describe(path string) (base baseRow, err error) {
	db, err := pebble.Open(path, storeOptions(l.cfg.fs, l.cfg.Logger, true))
	if err != nil {
		return base, fmt.Errorf("snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	raw, err := get(db, headKey)
	if err != nil {
		return base, err
	}
	var h head
	if err := identity.Unmarshal(raw, &h); err != nil {
		return base, fmt.Errorf("%w: head: %w", ErrCorrupt, err)
	}
	base = baseRow{Network: h.Network, Height: h.Height, Block: h.Block, Time: h.Time, Head: sha256.Sum256(raw)}
	base.Rows, err = digestRows(db, nil)
	return base, err
}

// digestRows hashes all rows of the state and of the log in order of their keys,
// and gives each of them to yield, if not nil.
func digestRows(r reader, yield func(key, value []byte) error) (out Hash, err error) {
	s := sha256.New()
	s.Write([]byte("scn/ledger/v3 rows"))
	for _, prefix := range []string{logPrefix, statePrefix} {
		err := eachRow(r, prefix, func(key, value []byte) error {
			writeRow(s, key, value)
			if yield == nil {
				return nil
			}
			return yield(key, value)
		})
		if err != nil {
			return out, err
		}
	}
	s.Sum(out[:0])
	return out, nil
}

func writeRow(s hash.Hash, key, value []byte) {
	var n [16]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(key)))
	binary.BigEndian.PutUint64(n[8:], uint64(len(value)))
	s.Write(n[:])
	s.Write(key)
	s.Write(value)
}

// eachRow calls yield with all rows below a prefix, in order. What it is given is
// valid during the call only.
func eachRow(r reader, prefix string, yield func(key, value []byte) error) error {
	o := &pebble.IterOptions{}
	if prefix != "" { // an empty bound is none; Pebble takes it for a key
		o.LowerBound, o.UpperBound = []byte(prefix), successor([]byte(prefix))
	}
	it, err := r.NewIter(o)
	if err != nil {
		return unreadable(err)
	}
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			err = yield(it.Key(), v)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return unreadable(errors.Join(it.Error(), it.Close()))
}

// copySnapshot puts the rows of the snapshot a store begins with into scratch, and
// checks that they are those the authority signed. It returns the head it was made
// at.
func (s *store) copySnapshot(base baseRow, scratch *pebble.DB, cfg Config) (h head, err error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: snapshot of block %d: %w", ErrCorrupt, base.Height, fmt.Errorf(format, args...))
	}
	path := snapshotPath(cfg.fs, s.dir, base.Height)
	manifest, err := readFile(cfg.fs, cfg.fs.PathJoin(path, manifestFile), identity.MaxEnvelope)
	if err != nil {
		return h, bad("manifest: %w", err)
	}
	if own, err := openBase(s.authority, cfg.Network, manifest); err != nil || own != base {
		return h, bad("its manifest is not what m/base says")
	}
	db, err := pebble.Open(path, storeOptions(cfg.fs, cfg.Logger, true))
	if err != nil {
		return h, bad("%w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	raw, err := get(db, headKey)
	if err != nil {
		return h, bad("%w", err)
	}
	if sha256.Sum256(raw) != base.Head {
		return h, bad("its head is not the one that was signed")
	}
	if err := identity.Unmarshal(raw, &h); err != nil {
		return h, bad("head: %w", err)
	}
	b := scratch.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	digest, err := digestRows(db, func(key, value []byte) error {
		if err := b.Set(key, value, nil); err != nil || b.Len() < 1<<20 {
			return err
		}
		err := errors.Join(b.Commit(pebble.NoSync), b.Close())
		b = scratch.NewBatch()
		return err
	})
	if err != nil {
		return h, bad("%w", err)
	}
	if digest != base.Rows {
		return h, bad("its rows are not those that were signed")
	}
	return h, b.Commit(pebble.NoSync)
}

// listSnapshots lists the complete snapshots in a ledger's directory, the oldest first,
// and removes what a power cut left of others.
func listSnapshots(fs vfs.FS, dir string, authority identity.NodeID, network identity.NetworkID) ([]baseRow, error) {
	folder := fs.PathJoin(dir, snapshotsDir)
	names, err := fs.List(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []baseRow
	for _, n := range names {
		path := fs.PathJoin(folder, n)
		height, err := strconv.ParseUint(n, 10, 64)
		if n == freshDir {
			if err := fs.RemoveAll(path); err != nil {
				return nil, err
			}
		}
		if err != nil {
			continue // no snapshot
		}
		manifest, err := readFile(fs, fs.PathJoin(path, manifestFile), identity.MaxEnvelope)
		if err != nil {
			return nil, err
		}
		base, err := openBase(authority, network, manifest)
		if err != nil || base.Height != height {
			return nil, fmt.Errorf("%w: snapshot %s", ErrCorrupt, n)
		}
		out = append(out, base)
	}
	slices.SortFunc(out, func(a, b baseRow) int { return cmp.Compare(a.Height, b.Height) })
	return out, nil
}
