package overlay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"sync"
	"time"

	"scn.alt/scn/conformance/netns"
)

// Download is a download by curl in progress.
type Download struct {
	wg  sync.WaitGroup
	err error // of curl or of reading; read after wg

	mu    sync.Mutex // guards below
	sum   hash.Hash
	bytes int64
	reads []time.Time // when a piece came
}

// StartDownload starts curl on a host and hashes what it prints.
func StartDownload(ctx context.Context, h *netns.Host, url string) (*Download, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := h.Command(ctx, "curl", "--silent", "--show-error", "--fail", "--no-buffer",
		"--connect-timeout", "20", url)
	cmd.Stdout, cmd.Stderr = in, os.Stderr
	err = cmd.Start()
	_ = in.Close()
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	d := &Download{sum: sha256.New()}
	d.wg.Go(func() { // ends with curl
		defer out.Close()
		_, read := io.Copy(d, out)
		d.err = errors.Join(cmd.Wait(), read)
	})
	return d, nil
}

// Write implements io.Writer: a piece of the file has come.
func (d *Download) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads = append(d.reads, time.Now())
	d.bytes += int64(len(p))
	return d.sum.Write(p)
}

// Size returns how many bytes have come.
func (d *Download) Size() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bytes
}

// First returns when the first byte came, and false before.
func (d *Download) First() (time.Time, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.reads) == 0 {
		return time.Time{}, false
	}
	return d.reads[0], true
}

// Stall returns the longest time without a byte between two moments.
func (d *Download) Stall(since, until time.Time) (longest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := since
	for _, r := range d.reads {
		if r.After(since) && r.Before(until) {
			longest = max(longest, r.Sub(last))
			last = r
		}
	}
	return max(longest, until.Sub(last))
}

// Wait waits for curl and returns the SHA-256 of what it brought.
func (d *Download) Wait() (string, error) {
	d.wg.Wait()
	return hex.EncodeToString(d.sum.Sum(nil)), d.err
}
