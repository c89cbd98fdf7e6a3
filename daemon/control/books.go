package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// LedgerClock is how the authority's clock and its ledger's time stand to each
// other. What is held is how far the clock jumped without the operator's word.
type LedgerClock struct {
	Time        time.Time `json:"time"`
	HeldSeconds float64   `json:"held_seconds"`
}

// LedgerFork says that the ledger goes on from an older state than was promised.
type LedgerFork struct {
	Height         uint64    `json:"height"`
	Block          string    `json:"block"`
	PromisedHeight uint64    `json:"promised_height"`
	PromisedBlock  string    `json:"promised_block"`
	Time           time.Time `json:"time"`
}

// LedgerBackup says what a backup holds.
type LedgerBackup struct {
	Height uint64    `json:"height"`
	Block  string    `json:"block"`
	Time   time.Time `json:"time"`
	Files  uint64    `json:"files"`
	Bytes  uint64    `json:"bytes"`
}

// BooksBackend answers the calls of an authority's operator about its ledger.
// Elsewhere they return NotFound.
type BooksBackend interface {
	LedgerClock(ctx context.Context) (LedgerClock, error)
	// AcceptLedgerClock lets the ledger's time jump to the clock's.
	AcceptLedgerClock(ctx context.Context) (LedgerClock, error)
	// AcceptLedgerRollback states that what was promised and is not there is lost.
	AcceptLedgerRollback(ctx context.Context) (LedgerFork, error)
	BackupLedger(ctx context.Context, w io.Writer) (LedgerBackup, error)
}

// backupTrailer follows a backup that is whole, with a LedgerBackup.
const backupTrailer = "Scn-Backup"

func handleBooks(mux *http.ServeMux, b BooksBackend) {
	mux.HandleFunc("GET /v1/ledger/clock", read(func(r *http.Request) (any, error) { return b.LedgerClock(r.Context()) }))
	mux.HandleFunc("POST /v1/ledger/clock", change(func(ctx context.Context, _ struct{}) (any, error) { return b.AcceptLedgerClock(ctx) }))
	mux.HandleFunc("POST /v1/ledger/rollback", change(func(ctx context.Context, _ struct{}) (any, error) { return b.AcceptLedgerRollback(ctx) }))
	mux.HandleFunc("GET /v1/ledger/backup", func(w http.ResponseWriter, r *http.Request) {
		out := &begunWriter{w: w}
		w.Header().Set("Trailer", backupTrailer)
		v, err := b.BackupLedger(r.Context(), out)
		switch {
		case err != nil && !out.begun:
			w.Header().Del("Trailer")
			answer(w, nil, err)
		case err != nil:
			panic(http.ErrAbortHandler) // so that the client knows that it is not whole
		default:
			text, _ := json.Marshal(v) // plain values always encode
			w.Header().Set(backupTrailer, string(text))
		}
	})
}

// begunWriter knows whether anything was written.
type begunWriter struct {
	w     http.ResponseWriter
	begun bool
}

func (b *begunWriter) Write(p []byte) (int, error) {
	if !b.begun {
		b.begun = true
		b.w.Header().Set("Content-Type", "application/x-tar")
	}
	return b.w.Write(p)
}

// LedgerClock tells the ledger's time (authority only).
func (c *Client) LedgerClock(ctx context.Context) (v LedgerClock, err error) {
	return v, c.get(ctx, "ledger/clock", nil, &v)
}

// AcceptLedgerClock lets the ledger's time jump to the clock's (authority only).
func (c *Client) AcceptLedgerClock(ctx context.Context) (v LedgerClock, err error) {
	return v, c.post(ctx, "ledger/clock", struct{}{}, &v)
}

// AcceptLedgerRollback states that what the ledger promised and does not have is
// lost (authority only).
func (c *Client) AcceptLedgerRollback(ctx context.Context) (v LedgerFork, err error) {
	return v, c.post(ctx, "ledger/rollback", struct{}{}, &v)
}

// BackupLedger writes a backup of the running ledger to w (authority only). Without
// an error it is whole. progress is called now and then with the bytes written.
func (c *Client) BackupLedger(ctx context.Context, w io.Writer, progress func(uint64)) (v LedgerBackup, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://scn/v1/ledger/backup", nil)
	if err != nil {
		return v, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok {
			return v, e
		}
		return v, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return v, decodeError(resp)
	}
	counted := &countedWriter{w: w, progress: progress}
	if _, err := io.Copy(counted, resp.Body); err != nil {
		if counted.err != nil {
			return v, counted.err
		}
		return v, Errorf(Failed, "the backup broke off; the daemon's log says why: %w", err)
	}
	if err := json.Unmarshal([]byte(resp.Trailer.Get(backupTrailer)), &v); err != nil {
		return v, fmt.Errorf("answer of the daemon: %w", err)
	}
	return v, nil
}

type countedWriter struct {
	w        io.Writer
	n        uint64
	said     time.Time
	progress func(uint64)
	err      error // of w
}

func (c *countedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += uint64(n)
	if now := time.Now(); now.Sub(c.said) >= progressInterval {
		c.said = now
		c.progress(c.n)
	}
	c.err = err
	return n, err
}
