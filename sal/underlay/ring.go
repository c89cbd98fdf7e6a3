package underlay

import (
	"bytes"
	"sync"
	"time"
)

const (
	ringSize     = 4
	ringDatagram = 1500
	// ringHead is what is left of the last datagram when nothing was sent for a while:
	// with it a peer can still be asked whether it knows the connection.
	ringHead = resetProvoking
	// ringIdle is that while: whatever was lost is acknowledged or given up by then.
	ringIdle = int64(30 * time.Second)
)

// ring keeps copies of the last datagrams sent, to send them again on a new
// path: QUIC's timers have backed off by then, and four duplicates (it drops
// packet numbers it has seen) bring the peer's acknowledgement at once.
type ring struct {
	mu    sync.Mutex // guards all below; never held across a send
	slots *[ringSize]ringSlot
	next  int
	n     int
	head  []byte // instead of slots
}

type ringSlot struct {
	size int
	ecn  byte
	data [ringDatagram]byte
}

// keep copies the last datagrams of a batch of segments of the given size (0:
// one datagram).
func (r *ring) keep(b []byte, segment int, ecn byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slots == nil {
		r.slots, r.head = new([ringSize]ringSlot), nil
	}
	if segment <= 0 || segment >= len(b) {
		r.put(b, ecn)
		return
	}
	n := (len(b) + segment - 1) / segment
	for i := max(0, n-ringSize); i < n; i++ {
		r.put(b[i*segment:min(len(b), (i+1)*segment)], ecn)
	}
}

func (r *ring) put(b []byte, ecn byte) {
	if len(b) > ringDatagram || len(b) == 0 {
		return
	}
	s := &r.slots[r.next]
	s.size, s.ecn = copy(s.data[:], b), ecn
	r.next = (r.next + 1) % ringSize
	r.n = min(r.n+1, ringSize)
}

// copyTo copies the kept datagrams, oldest first, and returns how many.
func (r *ring) copyTo(out *[ringSize]ringSlot) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.n {
		out[i] = r.slots[(r.next-r.n+i+ringSize)%ringSize]
	}
	return r.n
}

// last copies the last datagram, or what is left of it, and reports whether there is
// one.
func (r *ring) last(out *ringSlot) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.n > 0:
		*out = r.slots[(r.next-1+ringSize)%ringSize]
	case r.head != nil:
		out.size, out.ecn = copy(out.data[:], r.head), 0
	default:
		return false
	}
	return true
}

// trim frees the memory of all but the head of the last datagram.
func (r *ring) trim() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == 0 {
		return
	}
	last := &r.slots[(r.next-1+ringSize)%ringSize]
	r.head = bytes.Clone(last.data[:min(last.size, ringHead)])
	r.slots, r.n, r.next = nil, 0, 0
}

// trimRings makes the rings of those small to which nothing was sent for a while.
func (e *engine) trimRings(now int64) {
	if now-e.trimmed < ringIdle/6 {
		return
	}
	e.trimmed = now
	e.s.table.each(func(a *Association) {
		if now-a.lastSent.Load() > ringIdle {
			a.ring.trim()
		}
	})
}

// drop forgets everything and frees the memory.
func (r *ring) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slots, r.n, r.next, r.head = nil, 0, 0, nil
}
