//go:build !linux

package target

import "net"

// growBuffer lets a target's socket hold what arrives while this process does not run.
func growBuffer(c net.Conn) {
	if s, ok := c.(interface{ SetReadBuffer(bytes int) error }); ok {
		_ = s.SetReadBuffer(receiveBuffer) // a small buffer works too
	}
}
