package verdict

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Judge answers a question; ctx ends when the answer is of no use any more.
type Judge func(ctx context.Context, q Question) (Answer, error)

// ErrFlood is returned for a program that writes more than MaxAnswer bytes.
var ErrFlood = fmt.Errorf("%w: more than %d bytes of output", ErrAnswer, MaxAnswer)

// Program returns a Judge that runs a command for each question, as the package
// comment says. When ctx ends, the command is killed with all its children.
func Program(command []string) Judge {
	return func(ctx context.Context, q Question) (Answer, error) {
		input, err := q.encode()
		if err != nil {
			return Answer{}, err
		}
		output, err := run(ctx, command, input)
		if err != nil {
			return Answer{}, err
		}
		return parseAnswer(output)
	}
}

// run runs a command in a process group of its own and returns its output.
func run(ctx context.Context, command []string, input []byte) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	out := &bounded{limit: MaxAnswer, full: cancel}
	complaint := &bounded{limit: 1 << 10, full: func() {}}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), out, complaint
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 500 * time.Millisecond // a child that left the group may hold the pipes
	err := cmd.Run()
	switch {
	case out.flooded:
		return nil, ErrFlood
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		text := bytes.TrimSpace(complaint.text)
		return nil, fmt.Errorf("%s: %w: %s", command[0], err, text[:min(len(text), maxReason)])
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
