package sal

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// pipeBuffer is how much one direction of an in-process session holds.
const pipeBuffer = 256 << 10

// newPipe returns the two ends of an in-process stream that behaves as a
// quic.Stream does: it is what a session of a node with itself is carried on.
func newPipe() (a, b *pipeEnd) {
	x, y := newPipeHalf(), newPipeHalf()
	a, b = &pipeEnd{in: x, out: y}, &pipeEnd{in: y, out: x}
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	b.ctx, b.cancel = context.WithCancelCause(context.Background())
	x.writerDone, y.writerDone = b.cancel, a.cancel
	return a, b
}

type pipeEnd struct {
	in, out *pipeHalf
	ctx     context.Context // ends with the sending direction
	cancel  context.CancelCauseFunc
}

func (p *pipeEnd) Read(b []byte) (int, error)        { return p.in.read(b, false) }
func (p *pipeEnd) Peek(b []byte) (int, error)        { return p.in.read(b, true) }
func (p *pipeEnd) Write(b []byte) (int, error)       { return p.out.write(b) }
func (p *pipeEnd) Close() error                      { p.out.finish(); return nil }
func (p *pipeEnd) CancelRead(c quic.StreamErrorCode) { p.in.cancel(c, true) }
func (p *pipeEnd) CancelWrite(c quic.StreamErrorCode) {
	p.out.cancel(c, false)
}

func (p *pipeEnd) SetReadDeadline(t time.Time) error { p.in.setDeadline(&p.in.readBy, t); return nil }

func (p *pipeEnd) SetWriteDeadline(t time.Time) error {
	p.out.setDeadline(&p.out.writeBy, t)
	return nil
}
func (p *pipeEnd) Context() context.Context { return p.ctx }

// pipeHalf is one direction.
type pipeHalf struct {
	writerDone context.CancelCauseFunc // constant; ends the writer's context

	mu      sync.Mutex // guards below
	change  chan struct{}
	buf     []byte // ring
	head    int
	fill    int
	ended   bool              // the writer is done
	readErr *quic.StreamError // what Read returns
	wrErr   *quic.StreamError // what Write returns
	readBy  time.Time
	writeBy time.Time
}

func newPipeHalf() *pipeHalf { return &pipeHalf{change: make(chan struct{})} }

// changed wakes everybody. mu must be held.
func (h *pipeHalf) changed() {
	close(h.change)
	h.change = make(chan struct{})
}

// wait gives mu up until something changes or the deadline passes.
func (h *pipeHalf) wait(by time.Time) error {
	change := h.change
	if by.IsZero() {
		h.mu.Unlock()
		<-change
		h.mu.Lock()
		return nil
	}
	left := time.Until(by)
	if left <= 0 {
		return os.ErrDeadlineExceeded
	}
	h.mu.Unlock()
	timer := time.NewTimer(left)
	select {
	case <-change:
	case <-timer.C:
	}
	timer.Stop()
	h.mu.Lock()
	return nil
}

func (h *pipeHalf) read(b []byte, peek bool) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		if h.readErr != nil {
			return 0, h.readErr
		}
		if !h.readBy.IsZero() && !time.Now().Before(h.readBy) {
			return 0, os.ErrDeadlineExceeded
		}
		if h.fill > 0 || len(b) == 0 {
			break
		}
		if h.ended {
			return 0, io.EOF
		}
		if err := h.wait(h.readBy); err != nil {
			return 0, err
		}
	}
	n := min(len(b), h.fill)
	if n == 0 {
		return 0, nil
	}
	first := copy(b[:n], h.buf[h.head:])
	copy(b[first:n], h.buf)
	if peek {
		return n, nil
	}
	h.head = (h.head + n) % len(h.buf)
	h.fill -= n
	if h.fill == 0 {
		h.head = 0
	}
	h.changed()
	return n, nil
}

func (h *pipeHalf) write(b []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.wrErr != nil:
			return n, h.wrErr
		case h.ended:
			return n, quic.ErrStreamClosed
		case !h.writeBy.IsZero() && !time.Now().Before(h.writeBy):
			return n, os.ErrDeadlineExceeded
		case len(b) == 0:
			return n, nil
		}
		if m := h.put(b); m > 0 {
			n, b = n+m, b[m:]
			h.changed()
			continue
		}
		if err := h.wait(h.writeBy); err != nil {
			return n, err
		}
	}
}

// put copies as much of b as has room. The ring grows as far as pipeBuffer.
func (h *pipeHalf) put(b []byte) int {
	if want := min(h.fill+len(b), pipeBuffer); want > len(h.buf) {
		size := max(len(h.buf), 4<<10)
		for size < want {
			size *= 2
		}
		grown := make([]byte, size)
		k := copy(grown[:h.fill], h.buf[min(h.head, len(h.buf)):])
		copy(grown[k:h.fill], h.buf)
		h.buf, h.head = grown, 0
	}
	n := min(len(b), len(h.buf)-h.fill)
	tail := (h.head + h.fill) % len(h.buf)
	k := copy(h.buf[tail:], b[:n])
	copy(h.buf, b[k:n])
	h.fill += n
	return n
}

// finish ends the direction after what was written.
func (h *pipeHalf) finish() {
	h.mu.Lock()
	if !h.ended {
		h.ended = true
		h.changed()
	}
	h.mu.Unlock()
	h.writerDone(quic.ErrStreamClosed)
}

// cancel ends the direction at once, by its reader or by its writer.
func (h *pipeHalf) cancel(code quic.StreamErrorCode, byReader bool) {
	h.mu.Lock()
	done := h.readErr != nil || h.ended && h.fill == 0
	if !done {
		h.readErr = &quic.StreamError{ErrorCode: code, Remote: !byReader}
		if h.wrErr == nil {
			h.wrErr = &quic.StreamError{ErrorCode: code, Remote: byReader}
		}
		h.buf, h.head, h.fill = nil, 0, 0
		h.changed()
	}
	h.mu.Unlock()
	if !done {
		h.writerDone(&quic.StreamError{ErrorCode: code, Remote: byReader})
	}
}

func (h *pipeHalf) setDeadline(which *time.Time, t time.Time) {
	h.mu.Lock()
	*which = t
	h.changed()
	h.mu.Unlock()
}
