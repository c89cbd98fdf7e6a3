package tunnel

import (
	"errors"
	"math"
	"net"
	"sync/atomic"
)

// maxHandshake bounds what a server or a proxy may send before a tunnel stands: TLS
// and two short answers need a few kilobytes.
const maxHandshake = 64 << 10

var errHandshake = errors.New("tunnel: too much was sent before the tunnel stood")

// limited is a connection from which so many bytes can be read until lift.
type limited struct {
	net.Conn
	left atomic.Int64
}

func newLimited(c net.Conn, most int64) *limited {
	l := &limited{Conn: c}
	l.left.Store(most)
	return l
}

// Read implements net.Conn.
func (l *limited) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if l.left.Add(-int64(n)) < 0 {
		return 0, errHandshake
	}
	return n, err
}

// lift ends the limit.
func (l *limited) lift() { l.left.Store(math.MaxInt64) }
