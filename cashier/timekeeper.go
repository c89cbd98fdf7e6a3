package cashier

import (
	"sync"
	"time"
)

// timekeeper says what time it is in the ledger. It follows the machine's clock,
// but for two things a clock does when it is set wrong:
//
//	runs on    a jump of more than maxJump while the ledger runs, seen against a
//	           second clock that nobody sets: the ledger's time goes on as before
//	at Open    a clock that is behind the newest block, or so far ahead of it that
//	           no halt explains it: the ledger's time goes on where it stopped
//
// What the clock shows beyond the ledger's time is held. An operator lets it
// through with release; or the clock is put right and nothing is held any more.
// It does no I/O.
type timekeeper struct {
	wall    func() time.Time
	elapsed func() time.Duration // since any moment, whatever the clock is set to
	maxJump time.Duration
	maxHalt time.Duration

	mu      sync.Mutex // guards below
	last    time.Time  // of the clock, at the moment
	at      time.Duration
	held    time.Duration // the clock less the ledger's time
	doubted bool          // at Open nothing explained the clock, and nothing has since
}

// newTimekeeper begins after the newest block, zero if there is none. held is what
// was held when the ledger was closed.
func newTimekeeper(cfg Config, newest int64, held time.Duration) *timekeeper {
	k := &timekeeper{wall: cfg.Clock, elapsed: cfg.elapsed, maxJump: cfg.MaxClockJump, maxHalt: cfg.MaxHalt}
	if k.elapsed == nil {
		k.elapsed = newElapsed()
		// A clock of the caller's own making, without a second one in it, is believed.
		if t := k.wall(); t == t.Round(0) { //nolint:staticcheck // QF1009: == tells whether t has a second clock in it, Equal does not
			k.elapsed = func() time.Duration { return time.Duration(k.wall().UnixNano()) }
		}
	}
	k.last, k.at = k.wall().Round(0), k.elapsed()
	if newest == 0 {
		return k
	}
	for _, h := range []time.Duration{held, 0} {
		if k.haltLocked(newest, h) {
			k.held = h
			return k
		}
	}
	k.held, k.doubted = k.last.Sub(time.Unix(newest, 0)), true
	return k
}

// haltLocked reports whether the clock less held can be what a halt since the
// newest block has come to.
func (k *timekeeper) haltLocked(newest int64, held time.Duration) bool {
	gap := k.last.Add(-held).Sub(time.Unix(newest, 0))
	return gap >= -k.maxJump && gap <= k.maxHalt
}

// now returns the ledger's time, which may be before the newest block's by as much
// as a clock may jump.
func (k *timekeeper) now(newest int64) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	wall, at := k.wall().Round(0), k.elapsed()
	jump := wall.Sub(k.last) - (at - k.at)
	k.last, k.at = wall, at
	jumped := jump.Abs() > k.maxJump
	if jumped {
		k.held += jump
	}
	switch {
	case jumped && k.held.Abs() <= k.maxJump:
		k.held, k.doubted = 0, false // put right
	case k.doubted && (jumped || k.held < 0) && k.haltLocked(newest, 0):
		k.held, k.doubted = 0, false // put right, after a halt
	}
	return wall.Add(-k.held)
}

// holds returns how far the clock is ahead of the ledger's time.
func (k *timekeeper) holds() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held
}

// release lets the ledger's time jump to the clock's, and returns how far.
func (k *timekeeper) release() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	held := k.held
	k.held, k.doubted = 0, false
	return held
}
