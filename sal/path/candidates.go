package path

import (
	"net/netip"
	"slices"
	"time"

	"scn.alt/scn/routing/identity"
)

func normalLinks(links []Link, costs []uint8) (out []Link, outCosts []uint8) {
	for i, l := range links {
		l.Local = normalAddr(l.Local)
		if len(out) == maxLinks || slices.Contains(out, l) {
			continue
		}
		cost := CostNone
		if i < len(costs) {
			cost = costs[i]
		}
		out, outCosts = append(out, l), append(outCosts, cost)
	}
	return out, outCosts
}

func (m *Machine) setLinks(links []Link, costs []uint8) {
	m.links, m.costs = normalLinks(links, costs)
	m.loopback = slices.ContainsFunc(m.links, func(l Link) bool {
		return !l.Local.IsValid() || l.Local.IsLoopback()
	})
}

// normalRemotes keeps the first addresses that can be a peer's, each once. What
// stands for relays is counted apart: neither crowds the other out.
func normalRemotes(remotes []netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	relayed, others := 0, 0
	for _, a := range remotes {
		a = normalAddrPort(a)
		count, limit := &others, maxRemotes
		if IsRelayed(a) {
			count, limit = &relayed, maxRelayed
		}
		if *count < limit && usableRemote(a) && !slices.Contains(out, a) {
			*count++
			out = append(out, a)
		}
	}
	return out
}

// normalLocators keeps the first addresses that can be told to a peer, each once.
func normalLocators(list []netip.AddrPort) []netip.AddrPort {
	list = slices.DeleteFunc(slices.Clone(list), IsRelayed)
	list = normalRemotes(list)
	return list[:min(len(list), MaxLocators)]
}

// remotes returns the addresses worth trying, best first: the one in use, what
// the peer told, what a record says, and what was proved before.
func (m *Machine) remotes() []netip.AddrPort {
	var all []netip.AddrPort
	if m.current != nil {
		all = append(all, m.current.route.Remote)
	}
	for _, a := range m.told {
		// A local tunnel end is known here, or not at all: a peer has no business
		// with what listens on this host's loopback.
		if m.wayOf(a) != wayTunnelled {
			all = append(all, a)
		}
	}
	all = slices.Concat(all, m.known, m.resolved)
	return normalRemotes(all)
}

// rebuild makes the pairs fit the links and remotes, keeping what is known of
// those that stay; pairs of links that are gone are dropped. It returns the new
// ones, which are not yet probed.
func (m *Machine) rebuild(gone []Link) (added []*pair) {
	remotes := m.remotes()
	var pairsNow []*pair
	for _, remote := range remotes {
		for _, l := range m.linksTo(remote) {
			r := Route{Link: l, Remote: remote}
			p := m.find(r)
			if p == nil {
				p = m.newPair(r, m.addresses.get(remote))
				if m.current != nil && m.current.route == r {
					p = m.current // its link is back
				}
				added = append(added, p)
			}
			p.implicit = false
			pairsNow = append(pairsNow, p)
		}
	}
	for _, p := range m.pairs {
		if slices.Contains(pairsNow, p) || p.way == wayDirect && slices.Contains(gone, p.route.Link) {
			continue
		}
		// A pair that left the lists stays while it is of use.
		if p == m.current || p.implicit || !p.validated.IsZero() && m.now.Sub(p.validated) < proofLifetime {
			p.implicit = true
			pairsNow = append(pairsNow, p)
		}
	}
	m.pairs = pairsNow
	m.trimImplicit()
	return added
}

// trimImplicit drops the implicit pairs heard least recently when there are too
// many.
func (m *Machine) trimImplicit() {
	var implicit []*pair
	for _, p := range m.pairs {
		if p.implicit && p != m.current {
			implicit = append(implicit, p)
		}
	}
	if len(implicit) <= maxImplicit {
		return
	}
	slices.SortStableFunc(implicit, func(a, b *pair) int { return b.lastSign().Compare(a.lastSign()) })
	surplus := implicit[maxImplicit:]
	m.pairs = slices.DeleteFunc(m.pairs, func(p *pair) bool { return slices.Contains(surplus, p) })
}

// localize returns the route with the link we know by its address: a packet may
// come in by another interface than the address is on.
func (m *Machine) localize(r Route) Route {
	r = r.normal()
	if m.wayOf(r.Remote) != wayDirect {
		r.Link = Link{}
		return r
	}
	if slices.Contains(m.links, r.Link) {
		return r
	}
	for _, l := range m.links {
		if l.Local == r.Local {
			r.Link = l
			break
		}
	}
	return r
}

// implicitPair returns the pair of r, made if something authentic (or, as a
// stranger, something that only claims to be the peer's) came by it and there is
// room.
func (m *Machine) implicitPair(r Route, stranger bool) *pair {
	if p := m.find(r); p != nil {
		if !stranger && p.address != nil {
			p.address.stranger = false
		}
		return p
	}
	a := m.addAddress(r.Remote, stranger)
	if a == nil {
		return nil
	}
	if !m.roomForImplicit(stranger) {
		return nil
	}
	p := m.newPair(r, a)
	p.implicit = true
	m.pairs = append(m.pairs, p)
	return p
}

