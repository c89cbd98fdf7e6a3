package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// iperf3 runs through all moves; it ends with an error when its control
// connection or one of its streams breaks.
func iperf3(name string, port int, options ...string) program {
	label := fmt.Sprintf("perf%d", port)
	return program{
		name:  name,
		needs: []string{"iperf3"},
		serve: func(t *testing.T, w *world) {
			p := strconv.Itoa(port)
			server := w.provider.host.Command(t.Context(), "iperf3", "-s", "-1", "-B", "127.0.0.1", "-p", p)
			server.Stdout = io.Discard
			must(t, server.Start())
			// One connection is the test's own: only look whether it listens.
			eventually(t, 20*time.Second, func() error {
				return w.provider.host.Command(t.Context(), "sh", "-c", "ss -Hltn sport = :"+p+" | grep -q .").Run()
			})
			w.serve(t, label, p+"=tcp://127.0.0.1:"+p, p+"=udp://127.0.0.1:"+p)
		},
		start: func(t *testing.T, w *world) (func(int) error, func() error) {
			args := append([]string{"-c", label + ".top", "-p", strconv.Itoa(port), "-t", "600", "--json"}, options...)
			cmd := w.client.host.Command(context.WithoutCancel(t.Context()), "iperf3", args...)
			var out bytes.Buffer
			cmd.Stdout = &out
			must(t, cmd.Start())
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			check := func(int) error {
				select {
				case err := <-ended:
					ended <- err // finish wants it too
					return fmt.Errorf("it has ended: %s", clip(out.Bytes()))
				case <-time.After(200 * time.Millisecond):
					return nil
				}
			}
			finish := func() error {
				// An interrupted client tells its server and prints its report.
				if err := cmd.Signal(syscall.SIGINT); err != nil {
					return err
				}
				select {
				case <-ended:
				case <-time.After(20 * time.Second):
					return fmt.Errorf("it does not end")
				}
				return judge(out.Bytes())
			}
			return check, finish
		},
	}
}

// judge reads iperf3's report: every second must have carried something, but
// those of a move may have carried less.
func judge(report []byte) error {
	var r struct {
		Error     string `json:"error"`
		Intervals []struct {
			Sum struct {
				Bytes int64 `json:"bytes"`
			} `json:"sum"`
		} `json:"intervals"`
	}
	if err := json.Unmarshal(report, &r); err != nil {
		return fmt.Errorf("%w: %s", err, clip(report))
	}
	if r.Error != "" && r.Error != "interrupt - the client has terminated" {
		return fmt.Errorf("iperf3 says: %s", r.Error)
	}
	empty, total := 0, int64(0)
	for _, i := range r.Intervals {
		total += i.Sum.Bytes
		if i.Sum.Bytes == 0 {
			empty++
		}
	}
	if len(r.Intervals) < 5 || empty > len(r.Intervals)/3 {
		return fmt.Errorf("of %d seconds %d carried nothing (%d bytes in all)", len(r.Intervals), empty, total)
	}
	return nil
}

func clip(b []byte) []byte {
	if len(b) > 600 {
		return b[len(b)-600:]
	}
	return b
}
