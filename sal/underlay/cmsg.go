package underlay

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ancillary is what control messages say of a datagram, or shall say.
type ancillary struct {
	local     netip.Addr // of this host; unmapped
	ifindex   int
	segment   int  // UDP_SEGMENT of a send, UDP_GRO of a receive; 0: one datagram
	ecn       byte // the two ECN bits (RFC 3168)
	hasECN    bool
	truncated bool // bytes that are no control message
}

const (
	ecnMask     = 3
	cmsgAlign   = unix.SizeofPtr
	cmsgHeader  = (unix.SizeofCmsghdr + cmsgAlign - 1) &^ (cmsgAlign - 1)
	maxSendOOB  = 128 // pin ≤ 40, ECN ≤ 24, UDP_SEGMENT 24
	maxRecvOOB  = 256
	sizePktinfo = 12
)

// parseAncillary reads control messages of either direction. What it does not
// know it skips; what is malformed ends the parsing.
func parseAncillary(b []byte) (a ancillary) {
	for len(b) >= unix.SizeofCmsghdr {
		h := cmsghdr(b)
		if h.len < cmsgHeader || h.len > len(b) {
			a.truncated = true
			return a
		}
		a.take(h.level, h.typ, b[cmsgHeader:h.len])
		next := (h.len + cmsgAlign - 1) &^ (cmsgAlign - 1)
		if next >= len(b) {
			return a
		}
		b = b[next:]
	}
	a.truncated = a.truncated || len(b) != 0
	return a
}

func (a *ancillary) take(level, typ int32, body []byte) {
	switch {
	case level == unix.IPPROTO_IP && typ == unix.IP_TOS && len(body) >= 1:
		a.ecn, a.hasECN = body[0]&ecnMask, true
	case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_TCLASS && len(body) >= 4:
		a.ecn, a.hasECN = byte(binary.NativeEndian.Uint32(body))&ecnMask, true
	case level == unix.IPPROTO_IP && typ == unix.IP_PKTINFO && len(body) >= sizePktinfo:
		// struct in_pktinfo: interface, local address, destination of the header.
		// A receive fills all; a sender (as quic-go) only the first two.
		addr := netip.AddrFrom4([4]byte(body[4:8]))
		if head := netip.AddrFrom4([4]byte(body[8:12])); !head.IsUnspecified() {
			addr = head
		}
		a.local, a.ifindex = addr, int(binary.NativeEndian.Uint32(body))
	case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_PKTINFO && len(body) >= 20:
		a.local = netip.AddrFrom16([16]byte(body[:16])).Unmap()
		a.ifindex = int(binary.NativeEndian.Uint32(body[16:]))
	case level == unix.IPPROTO_UDP && (typ == unix.UDP_GRO || typ == unix.UDP_SEGMENT):
		switch {
		case len(body) >= 4:
			a.segment = int(int32(binary.NativeEndian.Uint32(body)))
		case len(body) >= 2:
			a.segment = int(binary.NativeEndian.Uint16(body))
		}
		a.segment = max(a.segment, 0)
	}
}

type cmsgHeaderFields struct {
	len        int
	level, typ int32
}

// cmsghdr reads the header without assuming that b is aligned.
func cmsghdr(b []byte) cmsgHeaderFields {
	var h unix.Cmsghdr
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&h)), unix.SizeofCmsghdr), b)
	n := h.Len
	if n > 1<<20 {
		n = 1 << 20 // longer than any buffer; keeps the conversion to int exact
	}
	return cmsgHeaderFields{len: int(n), level: h.Level, typ: h.Type}
}

// appendCmsg appends a control message with a zero body of n bytes and returns
// the body too. b must have the capacity if nothing is to be allocated.
func appendCmsg(b []byte, level, typ int32, n int) (all, body []byte) {
	at := len(b)
	space := unix.CmsgSpace(n)
	for range space {
		b = append(b, 0)
	}
	var h unix.Cmsghdr
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(n))
	copy(b[at:], unsafe.Slice((*byte)(unsafe.Pointer(&h)), unix.SizeofCmsghdr))
	return b, b[at+cmsgHeader : at+cmsgHeader+n]
}

func appendECN(b []byte, v4 bool, ecn byte) []byte {
	var body []byte
	if v4 {
		b, body = appendCmsg(b, unix.IPPROTO_IP, unix.IP_TOS, 4)
	} else {
		b, body = appendCmsg(b, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 4)
	}
	binary.NativeEndian.PutUint32(body, uint32(ecn))
	return b
}

func appendSegment(b []byte, size int) []byte {
	b, body := appendCmsg(b, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)
	binary.NativeEndian.PutUint16(body, uint16(size))
	return b
}

// appendPin pins the source address and the interface of a send. Either may be
// missing; nothing is appended when both are.
func appendPin(b []byte, v4 bool, local netip.Addr, ifindex int) []byte {
	if !local.IsValid() && ifindex == 0 {
		return b
	}
	var body []byte
	if v4 {
		b, body = appendCmsg(b, unix.IPPROTO_IP, unix.IP_PKTINFO, sizePktinfo)
		binary.NativeEndian.PutUint32(body, uint32(ifindex))
		if local.IsValid() {
			ip := local.Unmap().As4()
			copy(body[4:], ip[:])
		}
		return b
	}
	b, body = appendCmsg(b, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, 20)
	if local.IsValid() {
		ip := local.As16()
		copy(body, ip[:])
	}
	binary.NativeEndian.PutUint32(body[16:], uint32(ifindex))
	return b
}

// upward holds the control messages handed to quic-go, one per ECN value. The
// family does not matter to it there.
var upward = func() (m [4][]byte) {
	for i := range m {
		b, body := appendCmsg(nil, unix.IPPROTO_IP, unix.IP_TOS, 1)
		body[0] = byte(i)
		m[i] = b
	}
	return m
}()
