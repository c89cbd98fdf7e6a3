package relay

import (
	"sync/atomic"
	"time"
)

// bucket is a token bucket in one word (the generic cell rate algorithm of ITU-T
// I.371): the time at which it would be full again. The zero value is full.
type bucket struct{ full atomic.Int64 }

// rate is how fast a bucket fills and how much it holds.
type rate struct {
	perSecond int64
	burst     time.Duration // how long filling an empty bucket takes
}

func newRate(perSecond, burst int64) rate {
	burst = min(burst, perSecond)
	return rate{perSecond: perSecond, burst: time.Duration(burst * int64(time.Second) / perSecond)}
}

// take takes n bytes out, if they are there. n is at most one read of a socket, so
// nothing overflows.
func (b *bucket) take(now time.Duration, n int, r rate) bool {
	cost := int64(n) * int64(time.Second) / r.perSecond
	for {
		old := b.full.Load()
		next := max(old, int64(now)) + cost
		if next-int64(now) > int64(r.burst) {
			return false
		}
		if b.full.CompareAndSwap(old, next) {
			return true
		}
	}
}
