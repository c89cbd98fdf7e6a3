package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// state says how to undo what a run did. It is kept as JSON: it never leaves the
// host, and an operator may have to read it.
type state struct {
	Run  string `json:"run"`
	Mode Mode   `json:"mode"`

	Path   string   `json:"path,omitempty"` // file
	Before original `json:"before,omitzero"`

	Command string `json:"command,omitempty"` // resolvconf
	Record  string `json:"record,omitempty"`

	Bus       string `json:"bus,omitempty"` // resolved
	Interface string `json:"interface,omitempty"`
	Index     int    `json:"index,omitempty"`
}

// order is what the guardian gets: the state and where its file lies.
type order struct {
	Dir   string `json:"dir"`
	State state  `json:"state"`
}

func (s state) equal(other state) bool {
	s.Run, other.Run = "", ""
	a, _ := json.Marshal(s)
	b, _ := json.Marshal(other)
	return string(a) == string(b)
}

func (s state) encode(dir string) []byte {
	b, _ := json.Marshal(order{Dir: dir, State: s}) // plain fields
	return b
}

func statePath(dir string) string { return filepath.Join(dir, "resolver.json") }

// write keeps the state over a crash.
func (s state) write(dir string) error {
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(statePath(dir), append(b, '\n'), 0o600)
}

// readState returns the state kept, or fs.ErrNotExist.
func readState(dir string) (state, error) {
	b, err := os.ReadFile(statePath(dir))
	if err != nil {
		return state{}, err
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return state{}, fmt.Errorf("%s: %w", statePath(dir), err)
	}
	return s, nil
}

// Restore undoes what the state says, for the guardian. It does nothing when a
// later run is in charge, or when everything was undone already.
func Restore(encoded []byte) error {
	var o order
	if err := json.Unmarshal(encoded, &o); err != nil {
		return fmt.Errorf("resolver: %w", err)
	}
	return restore(o.Dir, o.State)
}

// Repair undoes what an earlier run left behind. It needs Path and StateDir of the
// settings only, and without StateDir goes by what the file itself says. It does
// nothing on a host in order; it must not be called while a daemon runs.
func Repair(cfg Config) error {
	cfg = cfg.withDefaults()
	var st state
	err := fs.ErrNotExist
	if cfg.StateDir != "" {
		st, err = readState(cfg.StateDir)
	}
	switch {
	case err == nil:
		if err := restore(cfg.StateDir, st); err != nil {
			return fmt.Errorf("resolver: repair: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		// A state that cannot be read: the file itself says what was there.
		if err := os.Remove(statePath(cfg.StateDir)); err != nil {
			return fmt.Errorf("resolver: repair: %w", err)
		}
	}
	b, err := readConf(cfg.Path)
	if err != nil {
		return nil // nothing there is nothing of ours
	}
	if _, ours := writtenBy(b); ours {
		if err := putBack(cfg.Path, unrender(b)); err != nil {
			return fmt.Errorf("resolver: repair: %w", err)
		}
	}
	return nil
}

// restore undoes the state unless a later run is in charge, and forgets it.
func restore(dir string, st state) error {
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	kept, err := readState(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // undone already
	case err == nil && kept.Run != st.Run:
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	switch st.Mode {
	case File:
		err = restoreFile(st)
	case Resolvconf:
		err = restoreResolvconf(ctx, st)
	case Resolved:
		err = restoreResolved(ctx, st)
	default:
		err = fmt.Errorf("state of unknown mode %q", st.Mode)
	}
	if err != nil {
		return err
	}
	return os.Remove(statePath(dir))
}

// lock keeps the guardian of a dead run and the next run apart.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "resolver.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock: %w", err)
	}
	return func() { f.Close() }, nil
}
