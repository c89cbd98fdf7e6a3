package control

import (
	"bufio"
	"io"
	"net"
	"net/http/httputil"
	"sync"
)

// Splice copies bytes both ways between two connections until both directions
// ended, and passes the end of one direction on where the connection can
// (CloseWrite). It closes neither.
func Splice(a, b net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { copyHalf(a, b) })
	copyHalf(b, a)
	wg.Wait()
}

// copyHalf copies src to dst and then ends dst's input; a broken direction ends
// both connections, so the other one does not wait for ever.
func copyHalf(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
		_ = half.CloseWrite()
		return
	}
	_ = dst.Close()
	if err != nil {
		_ = src.Close()
	}
}

// readerConn is a connection whose first bytes were read into a buffer already.
type readerConn struct {
	net.Conn
	r io.Reader
}

func (c readerConn) Read(b []byte) (int, error) { return c.r.Read(b) }

func (c readerConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// markedConn writes in HTTP chunks (RFC 9112 §7.1), so that the client tells a stream
// that ended from one that broke: a unix socket has no reset.
type markedConn struct {
	readerConn
	buffer *bufio.Writer
	chunks io.WriteCloser
}

func newMarkedConn(c readerConn) *markedConn {
	b := bufio.NewWriterSize(c, 64<<10)
	return &markedConn{readerConn: c, buffer: b, chunks: httputil.NewChunkedWriter(b)}
}

// Write implements io.Writer: one chunk, at once.
func (c *markedConn) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil // an empty chunk is the mark of the end
	}
	n, err := c.chunks.Write(b)
	if err == nil {
		err = c.buffer.Flush()
	}
	return n, err
}

// CloseWrite marks the end.
func (c *markedConn) CloseWrite() error {
	if err := c.chunks.Close(); err != nil {
		return err
	}
	if _, err := c.buffer.WriteString("\r\n"); err != nil { // no trailers
		return err
	}
	if err := c.buffer.Flush(); err != nil {
		return err
	}
	return c.readerConn.CloseWrite()
}
