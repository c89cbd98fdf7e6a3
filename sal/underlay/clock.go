package underlay

import (
	"time"

	"golang.org/x/sys/unix"
)

// suspendClock tells how long the host slept: CLOCK_BOOTTIME goes on during a
// suspend, CLOCK_MONOTONIC (and with it every timer of this process) does not.
type suspendClock struct {
	offset time.Duration
	read   func() (offset time.Duration, ok bool) // tests; nil: the kernel's clocks
}

// suspendLeast is the shortest sleep noticed: reading two clocks one after the
// other is never that far apart.
const suspendLeast = 500 * time.Millisecond

func (c *suspendClock) start() { c.offset, _ = c.now() }

func (c *suspendClock) now() (time.Duration, bool) {
	if c.read != nil {
		return c.read()
	}
	var boot, mono unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil ||
		unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono) != nil {
		return 0, false
	}
	return time.Duration(boot.Nano() - mono.Nano()), true
}

// slept returns how long the host slept since the last call, 0 if it did not.
func (c *suspendClock) slept() time.Duration {
	offset, ok := c.now()
	if !ok {
		return 0
	}
	d := offset - c.offset
	if d < suspendLeast {
		// Between the two readings the process may have been off the CPU, which
		// makes the difference too small; keep the largest.
		c.offset = max(c.offset, offset)
		return 0
	}
	c.offset = offset
	return d
}
