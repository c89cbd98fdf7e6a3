package resolver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// stubs are the addresses systemd-resolved answers on.
var stubs = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.53:53"), netip.MustParseAddrPort("127.0.0.54:53")}

// fileBackend writes the settings file itself.
type fileBackend struct {
	cfg    Config
	run    string
	own    []netip.Addr
	before original
	last   []netip.AddrPort // the newest servers found, while there were any

	target atomic.Value // string: where the symbolic link led, for watch
}

func (f *fileBackend) mode() Mode { return File }

func (f *fileBackend) snapshot(context.Context) ([]netip.AddrPort, state, error) {
	own, err := port53(f.cfg.Servers)
	if err != nil {
		return nil, state{}, err
	}
	f.own = own
	if f.before, err = look(f.cfg.Path); err != nil {
		return nil, state{}, err
	}
	return f.upstream(), f.state(), nil
}

func (f *fileBackend) state() state {
	return state{Mode: File, Path: f.cfg.Path, Before: f.before}
}

// upstream returns the servers of the file as it was, or of the file a symbolic
// link led to as it is now. When there are none, the ones before stay: a file that
// is being replaced must not leave the host without DNS.
func (f *fileBackend) upstream() []netip.AddrPort {
	if f.before.Link != "" {
		target := absolute(f.cfg.Path, f.before.Link)
		f.target.Store(target)
		b, err := readConf(target)
		if _, ours := writtenBy(b); err == nil && !ours { // ours where only writing through the link is possible
			f.before.Content = b
		}
	}
	servers := withoutOwn(behindStub(parseConf(f.before.Content).servers, f.cfg.Uplink), f.cfg.Servers)
	if len(servers) > 0 {
		f.last = servers
	}
	return f.last
}

// behindStub replaces resolved's stub by the servers it uses: with the file ours,
// resolved takes our address from it and would ask us what we ask it.
func behindStub(servers []netip.AddrPort, uplink string) []netip.AddrPort {
	if !slices.ContainsFunc(servers, isStub) {
		return servers
	}
	servers = slices.DeleteFunc(slices.Clone(servers), isStub)
	b, err := readConf(uplink)
	if err != nil {
		return servers
	}
	for _, s := range parseConf(b).servers {
		if !isStub(s) && !slices.Contains(servers, s) {
			servers = append(servers, s)
		}
	}
	return servers
}

func isStub(s netip.AddrPort) bool { return slices.Contains(stubs, s) }

func (f *fileBackend) apply(context.Context) error {
	mode := fs.FileMode(0o644)
	if f.before.Exists && f.before.Link == "" && f.before.Mode != 0 {
		mode = fs.FileMode(f.before.Mode)
	}
	return replace(f.cfg.Path, render(f.run, f.own, f.before, f.cfg.Fallback), mode)
}

func (f *fileBackend) verify(context.Context) (bool, []netip.AddrPort, state, error) {
	now, err := look(f.cfg.Path)
	if err != nil {
		return false, nil, state{}, err
	}
	run, ours := writtenBy(now.Content)
	if ours && run != f.run {
		// Another run of ours took over without undoing this one.
		return true, f.upstream(), f.state(), errors.New("another scn has taken the file over")
	}
	if !ours {
		f.before = now
	}
	return ours, f.upstream(), f.state(), nil
}

func (f *fileBackend) watch(ctx context.Context, changed func()) error {
	paths := []string{f.cfg.Path, f.cfg.Uplink}
	if target, ok := f.target.Load().(string); ok {
		paths = append(paths, target)
	}
	return watchFiles(ctx, paths, changed)
}

func (f *fileBackend) close() error { return nil }

// restoreFile puts the file back if it is still that run's.
func restoreFile(st state) error {
	b, err := readConf(st.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody removed it: theirs to say
	}
	if err != nil {
		return err
	}
	if run, ours := writtenBy(b); !ours || run != st.Run {
		return nil
	}
	return putBack(st.Path, st.Before)
}

// putBack makes the settings file what it was.
func putBack(path string, before original) error {
	switch {
	case before.Link != "":
		return replaceLink(path, before)
	case !before.Exists:
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			if !errors.Is(err, unix.EBUSY) {
				return err
			}
			return writeInPlace(path, nil) // a mount point cannot be removed
		}
		return nil
	}
	return replace(path, before.Content, fs.FileMode(before.Mode))
}

