package target

import (
	"net"
	"syscall"
)

// growBuffer lets a target's socket hold what arrives while this process does not run:
// the kernel's default is some ninety datagrams. Beyond net.core.rmem_max it needs
// CAP_NET_ADMIN; without it the kernel grants its maximum.
func growBuffer(c net.Conn) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // a small buffer works too
		if syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, receiveBuffer) != nil {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
		}
	})
}
