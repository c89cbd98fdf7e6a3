// Command fuzz runs every Fuzz function of the module for an equal share of one
// budget of time, so that the whole takes as long with a hundred of them as with
// one. It exits with 1 when any of them finds something; the go tool has then
// written the input below the package's testdata.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	budget := flag.Duration("time", 3*time.Minute, "for all functions together")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *budget); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		stop()
		os.Exit(1)
	}
}

// target is a Fuzz function in a test binary built for fuzzing.
type target struct {
	dir, binary, function string
}

func run(ctx context.Context, budget time.Duration) error {
	work, err := os.MkdirTemp("", "fuzz")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	targets, err := find(ctx, work)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return errors.New("there is no Fuzz function")
	}
	share := max(budget/time.Duration(len(targets)), time.Second)
	fmt.Printf("%d Fuzz functions, %v each\n", len(targets), share.Round(100*time.Millisecond))
	var errs []error
	for _, t := range targets {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := t.fuzz(ctx, share, filepath.Join(work, "cache")); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// find builds the test binaries of packages with Fuzz functions, instrumented.
func find(ctx context.Context, work string) ([]target, error) {
	const format = `{{$dir := .Dir}}{{range .TestGoFiles}}{{$dir}}	{{.}}
{{end}}{{range .XTestGoFiles}}{{$dir}}	{{.}}
{{end}}`
	out, err := command(ctx, "", "go", "list", "-f", format, "./...")
	if err != nil {
		return nil, err
	}
	functions := make(map[string][]string)
	var dirs []string
	for line := range strings.Lines(string(out)) {
		dir, file, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		for code := range strings.Lines(string(text)) {
			if name, ok := strings.CutPrefix(code, "func Fuzz"); ok {
				name, _, _ = strings.Cut(name, "(")
				if functions[dir] == nil {
					dirs = append(dirs, dir)
				}
				functions[dir] = append(functions[dir], "Fuzz"+name)
			}
		}
	}
	var targets []target
	for i, dir := range dirs {
		binary := filepath.Join(work, strconv.Itoa(i)+".test")
		// The pattern only asks for the instrumentation: -c runs nothing.
		if _, err := command(ctx, dir, "go", "test", "-c", "-fuzz", "^Fuzz", "-o", binary, "."); err != nil {
			return nil, err
		}
		for _, f := range functions[dir] {
			targets = append(targets, target{dir, binary, f})
		}
	}
	return targets, nil
}

func (t target) fuzz(ctx context.Context, share time.Duration, cache string) error {
	began := time.Now()
	out, err := command(ctx, t.dir, t.binary, "-test.run", "^$", "-test.fuzz", "^"+t.function+"$",
		"-test.fuzztime", share.String(), "-test.fuzzcachedir", filepath.Join(cache, filepath.Base(t.dir)),
		"-test.parallel", "2", "-test.fuzzminimizetime", "5s")
	fmt.Printf("%-40s %s\n", filepath.Base(t.dir)+"."+t.function, summary(out, time.Since(began)))
	if err != nil && !ranOut(out) {
		return fmt.Errorf("%s in %s: %w", t.function, t.dir, err)
	}
	return nil
}

// ranOut reports whether a fuzzer failed only because its time ended while a
// worker was in the midst of an input, a race in Go before 1.27 (go.dev/issue/75804):
// then the test's one message is the context's. A finding says which input it
// wrote.
func ranOut(out []byte) bool {
	_, failure, ok := bytes.Cut(out, []byte("--- FAIL: "))
	if !ok {
		return false
	}
	lines := bytes.Split(bytes.TrimSpace(failure), []byte("\n"))
	return len(lines) >= 2 && string(bytes.TrimSpace(lines[1])) == "context deadline exceeded" &&
		!bytes.Contains(out, []byte("Failing input")) && !bytes.Contains(out, []byte("panic:"))
}

// summary is the last count the fuzzer printed.
func summary(out []byte, took time.Duration) string {
	last := ""
	for line := range strings.Lines(string(out)) {
		if _, rest, ok := strings.Cut(line, "execs: "); ok {
			last = rest
		}
	}
	executions, _, _ := strings.Cut(last, " ")
	if executions == "" {
		executions = "no"
	}
	return executions + " executions in " + took.Round(100*time.Millisecond).String()
}

// command runs a program and returns its output, which the error includes.
func command(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%w\n%s", err, bytes.TrimSpace(out.Bytes()))
	}
	return out.Bytes(), nil
}
