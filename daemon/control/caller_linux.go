package control

import (
	"net"
	"os"
	"syscall"
)

// isOwner asks the kernel who is at the other end of a unix socket (unix(7),
// SO_PEERCRED).
func isOwner(c net.Conn) bool {
	socket, ok := c.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	var peer *syscall.Ucred
	var peerErr error
	err = raw.Control(func(fd uintptr) {
		peer, peerErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	return err == nil && peerErr == nil && (peer.Uid == 0 || int(peer.Uid) == os.Geteuid())
}
