package tun

import (
	"net"
	"net/netip"

	"scn.alt/scn/tun/address"
)

// The edge's own addresses at the start of each range, by number: the device's, then
// the made-up peers that turned flows seem to come from, and last the one a self-test
// connects to. No peer is an address of the host, or the kernel would drop its packets
// as martians.
const (
	ownNumber   = 1
	firstPeer   = 2
	probeNumber = address.Reserved - 1
	peers       = probeNumber - firstPeer
)

// probePort is where a self-test connects to.
const probePort = 1

// Ports of made-up peers, from first to 65535.
const (
	firstPeerPort = 1024
	peerPorts     = 65536 - firstPeerPort
)

// family is the edge in one of IPv4 and IPv6. Constant after Open.
type family struct {
	prefix   netip.Prefix
	own      netip.Addr
	gateway  netip.Addr // where ICMP errors come from
	probe    netip.Addr // what SelfTest connects to
	listener *net.TCPListener
	port     uint16 // of the listener
	is6      bool
}

func newFamily(prefix netip.Prefix, l *net.TCPListener) *family {
	f := &family{
		prefix: prefix, own: address.Own(prefix, ownNumber), gateway: address.Own(prefix, firstPeer),
		probe: address.Own(prefix, probeNumber), listener: l, is6: prefix.Addr().Is6(),
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		f.port = uint16(a.Port)
	}
	return f
}

// peer returns the made-up address and port with the given number, below peers*peerPorts.
func (f *family) peer(number int) netip.AddrPort {
	return netip.AddrPortFrom(address.Own(f.prefix, firstPeer+number/peerPorts), uint16(firstPeerPort+number%peerPorts))
}

// peerNumber is the inverse of peer.
func (f *family) peerNumber(a netip.AddrPort) (int, bool) {
	var n int
	if f.is6 {
		b, base := a.Addr().As16(), f.prefix.Addr().As16()
		base[15] = b[15]
		if b != base {
			return 0, false
		}
		n = int(b[15])
	} else {
		b, base := a.Addr().As4(), f.prefix.Addr().As4()
		n = int(b[3]) - int(base[3])
		base[3] = b[3]
		if b != base {
			return 0, false
		}
	}
	if n < firstPeer || n >= firstPeer+peers || a.Port() < firstPeerPort {
		return 0, false
	}
	return (n-firstPeer)*peerPorts + int(a.Port()) - firstPeerPort, true
}

// listening is where turned flows go.
func (f *family) listening() netip.AddrPort { return netip.AddrPortFrom(f.own, f.port) }
