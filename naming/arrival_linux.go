package naming

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// preparePackets asks the kernel to tell where datagrams arrive.
func (a *arrivals) preparePackets(c net.PacketConn) error {
	if u, ok := c.(*net.UDPConn); ok {
		return a.prepare(u)
	}
	return nil
}

// prepareStreams asks the kernel to remember where connections arrive: accepted
// sockets inherit it. A multipath TCP socket cannot, see allowedStream.
func (a *arrivals) prepareStreams(l net.Listener) error {
	t, ok := l.(*net.TCPListener)
	if !ok {
		return nil
	}
	if err := a.prepare(t); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return nil
}

func (a *arrivals) prepare(c syscall.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var v4, v6 error
	if err := raw.Control(func(fd uintptr) {
		v4 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		v6 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}); err != nil {
		return err
	}
	if v4 != nil && v6 != nil { // a socket has one family; an IPv6 one may carry both
		return errors.Join(v4, v6)
	}
	return nil
}

// arrival reads packet information: the interface a datagram arrived on, 0 if it
// is not told, and the address it was sent to.
func arrival(oob []byte) (index int, to netip.Addr) {
	for len(oob) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		length := int(h.Len)
		if length < unix.SizeofCmsghdr || length > len(oob) {
			break
		}
		data := oob[unix.CmsgLen(0):max(length, unix.CmsgLen(0))]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// ifindex, local address, destination in the header
			return int(binary.NativeEndian.Uint32(data)), netip.AddrFrom4([4]byte(data[8:12]))
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return int(binary.NativeEndian.Uint32(data[16:])), netip.AddrFrom16([16]byte(data[:16]))
		}
		oob = oob[min(unix.CmsgSpace(length-unix.CmsgLen(0)), len(oob)):]
	}
	return 0, netip.Addr{}
}

// appendSource appends the control message that makes a reply leave from the
// address the query was sent to.
func appendSource(b []byte, from netip.Addr, index int) []byte {
	level, typ, size := int32(unix.IPPROTO_IPV6), int32(unix.IPV6_PKTINFO), unix.SizeofInet6Pktinfo
	if from.Is4() {
		level, typ, size = unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo
	}
	if !from.IsValid() {
		return b
	}
	start := len(b)
	b = append(b, make([]byte, unix.CmsgSpace(size))...)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[start]))
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(size))
	data := b[start+unix.CmsgLen(0):]
	if from.Is4() {
		addr := from.As4()
		copy(data[4:], addr[:])
		return b
	}
	addr := from.As16()
	copy(data, addr[:])
	if from.IsLinkLocalUnicast() {
		binary.NativeEndian.PutUint32(data[16:], uint32(index))
	}
	return b
}

// allowedStream reports whether a connection arrived where queries may arrive. The
// kernel keeps the interface of a connection's SYN with it (ip(7), IP_PKTOPTIONS).
// Where it does not tell, the peer has to have an address of this host: a handshake
// with one from elsewhere would not come about.
func (a *arrivals) allowedStream(c net.Conn) bool {
	t, ok := c.(*net.TCPConn)
	if !ok || a.any {
		return true
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return false
	}
	index := 0
	if err := raw.Control(func(fd uintptr) {
		for _, option := range [...][2]uintptr{
			{unix.IPPROTO_IP, unix.IP_PKTOPTIONS}, {unix.IPPROTO_IPV6, unix.IPV6_2292PKTOPTIONS},
		} {
			var oob [256]byte
			length := uint32(len(oob))
			_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, option[0], option[1],
				uintptr(unsafe.Pointer(&oob[0])), uintptr(unsafe.Pointer(&length)), 0)
			if errno != 0 || int(length) > len(oob) {
				continue
			}
			if i, _ := arrival(oob[:length]); i != 0 {
				index = i
				return
			}
		}
	}); err != nil {
		return false
	}
	if index == 0 {
		return localPeer(c.RemoteAddr())
	}
	return a.allowed(index)
}

// localPeer reports whether the address is one of this host's.
func localPeer(addr net.Addr) bool {
	t, ok := addr.(*net.TCPAddr)
	if !ok {
		return false
	}
	if t.IP.IsLoopback() {
		return true
	}
	local, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(local, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(t.IP)
	})
}
