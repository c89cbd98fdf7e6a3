package routing

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// secondThoughts is how long a resolution that could answer from fresh records
// waits before it asks the DHT anyway: whoever still listens has not reached what
// it was given.
const secondThoughts = 250 * time.Millisecond

// sharedLookup is how much earlier a lookup may have begun to serve a resolution
// too. Older ones may be waiting for nodes that do not answer.
const sharedLookup = 200 * time.Millisecond

// settleAnswers is how long better answers are gathered before they are handed on
// together.
const settleAnswers = 5 * time.Millisecond

// Resolve yields the providers of a service, better answers as they come: first
// what is known, which may be a moment old, then what the DHT says. Providers are
// in order of priority; one whose addresses are not known yet has none, and is of
// use to whoever is in touch with it already. The sequence ends when the DHT has
// nothing more to say, or with an error when nothing was found.
//
// Stop listening (or cancel ctx) as soon as a provider answered: going on asks the
// DHT. What was asked for is remembered even so.
func (r *Router) Resolve(ctx context.Context, service identity.ServiceID) iter.Seq2[[]record.Candidate, error] {
	return func(yield func([]record.Candidate, error) bool) {
		ctx, cancel := context.WithTimeout(ctx, 2*r.cfg.LookupTimeout)
		defer cancel()
		var last []record.Candidate
		answer := func() (more bool) {
			now := r.candidates(service)
			if len(now) == 0 || slices.EqualFunc(now, last, sameCandidate) {
				return true
			}
			last = now
			return yield(now, nil)
		}
		if !answer() {
			return
		}
		if fresh := len(last) > 0 && r.fresh(service, last); fresh && !sleep(ctx, secondThoughts) {
			return
		}
		err := r.pursue(ctx, service, answer)
		switch {
		case errors.Is(err, errEnough):
		case len(last) == 0 && err == nil:
			yield(nil, fmt.Errorf("resolve %s: %w", service, ErrNotFound))
		case len(last) == 0:
			yield(nil, fmt.Errorf("resolve %s: %w", service, err))
		}
	}
}

// errEnough ends a resolution whose listener left.
var errEnough = errors.New("routing: enough")

// pursue follows the lookups of a service and of its providers' nodes, and has
// answer look again at every news. It returns when all have ended.
func (r *Router) pursue(ctx context.Context, service identity.ServiceID, answer func() bool) error {
	var first error
	since := time.Now().Add(-sharedLookup)
	news := make(chan struct{}, 1)
	running := map[string]*flight{}
	started := map[string]bool{}
	defer func() {
		for _, f := range running {
			f.ignore(news)
		}
	}()
	start := func(key string) {
		if started[key] {
			return
		}
		started[key] = true
		f, err := r.fly(key, since)
		if err != nil {
			first = graver(first, err)
			return
		}
		running[key] = f
		f.listen(news)
	}
	// A node's own service needs no ServiceRecord, only the node's record.
	if !r.isNode(service) {
		start(serviceKey(service))
	}
	for {
		for _, c := range r.candidates(service) {
			if c.Source != record.FromSelf {
				start(nodeKey(c.Node))
			}
		}
		for key, f := range running {
			if _, done, err := f.state(); done {
				delete(running, key)
				first = graver(first, err)
			}
		}
		if len(running) == 0 {
			if !answer() {
				return errEnough
			}
			return first
		}
		select {
		case <-news:
		case <-ctx.Done():
			return graver(first, timedOut(ctx.Err()))
		}
		sleep(ctx, settleAnswers)
		if !answer() {
			return errEnough
		}
	}
}

// candidates joins a service's grants with what is known of their nodes.
func (r *Router) candidates(service identity.ServiceID) []record.Candidate {
	if r.isNode(service) {
		return []record.Candidate{r.candidate(record.Grant{Node: identity.NodeID(service)})}
	}
	e, ok := r.current(serviceKey(service))
	if !ok {
		return nil
	}
	grants := slices.Clone(e.opened.decoded.(record.ServiceRecord).Grants)
	slices.SortStableFunc(grants, func(a, b record.Grant) int { return int(a.Priority) - int(b.Priority) })
	file := r.Network()
	out := make([]record.Candidate, 0, len(grants))
	for _, g := range grants {
		if file.Admits(g.Node) {
			out = append(out, r.candidate(g))
		}
	}
	return out
}

// candidate is what is known of where a node is. Addresses of the network file
// come after those of the node's record.
func (r *Router) candidate(g record.Grant) record.Candidate {
	c := record.Candidate{Node: g.Node, Priority: g.Priority, Weight: g.Weight, Source: record.FromDHT}
	var addresses []netip.AddrPort
	if g.Node == r.self {
		c.Source = record.FromSelf
		c.Locators, c.Relays = slices.Clone(r.ownAddresses()), slices.Clone(r.ownRelays())
		return c
	}
	if e, ok := r.known(nodeKey(g.Node)); ok {
		n := e.opened.decoded.(record.NodeRecord)
		addresses = n.Addresses()
		c.Relays, c.Sequence, c.Expires, c.Region, c.Load = n.Relays, n.Sequence, e.opened.expires, n.Region, n.Load
		if e.stale() {
			c.Source = record.FromCache
		}
	}
	listed := r.Network().Addresses(g.Node)
	if len(addresses) == 0 && len(listed) > 0 {
		c.Source = record.FromNetwork
	}
	c.Locators = r.reach.filter(append(addresses, listed...), MaxAddresses)
	return c
}

