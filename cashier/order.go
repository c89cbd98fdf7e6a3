package cashier

import (
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// orderedFS brings a directory to the disk before and after Pebble moves one of
// its markers there. Pebble creates a manifest, then the marker that names it,
// removes the old marker, and syncs the directory once, at the end; a file system
// that keeps the marker's entry but not the manifest's leaves a store that does
// not open. Markers move only at opening and when a manifest is full, so this
// costs nothing.
type orderedFS struct{ vfs.FS }

// Create implements vfs.FS.
func (o orderedFS) Create(path string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := o.settle(path); err != nil {
		return nil, err
	}
	return o.FS.Create(path, category)
}

// Remove implements vfs.FS.
func (o orderedFS) Remove(path string) error {
	if err := o.settle(path); err != nil {
		return err
	}
	return o.FS.Remove(path)
}

func (o orderedFS) settle(path string) error {
	if !strings.HasPrefix(o.PathBase(path), "marker.") {
		return nil
	}
	return syncDir(o.FS, o.PathDir(path))
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
