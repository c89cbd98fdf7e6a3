package routing

import (
	"math/rand/v2"
	"time"
)

// jitter returns d give or take a fifth, so that nodes that started together do
// not act together for ever.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + time.Duration(rand.Int64N(int64(d)*2/5+1))
}
