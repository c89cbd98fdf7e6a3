package underlay

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/path"
)

// NATKind is what stands between this host and the nodes it talks to.
type NATKind uint8

// Kinds of NAT, by how they map addresses (RFC 4787 §4.1).
const (
	// NATUnknown: too few peers told what they see.
	NATUnknown NATKind = iota
	// NATNone: peers see this host's own address.
	NATNone
	// NATCone: every peer sees the same address (endpoint-independent mapping).
	NATCone
	// NATSymmetric: peers see different addresses (address-dependent mapping), so
	// what one sees is of no use to another.
	NATSymmetric
)

// String returns the kind in a word or two.
func (k NATKind) String() string {
	switch k {
	case NATNone:
		return "none"
	case NATCone:
		return "cone"
	case NATSymmetric:
		return "symmetric"
	default:
		return "unknown"
	}
}

const (
	// maxViews bounds the observers kept per link.
	maxViews = 16
	// viewLife is how long after the last word of it a view counts: keep-alives
	// renew those of peers with sessions.
	viewLife = int64(5 * time.Minute)
	// viewGrace is how long after the last word of it a view is taken to hold
	// still, where one peer's is compared with another's.
	viewGrace = int64(5 * time.Second)
)

// view is what one peer sees of one link.
type view struct {
	node    identity.NodeID
	from    netip.Addr // the peer's address
	address netip.AddrPort
	first   int64 // when it told this address first,
	last    int64 // and last
	changed bool  // it had told another before
}

// outsideViews is what peers see of this host. The word of one is told to peers,
// who probe before they use it; where two that are independent, of other IDs and
// other addresses, agree, it is published. The engine owns it.
type outsideViews struct {
	links map[path.Link][]view
}

// add notes that the peer at from sees what leaves by a link as coming from address.
func (o *outsideViews) add(now int64, link path.Link, node identity.NodeID, from netip.Addr, address netip.AddrPort) {
	ip := address.Addr()
	if !link.Local.IsValid() || address.Port() == 0 || ip.Is4() != link.Local.Is4() || ip.IsUnspecified() ||
		ip.IsMulticast() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || path.IsRelayed(address) || isMadeUp(strangerAddr(address)) {
		return
	}
	if o.links == nil {
		o.links = make(map[path.Link][]view)
	}
	views := o.links[link]
	for i := range views {
		v := &views[i]
		if v.node != node || v.from != from {
			continue
		}
		if v.address != address {
			v.address, v.first, v.changed = address, now, true
		}
		v.last = now
		return
	}
	if len(views) >= maxViews {
		oldest := 0
		for i := range views {
			if views[i].last < views[oldest].last {
				oldest = i
			}
		}
		views = slices.Delete(views, oldest, oldest+1)
	}
	o.links[link] = append(views, view{node: node, from: from, address: address, first: now, last: now})
}

// keep forgets all but the links given.
func (o *outsideViews) keep(links []path.Link) {
	for l := range o.links {
		if !slices.Contains(links, l) {
			delete(o.links, l)
		}
	}
}

// outsideAddresses is what follows from the views; constant.
type outsideAddresses struct {
	kind      NATKind
	published []netip.AddrPort // two independent peers agree
	told      []netip.AddrPort // the word of one
}

func (o *outsideAddresses) equal(p *outsideAddresses) bool {
	return o.kind == p.kind && slices.Equal(o.published, p.published) && slices.Equal(o.told, p.told)
}

// conclude returns what the views say of the links, in this order. The kind is that
// of the first link of which one is known, IPv4 before IPv6.
func (o *outsideViews) conclude(now int64, links []path.Link, port uint16) *outsideAddresses {
	out := new(outsideAddresses)
	var kind6 NATKind
	for _, l := range links {
		kind, published, told := judge(now, o.links[l], netip.AddrPortFrom(l.Local, port))
		switch {
		case !l.Local.Is4() && kind6 == NATUnknown:
			kind6 = kind
		case l.Local.Is4() && out.kind == NATUnknown:
			out.kind = kind
		}
		if published.IsValid() && !slices.Contains(out.published, published) {
			out.published = append(out.published, published)
		}
		for _, a := range told {
			if !slices.Contains(out.told, a) {
				out.told = append(out.told, a)
			}
		}
	}
	if out.kind == NATUnknown {
		out.kind = kind6
	}
	return out
}

