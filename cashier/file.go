package cashier

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// writeFile writes a file and brings its content to the disk, not its name.
func writeFile(fs vfs.FS, path string, b []byte) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// replaceFile writes a file so that a power cut leaves the old one or the new one.
func replaceFile(fs vfs.FS, path string, b []byte) error {
	fresh := path + ".new"
	if err := writeFile(fs, fresh, b); err != nil {
		return err
	}
	if err := fs.Rename(fresh, path); err != nil {
		return err
	}
	return syncDir(fs, fs.PathDir(path))
}

// readFile reads a file of at most so many bytes.
func readFile(fs vfs.FS, path string, most int64) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%w: %s is longer than %d bytes", ErrCorrupt, path, most)
	}
	return b, err
}
