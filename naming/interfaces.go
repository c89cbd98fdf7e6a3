package naming

import (
	"context"
	"errors"
	"net/netip"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// ErrNoService is returned (wrapped) by Services.Lookup when the search ended and
// the service has published no valid record. Any other error means that the
// search itself did not succeed.
var ErrNoService = errors.New("naming: the service has published no record")

// State is what a Registry knows of a name.
type State uint8

const (
	// Unknown means that nobody who can be believed said anything: the authority
	// is not reachable and no valid record was found.
	Unknown State = iota
	// Registered means that a valid record, signed by an authority, was found.
	Registered
	// NotRegistered means that the authority said so, authenticated: in a session
	// with its node ID, or by a tombstone it signed. Not finding a record is Unknown.
	NotRegistered
)

// String returns the state in words.
func (s State) String() string {
	switch s {
	case Unknown:
		return "unknown"
	case Registered:
		return "registered"
	case NotRegistered:
		return "not registered"
	}
	return "invalid state"
}

// Answer is what a Registry says of a name.
type Answer struct {
	State State
	// Record is the verified record of a Registered name. Record.Service is what
	// the name means; past Record.NotAfter the answer is no longer used.
	Record name.Record
	// Seen says of an Unknown name that the registry itself remembers it as
	// registered. The memory of Names is consulted besides.
	Seen bool
}

// Registry looks names up. Every Answer of state Registered or NotRegistered must
// be authenticated. An error is treated like Unknown; its text is told to the
// client. Lookup must return soon after ctx ends.
type Registry interface {
	Lookup(ctx context.Context, n name.Name) (Answer, error)
}

// Addresses gives services their virtual addresses on this host.
type Addresses interface {
	// Assign returns the service's addresses, the same ones each time. Either may
	// be invalid where the host has no such family.
	Assign(ctx context.Context, service identity.ServiceID) (v4, v6 netip.Addr, err error)
	// Service returns the service an address is assigned to.
	Service(addr netip.Addr) (identity.ServiceID, bool)
}

// Service is what a search for a service's record found.
type Service struct {
	// Ports are what the service listens on.
	Ports []record.Port
	// Providers are the nodes that may provide it, best first.
	Providers []record.Candidate
	// Sequence is the service record's.
	Sequence uint64
}

// Services finds the record of a service. An address is given out only once one
// is found. Lookup returns the first valid record and must return soon after ctx
// ends.
type Services interface {
	Lookup(ctx context.Context, service identity.ServiceID) (Service, error)
}

// Upstream answers what is not ours, as *upstream.Forwarder does.
type Upstream interface {
	// Exchange answers the query, a whole DNS message, with a whole DNS message of
	// any size and the query's ID.
	Exchange(ctx context.Context, query []byte) ([]byte, error)
	// Asked reports whether the query is one this very Upstream is waiting for: a
	// forwarding loop.
	Asked(query []byte) bool
}