// isNode reports whether a service is a known node's own: this node's, one of the
// network file, or one whose record is known.
func (r *Router) isNode(service identity.ServiceID) bool {
	node := identity.NodeID(service)
	file := r.Network()
	if node == r.self || file.IsAuthority(node) || file.IsBootstrap(node) {
		return true
	}
	_, ok := r.known(nodeKey(node))
	return ok
}

// fresh reports whether all that an answer was made of was checked lately and is
// still in time.
func (r *Router) fresh(service identity.ServiceID, answer []record.Candidate) bool {
	if !r.isNode(service) {
		if e, ok := r.current(serviceKey(service)); !ok || e.stale() {
			return false
		}
	}
	for _, c := range answer {
		if c.Source == record.FromSelf {
			continue
		}
		if e, ok := r.current(nodeKey(c.Node)); !ok || e.stale() {
			return false
		}
	}
	return true
}

// askAgain is when ResolveNode asks the DHT, counted from the question. The peer may
// be about to publish where it moved, and a lookup already running may wait for
// nodes that do not answer.
var askAgain = []time.Duration{0, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond, 3200 * time.Millisecond}

// ResolveNode yields where a node is: at once what is known, be it stale, then
// what the DHT says now, and again for some seconds, until there is a newer record
// than at first. It never ends on what is known alone, since it is asked when a peer
// has moved. The sequence ends with an error when nothing was found.
func (r *Router) ResolveNode(ctx context.Context, node identity.NodeID) iter.Seq2[record.Candidate, error] {
	return func(yield func(record.Candidate, error) bool) {
		ctx, cancel := context.WithTimeout(ctx, 2*r.cfg.LookupTimeout)
		defer cancel()
		var last record.Candidate
		found := false
		answer := func() (more bool) {
			c := r.candidate(record.Grant{Node: node})
			if len(c.Locators) == 0 && len(c.Relays) == 0 || found && sameCandidate(c, last) {
				return true
			}
			last, found = c, true
			return yield(c, nil)
		}
		if !answer() {
			return
		}
		if node == r.self {
			if !found {
				yield(record.Candidate{}, fmt.Errorf("resolve node %s: %w", node, ErrNoAddress))
			}
			return
		}
		err := r.pursueNode(ctx, node, last.Sequence, func() (newer, more bool) {
			more = answer()
			return found && last.Sequence > 0, more
		})
		if !found && !errors.Is(err, errEnough) {
			if err == nil {
				err = ErrNoAddress
			}
			yield(record.Candidate{}, fmt.Errorf("resolve node %s: %w", node, timedOut(err)))
		}
	}
}

// pursueNode asks the DHT for a node's record at the times of askAgain, and has
// answer look again at every news. It returns when a record above the sequence
// number given was found and its lookup ended, or when all lookups ended; at once
// when the first one ends and nothing at all is known.
func (r *Router) pursueNode(ctx context.Context, node identity.NodeID, above uint64, answer func() (known, more bool)) error {
	key := nodeKey(node)
	news := make(chan struct{}, 1)
	asked := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var running []*flight
	defer func() {
		for _, f := range running {
			f.ignore(news)
		}
	}()
	var verdict error
	for next := 0; ; {
		select {
		case <-timer.C:
			f, err := r.fly(key, time.Now())
			switch {
			case err != nil:
				verdict = graver(verdict, err)
			case !slices.Contains(running, f):
				running = append(running, f)
				f.listen(news)
			}
			if next++; next < len(askAgain) {
				timer.Reset(time.Until(asked.Add(askAgain[next])))
			}
		case <-news:
		case <-ctx.Done():
			return graver(verdict, timedOut(ctx.Err()))
		}
		ended := 0
		for _, f := range running {
			if _, done, err := f.state(); done {
				ended++
				verdict = graver(verdict, err)
			}
		}
		known, more := answer()
		if !more {
			return errEnough
		}
		e, _ := r.known(key)
		switch {
		case errors.Is(verdict, ErrClosed):
			return verdict
		case ended > 0 && !known:
			return verdict
		case ended > 0 && sequenceOf(e.opened) > above:
			return nil
		case ended == len(running) && next == len(askAgain):
			return verdict
		}
	}
}

// sameCandidate reports whether two candidates would be dialled alike.
func sameCandidate(a, b record.Candidate) bool {
	return a.Node == b.Node && a.Priority == b.Priority && a.Weight == b.Weight && a.Sequence == b.Sequence &&
		a.Expires.Equal(b.Expires) && slices.Equal(a.Locators, b.Locators) && slices.Equal(a.Relays, b.Relays)
}

// sleep waits, and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// timedOut turns a deadline of our own into ErrTimeout.
func timedOut(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.Join(ErrTimeout, err)
	}
	return err
}

// graver keeps the error that says most: that something was not found only when
// nothing else went wrong.
func graver(a, b error) error {
	if a == nil || errors.Is(a, ErrNotFound) && b != nil {
		return b
	}
	return a
}
