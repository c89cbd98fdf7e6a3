package underlay

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"scn.alt/scn/sal/relay"
)

// First bytes of datagrams that are not QUIC (both top bits zero).
const (
	typePath     = 0x01 // path.Type
	typeFragment = 0x02
	typeFEC      = 0x03 // reserved: forward error correction
	typeForward  = relay.TypeForward
	typeRelayed  = relay.TypeRelayed
)

// A fragment carries one piece of a datagram larger than the path takes:
//
//	 0      1               2       4          8
//	┌──────┬───────────────┬───────┬──────────┬───────────────┐
//	│ 0x02 │ index │ count-1│ total │ id       │ piece         │
//	└──────┴───────────────┴───────┴──────────┴───────────────┘
//
// Index and count-1 have four bits each. Every piece of one datagram has the
// same size, ⌈total/count⌉ bytes, the last one padded: so that one UDP_SEGMENT
// send carries the pieces of a whole batch, and UDP_GRO coalesces them again.
// A fragment of another length is refused. Nothing in it is authenticated: the
// joined datagram is QUIC, which authenticates itself, or a relay's, and is never
// another fragment or a path message.
const (
	fragmentHeader = 8
	maxPieces      = 4    // 1452 bytes over a path of 576
	maxJoined      = 1500 // larger than any packet of quic-go (1452)
)

var errFragment = errors.New("underlay: malformed fragment")

type fragment struct {
	index, count int
	total        int
	id           uint32
	piece        []byte // aliases the datagram
}

func (f fragment) pieceSize() int { return pieceSize(f.total, f.count) }

func pieceSize(total, count int) int { return (total + count - 1) / count }

// pieces returns into how many pieces a datagram must be cut so that each
// fragment is at most limit bytes, and 0 if that is impossible.
func pieces(total, limit int) int {
	room := limit - fragmentHeader
	if room <= 0 || total > maxJoined {
		return 0
	}
	n := (total + room - 1) / room
	if n > maxPieces {
		return 0
	}
	return n
}

func (f fragment) appendHeader(b []byte) []byte {
	b = append(b, typeFragment, byte(f.index<<4|(f.count-1)))
	b = binary.BigEndian.AppendUint16(b, uint16(f.total))
	return binary.BigEndian.AppendUint32(b, f.id)
}

func parseFragment(b []byte) (fragment, error) {
	if len(b) <= fragmentHeader || b[0] != typeFragment {
		return fragment{}, errFragment
	}
	f := fragment{
		index: int(b[1] >> 4),
		count: int(b[1]&0xf) + 1,
		total: int(binary.BigEndian.Uint16(b[2:])),
		id:    binary.BigEndian.Uint32(b[4:]),
		piece: b[fragmentHeader:],
	}
	if f.count < 2 || f.count > maxPieces || f.index >= f.count || f.total > maxJoined ||
		len(f.piece) != f.pieceSize() || f.index*f.pieceSize() >= f.total {
		return fragment{}, errFragment
	}
	return f, nil
}

const (
	joinTimeout  = 100 * time.Millisecond
	strangerJoin = 64  // slots shared by all strangers
	knownJoin    = 512 // slots shared by all peers with a proved address
)

// joiner rejoins fragments. It belongs to the receiving goroutine. Its memory is
// two fixed pools, one for peers with a proved address and one for everybody
// else, so that strangers can neither exhaust memory nor displace peers.
type joiner struct {
	known, strangers joinPool
}

type joinPool struct {
	slots []joinSlot // allocated at the first use
	size  int
	next  int
}

type joinSlot struct {
	from         netip.AddrPort
	id           uint32
	total, count int
	have         uint16 // bit per piece
	ecn          byte
	deadline     int64 // on the socket's clock; 0: free
	data         [maxJoined + maxPieces]byte
}

func newJoiner() *joiner {
	return &joiner{known: joinPool{size: knownJoin}, strangers: joinPool{size: strangerJoin}}
}

// add takes one fragment and returns the whole datagram when it was the last
// missing piece. The result is valid until the next call. ecn is the ECN bits of
// the IP packet; the result's are congestion experienced if any piece's were.
func (j *joiner) add(f fragment, from netip.AddrPort, known bool, ecn byte, now int64) (whole []byte, wholeECN byte) {
	p := &j.strangers
	if known {
		p = &j.known
	}
	return p.add(f, from, ecn, now)
}

func (p *joinPool) add(f fragment, from netip.AddrPort, ecn byte, now int64) ([]byte, byte) {
	if p.slots == nil {
		p.slots = make([]joinSlot, p.size)
	}
	s := p.find(f, from, now)
	size := f.pieceSize()
	copy(s.data[f.index*size:], f.piece)
	s.have |= 1 << f.index
	if ecn == ecnMask {
		s.ecn = ecnMask
	}
	if s.have != 1<<s.count-1 {
		return nil, 0
	}
	s.deadline = 0
	return s.data[:s.total], s.ecn
}

// find returns the slot of the fragment's datagram, or a free, expired, or (all
// being in use) the next slot in turn.
func (p *joinPool) find(f fragment, from netip.AddrPort, now int64) *joinSlot {
	// A sender numbers its datagrams one by one, so their slots lie side by side:
	// looking where the number says is nearly always enough.
	home := int(f.id % uint32(len(p.slots)))
	var free *joinSlot
	for i := range 8 {
		s := &p.slots[(home+i)%len(p.slots)]
		live := s.deadline > now
		if live && s.id == f.id && s.from == from && s.total == f.total && s.count == f.count {
			return s
		}
		if !live && free == nil {
			free = s
		}
	}
	if free == nil {
		p.next = (p.next + 1) % 8
		free = &p.slots[(home+p.next)%len(p.slots)]
	}
	free.from, free.id, free.total, free.count = from, f.id, f.total, f.count
	free.have, free.ecn = 0, 0
	free.deadline = now + int64(joinTimeout)
	return free
}
