package path

import (
	"encoding/base32"
	"fmt"
	"net/netip"
	"strings"
)

// Link is one local address and the interface that has it. The zero Link lets
// the kernel choose both.
type Link struct {
	// Local is the source address packets leave with.
	Local netip.Addr
	// Interface is the interface index packets leave by; 0 lets the kernel choose.
	Interface int
}

// Route is one way to the peer: a link and one of the peer's addresses.
type Route struct {
	Link
	Remote netip.AddrPort
}

// String returns "local%interface>remote", ">remote" where the link is nobody's
// choice, or "relay " and how the relay's node ID begins, for logs.
func (r Route) String() string {
	switch {
	case IsRelayed(r.Remote):
		relay, _ := RelayPrefix(r.Remote)
		return "relay " + strings.ToLower(base32.StdEncoding.EncodeToString(relay[:]))
	case r.Link == (Link{}):
		return ">" + r.Remote.String()
	}
	return fmt.Sprintf("%s%%%d>%s", r.Local, r.Interface, r.Remote)
}

// headerSize is what IP and UDP add to a datagram on this route.
func (r Route) headerSize() int {
	if r.Remote.Addr().Is4() {
		return 20 + 8
	}
	return 40 + 8
}

// normal returns r with IPv4-mapped addresses as IPv4 and without zone, the form
// in which routes are compared.
func (r Route) normal() Route {
	r.Local = normalAddr(r.Local)
	r.Remote = normalAddrPort(r.Remote)
	return r
}

func normalAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func normalAddrPort(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(normalAddr(a.Addr()), a.Port())
}

// usableRemote reports whether a can be a peer's address at all.
func usableRemote(a netip.AddrPort) bool {
	ip := a.Addr()
	return ip.IsValid() && a.Port() != 0 && !ip.IsUnspecified() && !ip.IsMulticast() &&
		ip != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// pairs reports whether packets can go from l to a: same family, and loopback
// only to loopback.
func pairs(l Link, a netip.AddrPort) bool {
	if !l.Local.IsValid() {
		return true
	}
	ip := a.Addr()
	return l.Local.Is4() == ip.Is4() && l.Local.IsLoopback() == ip.IsLoopback() &&
		l.Local.IsLinkLocalUnicast() == ip.IsLinkLocalUnicast()
}
