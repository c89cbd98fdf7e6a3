package overlay

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Rate is how many bytes per second a file server of ServeFiles sends. A piece is
// sent every so often, so that a download lasts through a whole story, and a pause
// of it is seen at once.
const (
	Rate  = 5 << 20
	piece = 32 << 10
)

// ServeFiles serves a directory at a limited rate, until it is killed: it is for
// a program of its own.
func ServeFiles(dir, address string) error {
	files := http.FileServer(http.Dir(dir))
	server := &http.Server{
		Addr:              address,
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Printf("         file server: %s %s for %s\n", r.Method, r.URL.Path, r.Host)
			files.ServeHTTP(&limited{ResponseWriter: w, next: time.Now()}, r)
		}),
	}
	return server.ListenAndServe()
}

// limited sends what is written to it piece by piece. What an outage held up is
// not made up for.
type limited struct {
	http.ResponseWriter
	next time.Time // when the next piece is due
}

// Write implements io.Writer.
func (l *limited) Write(b []byte) (sent int, err error) {
	for len(b) > 0 && err == nil {
		if now := time.Now(); now.After(l.next.Add(time.Second)) {
			l.next = now
		}
		time.Sleep(time.Until(l.next))
		var n int
		n, err = l.ResponseWriter.Write(b[:min(piece, len(b))])
		l.next = l.next.Add(time.Duration(n) * time.Second / Rate)
		sent, b = sent+n, b[n:]
		if err == nil {
			err = http.NewResponseController(l.ResponseWriter).Flush()
		}
	}
	return sent, err
}

// MakeFile writes a file of random bytes and returns its SHA-256.
func MakeFile(path string, size int64) (string, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
	if _, err := io.CopyN(w, rand.NewChaCha8([32]byte{'s', 'c', 'n'}), size); err != nil {
		return "", err
	}
	if err := w.Flush(); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), f.Close()
}
