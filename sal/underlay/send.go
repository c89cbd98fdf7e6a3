package underlay

import (
	"encoding/binary"
	"errors"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"

	"scn.alt/scn/sal/relay"
)

const (
	// The kernel takes at most 64 segments and one IP packet's worth of bytes in a
	// UDP_SEGMENT send (UDP_MAX_SEGMENTS, udp(7)).
	maxSegments  = 60
	maxSegmented = 60000
)

var zeros [maxPieces]byte

// outgoing is one sendmsg with all it needs, kept in a pool so that sending
// allocates nothing.
type outgoing struct {
	hdr     unix.Msghdr
	iov     [3 * maxSegments]unix.Iovec
	headers [maxSegments][fragmentHeader]byte
	wrapper [relay.HeaderSize]byte
	nowait  bool // drop rather than wait for room in the socket's buffer
	oob     [maxSendOOB]byte
	errno   unix.Errno
	control func(fd uintptr)      // o.try, made once
	write   func(fd uintptr) bool // o.tryAgain, made once
}

func newOutgoing() any {
	o := new(outgoing)
	o.control = func(fd uintptr) { o.try(fd) }
	o.write = func(fd uintptr) bool { o.try(fd); return o.errno != unix.EAGAIN }
	return o
}

func (o *outgoing) try(fd uintptr) {
	for {
		_, _, o.errno = unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&o.hdr)), unix.MSG_DONTWAIT)
		if o.errno != unix.EINTR {
			return
		}
	}
}

func (o *outgoing) gather(n int, b []byte) int {
	if len(b) == 0 {
		return n
	}
	o.iov[n].Base = unsafe.SliceData(b)
	o.iov[n].SetLen(len(b))
	return n + 1
}

// send sends the bytes gathered in iov[from:to] on a route, as one datagram or,
// with segment > 0, as many of that size. It waits while the socket's buffer is
// full, which is the back-pressure QUIC's sender expects, unless o says not to.
// EBADF means closed.
func (s *Socket) send(o *outgoing, r *route, from, to, segment int, ecn byte) unix.Errno {
	if !r.v4 && !s.v6 {
		return unix.EAFNOSUPPORT
	}
	oob := append(o.oob[:0], r.pin...)
	if ecn != 0 {
		oob = appendECN(oob, r.v4, ecn)
	}
	if segment > 0 {
		oob = appendSegment(oob, segment)
	}
	h := &o.hdr
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(&r.name)), r.length
	h.Iov = &o.iov[from]
	h.SetIovlen(to - from)
	h.Control, h.Flags = nil, 0
	if len(oob) > 0 {
		h.Control = unsafe.SliceData(oob)
	}
	h.SetControllen(len(oob))
	// Control does not take the descriptor's write lock, Write does: flows meet
	// there only when the socket's buffer is full.
	err := s.raw.Control(o.control)
	if err == nil && o.errno == unix.EAGAIN && !o.nowait {
		s.metrics.sendWaits.Add(1)
		err = s.raw.Write(o.write)
	}
	h.Name, h.Control = nil, nil
	if err != nil {
		return unix.EBADF
	}
	if o.errno == 0 {
		r.meter.sent.Add(gathered(o.iov[from:to]))
	}
	return o.errno
}

// gathered returns how many bytes were gathered.
func gathered(iov []unix.Iovec) uint64 {
	var n uint64
	for i := range iov {
		n += uint64(iov[i].Len) //nolint:unconvert // 32 bits on other machines
	}
	return n
}

// transmit sends b, which is one datagram or, with 0 < segment < len(b), several
// of that size, cutting whatever the route does not carry whole. It returns the
// error that says the route does not work, or 0. EMSGSIZE is never returned:
// what is too large is cut. Neither is EIO, the answer of a device without
// checksum offload to UDP_SEGMENT: the route then sends one by one, and quic-go
// keeps its batches for the next route.
func (s *Socket) transmit(r *route, b []byte, segment int, ecn byte) unix.Errno {
	if r.relayed {
		return s.transmitRelayed(r, b, segment, ecn)
	}
	o := s.pool.Get().(*outgoing)
	defer s.pool.Put(o)
	return s.transmitWith(o, r, b, segment, ecn)
}

// transmitNow is transmit on a direct route for what is not worth waiting for: it
// returns EAGAIN when the socket's buffer is full.
func (s *Socket) transmitNow(r *route, b []byte, segment int, ecn byte) unix.Errno {
	o := s.pool.Get().(*outgoing)
	defer s.pool.Put(o)
	o.nowait = true
	defer func() { o.nowait = false }()
	return s.transmitWith(o, r, b, segment, ecn)
}

func (s *Socket) transmitWith(o *outgoing, r *route, b []byte, segment int, ecn byte) unix.Errno {
	if segment >= len(b) {
		segment = 0
	}
	// At each turn but the last the route's limit or its noGSO changed, both of
	// which can change only a few times.
	for {
		size := len(b)
		if segment > 0 {
			size = segment
		}
		var errno unix.Errno
		switch {
		case size > int(r.limit.Load()):
			errno = s.sendCut(o, r, b, size, ecn)
		case segment > 0 && r.noGSO.Load():
			errno = s.sendEach(o, r, b, size, ecn)
		default:
			errno = s.send(o, r, 0, o.gather(0, b), segment, ecn)
		}
		switch {
		case errno == unix.EMSGSIZE && r.shrink(min(size, int(r.limit.Load())), s.interfaceMTU(r.path.Interface)):
			s.tooBig(r, size)
			continue
		case errno == unix.EMSGSIZE:
			s.metrics.dropTooBig.Add(1)
			return 0
		case errno == unix.EIO && r.noGSO.CompareAndSwap(false, true):
			s.metrics.gsoRefused.Add(1)
			continue
		case errno == unix.EINVAL && segment > 0 && size <= int(r.limit.Load()):
			// Older kernels say EINVAL for a segment above the MTU; a source address
			// that is gone says it too. One by one tells them apart.
			if errno = s.sendEach(o, r, b, size, ecn); errno == unix.EMSGSIZE {
				if r.shrink(size, s.interfaceMTU(r.path.Interface)) {
					s.tooBig(r, size)
					continue
				}
				return 0
			}
		}
		return errno
	}
}

