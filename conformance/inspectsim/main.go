// Command inspectsim lets thousands of epochs of inspections pass in virtual time,
// under the rules of package evidence, and prints how soon cheating providers are
// found, how often honest ones are accused, and what lying inspectors can do. Only
// signatures are left out. The same seed prints the same.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

func main() {
	seed := flag.Uint64("seed", 1, "of all that is random")
	epochs := flag.Int("epochs", full.epochs, "of each scenario")
	flag.Parse()
	s := full
	s.epochs = *epochs
	if s.epochs < 1 || s.epochs > 1_000_000 {
		fmt.Fprintln(os.Stderr, "inspectsim: 1 to 1,000,000 epochs")
		os.Exit(2)
	}
	start := time.Now()
	fmt.Printf("%d providers, %d inspectors of %d operators, %d epochs, seed %d\n\n", s.providers, s.inspectors, s.operators, s.epochs, *seed)
	run(os.Stdout, s, *seed)
	fmt.Printf("in %v\n", time.Since(start).Round(time.Second))
}

// run runs every scenario and prints them in order.
func run(out io.Writer, s size, seed uint64) {
	parts := []func(out io.Writer){
		func(out io.Writer) { cheaters(out, s, seed) },
		func(out io.Writer) { falseAlarms(out, s, seed+1) },
		func(out io.Writer) { lying(out, s, seed+2) },
		func(out io.Writer) { sybils(out, s, seed+3) },
		func(out io.Writer) { withheld(out, s, seed+4) },
		func(out io.Writer) { movers(out, s, seed+5) },
	}
	texts := make([]bytes.Buffer, len(parts))
	var wg sync.WaitGroup
	for i, part := range parts {
		wg.Go(func() { part(&texts[i]) })
	}
	wg.Wait()
	for i := range texts {
		_, _ = texts[i].WriteTo(out)
	}
}

// together works on all worlds at once.
func together(worlds []*world, work func(w *world)) {
	var wg sync.WaitGroup
	for _, w := range worlds {
		wg.Go(func() { work(w) })
	}
	wg.Wait()
}
