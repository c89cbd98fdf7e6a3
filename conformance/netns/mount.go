package netns

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// machineEtc is where a host finds the machine's own /etc.
const machineEtc = "/run/.etc"

// ownFiles are the files of /etc that a host has of its own. A host asks files
// and then DNS for names, whatever the machine does.
func (h *Host) ownFiles() map[string]string {
	return map[string]string{
		"resolv.conf":   "",
		"hosts":         "127.0.0.1 localhost " + h.name + "\n::1 localhost ip6-localhost\n",
		"hostname":      h.name + "\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n",
	}
}

// layOut makes the host's directory:
//
//	etc/   its /etc: own files, and links to the machine's for the rest
//	run/   its /run, with .etc to bind the machine's /etc on
func (h *Host) layOut() error {
	for _, d := range []string{"etc", "run/.etc", "run/lock"} {
		if err := os.MkdirAll(filepath.Join(h.dir, d), 0o755); err != nil {
			return err
		}
	}
	own := h.ownFiles()
	for name, text := range own {
		if err := os.WriteFile(filepath.Join(h.dir, "etc", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir("/etc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, mine := own[e.Name()]; mine {
			continue
		}
		target := filepath.Join(machineEtc, e.Name())
		if e.Type()&os.ModeSymlink != 0 {
			// A relative link means something only where it stands.
			if target, err = os.Readlink(filepath.Join("/etc", e.Name())); err != nil {
				return err
			}
		}
		if err := os.Symlink(target, filepath.Join(h.dir, "etc", e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// mount puts the host's own directories in place, in the mount namespace of the
// calling thread.
func (h *Host) mount() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, m := range [][2]string{
		{"/etc", filepath.Join(h.dir, "run/.etc")},
		{filepath.Join(h.dir, "etc"), "/etc"},
		{filepath.Join(h.dir, "run"), "/run"}, // last: it hides the labs' directory
	} {
		if err := unix.Mount(m[0], m[1], "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m[0], m[1], err)
		}
	}
	// The machine's /etc is to be read, not written, whatever a host's programs do.
	readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, machineEtc, unix.AT_RECURSIVE, &readOnly); err != nil {
		return fmt.Errorf("make %s read-only: %w", machineEtc, err)
	}
	// A sysfs shows the interfaces of the namespace it was mounted in. Where the
	// kernel refuses a second one, the machine's serves: nothing here needs it.
	_ = unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	return nil
}
