package guest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
)

// GuardName is the name under which the guardian keeps what to undo.
const GuardName = "forwarding"

// Guard is told how to undo a thing before it is done, as package guardian.
type Guard interface {
	Set(name string, state []byte) error
	Clear(name string) error
}

// ForwardingConfig configures Forwarding. Interfaces and File are required.
type ForwardingConfig struct {
	// Interfaces are those by which devices' packets come in.
	Interfaces []string
	// File keeps what has to be undone. Its folder must exist.
	File string
	// Guard is told, so that it is undone however this process ends. Default: nobody.
	Guard Guard

	root string // of the tree of settings; tests
}

// sysctlRoot is where the kernel's network settings are.
const sysctlRoot = "/proc/sys/net"

// Forwarding lets the kernel forward what comes in by some interfaces.
type Forwarding struct {
	cfg ForwardingConfig

	mu  sync.Mutex // guards below, and the settings
	set []string   // files this process changed from 0 to 1
}

// OpenForwarding undoes what an earlier process left standing, and then lets the kernel
// forward. Interfaces that do not exist yet are seen to by Ensure.
func OpenForwarding(cfg ForwardingConfig) (*Forwarding, error) {
	if cfg.root == "" {
		cfg.root = sysctlRoot
	}
	if err := RestoreFile(cfg.File); err != nil {
		return nil, err
	}
	f := &Forwarding{cfg: cfg}
	if err := f.Ensure(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Ensure turns forwarding on where it is off: at the start, and again when an interface
// came or somebody turned it off.
func (f *Forwarding) Ensure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var off []string
	for _, name := range f.cfg.Interfaces {
		file := filepath.Join(f.cfg.root, "ipv4/conf", name, "forwarding")
		if value, err := readSetting(file); err == nil && value == "0" {
			off = append(off, file)
		}
	}
	if len(off) == 0 {
		return nil
	}
	set := slices.Clone(f.set)
	for _, file := range off {
		if !slices.Contains(set, file) {
			set = append(set, file)
		}
	}
	if err := f.note(set); err != nil {
		return fmt.Errorf("guest: forwarding: %w", err)
	}
	f.set = set
	var errs []error
	for _, file := range off {
		if err := os.WriteFile(file, []byte("1"), 0); err != nil {
			errs = append(errs, fmt.Errorf("guest: let the kernel forward: %w: as root, sysctl -w %s=1", err, sysctlKey(file)))
		}
	}
	return errors.Join(errs...)
}

// note writes down what has to be undone, before it is done.
func (f *Forwarding) note(set []string) error {
	state, err := json.Marshal(forwardingState{File: f.cfg.File, Settings: set})
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(f.cfg.File, state, 0o600); err != nil {
		return err
	}
	if f.cfg.Guard == nil {
		return nil
	}
	return f.cfg.Guard.Set(GuardName, state)
}

// Missing6 reports whether IPv6 is not forwarded at all, which only the operator can
// decide to change.
func (f *Forwarding) Missing6() bool {
	value, err := readSetting(filepath.Join(f.cfg.root, "ipv6/conf/all/forwarding"))
	return err == nil && value == "0"
}

// Close puts back what Ensure changed. It is idempotent.
func (f *Forwarding) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.set) == 0 {
		return nil
	}
	f.set = nil
	err := RestoreFile(f.cfg.File)
	if f.cfg.Guard != nil {
		err = errors.Join(err, f.cfg.Guard.Clear(GuardName))
	}
	return err
}

// forwardingState is what has to be undone, as JSON.
type forwardingState struct {
	File     string   `json:"file"`
	Settings []string `json:"settings"`
}

// maxState bounds what is read back.
const maxState = 64 << 10

// Restore undoes what a state says; the guardian calls it.
func Restore(state []byte) error {
	if len(state) > maxState {
		return fmt.Errorf("guest: %d bytes to undo, at most %d", len(state), maxState)
	}
	var s forwardingState
	if err := json.Unmarshal(state, &s); err != nil {
		return fmt.Errorf("guest: what to undo: %w", err)
	}
	var errs []error
	for _, file := range s.Settings {
		if filepath.Base(file) != "forwarding" { // nothing else was ever changed
			errs = append(errs, fmt.Errorf("guest: %s is no setting of forwarding", file))
			continue
		}
		if err := os.WriteFile(file, []byte("0"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("guest: put forwarding back: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil || s.File == "" {
		return err
	}
	if err := os.Remove(s.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// RestoreFile undoes what the file says, if there is one.
func RestoreFile(file string) error {
	state, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("guest: what to undo: %w", err)
	}
	return Restore(state)
}

func readSetting(file string) (string, error) {
	b, err := os.ReadFile(file)
	return string(bytes.TrimSpace(b)), err
}

// sysctlKey is a setting's name as the sysctl command takes it.
func sysctlKey(file string) string {
	return strings.ReplaceAll(strings.TrimPrefix(file, "/proc/sys/"), "/", ".")
}
