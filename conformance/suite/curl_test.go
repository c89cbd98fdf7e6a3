package suite

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stream is an HTTP server that sends random bytes until it is told to stop, so
// that a download lasts exactly as long as a test.
type stream struct {
	server      *http.Server
	connections atomic.Int64
	requests    atomic.Int64
	stop        chan struct{}

	mu  sync.Mutex // guards below
	sum hash.Hash
}

// pace is how fast a stream sends: a piece every so often.
const (
	piece     = 16 << 10
	paceEvery = 10 * time.Millisecond
)

func newStream() *stream {
	s := &stream{stop: make(chan struct{}), sum: sha256.New()}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.server = &http.Server{Handler: s, Protocols: protocols, ReadHeaderTimeout: 10 * time.Second}
	s.server.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	return s
}

// ServeHTTP implements http.Handler.
func (s *stream) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.requests.Add(1)
	random := rand.NewChaCha8([32]byte{byte(s.requests.Load())})
	tick := time.NewTicker(paceEvery)
	defer tick.Stop()
	buf := make([]byte, piece)
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		_, _ = random.Read(buf)
		s.mu.Lock()
		s.sum.Write(buf)
		s.mu.Unlock()
		if _, err := w.Write(buf); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
	}
}

func (s *stream) digest() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return hex.EncodeToString(s.sum.Sum(nil))
}

// sink hashes what is written to it and counts.
type sink struct {
	mu    sync.Mutex // guards below
	sum   hash.Hash
	bytes int64
}

// Write implements io.Writer.
func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += int64(len(p))
	return s.sum.Write(p)
}

func (s *sink) state() (int64, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes, hex.EncodeToString(s.sum.Sum(nil))
}

// curl downloads through all moves. Each has a server of its own, so that its
// connections can be counted.
func curl(name string, port int, option string) program {
	server := newStream()
	label := fmt.Sprintf("web%d", port)
	return program{
		name:  name,
		needs: []string{"curl"},
		serve: func(t *testing.T, w *world) {
			l, err := w.provider.host.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 8000+port))
			must(t, err)
			var wg sync.WaitGroup
			wg.Go(func() { _ = server.server.Serve(l) })
			t.Cleanup(func() {
				_ = server.server.Close()
				wg.Wait()
			})
			w.serve(t, label, fmt.Sprintf("%d=tcp://127.0.0.1:%d", port, 8000+port))
		},
		start: func(t *testing.T, w *world) (func(int) error, func() error) {
			got := &sink{sum: sha256.New()}
			out, in, err := os.Pipe()
			must(t, err)
			cmd := w.client.host.Command(t.Context(), "curl", option, "--silent", "--show-error", "--fail", "--no-buffer",
				fmt.Sprintf("http://%s.top:%d/", label, port))
			cmd.Stdout = in
			must(t, cmd.Start())
			must(t, in.Close())
			var wg sync.WaitGroup
			var ended error
			wg.Go(func() {
				defer out.Close()
				_, _ = io.Copy(got, out)
				ended = cmd.Wait()
			})
			check := func(int) error {
				before, _ := got.state()
				deadline := time.Now().Add(20 * time.Second)
				for time.Now().Before(deadline) {
					if now, _ := got.state(); now > before+10*piece {
						return nil
					}
					time.Sleep(5 * time.Millisecond)
				}
				return fmt.Errorf("the download stands still at %d bytes", before)
			}
			finish := func() error {
				close(server.stop)
				wg.Wait()
				if ended != nil {
					return ended
				}
				size, digest := got.state()
				if digest != server.digest() {
					return fmt.Errorf("%d bytes arrived, and they are not those that were sent", size)
				}
				if c, r := server.connections.Load(), server.requests.Load(); c != 1 || r != 1 {
					return fmt.Errorf("the server saw %d connections and %d requests, want one of each", c, r)
				}
				return nil
			}
			return check, finish
		},
	}
}
