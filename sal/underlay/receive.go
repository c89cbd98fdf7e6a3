package underlay

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"scn.alt/scn/sal/path"
	"scn.alt/scn/sal/relay"
)

const (
	recvBatch  = 4       // reads of the kernel per system call
	recvBuffer = 1 << 16 // one read: up to 64 KiB of coalesced datagrams
	// turnAfter is how many datagrams go up before quic-go's goroutines, and those
	// that read from it, get their turn on this processor: this loop is faster than
	// they are after a pause of the machine, and quic-go keeps 256 packets and 128
	// datagrams of RFC 9221 for them.
	turnAfter = 64
)

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// receiver reads from the kernel, splits what UDP_GRO coalesced and finds the
// association of each datagram. It belongs to the one goroutine that reads from
// the socket (quic-go's).
type receiver struct {
	s     *Socket
	hdrs  [recvBatch]mmsghdr
	iovs  [recvBatch]unix.Iovec
	names [recvBatch]unix.RawSockaddrInet6
	oobs  [recvBatch][maxRecvOOB]byte
	bufs  [recvBatch][]byte
	errno unix.Errno
	got   int
	recv  func(fd uintptr) bool // made once

	handed int // up since others had their turn

	at   int // next message of hdrs[:got] to look at
	rest []byte
	arrival

	join  *joiner
	mark  byte // ECN bits of the datagram last dispatched
	cache [256]cidCache

	relayed   unwrapCache
	sender    senderCache
	unwrapped bool       // arrival is that of a datagram a relay forwarded,
	outer     path.Route // and this where it really came from

	meter   *linkMeter
	metered int // the interface meter is of
}

// arrival is what the datagrams of one read of the kernel have in common.
type arrival struct {
	from    netip.AddrPort
	link    path.Link
	ecn     byte
	segment int
	now     int64
}

type cidCache struct {
	cid        uint64
	generation uint64
	a          *Association
}

func newReceiver(s *Socket) *receiver {
	r := &receiver{s: s, join: newJoiner()}
	for i := range r.hdrs {
		r.bufs[i] = make([]byte, recvBuffer)
		r.iovs[i].Base = unsafe.SliceData(r.bufs[i])
		r.iovs[i].SetLen(recvBuffer)
		h := &r.hdrs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
		h.Control = &r.oobs[i][0]
	}
	r.recv = func(fd uintptr) bool {
		for i := range r.hdrs {
			r.hdrs[i].hdr.Namelen = unix.SizeofSockaddrInet6
			r.hdrs[i].hdr.SetControllen(maxRecvOOB)
			r.hdrs[i].hdr.Flags = 0
		}
		for {
			n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.hdrs[0])),
				recvBatch, unix.MSG_DONTWAIT, 0, 0)
			if errno == unix.EINTR {
				continue
			}
			r.got, r.errno = int(n), errno
			if errno != 0 {
				r.got = 0
			}
			return errno != unix.EAGAIN
		}
	}
	return r
}

// ReadBatch gives quic-go datagrams, each into a buffer of its own, with the ECN
// bits as only control message. Only one goroutine may read at a time. It
// returns an error only when the socket is closed or the read deadline has
// passed.
func (s *Socket) ReadBatch(ms []ipv4.Message, _ int) (int, error) {
	r := s.receiver
	if r.handed >= turnAfter {
		r.handed = 0
		runtime.Gosched()
	}
	filled := 0
	for filled < len(ms) {
		b := r.next()
		if b == nil {
			if filled > 0 {
				break
			}
			if err := r.fill(); err != nil {
				return 0, err
			}
			continue
		}
		b, up, stranger := r.dispatch(b)
		if up == nil {
			continue
		}
		ecn := r.mark
		m := &ms[filled]
		if len(m.Buffers) == 0 || len(b) > len(m.Buffers[0]) {
			s.metrics.dropOversized.Add(1)
			continue
		}
		m.N = copy(m.Buffers[0], b)
		m.Addr = up
		m.Flags = 0
		if stranger {
			m.NN = r.strangerOOB(m.OOB, ecn)
		} else {
			m.NN = copy(m.OOB, upward[ecn])
		}
		filled++
	}
	r.handed += filled
	return filled, nil
}

