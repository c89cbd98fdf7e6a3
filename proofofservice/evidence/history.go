package evidence

import "math/bits"

// HistorySize is how many checks of one operator at one provider are remembered.
const HistorySize = 200

// How many measurements are remembered.
const (
	latencies = 64
	rates     = 32
	gaps      = 32
)

// result is what a check says of the provider, in two bits.
type result uint8

const (
	good result = iota
	bad
	wrong
	results
)

// history remembers the last HistorySize results.
type history struct {
	last    [HistorySize]result
	n, next uint8
	counts  [results]uint8
}

func (h *history) add(r result) {
	if h.n == HistorySize {
		h.counts[h.last[h.next]]--
	} else {
		h.n++
	}
	h.last[h.next] = r
	h.counts[r]++
	h.next = (h.next + 1) % HistorySize
}

// append packs four results into a byte.
func (h *history) append(b []byte) []byte {
	b = append(b, h.n, h.next)
	var packed byte
	for i := range int(h.n) {
		packed |= byte(h.last[i]) << (i % 4 * 2)
		if i%4 == 3 || i == int(h.n)-1 {
			b = append(b, packed)
			packed = 0
		}
	}
	return b
}

func (f *fields) history() (h history) {
	h.n, h.next = f.byte(), f.byte()
	f.limit(int(h.n), HistorySize, "results")
	f.require(h.next < HistorySize && (h.n == HistorySize || h.next == h.n), "result %d of %d is next", h.next, h.n)
	if f.err != nil {
		return history{}
	}
	packed := f.take((int(h.n) + 3) / 4)
	for i := range len(packed) * 4 {
		r := result(packed[i/4] >> (i % 4 * 2) & 3)
		f.require(r < results && (i < int(h.n) || r == 0), "a result of %d", r)
		if f.err != nil {
			return history{}
		}
		if i < int(h.n) {
			h.last[i] = r
			h.counts[r]++
		}
	}
	return h
}

// ring remembers the last measurements, each in a byte: see code.
type ring struct {
	codes   [latencies]uint8
	n, next uint8
}

func (r *ring) add(size uint8, v uint32) {
	r.codes[r.next] = code(v)
	r.n = min(r.n+1, size)
	r.next = (r.next + 1) % size
}

// quantile returns a quantile of what is remembered, and whether there is anything.
func (r *ring) quantile(share uint32) (uint32, bool) {
	if r.n == 0 {
		return 0, false
	}
	// Counting sort: codes are in the order of what they stand for.
	var counts [256]uint8
	for _, c := range r.codes[:r.n] {
		counts[c]++
	}
	rank := max((uint64(r.n)*uint64(min(share, million))+million-1)/million, 1)
	var seen uint64
	for c, n := range counts {
		if seen += uint64(n); seen >= rank {
			return decodedCode(uint8(c)), true
		}
	}
	return 0, false
}

func (r *ring) append(b []byte) []byte {
	b = append(b, r.n, r.next)
	return append(b, r.codes[:r.n]...)
}

func (f *fields) ring(size uint8) (r ring) {
	r.n, r.next = f.byte(), f.byte()
	f.limit(int(r.n), int(size), "measurements")
	f.require(r.next < size && (r.n == size || r.next == r.n), "measurement %d of %d is next", r.next, r.n)
	if f.err == nil {
		f.copyTo(r.codes[:r.n])
	}
	for _, c := range r.codes {
		f.require(c < maxCode, "a measurement of %d", c)
	}
	return r
}

// code writes a number in a byte as a float of three bits of fraction: what it
// stands for is at most an eighth below.
func code(v uint32) uint8 {
	if v < 8 {
		return uint8(v)
	}
	e := bits.Len32(v) - 4
	return uint8(e<<3 + int(v>>e))
}

// maxCode is above every code.
const maxCode = 28<<3 + 16

func decodedCode(c uint8) uint32 {
	if c < 16 {
		return uint32(c)
	}
	e := c>>3 - 1
	return uint32(8+c&7) << e
}
