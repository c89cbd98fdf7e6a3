package control

import (
	"io"
	"net"
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
