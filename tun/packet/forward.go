package packet

import "encoding/binary"

// forwardMTU is what every link carries over IPv6 (RFC 8200 §5): larger packets to
// another host are cut by their sender, because no router on the way may.
const forwardMTU = 1280

// Forward makes a whole packet of ours, which Parse would accept, fit to be forwarded to
// another host, and hands it to emit: a packet that never leaves this host may be of any
// size and needs no checksum. An IPv4 packet may be cut on the way from then on; an IPv6
// packet that is too large is cut here. id tells the pieces of one packet from those of
// another. b is changed.
func Forward(b []byte, id uint32, emit func([]byte)) {
	h, err := Parse(b)
	if err != nil || h.Fragment {
		return
	}
	b = b[:h.Length]
	if h.Protocol == UDP && !h.Is6 {
		finish(b, h.Offset, 6, h.Src, h.Dst, UDP)
	}
	if !h.Is6 {
		binary.BigEndian.PutUint16(b[4:], uint16(id))
		b[6] &^= 0x40 // don't fragment
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], Checksum(b[:h.Offset]))
		emit(b)
		return
	}
	if len(b) <= forwardMTU {
		emit(b)
		return
	}
	const header, most = 48, (forwardMTU - 48) &^ 7
	payload, piece := b[40:], make([]byte, 0, forwardMTU)
	for at := 0; at < len(payload); at += most {
		part := payload[at:min(at+most, len(payload))]
		flags := uint16(at)
		if at+len(part) < len(payload) {
			flags |= 1 // more follow
		}
		piece = append(piece[:0], b[:40]...)
		binary.BigEndian.PutUint16(piece[4:], uint16(header-40+len(part)))
		piece[6] = fragmentHeader
		piece = append(piece, b[6], 0)
		piece = binary.BigEndian.AppendUint16(piece, flags)
		piece = binary.BigEndian.AppendUint32(piece, id)
		emit(append(piece, part...))
	}
}
