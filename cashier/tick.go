package cashier

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// maxTick is the longest time between two looks at what has fallen due.
const maxTick = 30 * time.Second

// A block without transactions is a tick. One is made
//
//	when something has fallen due, and
//	at the first look in a new epoch, as long as anything waits for its time.
//
// So time moves in the books for those that count on it, and a ledger nobody uses
// does not grow: its newest block stays what it is, and checkpoints say that it
// still is the newest. Where something always waits, epochs of 10 minutes make
// 52,560 ticks a year: 16 MB in an archive, nothing lasting in a pruned store.

// defaultEpoch is how long an epoch is where the parameters do not say.
const defaultEpoch = 10 * time.Minute

// epoch is how long an epoch is.
func (p Parameters) epoch() time.Duration {
	if p.EpochSeconds == 0 {
		return defaultEpoch
	}
	return time.Duration(p.EpochSeconds) * time.Second
}

// epochSeconds is how long an epoch is, for the rules.
func (p Parameters) epochSeconds() int64 { return int64(p.epoch() / time.Second) }

// mostPause is how long a ledger that runs, and where something waits, makes no block
// at most, in seconds: an epoch and two looks.
func (p Parameters) mostPause() int64 {
	return int64((p.epoch() + 2*min(p.epoch()/4, maxTick)) / time.Second)
}

// newEpoch reports whether a block without transactions is due although nothing
// fell due.
func (x *execution) newEpoch(before int64) bool {
	epoch := int64(x.parameters.epoch() / time.Second)
	return x.queue.entries > 0 && x.time/epoch > before/epoch
}

// tickEvery is how often the engine looks.
func (l *Ledger) tickEvery() time.Duration {
	switch {
	case l.cfg.Tick > 0:
		return l.cfg.Tick
	case l.epoch <= 0: // no block asked yet
		return maxTick
	}
	return max(min(l.epoch/4, maxTick), time.Second/4)
}

// Clock is how the machine's clock and the ledger's time stand to each other.
type Clock struct {
	// Time is the ledger's.
	Time time.Time
	// Held is how far the clock is ahead of it because of a jump nobody accepted;
	// below zero, how far it is behind. See Config.MaxClockJump.
	Held time.Duration
}

// ErrClockBehind is returned by AcceptClock when the clock is behind the newest
// block: the ledger's time never falls, so it can only wait for the clock.
var ErrClockBehind = errors.New("cashier: the clock is behind the newest block; set it right")

// Clock tells the ledger's time.
func (l *Ledger) Clock() Clock { return Clock{l.now(), l.time.holds()} }

// AcceptClock is the operator's word that the machine's clock is right: the
// ledger's time jumps to it, and whatever is due by then falls due.
func (l *Ledger) AcceptClock() (Clock, error) {
	now := l.now() // the clock may have been put right meanwhile
	if held := l.time.holds(); now.Add(held).Before(time.Unix(l.head.Load().Time, 0)) {
		return Clock{now, held}, ErrClockBehind
	}
	if held := l.time.release(); held != 0 {
		l.cfg.Logger.Warn("clock accepted", "jump", held)
	}
	return l.Clock(), l.noteClock()
}

// watchClock looks at the clock where no block asks for the time.
func (l *Ledger) watchClock() {
	l.time.now(l.head.Load().Time)
	if err := l.noteClock(); err != nil {
		l.cfg.Logger.Error("clock's jump not noted", "err", err)
	}
}

// noteClock notes what is held of the clock, so that a restart does not take a
// jump for a halt.
func (l *Ledger) noteClock() error {
	l.clockMu.Lock()
	defer l.clockMu.Unlock()
	held := l.time.holds().Round(time.Second)
	if held == l.noted {
		return nil
	}
	if held != 0 {
		l.cfg.Logger.Error("clock jumped, the ledger's time does not follow", "ahead", held,
			"advice", "set the clock right, or if it is: scn ledger clock --accept")
	} else {
		l.cfg.Logger.Info("ledger follows the clock again")
	}
	if err := writeHeld(l.cfg.fs, l.dir, held); err != nil {
		return fmt.Errorf("note clock: %w", err)
	}
	l.noted = held
	return nil
}

// heldFile is in the ledger's directory while something is held of the clock.
const heldFile = "clock-held"

func writeHeld(fs vfs.FS, dir string, held time.Duration) error {
	path := fs.PathJoin(dir, heldFile)
	if held == 0 {
		if err := fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return syncDir(fs, dir)
	}
	return replaceFile(fs, path, fmt.Appendf(nil, "%d\n", int64(held/time.Second)))
}

// readHeld reads what writeHeld wrote. A file that makes no sense stops the
// ledger: what it held back must not slip through.
func readHeld(fs vfs.FS, dir string) (time.Duration, error) {
	b, err := readFile(fs, fs.PathJoin(dir, heldFile), 64)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open ledger %s: %w", dir, err)
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || seconds/int64(200*365*24*time.Hour/time.Second) != 0 {
		return 0, fmt.Errorf("%w: %s: not a number of seconds", ErrCorrupt, heldFile)
	}
	return time.Duration(seconds) * time.Second, nil
}