// strangerOOB writes the control messages of a datagram from a stranger: with
// packet info, which quic-go gives back with its answer.
func (r *receiver) strangerOOB(oob []byte, ecn byte) int {
	if cap(oob) < len(upward[0])+64 {
		return copy(oob, upward[ecn])
	}
	b := append(oob[:0], upward[ecn]...)
	if l := r.link; l.Local.Is4() {
		// Unlike the kernel, quic-go reads the header's destination.
		var body []byte
		b, body = appendCmsg(b, unix.IPPROTO_IP, unix.IP_PKTINFO, sizePktinfo)
		ip := l.Local.As4()
		binary.NativeEndian.PutUint32(body, uint32(l.Interface))
		copy(body[4:], ip[:])
		copy(body[8:], ip[:])
	} else if l.Local.IsValid() {
		b = appendPin(b, false, l.Local, l.Interface)
	}
	return len(b)
}

// fill waits for datagrams.
func (r *receiver) fill() error {
	for {
		if r.s.closed.Load() {
			return ErrClosed
		}
		if err := r.s.raw.Read(r.recv); err != nil {
			if r.s.closed.Load() {
				return ErrClosed
			}
			return err
		}
		if r.errno == 0 && r.got > 0 {
			r.at = 0
			r.now = r.s.now()
			r.s.metrics.reads.Add(1)
			return nil
		}
		// A pending error of the socket, such as ENETDOWN when an address vanished:
		// it is cleared by being read.
		r.s.metrics.receiveErrors.Add(1)
	}
}

// next returns the next datagram of what was read, nil when none is left. It is
// valid until fill.
func (r *receiver) next() []byte {
	r.rewrap()
	for len(r.rest) == 0 {
		if r.at >= r.got {
			return nil
		}
		r.open(r.at)
		r.at++
	}
	b := r.rest
	if r.segment > 0 && r.segment < len(b) {
		b = b[:r.segment]
	}
	r.rest = r.rest[len(b):]
	return b
}

func (r *receiver) open(i int) {
	h := &r.hdrs[i]
	r.rest = nil
	if h.hdr.Flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		r.s.metrics.dropOversized.Add(1)
		return
	}
	anc := parseAncillary(r.oobs[i][:h.hdr.Controllen])
	r.from = r.address(i)
	if !r.from.IsValid() || r.from.Port() == 0 || path.IsRelayed(r.from) {
		return // or it would pass for a relayed one
	}
	r.relayed.header, r.sender.from = [relay.HeaderSize]byte{}, nil
	r.link = path.Link{Local: anc.local, Interface: anc.ifindex}
	if off := r.s.links.Load().off; len(off) > 0 && off[anc.ifindex] {
		r.s.metrics.dropLinkOff.Add(1) // an answer would go where it came from
		return
	}
	if r.meter == nil || r.metered != anc.ifindex {
		r.meter, r.metered = r.s.meters.of(anc.ifindex), anc.ifindex
	}
	r.meter.received.Add(uint64(h.n))
	r.ecn = anc.ecn
	r.segment = anc.segment
	r.rest = r.bufs[i][:h.n]
}

func (r *receiver) address(i int) netip.AddrPort {
	name := &r.names[i]
	switch name.Family {
	case unix.AF_INET6:
		port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), port)
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:])
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), port)
	}
	return netip.AddrPort{}
}

// ReadFrom implements net.PacketConn; quic-go uses ReadBatch.
func (s *Socket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, _, _, addr, err := s.ReadMsgUDP(b, nil)
	if err != nil {
		return 0, nil, err
	}
	return n, addr, nil
}

// ReadMsgUDP implements quic.OOBCapablePacketConn; quic-go uses ReadBatch.
func (s *Socket) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	ms := [1]ipv4.Message{{Buffers: [][]byte{b}, OOB: oob}}
	if _, err := s.ReadBatch(ms[:], 0); err != nil {
		return 0, 0, 0, nil, err
	}
	return ms[0].N, ms[0].NN, 0, ms[0].Addr.(*net.UDPAddr), nil
}
