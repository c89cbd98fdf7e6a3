package sal

import (
	"errors"
	"io"
	"sync"
)

// Sizes of the buffers that ReadFrom and WriteTo copy with. Large ones mean fewer
// wake-ups of the QUIC connection; idle sessions hold a small one or none.
const (
	spliceBuffer = 128 << 10
	spliceIdle   = 2 << 10
)

// splicePool holds *[]byte of spliceBuffer bytes. A pool is no state: it is safe
// to share by all nodes of a process.
var splicePool = sync.Pool{New: func() any { b := make([]byte, spliceBuffer); return &b }}

// WriteTo implements io.WriterTo, so that io.Copy from a session is fast. While
// it waits for data it holds no buffer.
func (c *Conn) WriteTo(w io.Writer) (total int64, err error) {
	var one [1]byte
	for {
		if !c.accepted.Load() {
			if err := c.await(); err != nil {
				return total, c.opErr("read", c.readError(err))
			}
		}
		c.win.waiting.Store(true)
		_, err := c.str.Peek(one[:])
		c.win.waiting.Store(false)
		if errors.Is(err, io.EOF) && c.reason() == nil {
			// Read also has to see it, for QUIC to count the stream as finished.
			_, _ = c.str.Read(one[:])
			return total, nil
		}
		if err != nil {
			err = c.readError(streamError(err))
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return total, c.opErr("read", err)
		}
		n, err := c.writeSome(w)
		total += n
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// writeSome copies what there is, at least once, with a pooled buffer.
func (c *Conn) writeSome(w io.Writer) (total int64, err error) {
	buf := splicePool.Get().(*[]byte)
	defer splicePool.Put(buf)
	for {
		n, err := c.Read(*buf)
		if n > 0 {
			m, werr := w.Write((*buf)[:n])
			total += int64(m)
			if werr != nil {
				return total, werr
			}
			if m < n {
				return total, io.ErrShortWrite
			}
		}
		if err != nil || n < len(*buf) {
			return total, err
		}
	}
}

// ReadFrom implements io.ReaderFrom, so that io.Copy to a session is fast.
func (c *Conn) ReadFrom(r io.Reader) (total int64, err error) {
	small := make([]byte, spliceIdle)
	for {
		n, rerr := r.Read(small)
		if n > 0 {
			m, err := c.Write(small[:n])
			total += int64(m)
			if err != nil {
				return total, err
			}
		}
		if rerr == nil && n == len(small) {
			var m int64
			m, rerr, err = c.readBulk(r)
			total += m
			if err != nil {
				return total, err
			}
		}
		if errors.Is(rerr, io.EOF) {
			return total, nil
		}
		if rerr != nil {
			return total, rerr
		}
	}
}

// readBulk copies with a large buffer until a read is small again.
func (c *Conn) readBulk(r io.Reader) (total int64, readErr, writeErr error) {
	buf := splicePool.Get().(*[]byte)
	defer splicePool.Put(buf)
	for {
		n, rerr := r.Read(*buf)
		if n > 0 {
			m, err := c.Write((*buf)[:n])
			total += int64(m)
			if err != nil {
				return total, nil, err
			}
		}
		if rerr != nil || n <= spliceIdle {
			return total, rerr, nil
		}
	}
}