// roomForImplicit makes room for one more implicit pair, and reports whether there
// is. What is authentic takes the place of the pair heard least recently: a peer
// that moves often leaves many behind. A stranger takes only another stranger's.
func (m *Machine) roomForImplicit(stranger bool) bool {
	count := 0
	var oldest *pair
	for _, p := range m.pairs {
		if !p.implicit {
			continue
		}
		count++
		known := p.address != nil && !p.address.stranger
		if p == m.current || stranger && known {
			continue
		}
		if oldest == nil || p.lastSign().Before(oldest.lastSign()) {
			oldest = p
		}
	}
	if count < maxImplicit {
		return true
	}
	if oldest == nil {
		return false
	}
	m.pairs = slices.DeleteFunc(m.pairs, func(p *pair) bool { return p == oldest })
	return true
}

func (m *Machine) setLocators(list []netip.AddrPort) (changed bool) {
	list = normalLocators(list)
	if slices.Equal(list, m.own) {
		return false
	}
	m.own = list
	m.ownSeq++
	return true
}

func (m *Machine) setRelays(list []identity.NodeID) (changed bool) {
	var relays []identity.NodeID
	for _, id := range list {
		if len(relays) < MaxRelays && !id.IsZero() && !slices.Contains(relays, id) {
			relays = append(relays, id)
		}
	}
	if slices.Equal(relays, m.ownRelays) {
		return false
	}
	m.ownRelays = relays
	m.ownSeq++
	return true
}

func (m *Machine) onRelaysAdvertised(list []identity.NodeID) {
	if m.setRelays(list) && m.mode != searching {
		m.current.restart(m.now)
	}
}

func (m *Machine) onAdvertised(list []netip.AddrPort) {
	if m.setLocators(list) && m.mode != searching {
		m.current.restart(m.now)
		m.punch()
	}
}

func (m *Machine) onRemotesChanged(list []netip.AddrPort) {
	list = normalRemotes(list)
	if slices.Equal(list, m.resolved) {
		return
	}
	m.resolved = list
	m.probeAdded(m.rebuild(nil))
}

// onTold takes over the peer's own list of addresses.
func (m *Machine) onTold(l *locators) {
	if l.sequence <= m.toldSeq {
		return
	}
	before := m.told
	if m.toldSeq != 0 && !slices.Equal(before, normalLocators(l.addresses())) {
		m.upgrades.notBefore = time.Time{} // it is elsewhere now
	}
	m.toldSeq = l.sequence
	m.told = normalLocators(l.addresses())
	if !slices.Equal(l.relays(), m.toldRelays) {
		m.toldRelays = slices.Clone(l.relays())
		m.emit(RelaysTold{Relays: slices.Clone(m.toldRelays)})
	}
	m.probeAdded(m.rebuild(nil))
	if slices.Equal(before, m.told) {
		m.probeUnproved() // a round
	} else {
		m.punch()
	}
	remote := m.current.route.Remote
	if slices.Contains(before, remote) && !slices.Contains(m.told, remote) {
		// The peer no longer has the address we send to.
		m.suspect(true)
	}
}

func (m *Machine) onLinksChanged(links []Link, costs []uint8) {
	before, beforeCosts := m.links, m.costs
	m.setLinks(links, costs)
	if slices.Equal(before, m.links) && slices.Equal(beforeCosts, m.costs) {
		return
	}
	var gone []Link
	for _, p := range m.pairs {
		if p.way == wayDirect && !slices.Contains(m.links, p.route.Link) {
			gone = append(gone, p.route.Link)
		}
	}
	added := m.rebuild(gone)
	m.ownSeq++                    // so that the peer probes too, and learns what the links cost
	m.keepAlive = m.cfg.KeepAlive // other NATs
	m.upgrades.notBefore = time.Time{}
	if m.find(m.current.route) == nil {
		m.current.asking = outstanding{}
		m.lose(true)
		return
	}
	if m.mode == searching {
		m.burst()
		return
	}
	m.current.restart(m.now)
	m.probeAdded(added)
	m.punch()
	for _, p := range m.pairs {
		if p != m.current && !p.validated.IsZero() && m.cheaper(p, m.current) {
			p.restart(m.now) // its link may have become cheaper
		}
	}
}

func (m *Machine) probeAdded(added []*pair) {
	for _, p := range added {
		p.restart(m.now)
	}
}

// addAddress returns the entry of remote, made if there is room; nil if not.
func (m *Machine) addAddress(remote netip.AddrPort, stranger bool) *address {
	var inUse *address
	if m.current != nil {
		inUse = m.current.address
	}
	a, evicted := m.addresses.add(m.now, remote, stranger, inUse)
	if evicted != nil {
		if evicted.announced {
			m.emit(Forgotten{Remote: evicted.remote})
		}
		for _, p := range m.pairs {
			if p.address == evicted {
				p.address = nil
			}
		}
	}
	return a
}
