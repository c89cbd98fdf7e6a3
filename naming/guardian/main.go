package guardian

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// Restorer undoes one thing. It is called in the guardian process after the daemon
// has ended, and must do no harm when there is nothing left to undo.
type Restorer func(state []byte) error

// errFrame is returned for what is no frame.
var errFrame = errors.New("guardian: malformed frame")

// Requested reports whether this process was started as a guardian: a program that
// calls Start must then do nothing but call Main, first thing in its main.
func Requested() bool { return os.Getenv(variable) == "1" }

// Main is the guardian process: it keeps what the daemon says until the daemon has
// ended, undoes it by the restorers of those names, and returns the exit code.
func Main(restorers map[string]Restorer) int {
	// Programs a restorer runs are no guardians.
	_ = os.Unsetenv(variable)
	_ = os.Unsetenv("GOMAXPROCS")
	// What ends the daemon's group or terminal must not end the guardian.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE, syscall.SIGTSTP)
	// Both are best effort: without them it only is an easier victim.
	_ = os.WriteFile("/proc/self/comm", []byte(Name), 0)
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0)
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))

	if _, err := os.Stdout.Write([]byte{ready}); err != nil {
		return 1 // the daemon is gone already and has done nothing
	}
	entries := serve(os.Stdin, os.Stdout, logger)
	code := 0
	for _, e := range slices.Backward(entries) {
		if err := restore(restorers[e.name], e.state); err != nil {
			logger.Error("not restored after the daemon's end", "what", e.name, "err", err)
			code = 1
			continue
		}
		logger.Warn("restored after the daemon's sudden end", "what", e.name)
	}
	return code
}

// serve keeps what stands until the pipe ends, and returns it, oldest first.
func serve(in io.Reader, out io.Writer, logger *slog.Logger) []entry {
	var entries []entry
	for {
		op, e, err := readFrame(in)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				logger.Error("pipe to the daemon", "err", err)
			}
			return entries // a frame cut short was never acknowledged, so nothing was done
		}
		i := slices.IndexFunc(entries, func(o entry) bool { return o.name == e.name })
		switch {
		case op == opClear:
			if i >= 0 {
				entries = slices.Delete(entries, i, i+1)
			}
		case i >= 0:
			entries[i] = e
		default:
			entries = append(entries, e)
		}
		// A daemon that is gone does not read; the end of the pipe follows.
		_, _ = out.Write([]byte{acknowledged})
	}
}

func readFrame(in io.Reader) (op byte, e entry, err error) {
	var h [6]byte
	if _, err := io.ReadFull(in, h[:]); err != nil {
		return 0, entry{}, err
	}
	length := binary.BigEndian.Uint32(h[2:])
	if h[0] != opSet && h[0] != opClear || h[1] == 0 || length > maxState {
		return 0, entry{}, errFrame
	}
	b := make([]byte, int(h[1])+int(length))
	if _, err := io.ReadFull(in, b); err != nil {
		return 0, entry{}, fmt.Errorf("frame: %w", err)
	}
	return h[0], entry{name: string(b[:h[1]]), state: b[h[1]:]}, nil
}

// restore calls the restorer until it succeeds, a few times: the host may be in the
// middle of changing the very thing.
func restore(r Restorer, state []byte) error {
	if r == nil {
		return errors.New("nobody knows how to restore it")
	}
	var err error
	for attempt := range 4 {
		if attempt > 0 {
			time.Sleep(200 * time.Millisecond)
		}
		if err = r(state); err == nil {
			return nil
		}
	}
	return err
}
