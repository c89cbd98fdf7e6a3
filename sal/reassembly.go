package sal

import "time"

// MaxDatagram is the largest datagram of a packet session: UDP's own limit over
// IPv4 (65535 − 20 − 8).
const MaxDatagram = 65507

// Bounds of reassembly, for each flow.
const (
	maxPartials      = 8           // datagrams in the making at one time
	partialLife      = time.Second // after which the rest is not expected any more
	maxPartsOfOne    = 128         // 65507 bytes in parts of at least 512
	maxPartialMemory = 4 * (MaxDatagram + 1)
)

// reassembler rejoins the datagrams of one flow that were cut because they exceed
// one QUIC datagram. It is a pure state machine: no clock, no lock.
type reassembler struct {
	partials []partial // oldest first
	memory   int
	dropped  uint64 // datagrams given up
}

type partial struct {
	number  uint64
	started time.Time
	parts   [][]byte
	missing int
	size    int
}

// add takes one part and returns the whole datagram once its last part is there.
// It keeps payload.
func (r *reassembler) add(now time.Time, number uint64, index, count uint8, payload []byte) []byte {
	if count < 2 || count > maxPartsOfOne || index >= count {
		r.dropped++
		return nil
	}
	for len(r.partials) > 0 && now.Sub(r.partials[0].started) > partialLife {
		r.evict(0)
	}
	i := r.find(number)
	if i < 0 {
		if len(r.partials) >= maxPartials {
			r.evict(0)
		}
		r.partials = append(r.partials, partial{
			number: number, started: now, parts: make([][]byte, count), missing: int(count),
		})
		i = len(r.partials) - 1
	}
	p := &r.partials[i]
	if int(count) != len(p.parts) || len(payload) == 0 {
		r.evict(i) // the sender contradicts itself
		return nil
	}
	if p.parts[index] != nil {
		return nil // a duplicate
	}
	p.parts[index] = payload
	p.missing--
	p.size += len(payload)
	r.memory += len(payload)
	if p.size > MaxDatagram {
		r.evict(i)
		return nil
	}
	if p.missing > 0 {
		for r.memory > maxPartialMemory && len(r.partials) > 1 {
			r.evict(0)
		}
		return nil
	}
	whole := make([]byte, 0, p.size)
	for _, part := range p.parts {
		whole = append(whole, part...)
	}
	r.remove(i)
	return whole
}

func (r *reassembler) find(number uint64) int {
	for i := range r.partials {
		if r.partials[i].number == number {
			return i
		}
	}
	return -1
}

func (r *reassembler) evict(i int) {
	r.dropped++
	r.remove(i)
}

func (r *reassembler) remove(i int) {
	r.memory -= r.partials[i].size
	copy(r.partials[i:], r.partials[i+1:])
	r.partials[len(r.partials)-1] = partial{}
	r.partials = r.partials[:len(r.partials)-1]
}
