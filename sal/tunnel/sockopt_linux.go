package tunnel

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// unsent is how many bytes TCP takes that it may not send yet. The kernel's own
	// bound grows to megabytes, which at a slow link is seconds of queue.
	unsent = 64 << 10
	// userTimeout ends a connection whose bytes nobody acknowledges, in
	// milliseconds: the way is gone, and another connection may have one.
	userTimeout = 10_000
)

// tune keeps the queue short and the connection's end quick. What the kernel
// refuses is gone without.
func tune(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout)
	})
}
