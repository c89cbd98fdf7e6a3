package underlay

import "sync"

const (
	ringSize     = 4
	ringDatagram = 1500
)

// ring keeps copies of the last datagrams sent, to send them again on a new
// path: QUIC's timers have backed off by then, and four duplicates (it drops
// packet numbers it has seen) bring the peer's acknowledgement at once.
type ring struct {
	mu    sync.Mutex // guards all below; never held across a send
	slots *[ringSize]ringSlot
	next  int
	n     int
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
		r.slots = new([ringSize]ringSlot)
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

// drop forgets everything and frees the memory.
func (r *ring) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slots, r.n, r.next = nil, 0, 0
}
