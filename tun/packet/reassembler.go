package packet

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

// Bounds of a Reassembler: 4 MiB at most, and the 30 s of RFC 791 §3.2 (RFC 8200
// allows 60 s; fragments of one host to itself need none of it).
const (
	maxDatagrams = 64
	maxFragments = 128
	patience     = 30 * time.Second
)

// Reassembler rejoins fragments. The zero value is ready.
type Reassembler struct {
	datagrams map[fragmentKey]*datagram
	dropped   uint64
}

type fragmentKey struct {
	src, dst netip.Addr
	id       uint32
	protocol uint8
}

type datagram struct {
	started time.Time
	parts   []part // by offset, without overlaps
	have    int
	total   int // 0 until the last fragment came
	first   []byte
}

type part struct {
	offset int
	data   []byte
}

// Add takes a fragment and returns the whole packet once all of it is there. The
// fragment is copied.
func (r *Reassembler) Add(now time.Time, b []byte, h *Header) (whole []byte, ok bool) {
	key := fragmentKey{h.Src, h.Dst, h.FragmentID, h.Protocol}
	d := r.datagrams[key]
	if d != nil && now.Sub(d.started) > patience {
		r.drop(key)
		d = nil
	}
	if d == nil {
		if len(r.datagrams) >= maxDatagrams {
			r.expire(now)
		}
		if len(r.datagrams) >= maxDatagrams {
			r.dropped++
			return nil, false
		}
		if r.datagrams == nil {
			r.datagrams = make(map[fragmentKey]*datagram)
		}
		d = &datagram{started: now}
		r.datagrams[key] = d
	}
	whole, keep := d.add(b, h)
	if !keep {
		if whole == nil {
			r.dropped++
		}
		delete(r.datagrams, key)
	}
	return whole, whole != nil
}

// Dropped counts datagrams given up.
func (r *Reassembler) Dropped() uint64 { return r.dropped }

func (r *Reassembler) drop(key fragmentKey) {
	r.dropped++
	delete(r.datagrams, key)
}

func (r *Reassembler) expire(now time.Time) {
	for key, d := range r.datagrams {
		if now.Sub(d.started) > patience {
			r.drop(key)
		}
	}
}

// add returns the whole packet, or whether to keep waiting.
func (d *datagram) add(b []byte, h *Header) (whole []byte, keep bool) {
	data := b[h.Offset:h.Length]
	end := h.FragmentOffset + len(data)
	switch {
	case len(data) == 0, end > 65535, h.MoreFragments && len(data)%8 != 0, len(d.parts) >= maxFragments:
		return nil, false
	case !h.MoreFragments && d.total != 0 && d.total != end, d.total != 0 && end > d.total:
		return nil, false
	}
	at, found := slices.BinarySearchFunc(d.parts, h.FragmentOffset, func(p part, o int) int { return p.offset - o })
	if found && len(d.parts[at].data) == len(data) {
		return nil, true // the same again
	}
	if found || at > 0 && d.parts[at-1].offset+len(d.parts[at-1].data) > h.FragmentOffset ||
		at < len(d.parts) && d.parts[at].offset < end {
		return nil, false // RFC 5722: an overlap spoils the datagram
	}
	if !h.MoreFragments {
		if at != len(d.parts) {
			return nil, false // parts beyond the end
		}
		d.total = end
	}
	if h.FragmentOffset == 0 {
		n := h.Offset
		if h.Is6 {
			n = 40
		}
		d.first = slices.Clone(b[:n])
	}
	d.parts = slices.Insert(d.parts, at, part{h.FragmentOffset, slices.Clone(data)})
	d.have += len(data)
	if d.total == 0 || d.have != d.total {
		return nil, true
	}
	return d.join(h)
}

func (d *datagram) join(h *Header) (whole []byte, keep bool) {
	if !h.Is6 && len(d.first)+d.total > 65535 {
		return nil, false
	}
	whole = make([]byte, 0, len(d.first)+d.total)
	whole = append(whole, d.first...)
	for _, p := range d.parts {
		whole = append(whole, p.data...)
	}
	if h.Is6 {
		binary.BigEndian.PutUint16(whole[4:], uint16(d.total))
		whole[6] = h.Protocol
		return whole, false
	}
	binary.BigEndian.PutUint16(whole[2:], uint16(len(whole)))
	whole[6], whole[7] = 0, 0
	whole[10], whole[11] = 0, 0
	binary.BigEndian.PutUint16(whole[10:], Checksum(whole[:len(d.first)]))
	return whole, false
}
