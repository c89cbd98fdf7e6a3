// Command demonat shows that two hosts behind NATs reach each other, in under two
// minutes and without touching the machine it runs on: a download begins through a
// relay and goes on directly, both hosts move to other NATs at the same moment, and
// a NAT forgets everything and gives other ports. Beside it a packet every 2 ms
// shows what each of this costs. It exits with 0 only when every byte arrived as
// it was sent, over one connection, and no packet was lost to the switch from the
// relay to the direct way.
//
//	               founder ── core ── second        two public nodes, both relays
//	                           │
//	     ┌──────────────── internet ────────────────┐      10 ms each way
//	home router     cafe: router                flat: router   office router
//	                behind a carrier's          behind a carrier's
//	  client ⇄           ⇄                      provider ⇄         ⇄
//
// It needs root, or a kernel that lets users make namespaces, a TUN device and
// nftables.
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
	if len(os.Args) == 4 && os.Args[1] == serveFiles {
		fail(overlay.ServeFiles(os.Args[2], os.Args[3]))
		return
	}
	binary := flag.String("scn", "bin/scn", "the scn binary to show")
	size := flag.Int64("mib", 128, "size of the file in MiB")
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
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Minute, errors.New("the demo took more than 3 minutes"))
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
		fmt.Fprintln(os.Stderr, "demo-nat:", err)
		os.Exit(1)
	}
}
