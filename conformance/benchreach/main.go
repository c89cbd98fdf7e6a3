// Command benchreach measures whom the overlay reaches, how soon, and what it
// takes, on an Internet of NATs made of namespaces: the table of NAT kinds, the
// silence when both ends move at once, ten minutes of a train, and what a relay
// costs and bears. It takes about half an hour; -only takes parts alone.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/conformance/reach"
)

// bench is one run.
type bench struct {
	binary  string
	moves   int
	ride    time.Duration
	seed    uint64
	nodes   int
	verbose bool
}

// parts are what can be measured, in their order.
var parts = []struct {
	name string
	play func(*bench, context.Context) error
}{
	{"table", (*bench).table},
	{"moves", (*bench).bothMove},
	{"relay", (*bench).relay},
	{"crowd", (*bench).crowd},
	{"train", (*bench).train},
}

func main() {
	reach.Populate()
	b := &bench{}
	flag.StringVar(&b.binary, "scn", "bin/scn", "the scn binary")
	flag.IntVar(&b.moves, "moves", 100, "how often both move at once")
	flag.DurationVar(&b.ride, "ride", 10*time.Minute, "how long the train rides")
	flag.Uint64Var(&b.seed, "seed", 1, "what happens to the train")
	flag.IntVar(&b.nodes, "nodes", 10_000, "how many nodes register with one relay")
	flag.BoolVar(&b.verbose, "v", false, "print what programs say")
	names := make([]string, 0, len(parts))
	for _, p := range parts {
		names = append(names, p.name)
	}
	only := flag.String("only", strings.Join(names, ","), "parts to measure")
	flag.Parse()
	chosen := strings.Split(*only, ",")
	for _, c := range chosen {
		if !slices.Contains(names, c) {
			fail(fmt.Errorf("-only: there is no part %q; there are %v", c, names))
		}
	}
	if err := netns.Enter(); err != nil {
		fail(err)
	}
	fail(netns.TUNAccess())
	var err error
	b.binary, err = filepath.Abs(b.binary)
	fail(err)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	for _, p := range parts {
		if err == nil && slices.Contains(chosen, p.name) {
			err = p.play(b, ctx)
		}
	}
	stop()
	fail(err)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-reach:", err)
		os.Exit(1)
	}
}

// in runs f in a world of its own.
func (b *bench) in(ctx context.Context, cfg reach.Config, f func(context.Context, *reach.World, string) error) (err error) {
	lab := netns.Config{Fatal: func(format string, args ...any) { fail(fmt.Errorf(format, args...)) }}
	if b.verbose {
		lab.Logf = func(format string, args ...any) { fmt.Printf("    "+format+"\n", args...) }
	}
	if cfg.Lab, err = netns.Open(lab); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cfg.Lab.Close()) }()
	if cfg.Dir, err = os.MkdirTemp("", "scn-reach"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cfg.Dir)) }()
	cfg.Binary = b.binary
	w, err := reach.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	return f(ctx, w, cfg.Dir)
}
