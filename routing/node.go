package routing

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// Observe tells the Router the node's addresses (SAL port), best first, whenever
// they change. It returns at once: libp2p is told, its connections from addresses
// that are gone are closed and made anew, and the node's record is put.
func (r *Router) Observe(addresses []netip.AddrPort) {
	if r.move(addresses) {
		r.publishSelf()
	}
}

// maxRelays is how many relays a record names.
const maxRelays = 4

// ObserveRelays tells the Router the relays that forward to the node, best first,
// whenever they change. It returns at once; the node's record is put.
func (r *Router) ObserveRelays(relays []identity.NodeID) {
	var now []identity.NodeID
	for _, id := range relays {
		if len(now) < maxRelays && id != r.self && !slices.Contains(now, id) {
			now = append(now, id)
		}
	}
	if slices.Equal(now, r.ownRelays()) {
		return
	}
	r.relays.Store(&now)
	r.republish()
}

// ownRelays are the relays that forward to the node. The caller must not modify them.
func (r *Router) ownRelays() []identity.NodeID {
	if p := r.relays.Load(); p != nil {
		return *p
	}
	return nil
}

// publishSelf puts the node's record behind the caller, which says something new.
func (r *Router) publishSelf() {
	// Not by the keepers, who may be waiting for nodes that do not answer.
	item := r.hold(nodeKey(r.self), nil, opened{}, identity.PrivateKey{}, time.Now().Add(backstop))
	r.spawn(func(ctx context.Context) {
		if _, err := r.publish(ctx, item); err != nil {
			r.log.Debug("publish node", "err", err)
		}
	})
}

// PublishNode is Observe, and waits until the node's record was put, or ctx ends;
// the record is put again in any case.
func (r *Router) PublishNode(ctx context.Context, addresses []netip.AddrPort) (Receipt, error) {
	if r.move(addresses); len(r.ownAddresses()) == 0 && len(r.ownRelays()) == 0 {
		return Receipt{}, fmt.Errorf("%w: none of %v can be reached from elsewhere", ErrNoAddress, addresses)
	}
	item := r.hold(nodeKey(r.self), nil, opened{}, identity.PrivateKey{}, time.Now().Add(backstop))
	return r.publish(ctx, item)
}

// ownAddresses are the node's publishable addresses. The caller must not modify
// them.
func (r *Router) ownAddresses() []netip.AddrPort {
	if p := r.addresses.Load(); p != nil {
		return *p
	}
	return nil
}

// move takes over new addresses and reports whether there is something to publish:
// a node without a usable address keeps its last record until it has one.
func (r *Router) move(addresses []netip.AddrPort) bool {
	now := r.reach.publishable(addresses)
	before := r.ownAddresses()
	if slices.Equal(now, before) {
		return false
	}
	r.addresses.Store(&now)
	hosted, hostedBefore := r.hosted(now), r.dhtAddresses()
	r.hostedAddresses.Store(&hosted)
	if before != nil {
		r.counters.moves.Add(1)
		r.log.Info("addresses changed", "before", before, "now", now)
	}
	r.mu.Lock()
	if item := r.kept[nodeKey(r.self)]; item != nil {
		item.step, item.fails = 0, 0
	}
	r.mu.Unlock()
	r.relocate(hostedBefore, hosted)
	return len(now) > 0
}

// describes reports whether a NodeRecord says where the node is.
func (r *Router) describes(o opened) bool {
	n, ok := o.decoded.(record.NodeRecord)
	return ok && slices.Equal(n.Addresses(), r.ownAddresses()) && slices.Equal(n.Relays, r.ownRelays()) && n.Mobile == r.isClient()
}

// signNode makes the node's next record and keeps it. It returns nil without one
// when the node has neither address nor relay.
func (r *Router) signNode() ([]byte, error) {
	r.signing.Lock()
	defer r.signing.Unlock()
	addresses, relays := r.ownAddresses(), r.ownRelays()
	if len(addresses) == 0 && len(relays) == 0 {
		return nil, nil
	}
	key := nodeKey(r.self)
	var last uint64
	if e, ok := r.cache.get(key); ok {
		last = sequenceOf(e.opened)
	}
	now := r.cfg.Clock()
	sequence, err := r.sequence.next(now, last)
	if err != nil {
		return nil, err
	}
	n := record.NodeRecord{
		Node: r.self, Sequence: sequence, NotAfter: now.Add(r.cfg.NodeValidity).Unix(),
		Region: r.cfg.Region, Load: r.cfg.Load(), Mobile: r.isClient(), Relays: relays,
	}
	for _, a := range addresses {
		n.Locators = append(n.Locators, record.Locator{AddrPort: a})
	}
	value, err := n.Seal(r.cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("sign node record: %w", err)
	}
	o, err := r.validator.open(key, value)
	if err != nil {
		return nil, fmt.Errorf("sign node record: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if item := r.kept[key]; item != nil {
		item.value, item.opened, item.made = value, o, time.Now()
	}
	return value, nil
}

// isClient reports whether the node is a client of the DHT now.
func (r *Router) isClient() bool { return r.cfg.Mobile || r.client.Load() }

// sequenceOf returns the sequence number of a node's or service's record.
func sequenceOf(o opened) uint64 {
	switch r := o.decoded.(type) {
	case record.NodeRecord:
		return r.Sequence
	case record.ServiceRecord:
		return r.Sequence
	}
	return 0
}
