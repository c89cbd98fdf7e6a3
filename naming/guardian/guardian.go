// Package guardian undoes what a process changed on its host when the process is
// gone, however it went.
//
// # Model
//
// The daemon starts itself once more as a small process, the guardian, that reads
// a pipe whose only writer is the daemon. Through it the daemon says what would
// have to be undone, before it does it. The kernel closes the pipe when the daemon
// ends, by kill -9 too; the guardian then undoes everything still standing, newest
// first, and exits. A daemon that ended in order has cleared everything before.
//
//	daemon ── frames ──► guardian          op 1 ‖ name length 1 ‖ state length 4 ‖ name ‖ state
//	       ◄── one byte per frame ──       'S' set, 'C' clear; big endian
//
// The guardian lives in a session of its own and ignores the signals that end a
// process group, and has another name than the daemon, so that killing the daemon
// by name leaves it alone. A guardian that dies is replaced and told everything.
//
// # What it does not do
//
// It does not survive the killing of a whole control group: a systemd unit wants
// KillMode=mixed, and what is left standing is repaired at the next start.
//
// # Concurrency
//
// A Guardian is safe for concurrent use.
package guardian

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Name is what the guardian process is called in process listings.
const Name = "resolv-guardian"

// variable marks the environment of a guardian process.
const variable = "SCN_GUARDIAN"

// Bounds of a frame.
const (
	maxName  = 255
	maxState = 1 << 20
)

// Operations of a frame.
const (
	opSet   = 'S'
	opClear = 'C'
)

const (
	acknowledged = 'k'
	ready        = 'r'
)

// ErrClosed is returned after Close.
var ErrClosed = errors.New("guardian: closed")

// Config configures a Guardian. The zero value is valid.
type Config struct {
	// Path is the program to run; it must call Main when Requested reports true.
	// Default: this very program.
	Path string
	// Timeout is how long the guardian may take to answer. Default 10s.
	Timeout time.Duration
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger
}

// Guardian is the daemon's end.
type Guardian struct {
	cfg Config

	mu      sync.Mutex // guards below, held over one exchange with the process
	closed  bool
	process *process
	entries []entry // what stands, oldest first
	retry   *time.Timer
	wg      sync.WaitGroup // watchers of processes
}

// entry is one thing to be undone.
type entry struct {
	name  string
	state []byte
}

// process is a running guardian.
type process struct {
	cmd  *exec.Cmd
	in   *os.File // frames to it
	out  *os.File // bytes from it
	gone chan struct{}
}

