package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Cmd is a program on a host. It is an [exec.Cmd] whose Start happens in the
// host's namespaces; what it writes goes to the lab's log unless Stdout and
// Stderr are set. Use it as exec.Cmd: Start and Wait, Run, Output or
// CombinedOutput.
type Cmd struct {
	*exec.Cmd
	host   *Host
	logs   []*lineWriter
	exited chan struct{} // closed by Wait
}

// Command returns a program to run on the host, killed when ctx ends. Its
// process group is killed when the lab closes.
func (h *Host) Command(ctx context.Context, name string, args ...string) *Cmd {
	c := &Cmd{Cmd: exec.CommandContext(ctx, name, args...), host: h, exited: make(chan struct{})}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.Cancel = func() error { return c.Signal(syscall.SIGKILL) }
	c.WaitDelay = 5 * time.Second
	return c
}

// Start starts the program.
func (c *Cmd) Start() error {
	label := c.host.name + " " + filepath.Base(c.Path)
	if c.Stdout == nil {
		c.Stdout = c.logTo(label)
	}
	if c.Stderr == nil {
		c.Stderr = c.logTo(label)
	}
	if c.Dir == "" {
		// A thread that enters a mount namespace loses its working directory.
		c.Dir, _ = os.Getwd()
	}
	h := c.host
	var err error
	h.thread.run(func() { err = c.Cmd.Start() })
	if err != nil {
		return fmt.Errorf("on %s: %w", h.name, err)
	}
	h.mu.Lock()
	h.commands[c] = struct{}{}
	h.mu.Unlock()
	return nil
}

func (c *Cmd) logTo(label string) *lineWriter {
	w := &lineWriter{write: func(line string) { c.host.lab.logf("%s: %s", label, line) }}
	c.logs = append(c.logs, w)
	return w
}

// Wait waits for the program to end.
func (c *Cmd) Wait() error {
	err := c.Cmd.Wait()
	for _, w := range c.logs {
		w.flush()
	}
	c.host.mu.Lock()
	_, running := c.host.commands[c]
	delete(c.host.commands, c)
	c.host.mu.Unlock()
	if running {
		close(c.exited)
	}
	if err != nil {
		return fmt.Errorf("on %s: %s: %w", c.host.name, strings.Join(c.Args, " "), err)
	}
	return nil
}

// Run starts the program and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the program and returns what it wrote to standard output.
func (c *Cmd) Output() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run()
	return out.Bytes(), err
}

// CombinedOutput runs the program and returns everything it wrote.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// Signal sends a signal to the program and the children in its process group.
func (c *Cmd) Signal(s syscall.Signal) error {
	if c.Process == nil {
		return errors.New("netns: not started")
	}
	err := syscall.Kill(-c.Process.Pid, s)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// Stop ends the program with SIGTERM, after grace with SIGKILL, and waits until
// it has ended. The program must have been started, and somebody may already be
// in Wait.
func (c *Cmd) Stop(grace time.Duration) {
	_ = c.Signal(syscall.SIGTERM)
	if !c.ended(grace) {
		_ = c.Signal(syscall.SIGKILL)
		c.ended(10 * time.Second)
	}
}

// ended reports whether the program ends within the given time.
func (c *Cmd) ended(within time.Duration) bool {
	deadline := time.Now().Add(within)
	for time.Now().Before(deadline) {
		if c.gone() {
			return true
		}
		time.Sleep(2 * time.Millisecond)
	}
	return c.gone()
}

// gone reports whether the process has ended, reaped or not.
func (c *Cmd) gone() bool {
	select {
	case <-c.exited:
		return true
	default:
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z")
}

// killAll kills what was started on the host, and what that started: processes
// of our own PID namespace that are in the host's network namespace.
func (h *Host) killAll() error {
	h.mu.Lock()
	running := slices.Collect(maps.Keys(h.commands))
	h.mu.Unlock()
	for _, c := range running {
		_ = c.Signal(syscall.SIGKILL)
	}
	for _, pid := range h.strays() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	var errs []error
	for _, c := range running {
		if !c.ended(10 * time.Second) {
			errs = append(errs, fmt.Errorf("netns: on %s: %s does not end", h.name, c.Path))
		}
	}
	return errors.Join(errs...)
}

// strays returns the processes in the host's network namespace other than this
// one: daemons that left their process group.
func (h *Host) strays() []int {
	if os.Getpid() != 1 {
		return nil // not a PID namespace of our own: others' processes show
	}
	var mine syscall.Stat_t
	if err := syscall.Fstat(int(h.thread.network.Fd()), &mine); err != nil {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err != nil || pid == 1 {
			continue
		}
		var theirs syscall.Stat_t
		if err := syscall.Stat(filepath.Join("/proc", e.Name(), "ns/net"), &theirs); err != nil {
			continue
		}
		if theirs.Ino == mine.Ino && theirs.Dev == mine.Dev {
			pids = append(pids, pid)
		}
	}
	return pids
}

// lineWriter hands complete lines on.
type lineWriter struct {
	write func(line string)

	mu   sync.Mutex // guards rest
	rest []byte
}

// maxLine bounds a line of output that never ends.
const maxLine = 64 << 10

// Write implements io.Writer.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			if len(w.rest) < maxLine {
				return len(p), nil
			}
			i = len(w.rest) - 1
		}
		w.write(strings.TrimRight(string(w.rest[:i]), "\r"))
		w.rest = w.rest[i+1:]
	}
}

func (w *lineWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		w.write(string(w.rest))
		w.rest = nil
	}
}
