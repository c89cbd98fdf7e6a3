package path

import (
	"net/netip"
	"time"

	"scn.alt/scn/routing/identity"
)

// Event is something that happened to an association; see the types below.
type Event interface{ event() }

// Received is a path message that arrived: Route is where it arrived (the
// datagram's destination address and interface) and whence it came.
type Received struct {
	Route    Route
	Datagram []byte
}

// UnknownAddress says that a QUIC packet of this association came from an
// address that is not validated. It causes a challenge, never a move.
type UnknownAddress struct {
	Route Route
	Size  int // bytes of UDP payload
}

// Traffic says when the last QUIC datagram left and when the last one came; a
// zero time means never. See [NoteInterval].
type Traffic struct {
	LastSent, LastReceived time.Time
}

// LinksChanged gives the whole list of local addresses that can be used now. The
// machine keeps no reference to the slices.
type LinksChanged struct {
	Links []Link
	// Costs are those of Links, in the same order; what is missing is [CostNone].
	Costs []uint8
}

// Advertised gives the whole list of our addresses the peer should know, best
// first; the first [MaxLocators] are told, those that stand for relays never. The
// machine keeps no reference to the slice.
type Advertised struct{ Locators []netip.AddrPort }

// RelaysAdvertised gives the whole list of relays at which we can be reached, best
// first; the first [MaxRelays] are told. The machine keeps no reference to the
// slice.
type RelaysAdvertised struct{ Relays []identity.NodeID }

// RemotesChanged gives the peer's addresses as a resolver knows them, best first,
// and [RelayRemote] of each relay at which both can be reached. They are added to
// what the peer itself told. The machine keeps no reference to the slice.
type RemotesChanged struct{ Remotes []netip.AddrPort }

// Reachable says that the way to a remote works, or works again, though no link or
// list changed: our association with its relay found another path, or the tunnel
// was built anew. What was sent there just before may be lost.
type Reachable struct{ Remote netip.AddrPort }

// SessionsOpen says whether any session needs this association. Without one
// there are no keep-alives, and a lost path is searched for only
// [Config.IdleTimeout] long.
type SessionsOpen struct{ Open bool }

// Resumed says that the host woke up, or that the network may have changed in a
// way that is not told by other events: every pair is probed now.
type Resumed struct{}

// SendFailed says that the socket refused a datagram for this route (network or
// host unreachable, address not available).
type SendFailed struct{ Route Route }

// TooBig says that an IP packet of Size bytes cannot leave on this route
// (EMSGSIZE). Size counts the IP and UDP headers.
type TooBig struct {
	Route Route
	Size  int
}

// Tick says that the time of Deadline has come.
type Tick struct{}

func (Received) event()         {}
func (UnknownAddress) event()   {}
func (Traffic) event()          {}
func (LinksChanged) event()     {}
func (Advertised) event()       {}
func (RelaysAdvertised) event() {}
func (RemotesChanged) event()   {}
func (Reachable) event()        {}
func (SessionsOpen) event()     {}
func (Resumed) event()          {}
func (SendFailed) event()       {}
func (TooBig) event()           {}
func (Tick) event()             {}
