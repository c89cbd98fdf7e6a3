package resolver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watchFiles calls changed whenever something happens to one of the files, until
// ctx ends. It watches their directories, since files are replaced by renames; a
// directory that does not exist is left out.
func watchFiles(ctx context.Context, paths []string, changed func()) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	var names []string
	watched := 0
	for _, p := range paths {
		names = append(names, filepath.Base(p))
		const mask = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM
		if _, err := unix.InotifyAddWatch(fd, filepath.Dir(p), mask); err == nil {
			watched++
		}
		// A file that is a mount point of its own is not seen through its directory.
		_, _ = unix.InotifyAddWatch(fd, p, unix.IN_CLOSE_WRITE)
	}
	if watched == 0 {
		return errors.New("inotify: no directory to watch")
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := f.Read(buf)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("inotify: %w", err)
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			e := (*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
			end := unix.SizeofInotifyEvent + int(e.Len)
			if end > len(b) {
				break
			}
			name := unix.ByteSliceToString(b[unix.SizeofInotifyEvent:end])
			if name == "" || slices.Contains(names, name) || e.Mask&unix.IN_Q_OVERFLOW != 0 {
				changed()
			}
			b = b[end:]
		}
	}
}
