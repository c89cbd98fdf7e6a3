package daemon

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"scn.alt/scn/daemon/node"
)

// Bounds of a backup that Restore believes.
const (
	maxBackupFiles = 1 << 16
	maxBackupFile  = 4 << 30
)

// ErrBackup is returned for a file that is no backup of a node.
var ErrBackup = errors.New("not a backup of a node")

// Backup writes everything a node is to w: a gzipped tar of its directory without
// its lock and socket. An authority must be stopped, so that its ledger is whole.
func Backup(dir string, w io.Writer) error {
	d, err := node.OpenDirectory(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "ledger")); err == nil {
		lock, err := d.Lock()
		if err != nil {
			return fmt.Errorf("this node keeps the network's ledger: %w", err)
		}
		defer lock.Close()
	}
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == "." || name == "lock" {
			return err
		}
		if !entry.IsDir() && !entry.Type().IsRegular() {
			return nil // a socket
		}
		return addToTar(t, path, filepath.ToSlash(name), entry)
	})
	return errors.Join(err, t.Close(), z.Close())
}

// BackupFile is Backup into a file only its owner can read, written at once.
func BackupFile(dir, path string) error {
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o600), renameio.IgnoreUmask())
	if err != nil {
		return err
	}
	defer f.Cleanup() //nolint:errcheck // nothing is left to clean up after success
	if err := Backup(dir, f); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

func addToTar(t *tar.Writer, path, name string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return t.WriteHeader(&tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime()})
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil { // the size of what was opened, not of what was listed
		return err
	}
	if err := t.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: info.Size(), Mode: int64(info.Mode().Perm()), ModTime: info.ModTime()}); err != nil {
		return err
	}
	_, err = io.CopyN(t, f, info.Size())
	return err
}

// Restore makes the node of a backup again. The directory must not hold a node.
// The node's key is put in place last, so that half a restore is no node.
func Restore(dir string, r io.Reader) error {
	if _, err := node.OpenDirectory(dir); err == nil {
		return fmt.Errorf("%s: %w: restore into an empty directory", dir, node.ErrExists)
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackup, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewReader(z)
	found := false
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBackup, err)
		}
		if n >= maxBackupFiles || h.Size > maxBackupFile || !filepath.IsLocal(filepath.FromSlash(strings.TrimSuffix(h.Name, "/"))) {
			return fmt.Errorf("%w: entry %q", ErrBackup, h.Name)
		}
		name := filepath.FromSlash(strings.TrimSuffix(h.Name, "/"))
		if name == "node.key" {
			found, name = true, "node.key.new"
		}
		if err := restoreEntry(root, h, name, t); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("%w: it holds no node.key", ErrBackup)
	}
	return root.Rename("node.key.new", "node.key")
}

func restoreEntry(root *os.Root, h *tar.Header, name string, r io.Reader) error {
	mode := fs.FileMode(h.Mode).Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, mode|0o700)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Sync(), f.Close())
	}
	return fmt.Errorf("%w: entry %q is neither file nor folder", ErrBackup, h.Name)
}
