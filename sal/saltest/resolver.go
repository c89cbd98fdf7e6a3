// Package saltest has fakes and test suites for users of package sal: a resolver
// that answers from memory, keys made from a number, and a suite for packet
// sessions as golang.org/x/net/nettest has one for streams.
package saltest

import (
	"context"
	"iter"
	"net/netip"
	"slices"
	"sync"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// Key returns the node or service key number i: always the same.
func Key(i int) identity.PrivateKey {
	seed := [32]byte{'s', 'c', 'n', byte(i), byte(i >> 8), byte(i >> 16)}
	return identity.NewKeyFromSeed(seed)
}

// Resolver answers from memory. It implements sal.Resolver. Its methods may be
// called concurrently; the zero value knows nobody.
type Resolver struct {
	mu       sync.Mutex // guards below
	nodes    map[identity.NodeID][]netip.AddrPort
	relays   map[identity.NodeID][]identity.NodeID
	services map[identity.ServiceID][]record.Candidate
	err      error
	asked    int
}

// SetNode says where a node is.
func (r *Resolver) SetNode(node identity.NodeID, locators ...netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.nodes == nil {
		r.nodes = make(map[identity.NodeID][]netip.AddrPort)
	}
	r.nodes[node] = slices.Clone(locators)
}

// SetRelays says which relays forward to a node.
func (r *Resolver) SetRelays(node identity.NodeID, relays ...identity.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.relays == nil {
		r.relays = make(map[identity.NodeID][]identity.NodeID)
	}
	r.relays[node] = slices.Clone(relays)
}

// SetService says who provides a service. Candidates without locators or relays get
// those of SetNode and SetRelays when they are asked for.
func (r *Resolver) SetService(service identity.ServiceID, candidates ...record.Candidate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.services == nil {
		r.services = make(map[identity.ServiceID][]record.Candidate)
	}
	r.services[service] = slices.Clone(candidates)
}

// SetError makes every resolution fail, until it is set to nil.
func (r *Resolver) SetError(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// Asked returns how many resolutions were begun.
func (r *Resolver) Asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// Resolve implements sal.Resolver.
func (r *Resolver) Resolve(_ context.Context, service identity.ServiceID) iter.Seq2[[]record.Candidate, error] {
	return func(yield func([]record.Candidate, error) bool) {
		r.mu.Lock()
		r.asked++
		err := r.err
		candidates := slices.Clone(r.services[service])
		for i, c := range candidates {
			if len(c.Locators) == 0 {
				candidates[i].Locators = slices.Clone(r.nodes[c.Node])
			}
			if len(c.Relays) == 0 {
				candidates[i].Relays = slices.Clone(r.relays[c.Node])
			}
		}
		r.mu.Unlock()
		if err != nil {
			yield(nil, err)
			return
		}
		if len(candidates) > 0 {
			yield(candidates, nil)
		}
	}
}

// ResolveNode implements sal.Resolver.
func (r *Resolver) ResolveNode(_ context.Context, node identity.NodeID) iter.Seq2[record.Candidate, error] {
	return func(yield func(record.Candidate, error) bool) {
		r.mu.Lock()
		r.asked++
		err, locators, relays := r.err, slices.Clone(r.nodes[node]), slices.Clone(r.relays[node])
		r.mu.Unlock()
		if err != nil {
			yield(record.Candidate{}, err)
			return
		}
		if len(locators) > 0 || len(relays) > 0 {
			yield(record.Candidate{Node: node, Locators: locators, Relays: relays}, nil)
		}
	}
}
