package path

import (
	"net/netip"
	"time"

	"scn.alt/scn/routing/identity"
)

// Action is something the shell must do; see the types below. Actions are to be
// carried out in order.
type Action interface{ action() }

// Send asks for one path message to be sent, with the source address and the
// interface of the route pinned. The datagram belongs to the shell. Do not
// fragment: where its size matters, getting lost is the answer.
type Send struct {
	Route    Route
	Datagram []byte
}

// Use says where data goes from now on, and the largest IP packet (headers
// included) known to pass there; larger datagrams must be cut. With Resend the
// last few data datagrams are to be sent again as they were. The route may be
// the same as before.
//
// Second is, with HasSecond, the best other path over another link that works, for
// what is worth being sent twice; never over a metered link.
type Use struct {
	Route     Route
	MTU       int
	Resend    bool
	Second    Route
	HasSecond bool
}

// Resolve asks for the peer's newest record; answer by [RemotesChanged] when
// there is something to tell. It is repeated, with back-off, while it is needed.
type Resolve struct{}

// RelaysTold gives the whole list of relays at which the peer can be reached, as it
// says itself. Make them usable, then send [RemotesChanged] with [RelayRemote] of
// each beside what else is known.
type RelaysTold struct{ Relays []identity.NodeID }

// Dead says that the association is over: no path for too long. It is the last
// action of a machine, and given once.
type Dead struct{}

// Observed says that the peer, at Remote, sees packets sent from Link as coming from
// Address. It comes with every echo. It is the word of one peer: it may lie, or a NAT
// may show others something else.
type Observed struct {
	Link    Link
	Remote  netip.AddrPort
	Address netip.AddrPort
}

// Validated says that Remote is proved to be the peer's: QUIC packets from it
// belong to this association.
type Validated struct{ Remote netip.AddrPort }

// Forgotten says that Remote is no longer the peer's as far as is known.
type Forgotten struct{ Remote netip.AddrPort }

// Moved reports that the data path changed, for logs and metrics. Gap is the time
// from when the old path was known to be lost, 0 if it was not.
type Moved struct {
	From, To Route
	Gap      time.Duration
}

func (Send) action()       {}
func (Use) action()        {}
func (Resolve) action()    {}
func (RelaysTold) action() {}
func (Dead) action()       {}
func (Observed) action()   {}
func (Validated) action()  {}
func (Forgotten) action()  {}
func (Moved) action()      {}
