package reach

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Step is one moment of a ride.
type Step struct {
	At time.Duration
	// What happens: a modem finds another network, its air is bad for a while, or
	// the train is in a tunnel.
	What Happening
	// Modem is 0 or 1; a tunnel is for both.
	Modem int
	// Network is the one a Handover goes to, from 0 to NetworksPerModem-1.
	Network int
	// Lasts is how long a Burst or a Tunnel is, Loss what a burst loses.
	Lasts time.Duration
	Loss  float64
}

// Happening is what a Step does.
type Happening int

// What happens to a train.
const (
	Handover Happening = iota
	Burst
	Tunnel
)

// NetworksPerModem is how many networks a modem meets.
const NetworksPerModem = 4

// Trace is what happens to a train on a ride, for two modems; a train with one has
// the first. It depends on the seed alone: a new network every 5 to 20 seconds, a
// burst of 10 to 60 % loss for 0.3 to 2 s about every 15 seconds, a tunnel of 2 s
// about every 45.
func Trace(seed uint64, duration time.Duration) []Step {
	var steps []Step
	between := func(r *rand.Rand, low, high time.Duration) time.Duration {
		return low + time.Duration(r.Int64N(int64(high-low)))
	}
	for modem := range 2 {
		r := rand.New(rand.NewPCG(seed, uint64(modem)))
		network := 0
		for at := between(r, 5*time.Second, 20*time.Second); at < duration; at += between(r, 5*time.Second, 20*time.Second) {
			network = (network + 1 + r.IntN(NetworksPerModem-1)) % NetworksPerModem
			steps = append(steps, Step{At: at, What: Handover, Modem: modem, Network: network})
		}
		for at := between(r, 5*time.Second, 25*time.Second); at < duration; at += between(r, 5*time.Second, 25*time.Second) {
			steps = append(steps, Step{
				At: at, What: Burst, Modem: modem,
				Lasts: between(r, 300*time.Millisecond, 2*time.Second), Loss: 0.1 + 0.5*r.Float64(),
			})
		}
	}
	r := rand.New(rand.NewPCG(seed, 99))
	for at := between(r, 15*time.Second, 75*time.Second); at < duration-5*time.Second; at += between(r, 15*time.Second, 75*time.Second) {
		steps = append(steps, Step{At: at, What: Tunnel, Lasts: 2 * time.Second})
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return int(a.At - b.At) })
	return steps
}
