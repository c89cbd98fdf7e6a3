package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
)

// Files of a node's directory. Keys are readable by their owner alone.
const (
	nodeKeyFile     = "node.key"
	accountKeyFile  = "account.key"
	networkKeyFile  = "network.key" // the founder's
	networkFile     = "network.toml"
	servicesFile    = "services.json"
	servicesDir     = "services"
	stateDir        = "state"
	ledgerDir       = "ledger"
	promisedFile    = "ledger.promised" // outside the ledger: a restore must not touch it
	lockFile        = "lock"
	settingsFile    = "scn.toml"
	networkFileSize = 64 << 10
)

// Errors of a node's directory.
var (
	// ErrNoDirectory is returned for a directory that scn init never wrote.
	ErrNoDirectory = errors.New("no node lives here")
	// ErrInUse is returned when another process runs on the directory.
	ErrInUse = errors.New("another daemon uses this directory")
	// ErrKeyMode is returned for a key file others can read.
	ErrKeyMode = errors.New("key readable by others")
)

// Directory is a node's files: keys, network file, state. It does not watch them.
type Directory struct{ path string }

// OpenDirectory checks that a node lives at path and that its keys are private.
func OpenDirectory(path string) (Directory, error) {
	d := Directory{path}
	if _, err := os.Stat(d.join(nodeKeyFile)); errors.Is(err, fs.ErrNotExist) {
		return d, fmt.Errorf("%s: %w: make one with \"scn init --dir %s --network FILE\" (or --new-network NAME --advertise IP:PORT)", path, ErrNoDirectory, path)
	} else if err != nil {
		return d, err
	}
	return d, nil
}

// Path returns the directory's path.
func (d Directory) Path() string { return d.path }

// SettingsFile returns the path of the settings, which need not exist.
func (d Directory) SettingsFile() string { return d.join(settingsFile) }

// StateDir returns the folder for what the node remembers between runs.
func (d Directory) StateDir() string { return d.join(stateDir) }

// NetworkPath returns the path of the network file.
func (d Directory) NetworkPath() string { return d.join(networkFile) }

// NodeKey reads the node's key.
func (d Directory) NodeKey() (identity.PrivateKey, error) { return d.readKey(nodeKeyFile) }

// AccountKey reads the key that owns this node's names.
func (d Directory) AccountKey() (identity.PrivateKey, error) { return d.readKey(accountKeyFile) }

// NetworkKey reads the founder's key; fs.ErrNotExist on every other node.
func (d Directory) NetworkKey() (identity.PrivateKey, error) { return d.readKey(networkKeyFile) }

// Network reads and verifies the network file.
func (d Directory) Network() (network.File, []byte, error) {
	b, err := readBounded(d.join(networkFile), networkFileSize)
	if err != nil {
		return network.File{}, nil, fmt.Errorf("network file: %w", err)
	}
	f, err := network.Parse(b)
	if err != nil {
		return network.File{}, nil, fmt.Errorf("%s: %w", d.join(networkFile), err)
	}
	// A file put there by hand must not be older than what this node has followed.
	known, err := readBounded(d.knownNetwork(), networkFileSize)
	if err != nil {
		return f, b, nil //nolint:nilerr // none yet, or not to be read: the founder's signature still holds
	}
	if k, err := network.Parse(known); err == nil {
		if err := network.CheckUpdate(k, f); err != nil {
			return network.File{}, nil, fmt.Errorf("%s: %w: copy the newer one back from %s, or make a node of its own for another network", d.join(networkFile), err, d.knownNetwork())
		}
	}
	return f, b, nil
}

// knownNetwork is where the newest network file ever followed is remembered.
func (d Directory) knownNetwork() string { return d.join(filepath.Join(stateDir, networkFile)) }

// WriteNetwork replaces the network file.
func (d Directory) WriteNetwork(b []byte) error {
	if err := d.write(networkFile, b, 0o644); err != nil {
		return err
	}
	return d.rememberNetwork(b)
}

// rememberNetwork notes the newest network file followed.
func (d Directory) rememberNetwork(b []byte) error {
	return d.write(filepath.Join(stateDir, networkFile), b, 0o600)
}

// ServiceKey reads the key of an owned service; fs.ErrNotExist where it is not
// this node's.
func (d Directory) ServiceKey(name string) (identity.PrivateKey, error) {
	return d.readKey(filepath.Join(servicesDir, name+".key"))
}

// MakeServiceKey returns the key of a service, made on first use.
func (d Directory) MakeServiceKey(name string) (identity.PrivateKey, error) {
	key, err := d.ServiceKey(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	return d.makeKey(filepath.Join(servicesDir, name+".key"))
}

// Lock takes the directory for this process until the returned file is closed.
// The kernel releases it however the process ends.
func (d Directory) Lock() (*os.File, error) {
	f, err := os.OpenFile(d.join(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w: stop it first, or name another with --dir", d.path, ErrInUse), f.Close())
	}
	return f, nil
}

func (d Directory) join(name string) string { return filepath.Join(d.path, name) }

func (d Directory) readKey(name string) (identity.PrivateKey, error) {
	path := d.join(name)
	info, err := os.Stat(path)
	if err != nil {
		return identity.PrivateKey{}, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return identity.PrivateKey{}, fmt.Errorf("%s: %w (mode %04o): run \"chmod 600 %s\"", path, ErrKeyMode, mode, path)
	}
	b, err := readBounded(path, 4<<10)
	if err != nil {
		return identity.PrivateKey{}, err
	}
	key, err := identity.ParseKey(b)
	if err != nil {
		return identity.PrivateKey{}, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func (d Directory) makeKey(name string) (identity.PrivateKey, error) {
	key, err := identity.GenerateKey(rand.Reader)
	if err != nil {
		return identity.PrivateKey{}, err
	}
	return key, d.write(name, key.MarshalPEM(), 0o600)
}

// write replaces a file at once: whoever reads sees the old bytes or the new.
func (d Directory) write(name string, b []byte, mode fs.FileMode) error {
	path := d.join(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(path, b, mode, renameio.IgnoreUmask())
}

// readBounded reads a whole file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s: %d bytes, at most %d", path, info.Size(), limit)
	}
	return os.ReadFile(path)
}

// removeServiceKey forgets the key of a service that never came to be.
func (d Directory) removeServiceKey(name string) {
	_ = os.Remove(d.join(filepath.Join(servicesDir, name+".key")))
}

// serviceKeys lists the names under which service keys are kept.
func (d Directory) serviceKeys() []string {
	paths, err := filepath.Glob(d.join(filepath.Join(servicesDir, "*.key")))
	if err != nil {
		return nil // only a malformed pattern fails
	}
	names := make([]string, len(paths))
	for i, path := range paths {
		names[i] = strings.TrimSuffix(filepath.Base(path), ".key")
	}
	return names
}

// retireGroup removes a group's list and puts its key aside.
func (d Directory) retireGroup(name string) error {
	if err := os.Remove(d.join(groupList(name))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key := d.join(groupKey(name))
	if err := os.Rename(key, key+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
