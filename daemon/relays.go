package daemon

import (
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/sal"
	"scn.alt/scn/sal/underlay"
)

// symmetricNAT is added to the reason for a path that is not direct: no peer can find
// a host by what another sees of it then, and only peers that let strangers in do.
const symmetricNAT = "; this host's NAT shows every peer another address"

// pathOf describes the way to a peer of a host behind a NAT of the kind given.
func pathOf(p sal.PeerInfo, nat underlay.NATKind) control.Path {
	out := control.Path{
		Way: control.Direct, Why: p.Why, Local: p.Local, Remote: p.Remote, RTTMS: milliseconds(p.RTT), MTU: p.MTU,
	}
	switch {
	case p.Tunnelled:
		out.Way = control.Tunnelled
	case !p.Relay.IsZero():
		out.Way = control.Relayed
	}
	if !p.Relay.IsZero() {
		out.Relay = &p.Relay
	}
	if out.Way != control.Direct && nat == underlay.NATSymmetric {
		out.Why += symmetricNAT
	}
	return out
}

// relaysOf describes where this node is registered.
func relaysOf(sessions *sal.Node) []control.Relay {
	list := sessions.Relays()
	out := make([]control.Relay, 0, len(list))
	for _, r := range list {
		c := control.Relay{NodeID: r.Node, Home: r.Home, State: r.State, RTTMS: milliseconds(r.RTT)}
		if !r.Since.IsZero() {
			since := r.Since.UTC()
			c.Since = &since
		}
		out = append(out, c)
	}
	return out
}

// relaying describes what this node does as a relay, nil if it is none.
func relaying(sessions *sal.Node) *control.Relaying {
	if !sessions.IsRelay() {
		return nil
	}
	m := sessions.Metrics().Underlay.Relay
	return &control.Relaying{
		Registrations: m.Registrations, Forwarded: m.Forwarded, ForwardedBytes: m.ForwardedBytes, Refused: m.Refused,
		Dropped: control.RelayDrops{
			Stranger: m.DroppedStranger, Spoofed: m.DroppedSpoofed, Unknown: m.DroppedUnknown,
			OverNode: m.DroppedOverNode, OverTotal: m.DroppedOverTotal, Busy: m.DroppedBusy, NoRoute: m.DroppedNoRoute,
		},
	}
}
