package overlay

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"scn.alt/scn/conformance/netns"
)

// ServeFilesArgument makes a program that calls RunDemo a file server: followed by a
// directory and an address, it is ServeFiles of them.
const ServeFilesArgument = "serve-files"

// Demo is a program that shows something on hosts made of namespaces.
type Demo struct {
	// Name stands before what went wrong.
	Name string
	// Size is how large the file is that is downloaded, in MiB, unless -mib says so.
	Size int64
	// Limit is how long it may take.
	Limit time.Duration
	// Show does it; size is in bytes.
	Show func(ctx context.Context, binary string, size int64, verbose bool) error
}

// RunDemo is the main function of a demo: it reads the command line, makes room for
// namespaces, and exits with 1 after saying what went wrong.
func RunDemo(d Demo) {
	if err := d.run(); err != nil {
		DemoFailed("%s: %w", d.Name, err)
	}
}

// DemoFailed says what went wrong and ends the program.
func DemoFailed(format string, args ...any) {
	fmt.Fprintln(os.Stderr, fmt.Errorf(format, args...))
	os.Exit(1)
}

func (d Demo) run() error {
	// A second copy of the program is the file server on the provider's host.
	if len(os.Args) == 4 && os.Args[1] == ServeFilesArgument {
		return ServeFiles(os.Args[2], os.Args[3])
	}
	binary := flag.String("scn", "bin/scn", "the scn binary to show")
	size := flag.Int64("mib", d.Size, "size of the file in MiB")
	verbose := flag.Bool("v", false, "print what the daemons log and links do")
	flag.Parse()
	if err := netns.Enter(); err != nil {
		return fmt.Errorf("%w\nThe demo needs root, or user namespaces (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)", err)
	}
	if err := netns.TUNAccess(); err != nil {
		return err
	}
	if _, err := os.Stat(*binary); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, d.Limit, fmt.Errorf("the demo took more than %v", d.Limit))
	defer cancel()
	err := d.Show(ctx, *binary, *size<<20, *verbose)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	return err
}
