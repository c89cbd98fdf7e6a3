package underlay

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"scn.alt/scn/sal/path"
	"scn.alt/scn/sal/relay"
)

// Sizes of IP packets. Data is sent whole up to what a path is known to carry.
const (
	headerIPv4 = 20 + 8 // IP and UDP headers
	headerIPv6 = 40 + 8

	// unknownMTU is assumed of a path until something says otherwise: QUIC's
	// packets of 1400 bytes then go whole.
	unknownMTU = 1500
	// cautiousIPv4 and cautiousIPv6 are what a handshake is cut to when it gets no
	// answer whole: the smallest MTU seen in the field, and IPv6's minimum.
	cautiousIPv4 = 1124
	cautiousIPv6 = 1280
	// leastMTU is the smallest MTU datagrams are cut for (RFC 791).
	leastMTU = 576
)

// route is one way to a peer, prepared for sending: everything but limit and
// noGSO is constant. A nil pin lets the kernel choose the source.
type route struct {
	path   path.Route
	v4     bool
	name   unix.RawSockaddrInet6 // or, on an IPv4 socket, a RawSockaddrInet4
	length uint32                // of name

	relayed bool // through the relay whose ID begins so, to peer
	relay   relayHead
	peer    relay.Prefix
	pin     []byte
	up      *net.UDPAddr // the remote as a stranger's address
	meter   *linkMeter

	limit atomic.Int32 // largest UDP payload that goes whole
	noGSO atomic.Bool  // the device cannot segment (EIO)
}

// newRoute prepares a route; mtu is the largest IP packet it carries.
func (s *Socket) newRoute(p path.Route, mtu int) *route {
	p.Local = p.Local.Unmap().WithZone("")
	p.Remote = netip.AddrPortFrom(p.Remote.Addr().Unmap(), p.Remote.Port())
	r := &route{path: p, v4: p.Remote.Addr().Is4(), up: strangerAddr(p.Remote), meter: s.meters.of(p.Interface)}
	if path.IsRelayed(p.Remote) {
		r.path.Link = path.Link{}
		r.relayed = true
		r.relay, r.peer = path.RelayPrefix(p.Remote)
		r.limit.Store(int32(r.payload(unknownMTU))) // each leg cuts for itself
		return r
	}
	if p.Local.IsValid() && p.Local.Is4() != r.v4 {
		p.Local = netip.Addr{}
	}
	r.pin = appendPin(nil, r.v4, p.Local, p.Interface)
	r.setName(s.v6)
	if have := s.interfaceMTU(p.Interface); have > 0 {
		mtu = min(mtu, have)
	}
	r.limit.Store(int32(r.payload(max(mtu, leastMTU))))
	return r
}

func (r *route) setName(v6 bool) {
	port := r.path.Remote.Port()
	if v6 {
		r.name.Family = unix.AF_INET6
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&r.name.Port))[:], port)
		r.name.Addr = r.path.Remote.Addr().As16()
		if ip := r.path.Remote.Addr(); ip.IsLinkLocalUnicast() && ip.Is6() {
			r.name.Scope_id = uint32(r.path.Interface)
		}
		r.length = unix.SizeofSockaddrInet6
		return
	}
	sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&r.name))
	sa.Family = unix.AF_INET
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:], port)
	if r.v4 {
		sa.Addr = r.path.Remote.Addr().As4()
	}
	r.length = unix.SizeofSockaddrInet4
}

func (r *route) header() int {
	if r.v4 {
		return headerIPv4
	}
	return headerIPv6
}

func (r *route) payload(mtu int) int { return mtu - r.header() }

// mtu is the inverse of limit: the largest IP packet sent whole.
func (r *route) mtu() int { return int(r.limit.Load()) + r.header() }

func (r *route) cautious() int32 {
	if r.v4 {
		return cautiousIPv4 - headerIPv4
	}
	return cautiousIPv6 - headerIPv6
}

// shrink lowers the limit below a payload that did not fit (EMSGSIZE): to the
// interface's MTU where it is known, else down a ladder of common sizes. It
// reports whether the limit fell.
func (r *route) shrink(size, interfaceMTU int) bool {
	next := r.payload(leastMTU)
	if fit := r.payload(interfaceMTU); interfaceMTU >= leastMTU && fit < size {
		next = fit
	} else {
		for _, mtu := range [...]int{1480, 1420, 1280, 1124} {
			if p := r.payload(mtu); p < size {
				next = p
				break
			}
		}
	}
	for {
		old := r.limit.Load()
		if int32(next) >= old {
			return false
		}
		if r.limit.CompareAndSwap(old, int32(next)) {
			return true
		}
	}
}
