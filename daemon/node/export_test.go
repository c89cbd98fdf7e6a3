package node

import "sync/atomic"

// HoldBack keeps an authority from publishing names while held is true.
func HoldBack(held *atomic.Bool) func(*Config) { return func(c *Config) { c.unpublished = held } }
