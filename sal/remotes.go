package sal

import (
	"context"
	"net/netip"
	"slices"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal/homes"
	"scn.alt/scn/sal/path"
	"scn.alt/scn/sal/relay"
	"scn.alt/scn/sal/underlay"
)

const (
	// maxRemotes is how many addresses of a peer the carrier takes besides relayed
	// ones.
	maxRemotes = 8
	// maxPeerRelays is how many relays of one peer are remembered.
	maxPeerRelays = 4
)

// whereabouts is what this node was told of where a peer can be reached. Guarded by
// Node.mu.
type whereabouts struct {
	direct []netip.AddrPort  // by a record, or whoever asked for the dial
	relays []identity.NodeID // by the same
	told   []identity.NodeID // by the peer itself
	pushed []netip.AddrPort  // what the carrier was given last
	// refuted are addresses where somebody else answered the dial that is going on:
	// others' private networks look like this one, and this node itself may have the
	// peer's address.
	refuted []netip.AddrPort
}

// knownRelays returns a peer's relays, those first that the peer told itself.
func (w *whereabouts) knownRelays() []identity.NodeID {
	all := slices.Clone(w.told)
	for _, id := range w.relays {
		if !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	return all
}

// note takes over what a resolution says.
func (w *whereabouts) note(c record.Candidate) {
	if len(c.Locators) > 0 { // nobody is at an address made up here
		w.direct = slices.DeleteFunc(slices.Clone(c.Locators), path.IsRelayed)
	}
	if len(c.Relays) > 0 {
		w.relays = slices.Clone(c.Relays[:min(len(c.Relays), maxPeerRelays)])
	}
}

// notePeer takes over what a resolution says of a peer.
func (n *Node) notePeer(c record.Candidate) {
	n.mu.Lock()
	n.peerLocked(c.Node).where.note(c)
	n.mu.Unlock()
	for _, id := range c.Relays[:min(len(c.Relays), maxPeerRelays)] {
		n.relays.know(id, nil, homes.FromRecord)
	}
}

// remotes returns the addresses at which a peer may be reached now, relayed ones among
// them, and the peer's relays.
func (n *Node) remotes(id identity.NodeID) ([]netip.AddrPort, []identity.NodeID) {
	n.mu.Lock()
	var direct, refuted []netip.AddrPort
	var list []identity.NodeID
	if p := n.peers[id]; p != nil {
		direct, refuted, list = p.where.direct, slices.Clone(p.where.refuted), p.where.knownRelays()
	}
	n.mu.Unlock()
	ways := n.relays.ways(id, list, len(list) == 0)
	all := slices.Clone(direct[:min(len(direct), maxRemotes)])
	for _, way := range ways {
		all = append(all, path.RelayRemote(way, id))
	}
	return slices.DeleteFunc(all, func(a netip.AddrPort) bool { return slices.Contains(refuted, a) }), list
}

// refute notes that somebody else answered at an address of a peer, and reports
// whether that is news.
func (n *Node) refute(id identity.NodeID, a netip.AddrPort) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	where := &n.peerLocked(id).where
	if !a.IsValid() || slices.Contains(where.refuted, a) {
		return false
	}
	where.refuted = append(where.refuted, a)
	return true
}

// unrefute lets every address of a peer be tried again.
func (n *Node) unrefute(id identity.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.peers[id]; p != nil {
		p.where.refuted = nil
	}
}

// pushRemotes tells the carrier where a peer may be reached, if that has changed.
func (n *Node) pushRemotes(id identity.NodeID) {
	all, _ := n.remotes(id)
	n.mu.Lock()
	p := n.peers[id]
	if p == nil || slices.Equal(all, p.where.pushed) {
		n.mu.Unlock()
		return
	}
	p.where.pushed = all
	assocs := p.associations()
	n.mu.Unlock()
	if a := n.relays.anchorOf(id); a != nil && !slices.Contains(assocs, a.assoc) {
		assocs = append(assocs, a.assoc)
	}
	for _, a := range assocs {
		a.SetLocators(slices.Clone(all))
	}
}

// associations returns a peer's, those of a handshake included.
func (p *peer) associations() (all []association) {
	for _, l := range p.links {
		all = append(all, l.assoc)
	}
	if p.dial != nil && p.dial.assoc != nil {
		all = append(all, p.dial.assoc)
	}
	return all
}

// firstRemotes returns where to begin a handshake with a node: what is known, or the
// first answer of the resolver. Where only relays are known at which this node is not
// registered it waits until it is at one.
func (n *Node) firstRemotes(ctx context.Context, c record.Candidate) []netip.AddrPort {
	if len(c.Locators) == 0 && len(c.Relays) == 0 {
		c = n.firstCandidate(ctx, c.Node)
	}
	n.notePeer(c)
	return n.awaitRemotes(ctx, c.Node)
}

