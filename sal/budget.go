package sal

import (
	"sync"
	"sync/atomic"
	"time"
)

// budget bounds the memory that sessions may hold in receive buffers.
//
// QUIC lets a peer fill a stream's receive window whenever the reader does not
// empty it, and the window grows with use. Counting every window in full would
// refuse work to a node whose readers all keep up and so hold nothing. The budget
// therefore counts twice: nominally, every window in full, which is cheap to keep
// up to date; and when that is above the limit, what sessions *not waiting for
// data at this moment* could hold, which takes a walk over all of them and is
// remembered for a short while.
type budget struct {
	limit   int64
	walk    func() int64     // constant; sums window() of sessions not waiting
	now     func() time.Time // constant
	nominal atomic.Int64
	refused atomic.Uint64

	mu     sync.Mutex // guards below
	walked time.Time
	held   int64 // at walked, plus what was reserved since
}

// walkInterval is how long the sum of a walk is believed, and rewalkInterval how
// long when the answer would be no.
const (
	walkInterval   = 50 * time.Millisecond
	rewalkInterval = 5 * time.Millisecond
)

// reserve asks for n bytes, to be given back by release.
func (b *budget) reserve(n int64) bool {
	if b.nominal.Add(n) <= b.limit {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	age := now.Sub(b.walked)
	if age < 0 || age >= walkInterval || age >= rewalkInterval && b.held+n > b.limit {
		b.held, b.walked = b.walk(), now
	}
	if b.held+n > b.limit {
		b.nominal.Add(-n)
		b.refused.Add(1)
		return false
	}
	b.held += n
	return true
}

// grow counts n bytes that cannot be refused: a window has grown.
func (b *budget) grow(n int64) { b.nominal.Add(n) }

// release gives n bytes back.
func (b *budget) release(n int64) { b.nominal.Add(-n) }
