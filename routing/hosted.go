package routing

import (
	"net"
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
)

// hosted returns those of the node's addresses at which the DHT can be reached too,
// on the port after the SAL's: this host's own, and those of Config.Advertise. A
// mapping that a NAT made for the SAL's port says nothing about the next one.
func (r *Router) hosted(addresses []netip.AddrPort) []netip.AddrPort {
	own, err := net.InterfaceAddrs()
	if err != nil {
		return addresses
	}
	return slices.DeleteFunc(slices.Clone(addresses), func(a netip.AddrPort) bool {
		// All of 127.0.0.0/8 is this host's own, whatever its interface is given.
		return !a.Addr().IsLoopback() && !slices.Contains(r.cfg.Advertise, a) && !slices.ContainsFunc(own, func(o net.Addr) bool {
			p, err := netip.ParsePrefix(o.String())
			return err == nil && p.Addr().Unmap() == a.Addr()
		})
	})
}

// dhtAddresses are the addresses of DHT and SAL at once. The caller must not modify
// them.
func (r *Router) dhtAddresses() []netip.AddrPort {
	if p := r.hostedAddresses.Load(); p != nil {
		return *p
	}
	return nil
}

// Unreachable says whether others cannot reach this node unasked, because it is behind
// a NAT. Such a node is a client of the DHT, as a mobile one: it would only hold up who
// asks it. Nodes of the network file and those with an address in Config.Advertise
// stay servers. It returns at once.
func (r *Router) Unreachable(is bool) {
	if r.cfg.Mobile || len(r.cfg.Advertise) > 0 || r.isListed(r.Network()) {
		return
	}
	if r.client.Swap(is) == is {
		return
	}
	reachability, mode := network.ReachabilityPublic, "server"
	if is {
		reachability, mode = network.ReachabilityPrivate, "client"
	}
	r.log.Info("DHT mode changed", "mode", mode)
	// kad-dht follows, and tells the connected peers.
	if err := r.reachability.Emit(event.EvtLocalReachabilityChanged{Reachability: reachability}); err != nil {
		r.log.Warn("DHT mode not changed", "err", err)
	}
	r.republish()
}

// republish puts the node's record, which says something new.
func (r *Router) republish() {
	if len(r.ownAddresses()) == 0 && len(r.ownRelays()) == 0 {
		return
	}
	r.publishSelf()
}
