package cashier

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/routing/identity"
)

// ErrNotEmpty is returned by Restore when there is a ledger already.
var ErrNotEmpty = errors.New("cashier: there is a ledger with blocks in it")

// Where a restored store stands until it takes its place. Open finishes what a
// power cut left between the two renames.
const (
	restoringDir = "restoring"      // being written and verified
	restoredDir  = "store.restored" // verified
	replacedDir  = "store.replaced" // what was there before, and its height
)

// RestoreConfig configures Restore. Network and Authority are required.
type RestoreConfig struct {
	// Network and Authority are whose ledger it must be.
	Network   identity.NetworkID
	Authority identity.NodeID
	// Force moves a ledger that is there aside. Default: ErrNotEmpty.
	Force bool
	// Unpacked and Verified are told how far it has come. Default: nobody.
	Unpacked func(done uint64)
	Verified func(Progress)
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger

	fs vfs.FS // tests
}

// Restored is what Restore did.
type Restored struct {
	Backup
	// Transactions is how many were verified, from block From on.
	From, Transactions uint64
	// Replaced is where the former ledger is now, empty if there was none.
	Replaced string
}

// Restore puts the ledger of a backup into dir, whose ledger must not be open. The
// backup is verified before anything is replaced: its signature, the hash of every
// file, and then every block in it. A power cut leaves the old ledger or the new
// one.
func Restore(ctx context.Context, dir string, r io.Reader, cfg RestoreConfig) (Restored, error) {
	own := Config{Network: cfg.Network, Logger: cfg.Logger, fs: cfg.fs}.withDefaults()
	own.authority = cfg.Authority
	fs := own.fs
	if err := finishRestore(fs, dir); err != nil {
		return Restored{}, err
	}
	before, there, err := heightOf(dir, own)
	if err != nil && !cfg.Force {
		return Restored{}, err
	}
	if before > 0 && !cfg.Force {
		return Restored{}, fmt.Errorf("%w: %d blocks", ErrNotEmpty, before)
	}
	fresh := fs.PathJoin(dir, restoringDir)
	if err := errors.Join(fs.RemoveAll(fresh), makeDir(fs, dir)); err != nil {
		return Restored{}, err
	}
	out := Restored{}
	if out.Backup, err = unpack(ctx, fs, fresh, r, cfg); err == nil {
		err = out.verify(ctx, fresh, own, cfg.Verified)
	}
	if err != nil {
		return out, errors.Join(err, fs.RemoveAll(fresh))
	}
	if err := moveSnapshots(fs, fresh, dir); err != nil {
		return out, err
	}
	if there {
		out.Replaced = freeName(fs, fs.PathJoin(dir, replacedDir+"-"+strconv.FormatUint(before, 10)))
	}
	return out, replaceStore(fs, dir, fresh, out.Replaced)
}

// heightOf reads the newest height of the ledger in dir, if there is one.
func heightOf(dir string, cfg Config) (height uint64, there bool, err error) {
	path := cfg.fs.PathJoin(dir, storeDir)
	if _, err := cfg.fs.Stat(path); errors.Is(err, os.ErrNotExist) {
		return 0, false, nil
	}
	s, err := openStore(path, cfg.fs, cfg.Logger)
	if err != nil {
		return 0, true, fmt.Errorf("the ledger there: %w", err)
	}
	var h head
	_, err = s.readHead(s.db, &h)
	return h.Height, true, errors.Join(err, s.close())
}

// unpack writes the files of a backup below path.
func unpack(ctx context.Context, fs vfs.FS, path string, r io.Reader, cfg RestoreConfig) (out Backup, err error) {
	archive, content, files, size := tar.NewReader(r), sha256.New(), uint64(0), uint64(0)
	folders := map[string]bool{}
	for {
		h, err := archive.Next()
		if err != nil {
			return out, fmt.Errorf("%w: it has no end: %w", ErrBackup, err)
		}
		if h.Name == backupManifest {
			signed, err := io.ReadAll(io.LimitReader(archive, identity.MaxEnvelope))
			if err != nil {
				return out, fmt.Errorf("%w: %w", ErrBackup, err)
			}
			if err := openAnswer(typeBackup, signed, []identity.NodeID{cfg.Authority}, &out); err != nil {
				return out, fmt.Errorf("%w: %w", ErrBackup, err)
			}
			break
		}
		parts, name, ok := backupName(h)
		if !ok || files >= maxBackupFiles {
			return out, fmt.Errorf("%w: entry %q", ErrBackup, h.Name)
		}
		folder := fs.PathJoin(append([]string{path}, parts...)...)
		if !folders[folder] {
			if err := fs.MkdirAll(folder, 0o700); err != nil {
				return out, err
			}
			folders[folder] = true
		}
		sum, err := unpackFile(ctx, fs, fs.PathJoin(folder, name), archive, h.Size, func(n int) {
			size += uint64(n)
			if cfg.Unpacked != nil {
				cfg.Unpacked(size)
			}
		})
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return out, fmt.Errorf("%w: it ends in %s", ErrBackup, h.Name)
		}
		if err != nil {
			return out, fmt.Errorf("restore %s: %w", h.Name, err)
		}
		writeContent(content, h.Name, h.Size, sum)
		files++
	}
	switch {
	case out.Network != cfg.Network:
		return out, fmt.Errorf("%w: %w", ErrBackup, ErrNetwork)
	case out.Format > formatVersion:
		return out, fmt.Errorf("%w: format %d, this program knows %d", ErrFormat, out.Format, formatVersion)
	case out.Files != files || out.Bytes != size || out.Content != Hash(content.Sum(nil)):
		return out, fmt.Errorf("%w: its files are not those that were signed", ErrBackup)
	}
	for folder := range folders {
		if err := syncDir(fs, folder); err != nil {
			return out, err
		}
	}
	return out, nil
}

