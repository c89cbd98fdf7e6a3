package underlay

import (
	"net"
	"net/netip"

	"scn.alt/scn/routing/identity"
)

// A made-up address of an association is an IPv6 unique local address (RFC 4193)
// below fd53:434e::/32 whose other 12 bytes are the head of the peer's NodeID;
// the port is the serial number of the association. It never leaves this process.
var madeUpPrefix = [4]byte{0xfd, 0x53, 0x43, 0x4e}

func madeUp(node identity.NodeID, serial uint16) *net.UDPAddr {
	ip := make(net.IP, net.IPv6len)
	copy(ip, madeUpPrefix[:])
	copy(ip[len(madeUpPrefix):], node[:])
	return &net.UDPAddr{IP: ip, Port: int(serial)}
}

func isMadeUp(a *net.UDPAddr) bool {
	return len(a.IP) == net.IPv6len && [4]byte(a.IP[:4]) == madeUpPrefix
}

// strangerAddr is what quic-go sees of a peer before its handshake: the real
// address in its 16-byte form, so that the map is injective and has no state.
// QUIC's Retry tokens bind to it.
func strangerAddr(a netip.AddrPort) *net.UDPAddr {
	ip := a.Addr().As16()
	return &net.UDPAddr{IP: ip[:], Port: int(a.Port()), Zone: a.Addr().Zone()}
}

// realAddr undoes strangerAddr. It is false for an address no packet can go to.
func realAddr(a *net.UDPAddr) (netip.AddrPort, bool) {
	ap := a.AddrPort()
	ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	return ap, ap.IsValid() && ap.Port() != 0 && !ap.Addr().IsUnspecified() && !isMadeUp(a)
}