// Start starts the guardian process and waits until it is ready.
func Start(cfg Config) (*Guardian, error) {
	if cfg.Path == "" {
		cfg.Path = "/proc/self/exe" // also after the file was replaced by an upgrade
		if _, err := os.Stat(cfg.Path); err != nil {
			if cfg.Path, err = os.Executable(); err != nil {
				return nil, fmt.Errorf("guardian: %w", err)
			}
		}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Guardian{cfg: cfg}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.startLocked(); err != nil {
		return nil, err
	}
	return g, nil
}

// Set says how to undo the thing named; it replaces what was set before. Call it
// before doing the thing. It returns once the guardian has it.
func (g *Guardian) Set(name string, state []byte) error {
	if name == "" || len(name) > maxName || len(state) > maxState {
		return fmt.Errorf("guardian: set %q: name or state too long", name)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	i := slices.IndexFunc(g.entries, func(e entry) bool { return e.name == name })
	if i >= 0 {
		g.entries[i].state = bytes.Clone(state)
	} else {
		g.entries = append(g.entries, entry{name, bytes.Clone(state)})
	}
	return g.tellLocked(opSet, name, state)
}

// Clear says that the thing named was undone.
func (g *Guardian) Clear(name string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	g.entries = slices.DeleteFunc(g.entries, func(e entry) bool { return e.name == name })
	return g.tellLocked(opClear, name, nil)
}

// PID returns the guardian's process ID, 0 while there is none.
func (g *Guardian) PID() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.process == nil {
		return 0
	}
	return g.process.cmd.Process.Pid
}

// Close closes the pipe, so that the guardian undoes what still stands, and waits
// for it.
func (g *Guardian) Close() error {
	g.mu.Lock()
	g.closed = true
	if g.retry != nil {
		g.retry.Stop()
	}
	p := g.process
	g.mu.Unlock()
	if p != nil {
		p.in.Close()
		select {
		case <-p.gone:
		case <-time.After(g.cfg.Timeout):
			_ = p.cmd.Process.Kill()
		}
	}
	g.wg.Wait()
	return nil
}

// tellLocked sends a frame to the process, or starts one that is told everything.
func (g *Guardian) tellLocked(op byte, name string, state []byte) error {
	if g.process != nil {
		err := g.process.tell(op, name, state, g.cfg.Timeout)
		if err == nil {
			return nil
		}
		g.cfg.Logger.Warn("guardian does not answer", "err", err)
		_ = g.process.cmd.Process.Kill()
		g.process = nil
	}
	return g.startLocked()
}

// startLocked starts a process and tells it what stands.
func (g *Guardian) startLocked() error {
	childIn, in, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("guardian: %w", err)
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		childIn.Close()
		in.Close()
		return fmt.Errorf("guardian: %w", err)
	}
	cmd := exec.Command(g.cfg.Path)
	cmd.Args = []string{Name}
	cmd.Env = append(os.Environ(), variable+"=1", "GOMAXPROCS=1")
	cmd.Dir = "/" // holds no mount
	cmd.Stdin, cmd.Stdout, cmd.Stderr = childIn, childOut, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	childIn.Close()
	childOut.Close()
	if err != nil {
		in.Close()
		out.Close()
		return fmt.Errorf("guardian: %w", err)
	}
	p := &process{cmd: cmd, in: in, out: out, gone: make(chan struct{})}
	g.wg.Go(func() { g.watch(p) }) // ends with the process
	if err := p.await(ready, g.cfg.Timeout); err != nil {
		_ = cmd.Process.Kill()
		return fmt.Errorf("guardian: start: %w", err)
	}
	for _, e := range g.entries {
		if err := p.tell(opSet, e.name, e.state, g.cfg.Timeout); err != nil {
			_ = cmd.Process.Kill()
			return fmt.Errorf("guardian: %w", err)
		}
	}
	g.process = p
	g.cfg.Logger.Debug("guardian started", "pid", cmd.Process.Pid)
	return nil
}

// watch reaps a process and replaces it if it was not told to end.
func (g *Guardian) watch(p *process) {
	err := p.cmd.Wait()
	close(p.gone)
	g.mu.Lock()
	defer g.mu.Unlock()
	p.in.Close()
	p.out.Close()
	if g.closed || g.process != p {
		return
	}
	g.process = nil
	g.cfg.Logger.Warn("guardian died, another is started", "err", err)
	g.replaceLocked(0)
}

// replaceLocked starts a process, and tries again later when that fails.
func (g *Guardian) replaceLocked(after time.Duration) {
	g.retry = time.AfterFunc(after, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.closed || g.process != nil {
			return
		}
		if err := g.startLocked(); err != nil {
			g.cfg.Logger.Error("no guardian: a crash would leave the host's DNS as it is", "err", err)
			g.replaceLocked(min(max(2*after, time.Second), time.Minute))
		}
	})
}

func (p *process) tell(op byte, name string, state []byte, timeout time.Duration) error {
	_ = p.in.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := p.in.Write(appendFrame(nil, op, name, state)); err != nil {
		return err
	}
	return p.await(acknowledged, timeout)
}

func (p *process) await(want byte, timeout time.Duration) error {
	_ = p.out.SetReadDeadline(time.Now().Add(timeout))
	var b [1]byte
	if _, err := io.ReadFull(p.out, b[:]); err != nil {
		return err
	}
	if b[0] != want {
		return fmt.Errorf("answered %q instead of %q", b[0], want)
	}
	return nil
}

func appendFrame(b []byte, op byte, name string, state []byte) []byte {
	b = append(b, op, byte(len(name)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(state)))
	b = append(b, name...)
	return append(b, state...)
}