// sendEach sends the segments of b one by one, and stops at the first error.
func (s *Socket) sendEach(o *outgoing, r *route, b []byte, size int, ecn byte) unix.Errno {
	for len(b) > 0 {
		n := min(size, len(b))
		if errno := s.send(o, r, 0, o.gather(0, b[:n]), 0, ecn); errno != 0 {
			return errno
		}
		b = b[n:]
	}
	return 0
}

// sendCut sends the segments of b as fragments.
func (s *Socket) sendCut(o *outgoing, r *route, b []byte, size int, ecn byte) unix.Errno {
	limit := int(r.limit.Load())
	for len(b) > 0 {
		n := min(size, len(b))
		if n <= limit { // the last, shorter segment
			return s.send(o, r, 0, o.gather(0, b[:n]), 0, ecn)
		}
		count := pieces(n, limit)
		if count == 0 {
			s.metrics.dropTooBig.Add(1)
			b = b[n:]
			continue
		}
		fragmentSize := pieceSize(n, count) + fragmentHeader
		batch := max(1, min(len(b)/n, maxSegments/count, maxSegmented/(count*fragmentSize)))
		if errno := s.sendPieces(o, r, b[:batch*n], n, count, ecn); errno != 0 {
			return errno
		}
		b = b[batch*n:]
	}
	return 0
}

// sendPieces cuts each n bytes of b into count pieces and sends them all at once
// where the device can segment.
func (s *Socket) sendPieces(o *outgoing, r *route, b []byte, n, count int, ecn byte) unix.Errno {
	size := pieceSize(n, count)
	single := r.noGSO.Load()
	iov, at := 0, 0
	for ; len(b) > 0; b = b[n:] {
		id := s.fragmentID.Add(1)
		for i := range count {
			h := &o.headers[at]
			h[0], h[1] = typeFragment, byte(i<<4|(count-1))
			binary.BigEndian.PutUint16(h[2:], uint16(n))
			binary.BigEndian.PutUint32(h[4:], id)
			at++
			start := iov
			end := min(n, (i+1)*size)
			piece := b[min(n, i*size):end]
			iov = o.gather(iov, h[:])
			iov = o.gather(iov, piece)
			iov = o.gather(iov, zeros[:size-len(piece)])
			s.metrics.fragmentsSent.Add(1)
			if single {
				if errno := s.send(o, r, start, iov, 0, ecn); errno != 0 {
					return errno
				}
			}
		}
	}
	if single {
		return 0
	}
	return s.send(o, r, 0, iov, size+fragmentHeader, ecn)
}

// sendOnce sends one datagram as it is, or not at all. Through a relay the legs cut
// it where they must.
func (s *Socket) sendOnce(r *route, b []byte) unix.Errno {
	if r.relayed {
		return s.transmitRelayed(r, b, 0, 0)
	}
	o := s.pool.Get().(*outgoing)
	defer s.pool.Put(o)
	return s.send(o, r, 0, o.gather(0, b), 0, 0)
}

// WriteMsgUDP implements quic.OOBCapablePacketConn. It fails only when the socket
// is closed: an error of the network is counted and told to the path machine,
// because quic-go would end the connection for it, and QUIC sends again anyway.
func (s *Socket) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	if s.closed.Load() {
		return 0, 0, ErrClosed
	}
	if addr == nil || len(b) == 0 {
		return 0, 0, errors.New("underlay: nothing to send, or nowhere")
	}
	anc := parseAncillary(oob)
	if isMadeUp(addr) {
		if a := s.table.bySerial(uint16(addr.Port)); a != nil && a.addr.IP.Equal(addr.IP) {
			a.write(b, anc.segment, anc.ecn)
		} else {
			s.metrics.dropUnknownPeer.Add(1)
		}
		return len(b), len(oob), nil
	}
	s.writeStranger(b, anc, addr)
	return len(b), len(oob), nil
}

// WriteTo implements net.PacketConn as WriteMsgUDP does.
func (s *Socket) WriteTo(b []byte, addr net.Addr) (int, error) {
	u, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, errors.New("underlay: not a UDP address")
	}
	n, _, err := s.WriteMsgUDP(b, nil, u)
	return n, err
}

// swallowed counts an error of the network.
func (s *Socket) swallowed(errno unix.Errno) {
	if errno != 0 && errno != unix.EBADF {
		s.metrics.sendErrors.Add(1)
	}
}

// unusable reports whether an error says that the route does not work, rather
// than that a queue was full for a moment.
func unusable(errno unix.Errno) bool {
	switch errno {
	case 0, unix.EBADF, unix.ENOBUFS, unix.ENOMEM, unix.EAGAIN, unix.EMSGSIZE, unix.EIO:
		return false
	default:
		return true
	}
}