// look returns what is at the path now.
func look(path string) (original, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return original{}, nil
	}
	if err != nil {
		return original{}, err
	}
	o := original{Exists: true}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if o.Link, err = os.Readlink(path); err != nil {
			return original{}, err
		}
	case info.Mode().IsRegular():
		o.Mode = uint32(info.Mode().Perm())
	default:
		return original{}, fmt.Errorf("%s is neither a file nor a symbolic link", path)
	}
	o.Content, err = readConf(path)
	if errors.Is(err, fs.ErrNotExist) && o.Link != "" {
		return o, nil // leads nowhere, now
	}
	return o, err
}

// readConf reads a settings file of bounded length.
func readConf(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConf+1))
	if err == nil && len(b) > maxConf {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxConf)
	}
	return b, err
}

// absolute returns where a symbolic link at the path leads.
func absolute(path, link string) string {
	if filepath.IsAbs(link) {
		return link
	}
	return filepath.Join(filepath.Dir(path), link)
}

// replace puts a file in the path's place by a rename, so that readers see the old
// or the new one; where that is impossible it writes in place.
func replace(path string, content []byte, mode fs.FileMode) error {
	err := rename(path, func(temp string) error {
		f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		_, err = f.Write(content)
		if err == nil {
			err = f.Chmod(mode) // whatever the umask
		}
		if err == nil {
			err = f.Sync()
		}
		return errors.Join(err, f.Close())
	})
	if err == nil {
		return nil
	}
	if !inPlace(err) {
		return err
	}
	if err2 := writeInPlace(path, content); err2 != nil {
		return errors.Join(err, err2)
	}
	return nil
}

// replaceLink puts the symbolic link back; where that is impossible, its content.
func replaceLink(path string, before original) error {
	err := rename(path, func(temp string) error { return os.Symlink(before.Link, temp) })
	if err != nil && inPlace(err) {
		return writeInPlace(path, before.Content)
	}
	return err
}

// rename makes something under another name in the path's directory and renames it.
func rename(path string, create func(temp string) error) error {
	temp := path + ".scn-new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := create(temp)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}

// inPlace reports whether an error of rename means that the file cannot be replaced
// but perhaps written: a mount point, a directory that cannot be written.
func inPlace(err error) bool {
	for _, e := range []syscall.Errno{unix.EBUSY, unix.EXDEV, unix.EROFS, unix.EPERM, unix.EACCES, unix.EINVAL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// writeInPlace overwrites the file. A reader may see it half written, so it goes
// out in one write.
func writeInPlace(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Truncate(int64(len(content)))
	}
	return errors.Join(err, f.Close())
}

// offBackend touches nothing and reads the host's servers.
type offBackend struct{ cfg Config }

func (o *offBackend) mode() Mode { return Off }

func (o *offBackend) upstream() ([]netip.AddrPort, error) {
	b, err := readConf(o.cfg.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if _, ours := writtenBy(b); ours { // of another node on this host
		b = unrender(b).Content
	}
	servers := parseConf(b).servers
	// Somebody may have told resolved to ask us, so the servers behind its stub are
	// better; the stub itself is better than nothing.
	if real := behindStub(servers, o.cfg.Uplink); len(withoutOwn(real, o.cfg.Servers)) > 0 {
		return real, nil
	}
	return servers, nil
}

func (o *offBackend) snapshot(context.Context) ([]netip.AddrPort, state, error) {
	servers, err := o.upstream()
	return servers, state{Mode: Off}, err
}

func (o *offBackend) apply(context.Context) error { return nil }

func (o *offBackend) verify(context.Context) (bool, []netip.AddrPort, state, error) {
	servers, err := o.upstream()
	return true, servers, state{Mode: Off}, err
}

func (o *offBackend) watch(ctx context.Context, changed func()) error {
	paths := []string{o.cfg.Path, o.cfg.Uplink}
	if real, err := filepath.EvalSymlinks(o.cfg.Path); err == nil && real != o.cfg.Path {
		paths = append(paths, real)
	}
	return watchFiles(ctx, paths, changed)
}

func (o *offBackend) close() error { return nil }
