// Package wire is a piece of network cable in user space: what is written into
// one end comes out of the other after the delay, jitter, loss, reordering,
// duplication, rate and MTU one asks for. It stands in for the kernel's netem,
// which many kernels are built without.
//
// # Model
//
// A [Line] is one direction of the cable and a pure state machine: frames are
// pushed with the time they arrived, and taken when their time has come. It has
// no clock, no goroutine and no socket. A [Wire] is the shell around two lines,
// between two packet devices (TAP devices, usually), on the real clock.
//
// # Determinism
//
// Every frame draws the same number of random values whatever the conditions
// are, so the fate of the n-th frame of a direction depends on the seed, n and
// the conditions at that moment, and on nothing else: neither on the clock nor
// on the fate of other frames. Only the rate limit's queue depends on time.
//
// # What it does not do
//
// It looks into no frame, and so treats all traffic alike.
package wire
