package address

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"

	"scn.alt/scn/routing/identity"
)

// Reserved is how many addresses at the start of the pool and of the prefix belong
// to the edge itself: the network address, the device's own, and the made-up peers.
const Reserved = 16

// ErrPool is returned for a pool that cannot be one.
var ErrPool = errors.New("tun: unusable address pool")

// DefaultPool returns 198.18.0.0/15, the range of RFC 2544 for benchmarks.
func DefaultPool() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18}), 15) }

// ValidatePool tells why p cannot be a pool, or nil.
func ValidatePool(p netip.Prefix) error {
	switch {
	case !p.IsValid() || !p.Addr().Is4():
		return fmt.Errorf("%w: %s is no IPv4 prefix", ErrPool, p)
	case p.Masked() != p:
		return fmt.Errorf("%w: %s has bits after its prefix, %s is meant", ErrPool, p, p.Masked())
	case p.Bits() < 8 || p.Bits() > 27:
		return fmt.Errorf("%w: %s must have a prefix of 8 to 27 bits", ErrPool, p)
	case p.Addr().IsLoopback() || p.Addr().IsMulticast() || p.Addr().IsUnspecified() || p.Addr().As4()[0] >= 224 ||
		p.Addr().IsLinkLocalUnicast():
		return fmt.Errorf("%w: %s is not for hosts", ErrPool, p)
	}
	return nil
}

// Prefix returns the network's IPv6 prefix: fd followed by 40 bits of the hash of
// the network ID (RFC 4193 §3.2 asks for a random global ID), the same on each host.
func Prefix(network identity.NetworkID) netip.Prefix {
	h := sha256.New()
	h.Write([]byte("scn ipv6 prefix"))
	h.Write(network[:])
	var a [16]byte
	a[0] = 0xfd
	copy(a[1:6], h.Sum(nil))
	return netip.PrefixFrom(netip.AddrFrom16(a), 48)
}

// IPv6 returns the virtual IPv6 address of a service, the same on each host: the
// network's prefix and 79 bits of the hash of both IDs. The bit after the prefix is
// set, which keeps it clear of the edge's own addresses.
func IPv6(network identity.NetworkID, service identity.ServiceID) netip.Addr {
	h := sha256.New()
	h.Write([]byte("scn ipv6 address"))
	h.Write(network[:])
	h.Write(service[:])
	a := Prefix(network).Addr().As16()
	copy(a[6:], h.Sum(nil))
	a[6] |= 0x80
	return netip.AddrFrom16(a)
}

// Own returns the address with the given number, below Reserved, at the start of p.
func Own(p netip.Prefix, number int) netip.Addr {
	if p.Addr().Is4() {
		a := p.Addr().As4()
		a[3] += byte(number)
		return netip.AddrFrom4(a)
	}
	a := p.Addr().As16()
	a[15] += byte(number)
	return netip.AddrFrom16(a)
}
