package sal

import (
	"time"

	"scn.alt/scn/routing/identity"
)

// Choice is a provider that a dial has not tried yet, as a Policy sees it. The
// policy may change Rank, Weight and Refused; the rest is for it to read.
type Choice struct {
	Node identity.NodeID
	// Priority and Weight are the grant's (RFC 2782).
	Priority, Weight uint16
	// RTT is the measured round trip, 0 where none is known.
	RTT time.Duration
	// Rank comes before Priority: the lowest is tried first. It is 0 at first.
	Rank uint64
	// Refused keeps the provider from being tried at all. Where no other accepts,
	// the dial fails with it, so it should say of itself what it is to the standard
	// library (errors.Is, as this package's errors do).
	Refused error
}

// Policy orders the providers of a service before one of them is tried, and keeps
// those away that are not wanted: by what they cost, for one. Providers that failed
// a moment ago and those without address still come last. It runs in every dial,
// several times where there are several providers, and must not block.
type Policy func(service identity.ServiceID, choices []Choice)

// consult asks the policy about the options, and drops those it refuses.
func (r *racer) consult() {
	policy := r.node.cfg.Policy
	if policy == nil || len(r.options) == 0 {
		return
	}
	choices := make([]Choice, len(r.options))
	for i, o := range r.options {
		choices[i] = Choice{Node: o.Node, Priority: o.Priority, Weight: o.Weight, RTT: o.rtt}
	}
	policy(r.service, choices)
	kept := r.options[:0]
	for i, c := range choices {
		if c.Refused != nil {
			r.failed(c.Refused)
			continue
		}
		o := r.options[i]
		o.rank, o.Weight = c.Rank, c.Weight
		kept = append(kept, o)
	}
	r.options = kept
}
