package relay

import (
	"errors"
	"fmt"
)

// Limits bound what a relay does for others. The zero value is valid.
type Limits struct {
	// Registrations is how many nodes may be registered at once. Default 10,000;
	// at most 65,536.
	Registrations int
	// PerNode is how many bytes a second are forwarded for one node. Default
	// 50 MB; at least 1 kB. Short bursts of up to 4 MB may exceed it (or a second's
	// worth if that is less): a fast sender's congestion window must fit, or every
	// burst after a pause would lose its tail.
	PerNode int64
	// Total is the same for all nodes together. Default 500 MB; at least 1 kB; its
	// bursts are up to 16 MB.
	Total int64
}

// DefaultRegistrations is Limits.Registrations where that is zero.
const DefaultRegistrations = 10_000

const (
	maxRegistrations = 65_536
	defaultPerNode   = 50_000_000
	defaultTotal     = 500_000_000
	leastRate        = 1_000
	mostRate         = 1_000_000_000_000
	burstPerNode     = 4_000_000
	burstTotal       = 16_000_000
)

// Validate reports every fault of the limits.
func (l Limits) Validate() error {
	var errs []error
	if l.Registrations < 0 || l.Registrations > maxRegistrations {
		errs = append(errs, fmt.Errorf("relay: %d registrations are outside 0 to %d", l.Registrations, maxRegistrations))
	}
	for _, r := range []struct {
		name string
		rate int64
	}{{"PerNode", l.PerNode}, {"Total", l.Total}} {
		if r.rate != 0 && (r.rate < leastRate || r.rate > mostRate) {
			errs = append(errs, fmt.Errorf("relay: %s of %d bytes a second is outside %d to %d", r.name, r.rate, leastRate, int64(mostRate)))
		}
	}
	return errors.Join(errs...)
}

func (l Limits) withDefaults() Limits {
	if l.Registrations == 0 {
		l.Registrations = DefaultRegistrations
	}
	if l.PerNode == 0 {
		l.PerNode = defaultPerNode
	}
	if l.Total == 0 {
		l.Total = defaultTotal
	}
	return l
}
