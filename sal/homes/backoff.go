package homes

import (
	"math/rand/v2"
	"time"
)

// firstPatience and lastPatience bound how long a registration may take.
const (
	firstPatience = 2500 * time.Millisecond
	lastPatience  = 20 * time.Second
)

// Patience returns how long making a registration may take, connection and all, at a
// relay that was heard from lately and has failed so many times since. A relay that
// lost thousands of nodes at once answers them one after the other: who gives up early
// and comes again makes work for it that is of use to nobody, so that it never ends.
// A relay that was never heard from is given Patience(0), half of what a home may take
// to be replaced.
func Patience(fails int) time.Duration {
	return min(firstPatience<<min(max(fails, 0), 8), lastPatience)
}

// Spread returns a pause between half of the one given and one and a half times that,
// so that nodes that lost a relay at the same moment do not come back at the same one.
func Spread(pause time.Duration, random *rand.Rand) time.Duration {
	return pause/2 + time.Duration(random.Int64N(int64(pause)+1))
}
