package sal

import "sync/atomic"

// window estimates, from above, the receive window that QUIC's auto-tuning has
// given a stream. Each doubling takes the reading of more than half the present
// window, so after n bytes it is at most initial + 2n, and never above max.
type window struct {
	initial, max int64 // constant
	budget       *budget
	read         atomic.Int64
	next         atomic.Int64 // bytes read at which the estimate has grown again
	size         atomic.Int64
	waiting      atomic.Bool // a Read waits for data: nothing is held
}

// open reserves the initial window, and reports false when the budget is used up.
func (w *window) open(b *budget, initial, limit int) bool {
	if !b.reserve(int64(initial)) {
		return false
	}
	w.budget, w.initial, w.max = b, int64(initial), int64(limit)
	w.size.Store(w.initial)
	w.next.Store(w.initial / 2)
	return true
}

// close gives everything back. Calling it again does nothing.
func (w *window) close() { w.budget.release(w.size.Swap(0)) }

// add notes that n more bytes were read.
func (w *window) add(n int) {
	read := w.read.Add(int64(n))
	for {
		next := w.next.Load()
		if read <= next {
			return
		}
		size := w.size.Load()
		if size == 0 || size >= w.max {
			return
		}
		grown := min(2*size, w.max)
		if w.next.CompareAndSwap(next, next+grown/2) && w.size.CompareAndSwap(size, grown) {
			w.budget.grow(grown - size)
		}
	}
}

// held returns what the stream may hold now.
func (w *window) held() int64 {
	if w.waiting.Load() {
		return 0
	}
	return w.size.Load()
}
