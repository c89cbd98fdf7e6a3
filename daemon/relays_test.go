package daemon

import (
	"testing"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal"
	"scn.alt/scn/sal/underlay"
)

func TestPathOf(t *testing.T) {
	const searching = "no direct address answers"
	relay := identity.NodeID{7}
	for _, c := range []struct {
		name     string
		peer     sal.PeerInfo
		nat      underlay.NATKind
		way, why string
	}{
		{"direct", sal.PeerInfo{Why: "direct"}, underlay.NATSymmetric, control.Direct, "direct"},
		{"relayed", sal.PeerInfo{Relay: relay, Why: searching}, underlay.NATCone, control.Relayed, searching},
		{"relayed, symmetric", sal.PeerInfo{Relay: relay, Why: searching}, underlay.NATSymmetric, control.Relayed, searching + symmetricNAT},
		{"through TCP", sal.PeerInfo{Tunnelled: true, Why: searching}, underlay.NATUnknown, control.Tunnelled, searching},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pathOf(c.peer, c.nat)
			if p.Way != c.way || p.Why != c.why || (p.Relay != nil) != (c.way == control.Relayed) {
				t.Errorf("%+v", p)
			}
		})
	}
}
