// Package program runs the programs that an operator names in settings, within
// bounds: of time, of output, and of what they leave behind.
//
// A program runs in a process group of its own, in /, with PATH and LANG and what the
// caller adds as its whole environment, and with the daemon's rights. When its context
// ends, the whole group is killed; one that writes too much is killed at once.
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// MaxOutput is how much a program may write to standard output, in bytes.
const MaxOutput = 16 << 10

// maxComplaint is how much of standard error is kept.
const maxComplaint = 200

// ErrFlood is returned for a program that writes more than MaxOutput.
var ErrFlood = errors.New("more output than allowed")

// Run runs a command and returns its output. The error of one that failed carries the
// beginning of what it wrote to standard error.
func Run(ctx context.Context, command []string, input []byte, environment ...string) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	out := &bounded{limit: MaxOutput, full: cancel}
	complaint := &bounded{limit: maxComplaint, full: func() {}}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), out, complaint
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}, environment...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 500 * time.Millisecond // a child that left the group may hold the pipes
	err := cmd.Run()
	switch {
	case out.flooded:
		return nil, fmt.Errorf("%s: %w (%d bytes)", command[0], ErrFlood, MaxOutput)
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil && len(complaint.text) > 0:
		return nil, fmt.Errorf("%s: %w: %s", command[0], err, bytes.TrimSpace(complaint.text))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", command[0], err)
	}
	return out.text, nil
}

// bounded is a buffer that takes limit bytes, calls full at the next one, and drops
// the rest. It is written by one goroutine, and read when that has ended.
type bounded struct {
	text    []byte // not a bytes.Buffer: its ReadFrom would go round Write
	limit   int
	full    func()
	flooded bool
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if room := b.limit - len(b.text); len(p) > room {
		b.text = append(b.text, p[:room]...)
		if !b.flooded {
			b.flooded = true
			b.full()
		}
		return len(p), nil
	}
	b.text = append(b.text, p...)
	return len(p), nil
}
