package reach

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"scn.alt/scn/conformance/netns"
)

// talk is a program that is talked to line by line.
type talk struct {
	name string
	in   io.WriteCloser
	cmd  *netns.Cmd
	wg   sync.WaitGroup
	err  error // how the program ended; read after wg

	mu    sync.Mutex // guards lines
	lines []string
	more  chan struct{} // has room for one: there is a new line
}

// startTalk starts a program and collects what it writes.
func startTalk(cmd *netns.Cmd) (*talk, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = write, write
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	k := &talk{name: strings.Join(cmd.Args, " "), in: in, cmd: cmd, more: make(chan struct{}, 1)}
	k.wg.Go(func() { // ends with the program
		defer out.Close()
		scanner := bufio.NewScanner(out)
		for scanner.Scan() {
			k.mu.Lock()
			k.lines = append(k.lines, scanner.Text())
			k.mu.Unlock()
			select {
			case k.more <- struct{}{}:
			default:
			}
		}
		k.err = cmd.Wait()
	})
	return k, nil
}

// say writes a line to the program.
func (k *talk) say(line string) error {
	_, err := io.WriteString(k.in, line+"\n")
	return err
}

// expect waits until a line has the text.
func (k *talk) expect(ctx context.Context, text string) error {
	for {
		lines := k.heard()
		for _, line := range lines {
			if strings.Contains(line, text) {
				return nil
			}
		}
		select {
		case <-k.more:
		case <-ctx.Done():
			last := lines[max(0, len(lines)-3):]
			return fmt.Errorf("%s: no %q; the last lines are %q: %w", k.name, text, last, context.Cause(ctx))
		}
	}
}

func (k *talk) heard() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.lines...)
}

// end closes the program's standard input, interrupts it if it stays, and waits.
func (k *talk) end() error {
	_ = k.in.Close()
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // ends with the program
		k.wg.Wait()
		close(ended)
	})
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = k.cmd.Signal(s)
		}
	}
	wg.Wait()
	return k.err
}