// judge says what the views of one link amount to.
func judge(now int64, views []view, local netip.AddrPort) (kind NATKind, published netip.AddrPort, told []netip.AddrPort) {
	best := scopeNone
	var mapped []view
	for _, v := range views {
		if now-v.last > viewLife {
			continue
		}
		if v.address == local {
			kind = NATNone // unless one further out sees more
			continue
		}
		// A peer behind the same outer NAT sees less than one outside of it.
		switch s := scopeOf(v.address.Addr()); {
		case s > best:
			best, mapped = s, append(mapped[:0:0], v)
		case s == best:
			mapped = append(mapped, v)
		}
	}
	if len(mapped) == 0 {
		return kind, published, nil
	}
	slices.SortStableFunc(mapped, func(a, b view) int { return cmp.Compare(b.first, a.first) })
	for _, v := range mapped {
		if slices.ContainsFunc(mapped, func(w view) bool {
			return w.address == v.address && w.node != v.node && w.from != v.from
		}) {
			published = v.address
			break
		}
	}
	switch {
	case published.IsValid():
		kind = NATCone
	case slices.ContainsFunc(mapped, func(v view) bool {
		return slices.ContainsFunc(mapped, func(w view) bool { return disagree(v, w) })
	}):
		return NATSymmetric, published, nil
	default:
		kind = NATUnknown
	}
	for _, v := range mapped {
		// Against the word of two counts only one that changed its mind: the others
		// may be about to see the same.
		if published.IsValid() && !v.changed {
			continue
		}
		if v.address != published && len(told) < 2 && !slices.Contains(told, v.address) {
			told = append(told, v.address)
		}
	}
	return kind, published, told
}

// disagree reports whether two peers see different addresses at the same time. One
// that now sees another address than before does not disagree with one that was
// last heard before that: the NAT may have begun anew.
func disagree(a, b view) bool {
	if a.address == b.address || a.from == b.from {
		return false
	}
	if a.first < b.first {
		a, b = b, a
	}
	until := b.last
	if !a.changed {
		until += viewGrace
	}
	return a.first <= until
}

// Scopes of addresses, the widest last.
const (
	scopeNone = iota
	scopePrivate
	scopeCarrier
	scopeGlobal
)

var carrierNAT = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

func scopeOf(a netip.Addr) int {
	switch {
	case a.IsPrivate():
		return scopePrivate
	case carrierNAT.Contains(a):
		return scopeCarrier
	default:
		return scopeGlobal
	}
}

// NAT returns what stands between this host and its peers, as far as they told.
func (s *Socket) NAT() NATKind { return s.outside.Load().kind }

// Translated reports whether a peer sees this host at another address than its own:
// be its word wrong, others had better not be told to call first.
func (s *Socket) Translated() bool {
	o := s.outside.Load()
	return o.kind == NATCone || o.kind == NATSymmetric || len(o.published)+len(o.told) > 0
}

// observed takes the word of a peer.
func (e *engine) observed(a *Association, x path.Observed) {
	if x.Remote.Addr().IsLoopback() != x.Link.Local.IsLoopback() {
		return // through a tunnel
	}
	e.outside.add(e.s.now(), x.Link, a.node, x.Remote.Addr(), x.Address)
	e.reviseOutside()
}

// reviseOutside publishes what the peers' words amount to now, if that changed.
func (e *engine) reviseOutside() {
	s := e.s
	next, old := e.outside.conclude(s.now(), s.tellable(), s.port), s.outside.Load()
	if next.equal(old) {
		return
	}
	s.outside.Store(next)
	if next.kind != old.kind {
		s.cfg.Logger.Info("kind of NAT found", "kind", next.kind.String())
	}
	if slices.Equal(next.published, old.published) && slices.Equal(next.told, old.told) {
		return
	}
	for _, a := range e.machines() {
		e.step(a, path.Advertised{Locators: s.advertised()})
	}
	if !slices.Equal(next.published, old.published) {
		s.announce()
	}
}
