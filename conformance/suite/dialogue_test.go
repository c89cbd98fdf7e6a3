package suite

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/conformance/netns"
)

// dialogue is a program that is talked to line by line.
type dialogue struct {
	name string
	in   io.WriteCloser
	cmd  *netns.Cmd
	wg   sync.WaitGroup
	err  error // how the program ended; read after wg

	mu    sync.Mutex // guards lines
	lines []string
	more  chan struct{} // has room for one: there is a new line
}

// talk starts a program and collects what it writes.
func talk(t *testing.T, cmd *netns.Cmd) *dialogue {
	t.Helper()
	in, err := cmd.StdinPipe()
	must(t, err)
	out, write, err := os.Pipe()
	must(t, err)
	cmd.Stdout, cmd.Stderr = write, write
	d := &dialogue{name: strings.Join(cmd.Args, " "), in: in, cmd: cmd, more: make(chan struct{}, 1)}
	must(t, cmd.Start())
	must(t, write.Close())
	d.wg.Go(func() { // ends with the program
		defer out.Close()
		scanner := bufio.NewScanner(out)
		for scanner.Scan() {
			d.mu.Lock()
			d.lines = append(d.lines, scanner.Text())
			d.mu.Unlock()
			select {
			case d.more <- struct{}{}:
			default:
			}
		}
		d.err = cmd.Wait()
	})
	return d
}

// say writes a line to the program.
func (d *dialogue) say(line string) error {
	_, err := io.WriteString(d.in, line+"\n")
	return err
}

// expect waits for a line with the text, after the first lines, and returns how
// many lines there were with it.
func (d *dialogue) expect(text string, after int) (int, error) {
	deadline := time.After(20 * time.Second)
	for {
		lines := d.heard()
		for i := after; i < len(lines); i++ {
			if strings.Contains(lines[i], text) {
				return i + 1, nil
			}
		}
		select {
		case <-d.more:
		case <-deadline:
			last := lines[max(0, len(lines)-5):]
			return 0, fmt.Errorf("%s: no %q after line %d; the last lines are %q", d.name, text, after, last)
		}
	}
}

func (d *dialogue) heard() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.lines...)
}

// hangUp closes the program's standard input and waits for its end.
func (d *dialogue) hangUp() error {
	return errors.Join(d.in.Close(), d.wait())
}

// interrupt ends the program as Ctrl-C does.
func (d *dialogue) interrupt() error {
	return errors.Join(d.cmd.Signal(syscall.SIGINT), d.wait())
}

func (d *dialogue) wait() error {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		d.wg.Wait()
		close(done)
	})
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		_ = d.cmd.Signal(syscall.SIGKILL)
		<-done
		d.err = errors.Join(d.err, fmt.Errorf("%s: it does not end", d.name))
	}
	wg.Wait()
	return d.err
}
