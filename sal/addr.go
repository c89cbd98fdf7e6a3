package sal

import (
	"net"
	"strconv"

	"scn.alt/scn/routing/identity"
)

// Addr is one end of a session: a node and, at the provider's end, the service
// and port. It implements net.Addr.
type Addr struct {
	Node    identity.NodeID
	Service identity.ServiceID
	Port    uint16
}

var _ net.Addr = Addr{}

// Network returns "scn".
func (a Addr) Network() string { return "scn" }

// String returns SERVICE:PORT@NODE at the provider's end, the node alone at the
// dialer's.
func (a Addr) String() string {
	if a.Service.IsZero() {
		if a.Node.IsZero() {
			return "?"
		}
		return a.Node.String()
	}
	s := a.Service.String() + ":" + strconv.Itoa(int(a.Port))
	if a.Node.IsZero() {
		return s
	}
	return s + "@" + a.Node.String()
}
