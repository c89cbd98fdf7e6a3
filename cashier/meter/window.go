package meter

import (
	"math/bits"
	"time"
)

// The credit window and the interval between vouchers. The specification fixes all of
// them but the windows of time.
const (
	// Prepaid is how many bytes the first voucher of a channel pays for in advance,
	// and the smallest credit window once it did.
	Prepaid = 64 << 10
	// MaxWindow is the largest credit window.
	MaxWindow = 16 << 20
	// PrepaidTime is how much time the first voucher pays for in advance, and the
	// smallest window of time. A quarter of it is the interval of vouchers that pay
	// for time alone: less would wake sleeping radios more often than that is worth.
	PrepaidTime = 4 * time.Second

	minInterval  = 16 << 10
	intervalTime = 100 * time.Millisecond
	windowTime   = 400 * time.Millisecond
	// diskTime is what writing a voucher to disk may take before the window runs out.
	diskTime = 50 * time.Millisecond
	// maxRate keeps products within 64 bits; it is 8 Tbit/s.
	maxRate = 1 << 40
	// maxRoundTrip is the longest round trip that widens a window.
	maxRoundTrip = 5 * time.Second
)

// creditWindow returns how many bytes may be delivered ahead of payment:
// max(2·RTT, 400 ms) of the rate, at least Prepaid, at most limit (0: MaxWindow) and
// at most what was paid before, so that small vouchers do not buy large credit.
func creditWindow(rate uint64, roundTrip time.Duration, paid uint64, limit uint32) uint64 {
	w := max(during(rate, max(2*roundTrip, windowTime)), Prepaid)
	top := uint64(MaxWindow)
	if limit != 0 {
		top = min(top, uint64(limit))
	}
	return min(w, top, paid)
}

// voucherInterval returns after how many unpaid bytes the payer signs again.
func voucherInterval(rate, window uint64) uint64 {
	return max(minInterval, min(during(rate, intervalTime), window/4))
}

// keepRange returns how far the payee may let what it accepted run ahead of what it
// has on disk. Credit counts from the disk, so this is what the window leaves after
// one interval and what is on the way.
func keepRange(rate, window uint64, roundTrip time.Duration) uint64 {
	onTheWay := voucherInterval(rate, window) + during(rate, roundTrip+diskTime)
	if onTheWay >= window {
		return window / 8
	}
	return min(max(window-onTheWay, window/8), window/2)
}

// timeWindow returns how far time may run ahead of payment.
func timeWindow(roundTrip time.Duration, paid uint64) uint64 {
	return min(milliseconds(max(2*min(roundTrip, maxRoundTrip), PrepaidTime)), paid)
}

// during returns how much a rate makes in d.
func during(rate uint64, d time.Duration) uint64 {
	rate, d = min(rate, maxRate), min(max(d, 0), 2*maxRoundTrip)
	high, low := bits.Mul64(rate, uint64(d))
	sum, _ := bits.Div64(high, low, uint64(time.Second)) // high < 2^10
	return sum
}

func milliseconds(d time.Duration) uint64 { return uint64(max(d, 0) / time.Millisecond) }

// The steps of the rate estimate.
const (
	rateSample = 20 * time.Millisecond
	rateDecay  = 250 * time.Millisecond
)

// rate estimates bytes per second by an exponentially weighted average in integers.
// It follows a rise at once and forgets slowly, half in 2.7 s: a window too small
// for what comes next costs throughput, one too large at most the window.
type rate struct {
	perSecond uint64
	bytes     uint64
	since     time.Duration // when counting bytes began
	decayed   time.Duration
	begun     bool
}

func (r *rate) add(now time.Duration, n uint64) {
	if !r.begun {
		r.begun, r.since, r.decayed = true, now, now
	}
	r.bytes += n
	passed := now - r.since
	if passed < rateSample {
		return
	}
	sample := perSecond(r.bytes, passed)
	r.bytes, r.since = 0, now
	if sample >= r.perSecond {
		r.perSecond += (sample - r.perSecond + 1) / 2
		r.decayed = now
		return
	}
	for ; now-r.decayed >= rateDecay && sample < r.perSecond; r.decayed += rateDecay {
		r.perSecond -= (r.perSecond - sample + 15) / 16
	}
	if now-r.decayed >= rateDecay {
		r.decayed = now
	}
}

func perSecond(n uint64, d time.Duration) uint64 {
	high, low := bits.Mul64(min(n, maxRate), uint64(time.Second))
	if high >= uint64(d) {
		return maxRate
	}
	q, _ := bits.Div64(high, low, uint64(d))
	return min(q, maxRate)
}

// stopwatch counts the time in which at least one session of a channel was open.
type stopwatch struct {
	total   time.Duration
	since   time.Duration
	running int
}

func (s *stopwatch) start(now time.Duration) {
	if s.running == 0 {
		s.since = now
	}
	s.running++
}

func (s *stopwatch) stop(now time.Duration) {
	if s.running--; s.running == 0 {
		s.total += max(now-s.since, 0)
	}
}

func (s *stopwatch) at(now time.Duration) time.Duration {
	if s.running == 0 {
		return s.total
	}
	return s.total + max(now-s.since, 0)
}
