package splice

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// shrinkAfter is how many small reads in a row give a large buffer back.
const shrinkAfter = 4

// transfer copies until end of file, which is no error.
func transfer(to, from net.Conn, buffers *Buffers) (int64, error) {
	switch c := from.(type) {
	case *net.TCPConn:
		return fromSocket(to, c, buffers)
	case *net.UnixConn:
		return fromSocket(to, c, buffers)
	case io.WriterTo:
		// It knows when bytes are there; sessions of the overlay hold no buffer until then.
		return c.WriteTo(to)
	}
	return fromConn(to, from, buffers)
}

// fromSocket waits until bytes are there and only then takes a buffer, so that
// thousands of idle connections hold none.
func fromSocket(to net.Conn, from syscall.Conn, buffers *Buffers) (total int64, err error) {
	raw, err := from.SyscallConn()
	if err != nil {
		return 0, err
	}
	var buf []byte
	var n int
	var failed error
	read := func(fd uintptr) bool {
		buf = buffers.get(true)
		for {
			n, failed = syscall.Read(int(fd), buf)
			if failed != syscall.EINTR { // a bare errno, nothing wraps it
				break
			}
		}
		if failed == syscall.EAGAIN {
			buffers.put(buf)
			buf = nil
			return false
		}
		return true
	}
	for {
		if err := raw.Read(read); err != nil {
			return total, err
		}
		if failed != nil {
			buffers.put(buf)
			return total, os.NewSyscallError("read", failed)
		}
		if n <= 0 {
			buffers.put(buf)
			return total, nil
		}
		w, err := to.Write(buf[:n])
		buffers.put(buf)
		total += int64(w)
		if err != nil {
			return total, err
		}
	}
}

// fromConn reads into a small buffer until a read fills it, then into a large one
// until the reads are small again.
func fromConn(to, from net.Conn, buffers *Buffers) (total int64, err error) {
	buf := buffers.get(false)
	defer func() { buffers.put(buf) }()
	smallReads := 0
	for {
		n, err := from.Read(buf)
		if n > 0 {
			w, werr := to.Write(buf[:n])
			total += int64(w)
			if werr != nil {
				return total, werr
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return total, err
		}
		switch {
		case len(buf) == small && n == small:
			buffers.put(buf)
			buf = buffers.get(true)
			smallReads = 0
		case len(buf) == Large && n <= small:
			if smallReads++; smallReads >= shrinkAfter {
				buffers.put(buf)
				buf = buffers.get(false)
			}
		default:
			smallReads = 0
		}
	}
}
