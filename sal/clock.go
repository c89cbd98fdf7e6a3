package sal

import (
	"slices"
	"sync"
	"time"

	"scn.alt/scn/routing/identity"
)

// maxOffsets is how many peers' clocks are remembered.
const maxOffsets = 64

// clockOffsets learns how far this host's clock is off from authenticated peers:
// gateways without a battery clock start in 1970. The median withstands a
// minority of liars.
type clockOffsets struct {
	mu      sync.Mutex // guards below
	offsets map[identity.NodeID]time.Duration
	order   []identity.NodeID // oldest first
}

// observe notes a peer's clock: its time, sent half a round trip before now.
func (c *clockOffsets) observe(peer identity.NodeID, theirs, now time.Time, rtt time.Duration) {
	offset := theirs.Add(rtt / 2).Sub(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.offsets == nil {
		c.offsets = make(map[identity.NodeID]time.Duration)
	}
	if _, known := c.offsets[peer]; known {
		c.order = slices.DeleteFunc(c.order, func(n identity.NodeID) bool { return n == peer })
	} else if len(c.order) >= maxOffsets {
		delete(c.offsets, c.order[0])
		c.order = slices.Delete(c.order, 0, 1)
	}
	c.offsets[peer] = offset
	c.order = append(c.order, peer)
}

// median returns the median offset and how many peers it is taken from. Add it to
// the local clock to get the peers' time.
func (c *clockOffsets) median() (time.Duration, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]time.Duration, 0, len(c.offsets))
	for _, d := range c.offsets {
		all = append(all, d)
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	middle := len(all) / 2
	if len(all)%2 == 1 {
		return all[middle], len(all)
	}
	return all[middle-1] + (all[middle]-all[middle-1])/2, len(all)
}
