package packet

import (
	"encoding/binary"
	"net/netip"
)

// Turn rewrites the addresses and ports of one direction of a TCP flow. All its
// packets change by the same difference, which is worked out once.
type Turn struct {
	addresses [32]byte // source, then destination; the first 8 bytes for IPv4
	ports     [4]byte
	is6       bool
	ip, tcp   uint16 // differences of the two checksums
}

// NewTurn makes packets from src to dst look as if they went from newSrc to newDst. All
// four are of one family.
func NewTurn(src, dst, newSrc, newDst netip.AddrPort) Turn {
	was, _ := layout(src, dst)
	t := Turn{}
	var is [36]byte
	is, t.is6 = layout(newSrc, newDst)
	copy(t.addresses[:], is[:32])
	copy(t.ports[:], is[32:])
	t.ip = difference(was[:32], is[:32])
	t.tcp = difference(was[:], is[:])
	return t
}

// Apply rewrites a TCP packet in place. h is what Parse said of it, with the source
// and destination the Turn was made for.
func (t *Turn) Apply(b []byte, h *Header) {
	if t.is6 {
		copy(b[8:40], t.addresses[:])
	} else {
		copy(b[12:20], t.addresses[:8])
		update(b[10:12], t.ip)
	}
	copy(b[h.Offset:], t.ports[:])
	update(b[h.Offset+16:h.Offset+18], t.tcp)
}

func layout(src, dst netip.AddrPort) (b [36]byte, is6 bool) {
	if src.Addr().Is4() {
		s, d := src.Addr().As4(), dst.Addr().As4()
		copy(b[:], s[:])
		copy(b[4:], d[:])
	} else {
		is6 = true
		s, d := src.Addr().As16(), dst.Addr().As16()
		copy(b[:], s[:])
		copy(b[16:], d[:])
	}
	binary.BigEndian.PutUint16(b[32:], src.Port())
	binary.BigEndian.PutUint16(b[34:], dst.Port())
	return b, is6
}