// awaitRemotes returns where a node may be reached. Where there is no address left it
// waits for a relay.
func (n *Node) awaitRemotes(ctx context.Context, id identity.NodeID) []netip.AddrPort {
	var ready []<-chan struct{}
	all, list := n.remotes(id)
	if !slices.ContainsFunc(all, path.IsRelayed) && !n.relays.wanted(id) {
		ready = n.relays.demand(id, list[:min(len(list), maxRelayed)])
	}
	for _, r := range ready {
		if len(all) > 0 {
			break
		}
		select {
		case <-r:
		case <-ctx.Done():
			return nil
		}
		all, _ = n.remotes(id)
	}
	return all
}

// firstCandidate asks where a node is and returns the first answer.
func (n *Node) firstCandidate(ctx context.Context, id identity.NodeID) record.Candidate {
	if n.cfg.Resolver != nil {
		for c, err := range n.cfg.Resolver.ResolveNode(ctx, id) {
			if err == nil && (len(c.Locators) > 0 || len(c.Relays) > 0) {
				return c
			}
		}
	}
	return record.Candidate{Node: id}
}

// resolvePeer asks where a node is now and tells its associations. It returns at
// once; the carrier calls it when no path is left.
func (n *Node) resolvePeer(id identity.NodeID) {
	if !n.interested(id) {
		return
	}
	n.spawn(func() {
		ctx, cancel := context.WithTimeout(n.ctx, n.cfg.HandshakeTimeout)
		defer cancel()
		n.reachByRelay(id)
		if n.cfg.Resolver == nil {
			return
		}
		for c, err := range n.cfg.Resolver.ResolveNode(ctx, id) {
			if err == nil && (len(c.Locators) > 0 || len(c.Relays) > 0) {
				n.notePeer(c)
				n.pushRemotes(id)
				n.reachByRelay(id)
			}
		}
	})
}

// interested reports whether anything here needs a path to a node. Those registered at
// this relay find it again by themselves.
func (n *Node) interested(id identity.NodeID) bool {
	n.mu.Lock()
	p := n.peers[id]
	connected := p != nil && (len(p.links) > 0 || p.dial != nil)
	n.mu.Unlock()
	return connected || n.relays.wanted(id)
}

// reachByRelay has this node register at relays of a peer, if it is at none of them.
func (n *Node) reachByRelay(id identity.NodeID) {
	all, list := n.remotes(id)
	if len(list) > 0 && !slices.ContainsFunc(all, path.IsRelayed) && !n.relays.wanted(id) {
		n.relays.demand(id, list[:min(len(list), maxRelayed)])
	}
}

// relaysTold is called by the carrier when a peer tells its home relays. The node that
// dialled sees to it that both are registered at one of them: it is where they meet
// when both have moved.
func (n *Node) relaysTold(id identity.NodeID, list []identity.NodeID) {
	list = list[:min(len(list), maxPeerRelays)]
	n.mu.Lock()
	p := n.peers[id]
	if p == nil {
		n.mu.Unlock()
		return
	}
	p.where.told = slices.Clone(list)
	l := p.current()
	n.mu.Unlock()
	for _, r := range list {
		n.relays.know(r, nil, homes.FromRecord)
	}
	n.pushRemotes(id)
	if l != nil && l.initiator && l.openCount() > 0 {
		n.reachByRelay(id)
	}
}

// relayChanged tells the carrier of the peers to which a relay is a way, or is not
// any more.
func (n *Node) relayChanged(id identity.NodeID) {
	n.mu.Lock()
	var affected []identity.NodeID
	for peer, p := range n.peers {
		list := p.where.knownRelays()
		if peer != id && (len(list) == 0 || slices.Contains(list, id)) {
			affected = append(affected, peer)
		}
	}
	n.mu.Unlock()
	for _, peer := range affected {
		n.pushRemotes(peer)
	}
}

// relayUnknowing is called when a relay does not know a node that begins like this.
func (n *Node) relayUnknowing(prefix relay.Prefix) {
	n.mu.Lock()
	var affected []identity.NodeID
	for id := range n.peers {
		if relay.Prefix(id[:8]) == prefix {
			affected = append(affected, id)
		}
	}
	n.mu.Unlock()
	for _, id := range affected {
		n.pushRemotes(id)
	}
}

// relayWord is called by the carrier.
func (n *Node) relayWord(id identity.NodeID, word underlay.RelayWord, about relay.Prefix) {
	n.relays.heardWord(id, word, about)
}

// relaysChanged is called with this node's home relays.
func (n *Node) relaysChanged(list []identity.NodeID) {
	n.carrier.setRelays(list)
	if f := n.cfg.RelaysChanged; f != nil {
		f(list)
	}
}
