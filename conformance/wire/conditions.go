package wire

import (
	"errors"
	"fmt"
	"time"
)

// DefaultQueue is how many bytes wait before a rate-limited line when
// Conditions.Queue is zero: 250 ms at 10 Mb/s, as home routers have it.
const DefaultQueue = 312_500

// maxHeld bounds the frames on their way in one line, so that a long delay on a
// fast link cannot take the machine's memory. What is more is lost and counted.
const maxHeld = 1 << 16

// Conditions say what a line does to the frames it carries. The zero value is a
// perfect cable.
type Conditions struct {
	// Delay is how long every frame takes. Default 0.
	Delay time.Duration
	// Jitter is the most that is added to Delay, evenly distributed. It never
	// changes the order of frames. Default 0.
	Jitter time.Duration
	// Loss is the probability that a frame is lost, from 0 to 1.
	Loss float64
	// Duplicate is the probability that a frame arrives twice, from 0 to 1.
	Duplicate float64
	// Reorder is the probability that a frame is held back by ReorderBy and so
	// arrives behind later ones, from 0 to 1.
	Reorder float64
	// ReorderBy is how long a reordered frame is held back. Default: half of
	// Delay, at least 2 ms.
	ReorderBy time.Duration
	// Rate is the line's speed in bits per second. Default 0: unlimited.
	Rate int64
	// Queue is how many bytes may wait for a rate-limited line; what is more is
	// lost from the tail. Default DefaultQueue.
	Queue int
	// MTU is the largest frame carried, without its 14 bytes of Ethernet header;
	// larger frames vanish without a word, as in a path-MTU black hole. Default
	// 0: unlimited.
	MTU int
	// Blackout loses everything. Frames already on their way are lost as well.
	Blackout bool
}

// Validate reports every fault of the conditions.
func (c Conditions) Validate() error {
	var errs []error
	for _, p := range []struct {
		name  string
		value float64
	}{{"Loss", c.Loss}, {"Duplicate", c.Duplicate}, {"Reorder", c.Reorder}} {
		if !(p.value >= 0 && p.value <= 1) {
			errs = append(errs, fmt.Errorf("%s is %v, a probability is from 0 to 1", p.name, p.value))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Delay", c.Delay}, {"Jitter", c.Jitter}, {"ReorderBy", c.ReorderBy}} {
		if d.value < 0 || d.value > time.Minute {
			errs = append(errs, fmt.Errorf("%s is %v, it must be from 0 to 1 minute", d.name, d.value))
		}
	}
	if c.Rate < 0 {
		errs = append(errs, fmt.Errorf("the Rate is %d bit/s, less than nothing", c.Rate))
	}
	if c.Queue < 0 {
		errs = append(errs, fmt.Errorf("the Queue is %d bytes, less than nothing", c.Queue))
	}
	if c.MTU < 0 {
		errs = append(errs, fmt.Errorf("the MTU is %d bytes, less than nothing", c.MTU))
	}
	return errors.Join(errs...)
}

func (c Conditions) withDefaults() Conditions {
	if c.Queue == 0 {
		c.Queue = DefaultQueue
	}
	if c.ReorderBy == 0 {
		c.ReorderBy = max(c.Delay/2, 2*time.Millisecond)
	}
	return c
}
