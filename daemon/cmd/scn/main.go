// Command scn runs and controls a node of the overlay: it makes a node, runs the
// daemon, and asks the running daemon for everything else.
//
// Exit codes: 0 done, 1 failed, 2 bad usage, 3 daemon not running, 4 not found,
// 5 refused, 6 unreachable or timed out.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"scn.alt/scn/daemon"
	"scn.alt/scn/daemon/control"
)

func main() {
	// "scn doctor" tells of small socket buffers; quic-go would print it past the log.
	_ = os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	if daemon.IsGuardian() {
		os.Exit(daemon.RunGuardian())
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run executes one command line and returns its exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot(stdin, stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var quiet quietError
	if errors.As(err, &quiet) {
		return quiet.code
	}
	fmt.Fprintln(stderr, "scn: "+err.Error())
	var usage usageError
	if errors.As(err, &usage) {
		return 2
	}
	return control.ExitCode(err)
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// quietError ends the command with a code after it has said everything itself.
type quietError struct{ code int }

func (e quietError) Error() string { return fmt.Sprintf("exit code %d", e.code) }
