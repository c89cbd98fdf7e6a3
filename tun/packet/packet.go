package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Protocol numbers.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58

	fragmentHeader = 44
)

// Largest is the largest packet there is: an IPv6 header and 65535 bytes.
const Largest = 40 + 65535

// Errors of Parse.
var (
	// ErrMalformed is returned for a packet shorter than its headers say, or of no known version.
	ErrMalformed = errors.New("packet: malformed")
	// ErrUnsupported is returned for IPv6 extension headers other than the fragment header.
	ErrUnsupported = errors.New("packet: unsupported extension header")
)

// Header says what Parse found.
type Header struct {
	Src, Dst netip.Addr
	// Protocol is the transport protocol's number.
	Protocol uint8
	// Is6 tells IPv6 from IPv4.
	Is6 bool
	// Offset is where the transport header or the fragment's payload begins.
	Offset int
	// Length is the packet's length; what follows in the buffer is padding.
	Length int
	// Fragment is set for a part of a packet; the next three belong to it.
	Fragment       bool
	MoreFragments  bool
	FragmentOffset int
	FragmentID     uint32
	// SrcPort and DstPort are those of TCP and UDP, 0 for a fragment.
	SrcPort, DstPort uint16
}

// Parse looks at a packet. It checks every length that later use relies on: a TCP
// packet has a whole header with its options, a UDP datagram all of its length.
func Parse(b []byte) (Header, error) {
	if len(b) < 1 {
		return Header{}, ErrMalformed
	}
	var h Header
	var err error
	switch b[0] >> 4 {
	case 4:
		err = h.parse4(b)
	case 6:
		err = h.parse6(b)
	default:
		err = fmt.Errorf("%w: version %d", ErrMalformed, b[0]>>4)
	}
	if err != nil || h.Fragment {
		return h, err
	}
	t := b[h.Offset:h.Length]
	switch h.Protocol {
	case TCP:
		if len(t) < 20 || len(t) < dataOffset(t) || dataOffset(t) < 20 {
			return h, fmt.Errorf("%w: TCP header", ErrMalformed)
		}
	case UDP:
		if len(t) < 8 {
			return h, fmt.Errorf("%w: UDP header", ErrMalformed)
		}
		if n := int(binary.BigEndian.Uint16(t[4:])); n < 8 || n > len(t) {
			return h, fmt.Errorf("%w: UDP length %d of %d", ErrMalformed, n, len(t))
		}
	case ICMP, ICMPv6:
		if len(t) < 8 {
			return h, fmt.Errorf("%w: ICMP header", ErrMalformed)
		}
		return h, nil
	default:
		return h, nil
	}
	h.SrcPort, h.DstPort = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
	return h, nil
}

func (h *Header) parse4(b []byte) error {
	if len(b) < 20 {
		return fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	h.Offset = int(b[0]&15) * 4
	h.Length = int(binary.BigEndian.Uint16(b[2:]))
	if h.Offset < 20 || h.Length < h.Offset || h.Length > len(b) {
		return fmt.Errorf("%w: header %d, length %d of %d", ErrMalformed, h.Offset, h.Length, len(b))
	}
	h.Protocol = b[9]
	h.Src = netip.AddrFrom4([4]byte(b[12:16]))
	h.Dst = netip.AddrFrom4([4]byte(b[16:20]))
	if f := binary.BigEndian.Uint16(b[6:]); f&0x3fff != 0 {
		h.Fragment = true
		h.MoreFragments = f&0x2000 != 0
		h.FragmentOffset = int(f&0x1fff) * 8
		h.FragmentID = uint32(binary.BigEndian.Uint16(b[4:]))
	}
	return nil
}

func (h *Header) parse6(b []byte) error {
	if len(b) < 40 {
		return fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	h.Is6 = true
	h.Offset = 40
	h.Length = 40 + int(binary.BigEndian.Uint16(b[4:]))
	if h.Length > len(b) {
		return fmt.Errorf("%w: length %d of %d", ErrMalformed, h.Length, len(b))
	}
	h.Protocol = b[6]
	h.Src = netip.AddrFrom16([16]byte(b[8:24]))
	h.Dst = netip.AddrFrom16([16]byte(b[24:40]))
	switch h.Protocol {
	case fragmentHeader:
		if h.Length < 48 {
			return fmt.Errorf("%w: fragment header", ErrMalformed)
		}
		f := binary.BigEndian.Uint16(b[42:])
		h.Fragment = true
		h.MoreFragments = f&1 != 0
		h.FragmentOffset = int(f &^ 7)
		h.FragmentID = binary.BigEndian.Uint32(b[44:])
		h.Protocol = b[40]
		h.Offset = 48
	case 0, 43, 51, 60, 135, 139, 140:
		return fmt.Errorf("%w: %d", ErrUnsupported, h.Protocol)
	}
	return nil
}

// Source returns the source address and port.
func (h *Header) Source() netip.AddrPort { return netip.AddrPortFrom(h.Src, h.SrcPort) }

// Destination returns the destination address and port.
func (h *Header) Destination() netip.AddrPort { return netip.AddrPortFrom(h.Dst, h.DstPort) }

// UDPPayload returns the datagram in a UDP packet that Parse accepted.
func (h *Header) UDPPayload(b []byte) []byte {
	return b[h.Offset+8 : h.Offset+int(binary.BigEndian.Uint16(b[h.Offset+4:]))]
}

// TCP flags.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// Segment is what a TCP header says of the sequence space.
type Segment struct {
	Flags uint8
	// Seq is the first byte's number and End the one after the last; SYN and FIN count
	// as a byte each (RFC 9293 §3.4). Ack is what the sender expects next.
	Seq, End, Ack uint32
}

// Segment reads the header of a TCP packet that Parse accepted.
func (h *Header) Segment(b []byte) Segment {
	t := b[h.Offset:h.Length]
	s := Segment{Flags: t[13], Seq: binary.BigEndian.Uint32(t[4:]), Ack: binary.BigEndian.Uint32(t[8:])}
	s.End = s.Seq + uint32(len(t)-dataOffset(t))
	if s.Flags&SYN != 0 {
		s.End++
	}
	if s.Flags&FIN != 0 {
		s.End++
	}
	return s
}

// Acks reports whether the segment acknowledges everything before end (RFC 9293 §3.4:
// numbers go round).
func (s *Segment) Acks(end uint32) bool { return s.Flags&ACK != 0 && int32(s.Ack-end) >= 0 }

func dataOffset(t []byte) int { return int(t[12]>>4) * 4 }
