package main

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
)

// transfer is a download in progress.
type transfer struct {
	wg  sync.WaitGroup
	err error // of curl or of reading; read after wg

	mu    sync.Mutex // guards below
	sum   hash.Hash
	bytes int64
	reads []time.Time
}

// download starts curl on the client and hashes what it prints.
func (s *stage) download(ctx context.Context, url string) (*transfer, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := s.client.host.Command(ctx, "curl", "--silent", "--show-error", "--fail", "--no-buffer",
		"--connect-timeout", "20", url)
	cmd.Stdout, cmd.Stderr = in, os.Stderr
	err = cmd.Start()
	_ = in.Close()
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	t := &transfer{sum: sha256.New()}
	t.wg.Go(func() { // ends with curl
		defer out.Close()
		_, read := io.Copy(t, out)
		t.err = errors.Join(cmd.Wait(), read)
	})
	return t, nil
}

// Write implements io.Writer: a piece of the file has come.
func (t *transfer) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reads = append(t.reads, time.Now())
	t.bytes += int64(len(p))
	return t.sum.Write(p)
}

func (t *transfer) size() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes
}

// stall returns the longest time without a byte between two moments.
func (t *transfer) stall(since, until time.Time) (longest time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := since
	for _, r := range t.reads {
		if r.After(since) && r.Before(until) {
			longest = max(longest, r.Sub(last))
			last = r
		}
	}
	return max(longest, until.Sub(last))
}

// wait waits for curl and returns the SHA-256 of what it brought.
func (t *transfer) wait() (string, error) {
	t.wg.Wait()
	return hex.EncodeToString(t.sum.Sum(nil)), t.err
}
