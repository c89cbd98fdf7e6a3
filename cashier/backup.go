package cashier

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/routing/identity"
)

// ErrBackup is returned for a file that is no whole backup of a ledger of the
// network, as its authority wrote it.
var ErrBackup = errors.New("cashier: not a backup of this network's ledger")

// A backup is a tar of
//
//	store/<file>                Pebble's files, as of one block
//	snapshots/<height>/<file>   the snapshot a pruned ledger begins with
//	manifest                    backupManifest, signed by the authority; the last
//
// Without its end it is no backup.
const (
	backupDir      = "backup" // where the files of a backup being written are linked
	backupManifest = "manifest"

	maxBackupFiles = 1 << 20
)

// Backup says what a backup holds.
//
// Rules for adding a field: next integer key, omitzero, never reuse a key.
type Backup struct {
	Network identity.NetworkID `cbor:"1,keyasint"`
	Format  uint64             `cbor:"2,keyasint"`
	// Height, Block and AppHash are those of the newest block in it, Time when that
	// was made.
	Height  uint64 `cbor:"3,keyasint"`
	Block   Hash   `cbor:"4,keyasint"`
	AppHash Hash   `cbor:"5,keyasint"`
	Time    int64  `cbor:"6,keyasint"`
	// Files is how many files there are, Bytes how long they are together, and Content
	// the hash of their names, lengths and hashes in their order.
	Files   uint64 `cbor:"7,keyasint"`
	Bytes   uint64 `cbor:"8,keyasint"`
	Content Hash   `cbor:"9,keyasint"`
}

// BackupProgress is how far a backup or a restore has come, in bytes of files.
type BackupProgress struct{ Done, Of uint64 }

// Backup writes the ledger as of one block to w, while it goes on. The files are
// linked, not copied, before the first is written. progress, if not nil, is called
// now and then.
func (l *Ledger) Backup(ctx context.Context, w io.Writer, progress func(BackupProgress)) (Backup, error) {
	if err := l.enter(); err != nil {
		return Backup{}, err
	}
	defer l.readers.Done()
	l.store.keeping.Lock() // a snapshot must not be removed while it is read
	defer l.store.keeping.Unlock()
	fs := l.cfg.fs
	dir := fs.PathJoin(l.dir, backupDir)
	if err := fs.RemoveAll(dir); err != nil {
		return Backup{}, err
	}
	out, err := l.backup(ctx, dir, w, progress)
	return out, errors.Join(err, fs.RemoveAll(dir))
}

func (l *Ledger) backup(ctx context.Context, dir string, w io.Writer, progress func(BackupProgress)) (out Backup, err error) {
	fs := l.cfg.fs
	if err := l.checkpointTo(dir); err != nil {
		return out, fmt.Errorf("backup: %w", err)
	}
	h, base, err := l.describeBackup(dir)
	if err != nil {
		return out, fmt.Errorf("backup: %w", err)
	}
	folders := [][2]string{{storeDir, dir}}
	if base.Height > 0 {
		height := strconv.FormatUint(base.Height, 10)
		folders = append(folders, [2]string{snapshotsDir + "/" + height, snapshotPath(fs, l.dir, base.Height)})
	}
	var files []backupFile
	for _, f := range folders {
		more, err := listFiles(fs, f[0], f[1])
		if err != nil {
			return out, fmt.Errorf("backup: %w", err)
		}
		files = append(files, more...)
	}
	out = Backup{
		Network: h.Network, Format: formatVersion, Height: h.Height, Block: h.Block, AppHash: h.AppHash, Time: h.Time, Files: uint64(len(files)),
	}
	for _, f := range files {
		out.Bytes += uint64(f.size)
	}
	archive, content, done := tar.NewWriter(w), sha256.New(), BackupProgress{Of: out.Bytes}
	for _, f := range files {
		sum, err := l.addFile(ctx, archive, f, func(n int) {
			done.Done += uint64(n)
			if progress != nil {
				progress(done)
			}
		})
		if err != nil {
			return out, fmt.Errorf("backup %s: %w", f.name, err)
		}
		writeContent(content, f.name, f.size, sum)
	}
	content.Sum(out.Content[:0])
	signed, err := sealAs(l.key, typeBackup, out)
	if err != nil {
		return out, err
	}
	err = archive.WriteHeader(&tar.Header{Name: backupManifest, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(signed))})
	if err == nil {
		_, err = archive.Write(signed)
	}
	return out, errors.Join(err, archive.Close())
}

// describeBackup reads where the linked files are.
func (l *Ledger) describeBackup(dir string) (h head, base baseRow, err error) {
	db, err := pebble.Open(dir, storeOptions(l.cfg.fs, l.cfg.Logger, true))
	if err != nil {
		return h, base, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	raw, err := get(db, headKey)
	if err != nil {
		return h, base, err
	}
	if err := identity.Unmarshal(raw, &h); err != nil {
		return h, base, fmt.Errorf("%w: head: %w", ErrCorrupt, err)
	}
	base, err = l.store.base(db, l.cfg.Network)
	return h, base, err
}

type backupFile struct {
	name, path string
	size       int64
}

// listFiles lists the files of a folder, which is called folder in a backup.
func listFiles(fs vfs.FS, folder, path string) ([]backupFile, error) {
	names, err := fs.List(path)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var out []backupFile
	for _, n := range names {
		info, err := fs.Stat(fs.PathJoin(path, n))
		if err != nil {
			return nil, err
		}
		if !info.IsDir() && n != "LOCK" {
			out = append(out, backupFile{folder + "/" + n, fs.PathJoin(path, n), info.Size()})
		}
	}
	return out, nil
}

func (l *Ledger) addFile(ctx context.Context, archive *tar.Writer, f backupFile, wrote func(int)) (sum Hash, err error) {
	file, err := l.cfg.fs.Open(f.path)
	if err != nil {
		return sum, err
	}
	defer file.Close()
	if err := archive.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: 0o600, Size: f.size}); err != nil {
		return sum, err
	}
	return copyHashed(archive, io.LimitReader(file, f.size), f.size, func(n int) error {
		wrote(n)
		select {
		case <-l.stop:
			return ErrClosed
		default:
			return ctx.Err()
		}
	})
}

// copyHashed copies exactly size bytes and returns their hash.
func copyHashed(w io.Writer, r io.Reader, size int64, step func(int) error) (sum Hash, err error) {
	s := sha256.New()
	for buffer := make([]byte, 256<<10); size > 0; {
		n, err := r.Read(buffer[:min(int64(len(buffer)), size)])
		if n > 0 {
			s.Write(buffer[:n])
			if _, err := w.Write(buffer[:n]); err != nil {
				return sum, err
			}
			size -= int64(n)
			if err := step(n); err != nil {
				return sum, err
			}
		}
		if err != nil && size > 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return sum, err
		}
	}
	s.Sum(sum[:0])
	return sum, nil
}

func writeContent(s hash.Hash, name string, size int64, sum Hash) {
	var n [16]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(name)))
	binary.BigEndian.PutUint64(n[8:], uint64(size))
	s.Write(n[:])
	s.Write([]byte(name))
	s.Write(sum[:])
}
