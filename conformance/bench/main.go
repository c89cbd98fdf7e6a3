// Command bench measures the overlay beside wireguard-go and beside the bare
// network, in one run on hosts made of namespaces, in turns, so that what counts
// is a ratio and not the machine. It prints the table of speeds the overlay must
// have; with -strict it exits with 1 when one is missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"scn.alt/scn/conformance/netns"
)

func main() {
	binary := flag.String("scn", "bin/scn", "the scn binary")
	wireguard := flag.String("wireguard", ".build/wireguard", "the wireguard-go binary")
	seconds := flag.Int("seconds", 4, "length of one measurement")
	rounds := flag.Int("rounds", 3, "measurements of each kind, in turns")
	verbose := flag.Bool("v", false, "print what programs say")
	strict := flag.Bool("strict", false, "fail when a speed is missed")
	only := flag.String("only", "", "take this measurement alone: idle, names, throughput, requests, connections or gaps")
	flag.Parse()
	if err := netns.Enter(); err != nil {
		fail(err)
	}
	fail(netns.TUNAccess())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	b := bench{length: time.Duration(*seconds) * time.Second, rounds: *rounds, only: *only}
	var err error
	if b.scn, err = filepath.Abs(*binary); err == nil {
		b.wireguard, err = filepath.Abs(*wireguard)
	}
	if err == nil {
		err = b.run(ctx, *verbose)
	}
	stop()
	if err == nil && *strict && b.missed > 0 {
		err = fmt.Errorf("%d of the speeds are missed", b.missed)
	}
	fail(err)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	scn, wireguard string
	length         time.Duration
	rounds         int
	only           string
	missed         int
}

// measurement is one line, or several, of the table.
type measurement struct {
	name string
	take func(context.Context, *bench, *rig, *table) error
}

var measurements = []measurement{
	{"idle", idle},
	{"names", names},
	{"throughput", throughput},
	{"requests", requests},
	{"connections", connections},
	{"gaps", gaps},
}

func (b *bench) run(ctx context.Context, verbose bool) (err error) {
	cfg := netns.Config{Fatal: func(format string, args ...any) { fail(fmt.Errorf(format, args...)) }}
	if verbose {
		cfg.Logf = func(format string, args ...any) { fmt.Printf("    "+format+"\n", args...) }
	}
	lab, err := netns.Open(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	work, err := os.MkdirTemp("", "scn-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	r, err := newRig(ctx, b, lab, work)
	if err != nil {
		return err
	}
	defer r.close()
	t := &table{}
	for _, m := range measurements {
		if b.only != "" && b.only != m.name {
			continue
		}
		if err := m.take(ctx, b, r, t); err != nil {
			return err
		}
	}
	b.missed = t.print(os.Stdout)
	return nil
}