// backupName splits the name of an entry, if it is one a backup has.
func backupName(h *tar.Header) (folder []string, name string, ok bool) {
	parts := strings.Split(h.Name, "/")
	folder, name = parts[:len(parts)-1], parts[len(parts)-1]
	switch {
	case h.Typeflag != tar.TypeReg || h.Size < 0 || strings.ContainsAny(h.Name, "\\:") || name == "" || name == "." || name == "..":
		return nil, "", false
	case len(folder) == 1 && folder[0] == storeDir:
		return folder, name, true
	case len(folder) == 2 && folder[0] == snapshotsDir:
		_, err := strconv.ParseUint(folder[1], 10, 64)
		return folder, name, err == nil
	}
	return nil, "", false
}

func unpackFile(ctx context.Context, fs vfs.FS, path string, r io.Reader, size int64, wrote func(int)) (sum Hash, err error) {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return sum, err
	}
	sum, err = copyHashed(f, r, size, func(n int) error {
		wrote(n)
		return ctx.Err()
	})
	return sum, errors.Join(err, f.Sync(), f.Close())
}

// verify opens what was unpacked, brings it to the newest format and checks all of it.
func (r *Restored) verify(ctx context.Context, path string, cfg Config, progress func(Progress)) (err error) {
	s, err := openStore(cfg.fs.PathJoin(path, storeDir), cfg.fs, cfg.Logger)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackup, err)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	s.dir, s.authority = path, cfg.authority
	h, err := s.load(cfg.Network)
	if err != nil {
		return err
	}
	if h.Height != r.Height || h.Block != r.Block {
		return fmt.Errorf("%w: it is of block %d, not %d", ErrBackup, h.Height, r.Height)
	}
	return s.verify(ctx.Err, cfg, func(p Progress) {
		r.From, r.Transactions = p.From, p.Transactions
		if progress != nil {
			progress(p)
		}
	})
}

// moveSnapshots puts unpacked snapshots beside those there are. One that is there
// already, by the same manifest, stays.
func moveSnapshots(fs vfs.FS, from, dir string) error {
	names, err := fs.List(fs.PathJoin(from, snapshotsDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	to := fs.PathJoin(dir, snapshotsDir)
	if err := errors.Join(err, makeDir(fs, to)); err != nil {
		return err
	}
	for _, n := range names {
		path := fs.PathJoin(to, n)
		had, _ := readFile(fs, fs.PathJoin(path, manifestFile), identity.MaxEnvelope)
		has, err := readFile(fs, fs.PathJoin(from, snapshotsDir, n, manifestFile), identity.MaxEnvelope)
		if err == nil && bytes.Equal(had, has) {
			continue
		}
		if err := errors.Join(err, fs.RemoveAll(path)); err != nil {
			return err
		}
		if err := fs.Rename(fs.PathJoin(from, snapshotsDir, n), path); err != nil {
			return err
		}
	}
	return syncDir(fs, to)
}

// freeName returns a name nothing has.
func freeName(fs vfs.FS, path string) string {
	name := path
	for i := 1; ; i++ {
		if _, err := fs.Stat(name); errors.Is(err, os.ErrNotExist) {
			return name
		}
		name = fmt.Sprintf("%s-%d", path, i)
	}
}

// replaceStore moves a verified store to its place, and what is there to aside.
//
//	restoring/store ──► store.restored     from here on a power cut ends in the new
//	store           ──► store.replaced-N   one as soon as there is no old one; before,
//	store.restored  ──► store              the old one stays
func replaceStore(fs vfs.FS, dir, fresh, aside string) error {
	store, restored := fs.PathJoin(dir, storeDir), fs.PathJoin(dir, restoredDir)
	if err := errors.Join(fs.Rename(fs.PathJoin(fresh, storeDir), restored), syncDir(fs, dir), fs.RemoveAll(fresh)); err != nil {
		return err
	}
	if aside != "" {
		if err := errors.Join(fs.Rename(store, aside), syncDir(fs, dir)); err != nil {
			return err
		}
	}
	return errors.Join(fs.Rename(restored, store), syncDir(fs, dir))
}

// finishRestore ends a restore that a power cut interrupted: forward when the old
// store is moved aside already, else back.
func finishRestore(fs vfs.FS, dir string) error {
	restored := fs.PathJoin(dir, restoredDir)
	if _, err := fs.Stat(restored); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	store := fs.PathJoin(dir, storeDir)
	if _, err := fs.Stat(store); err == nil {
		return errors.Join(fs.RemoveAll(restored), syncDir(fs, dir))
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return errors.Join(fs.Rename(restored, store), syncDir(fs, dir))
}
