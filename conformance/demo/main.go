// Command demo shows what the overlay does, in under two minutes and without
// touching the machine it runs on: three hosts and a router made of namespaces, a
// file server reached by name, and one download that goes on while the client
// moves, the provider moves, both move, and the network is gone for 20 seconds.
// It exits with 0 only when every byte arrived as it was sent, over one
// connection.
//
//	           ┌──────── router ────────┐
//	10.0.0.0/24│   10.1 … 10.2   10.3 … 10.4
//	   authority     client ⇄       provider ⇄
//
// It needs root, or a kernel that lets users make namespaces, and a TUN device.
package main

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
	"scn.alt/scn/conformance/overlay"
)

// serveFiles is the argument that makes this program the file server.
const serveFiles = "serve-files"

func main() {
	// A second copy of the program is the file server on the provider's host.
	if len(os.Args) == 4 && os.Args[1] == serveFiles {
		fail(overlay.ServeFiles(os.Args[2], os.Args[3]))
		return
	}
	binary := flag.String("scn", "bin/scn", "the scn binary to show")
	size := flag.Int64("mib", 208, "size of the file in MiB")
	verbose := flag.Bool("v", false, "print what the daemons log and links do")
	flag.Parse()
	if err := netns.Enter(); err != nil {
		fail(fmt.Errorf("%w\nThe demo needs root, or user namespaces (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)", err))
	}
	fail(netns.TUNAccess())
	if _, err := os.Stat(*binary); err != nil {
		fail(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("the demo took more than 5 minutes"))
	err := show(ctx, *binary, *size<<20, *verbose)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	cancel()
	stop()
	fail(err)
}

// fail ends the program when there is an error.
func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
