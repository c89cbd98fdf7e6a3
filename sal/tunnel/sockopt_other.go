//go:build !linux

package tunnel

import "syscall"

// tune has nothing to offer on this system.
func tune(_, _ string, _ syscall.RawConn) error { return nil }
