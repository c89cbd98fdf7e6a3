package routing

import (
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"scn.alt/scn/routing/identity"
)

// gater keeps nodes that are not admitted to the network out of the DHT, and
// addresses that are not believed from being dialled.
type gater struct {
	admits  func(identity.NodeID) bool
	reach   reach
	refused atomic.Uint64
}

var _ connmgr.ConnectionGater = (*gater)(nil)

// InterceptPeerDial implements connmgr.ConnectionGater.
func (g *gater) InterceptPeerDial(p peer.ID) bool { return g.admit(p) }

// InterceptAddrDial implements connmgr.ConnectionGater.
func (g *gater) InterceptAddrDial(_ peer.ID, m ma.Multiaddr) bool {
	a, ok := salAddr(m)
	return g.note(ok && g.reach.believes(a))
}

// InterceptAccept implements connmgr.ConnectionGater. Who it is shows later.
func (g *gater) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured implements connmgr.ConnectionGater: the peer has proved its key.
func (g *gater) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return g.admit(p)
}

// InterceptUpgraded implements connmgr.ConnectionGater.
func (g *gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

func (g *gater) admit(p peer.ID) bool {
	node, ok := nodeOf(p)
	return g.note(ok && g.admits(node))
}

func (g *gater) note(allowed bool) bool {
	if !allowed {
		g.refused.Add(1)
	}
	return allowed
}

// believed filters what peers say of others' addresses, before it is remembered.
func (g *gater) believed(addresses []ma.Multiaddr) []ma.Multiaddr {
	out := make([]ma.Multiaddr, 0, min(len(addresses), MaxAddresses))
	for _, m := range addresses {
		if a, ok := salAddr(m); ok && len(out) < MaxAddresses && g.reach.believes(a) {
			out = append(out, m)
		}
	}
	return out
}
