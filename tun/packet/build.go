package packet

import (
	"encoding/binary"
	"net/netip"
)

// hopLimit is that of packets made here.
const hopLimit = 64

// Reason is why a destination cannot be reached.
type Reason uint8

// The reasons there are ICMP errors for.
const (
	// HostUnreachable is ICMP 3/1 and ICMPv6 1/3; connect fails with EHOSTUNREACH.
	HostUnreachable Reason = iota
	// PortUnreachable is ICMP 3/3 and ICMPv6 1/4; ECONNREFUSED.
	PortUnreachable
	// Prohibited is ICMP 3/13 and ICMPv6 1/1; EHOSTUNREACH over IPv4, EACCES over IPv6.
	Prohibited
)

var codes = [...]struct{ v4, v6 byte }{HostUnreachable: {1, 3}, PortUnreachable: {3, 4}, Prohibited: {13, 1}}

// appendIP appends an IP header for a payload of n bytes.
func appendIP(b []byte, src, dst netip.Addr, protocol uint8, n int) []byte {
	if src.Is4() {
		at := len(b)
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(20+n))
		b = append(b, 0, 0, 0x40, 0, hopLimit, protocol, 0, 0) // no identification needed: never fragmented
		s, d := src.As4(), dst.As4()
		b = append(append(b, s[:]...), d[:]...)
		binary.BigEndian.PutUint16(b[at+10:], Checksum(b[at:]))
		return b
	}
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(b, protocol, hopLimit)
	s, d := src.As16(), dst.As16()
	return append(append(b, s[:]...), d[:]...)
}

// finish writes the checksum of the transport header at b[at:], at the given offset.
func finish(b []byte, at, offset int, src, dst netip.Addr, protocol uint8) {
	field := b[at+offset:]
	field[0], field[1] = 0, 0
	var acc uint64
	if protocol != ICMP {
		acc = pseudoAddr(src, dst, protocol, len(b)-at)
	}
	c := ^fold(sum(b[at:], acc))
	if c == 0 && protocol == UDP {
		c = 0xffff // 0 means no checksum (RFC 768)
	}
	binary.BigEndian.PutUint16(field, c)
}

func pseudoAddr(src, dst netip.Addr, protocol uint8, length int) uint64 {
	if src.Is4() {
		s, d := src.As4(), dst.As4()
		return pseudo(s[:], d[:], protocol, length)
	}
	s, d := src.As16(), dst.As16()
	return pseudo(s[:], d[:], protocol, length)
}

// AppendReset appends the reset that answers a TCP packet (RFC 9293 §3.5.2).
func AppendReset(b, orig []byte, h *Header) []byte {
	s := h.Segment(orig)
	seq, ack, flags := s.Ack, uint32(0), byte(RST)
	if s.Flags&ACK == 0 {
		seq, ack, flags = 0, s.End, RST|ACK
	}
	b = appendIP(b, h.Dst, h.Src, TCP, 20)
	at := len(b)
	b = binary.BigEndian.AppendUint16(b, h.DstPort)
	b = binary.BigEndian.AppendUint16(b, h.SrcPort)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, 5<<4, flags, 0, 0, 0, 0, 0, 0)
	finish(b, at, 16, h.Dst, h.Src, TCP)
	return b
}

// AppendUnreachable appends the ICMP error that answers a packet, from the given
// address, which must not be one of this host: the kernel drops those as martians. The
// quoted packet is as long as RFC 1812 §4.3.2.3 and RFC 4443 §3.1 allow.
func AppendUnreachable(b []byte, from netip.Addr, orig []byte, h *Header, reason Reason) []byte {
	typ, code, protocol, most := byte(3), codes[reason].v4, uint8(ICMP), 576-28
	if h.Is6 {
		typ, code, protocol, most = 1, codes[reason].v6, ICMPv6, 1280-48
	}
	quote := orig[:min(h.Length, most)]
	b = appendIP(b, from, h.Src, protocol, 8+len(quote))
	at := len(b)
	b = append(b, typ, code, 0, 0, 0, 0, 0, 0)
	b = append(b, quote...)
	finish(b, at, 2, from, h.Src, protocol)
	return b
}

// IsEchoRequest reports whether a packet that Parse accepted asks for an echo.
func IsEchoRequest(b []byte, h *Header) bool {
	t := b[h.Offset:]
	return !h.Fragment && (h.Protocol == ICMP && !h.Is6 && t[0] == 8 && t[1] == 0 ||
		h.Protocol == ICMPv6 && h.Is6 && t[0] == 128 && t[1] == 0)
}

// IsICMPError reports whether a packet is an ICMP error, which must never be answered
// by another (RFC 1122 §3.2.2, RFC 4443 §2.4).
func IsICMPError(b []byte, h *Header) bool {
	t := b[h.Offset:]
	switch {
	case h.Protocol == ICMP && !h.Fragment:
		return t[0] == 3 || t[0] == 4 || t[0] == 5 || t[0] == 11 || t[0] == 12
	case h.Protocol == ICMPv6 && !h.Fragment:
		return t[0] < 128
	}
	return false
}

// EchoReply turns an echo request into its reply, in place.
func EchoReply(b []byte, h *Header) {
	reply := byte(0)
	if h.Is6 {
		reply = 129
		b[7] = hopLimit
		swap(b[8:24], b[24:40])
	} else {
		swap(b[12:16], b[16:20])
		was := [2]byte{b[8], b[9]}
		b[8] = hopLimit
		update(b[10:12], difference(was[:], b[8:10]))
	}
	t := b[h.Offset:]
	was := [2]byte{t[0], t[1]}
	t[0] = reply
	update(t[2:4], difference(was[:], t[:2]))
}

func swap(a, b []byte) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}

// UDPHeadroom is how many bytes PutUDP needs ahead of the payload.
const UDPHeadroom = 48

// PutUDP makes a UDP packet around a payload that lies in b after UDPHeadroom bytes,
// without moving it, and returns the packet, a part of b. Over IPv4 the checksum is
// left out, as RFC 768 allows: the packet goes to this host's kernel and no further.
func PutUDP(b []byte, src, dst netip.AddrPort) []byte {
	n := len(b) - UDPHeadroom + 8
	start := UDPHeadroom - 8 - 40
	if src.Addr().Is4() {
		start += 20
	}
	appendIP(b[start:start], src.Addr(), dst.Addr(), UDP, n)
	u := b[UDPHeadroom-8:]
	binary.BigEndian.PutUint16(u, src.Port())
	binary.BigEndian.PutUint16(u[2:], dst.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(n))
	u[6], u[7] = 0, 0
	if !src.Addr().Is4() {
		finish(b, UDPHeadroom-8, 6, src.Addr(), dst.Addr(), UDP)
	}
	return b[start:]
}
