package underlay

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"scn.alt/scn/sal/path"
)

// LinkState says what an interface is used for now.
type LinkState string

// The states.
const (
	// LinkInUse carries the data of at least one peer.
	LinkInUse LinkState = "in use"
	// LinkStandby answered of late for at least one peer and would carry at once.
	LinkStandby LinkState = "standby"
	// LinkUnused carries nothing; LinkInfo.Why says why.
	LinkUnused LinkState = "unused"
)

// LinkInfo describes an interface of this host at one moment.
type LinkInfo struct {
	// Interface is its name, Index its number.
	Interface string
	Index     int
	// Addresses are those of it that packets may leave from.
	Addresses []netip.Addr
	// Policy is what Config.LinkPolicy says of it.
	Policy LinkPolicy
	// State, and in words why; empty if there is nothing to explain.
	State LinkState
	Why   string
	// Ignored is set for interfaces that Config.IgnoreInterface keeps out.
	Ignored bool
	// Peers counts the peers whose data it carries.
	Peers int
	// RTT is the least round trip to a peer over it, 0 if none is known.
	RTT time.Duration
	// BytesSent and BytesReceived are UDP payload since Open, path messages included.
	BytesSent, BytesReceived uint64
}

// Links returns every interface of this host except loopback, those in use first.
func (s *Socket) Links() ([]LinkInfo, error) {
	host, err := s.watch.read()
	if err != nil {
		return nil, err
	}
	uses := make(map[int]*linkUse)
	if err := s.callWait(func(e *engine) { e.linkUses(uses) }); err != nil {
		return nil, err
	}
	out := make([]LinkInfo, 0, len(host.interfaces))
	for _, i := range host.interfaces {
		if i.name == "lo" && i.ignored {
			continue
		}
		use := uses[i.index]
		if use == nil {
			use = new(linkUse)
		}
		meter := s.meters.of(i.index)
		info := LinkInfo{
			Interface: i.name, Index: i.index, Addresses: i.addrs, Policy: i.policy, Ignored: i.ignored,
			Peers: use.current, RTT: use.rtt,
			BytesSent: meter.sent.Load(), BytesReceived: meter.received.Load(),
		}
		info.State, info.Why = use.state(i)
		out = append(out, info)
	}
	order := func(l LinkInfo) int {
		return slices.Index([]LinkState{LinkInUse, LinkStandby, LinkUnused}, l.State)
	}
	slices.SortStableFunc(out, func(a, b LinkInfo) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a.Policy.cost(), b.Policy.cost()))
	})
	return out, nil
}

// linkUse is what the path machines do with one interface.
type linkUse struct {
	current, lost, proved, asked int // numbers of pairs
	rtt                          time.Duration
}

// linkUses adds up what all machines know of each interface.
func (e *engine) linkUses(uses map[int]*linkUse) {
	for _, a := range e.machines() {
		lost := a.machine.Info().Lost
		for _, p := range a.machine.Pairs() {
			u := uses[p.Route.Interface]
			if u == nil {
				u = new(linkUse)
				uses[p.Route.Interface] = u
			}
			switch {
			case p.Current && lost:
				u.lost++
			case p.Current:
				u.current++
			case p.Proved:
				u.proved++
			case p.Asked:
				u.asked++
			}
			if p.RTT > 0 && (u.rtt == 0 || p.RTT < u.rtt) {
				u.rtt = p.RTT
			}
		}
	}
}

// state puts the use of an interface into words.
func (u *linkUse) state(i hostInterface) (LinkState, string) {
	switch {
	case u.current > 0:
		return LinkInUse, ""
	case i.unused != "":
		return LinkUnused, i.unused
	case len(i.addrs) == 0:
		return LinkUnused, "it has no usable address"
	case u.lost > 0:
		return LinkUnused, "nothing answers over it any more"
	case u.proved > 0:
		return LinkStandby, ""
	case u.asked > 0 && i.policy != PolicyMetered:
		if !i.routed {
			return LinkUnused, "no peer answers over it, and it has no default route"
		}
		return LinkUnused, "no peer answers over it"
	case i.policy == PolicyMetered:
		return LinkUnused, "it is metered, and not needed"
	}
	return LinkUnused, "no peer yet"
}

// firstLink returns the link on which a remote nobody has heard from is tried first,
// and false where there is none it may be tried on. The zero link leaves it to the
// kernel: as long as all links are alike, and where its choice is as good as any.
func (s *Socket) firstLink(to netip.AddrPort) (path.Link, bool) {
	l, remote := s.links.Load(), to.Addr()
	if l.costs == nil && len(l.off) == 0 || remote.IsLoopback() || path.IsRelayed(to) {
		return path.Link{}, true
	}
	index, direct := s.watch.outgoing(remote)
	allowed := index != 0 && !l.off[index]
	at := slices.IndexFunc(l.links, func(k path.Link) bool { return k.Interface == index })
	if allowed && (direct || at < 0) { // of the same network, or over a VPN that is no link
		return path.Link{}, true
	}
	best := -1
	for n, k := range l.links {
		if k.Local.Is4() != remote.Is4() || k.Local.IsLoopback() {
			continue
		}
		if l.routed(k.Interface) {
			best = n
			break
		}
		if best < 0 {
			best = n
		}
	}
	switch {
	case best < 0, allowed && (l.cost(at) <= l.cost(best) || !l.routed(l.links[best].Interface)):
		return path.Link{}, allowed
	}
	return l.links[best], true
}

func (l *hostLinks) cost(n int) uint8 {
	if n < len(l.costs) {
		return l.costs[n]
	}
	return PolicyNone.cost()
}

// withheld reports whether the link numbered n is metered while a cheaper one leads
// to the world.
func (l *hostLinks) withheld(n int) bool {
	return l.metered[l.links[n].Interface] && slices.ContainsFunc(l.interfaces, func(i hostInterface) bool {
		return i.routed && i.unused == "" && len(i.addrs) > 0 && i.policy.cost() < PolicyMetered.cost()
	})
}

func (l *hostLinks) routed(index int) bool {
	return slices.ContainsFunc(l.interfaces, func(i hostInterface) bool { return i.index == index && i.routed })
}

// outgoing asks the kernel by which interface it would send to an address, and
// whether without a router.
func (w *watcher) outgoing(remote netip.Addr) (index int, direct bool) {
	routes, err := w.handle.RouteGet(remote.AsSlice())
	if err != nil || len(routes) == 0 {
		return 0, false
	}
	return routes[0].LinkIndex, routes[0].Gw == nil
}
