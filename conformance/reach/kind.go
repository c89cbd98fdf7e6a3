package reach

import (
	"fmt"

	"scn.alt/scn/conformance/netns"
)

// Kind is a kind of access to the Internet.
type Kind int

// The kinds of access.
const (
	// Public is an address of one's own, and no filter.
	Public Kind = iota
	// FullCone is a NAT with one public port per private one, open to everybody.
	FullCone
	// PortRestricted is a NAT with one public port per private one, open to those
	// something was sent to.
	PortRestricted
	// Symmetric is a NAT with a new public port for each destination.
	Symmetric
	// CarrierAndHome is a port-restricted NAT at home behind that of a carrier.
	CarrierAndHome
	// UDPBlocked is an office: NAT, no UDP at all, TCP to ports 80 and 443.
	UDPBlocked
)

// Kinds are the kinds a table has, in its order.
var kinds = [...]Kind{Public, FullCone, PortRestricted, Symmetric, CarrierAndHome, UDPBlocked}

// Kinds returns all kinds of access.
func Kinds() []Kind { return kinds[:] }

// String returns the kind in words.
func (k Kind) String() string {
	switch k {
	case Public:
		return "none"
	case FullCone:
		return "full cone"
	case PortRestricted:
		return "port-restricted"
	case Symmetric:
		return "symmetric"
	case CarrierAndHome:
		return "carrier+home"
	case UDPBlocked:
		return "UDP blocked"
	default:
		return fmt.Sprintf("Kind(%d)", int(k))
	}
}

// nats are the NATs of a kind, from the Internet inwards.
func (k Kind) nats() []netns.NATKind {
	switch k {
	case FullCone:
		return []netns.NATKind{netns.FullCone}
	case PortRestricted:
		return []netns.NATKind{netns.PortRestricted}
	case Symmetric:
		return []netns.NATKind{netns.Symmetric}
	case CarrierAndHome:
		return []netns.NATKind{netns.Carrier, netns.PortRestricted}
	case UDPBlocked:
		return []netns.NATKind{netns.UDPBlocked}
	case Public:
	}
	return nil
}

// open says that anybody's packet gets in at the address observers see, guarded
// that one gets in only from where something was sent to, and that observers all
// see the same address.
func (k Kind) open() bool    { return k == Public || k == FullCone }
func (k Kind) guarded() bool { return k == PortRestricted || k == CarrierAndHome }

// Direct says whether theory allows UDP a direct way between two kinds of
// access, and the reason.
//
//	                 none  cone  port-restricted  symmetric  carrier+home
//	none             yes   yes   yes              yes        yes
//	full cone        yes   yes   yes              yes        yes
//	port-restricted  yes   yes   yes              no         yes
//	symmetric        yes   yes   no               no         no
//	carrier+home     yes   yes   yes              no         yes
func Direct(a, b Kind) (bool, string) {
	switch {
	case a == UDPBlocked || b == UDPBlocked:
		return false, "one lets no UDP out"
	case a.open() || b.open():
		return true, "one lets in whoever knows its address, and sees the other's when it comes"
	case a.guarded() && b.guarded():
		return true, "both know where the other's packets come from, and each opens its filter by sending there"
	case a == Symmetric && b == Symmetric:
		return false, "neither knows which port the other will have towards it"
	default:
		return false, "the port the symmetric one will have is not known to the filter of the other"
	}
}
