package node

import "errors"

// Errors of names and services, besides those of the layers, which are passed on.
var (
	// ErrNotFound is returned for a name that is authentically not registered, and
	// for a service nobody has published a record of.
	ErrNotFound = errors.New("not found")
	// ErrUnknownName is returned for a name about which nobody who can be believed
	// answers just now.
	ErrUnknownName = errors.New("the network's authority does not answer and no record is known")
	// ErrNotOwned is returned where only the owner of a service or name may act.
	ErrNotOwned = errors.New("not owned by this node")
	// ErrNotServed is returned for a service this node does not provide.
	ErrNotServed = errors.New("this node does not provide it")
	// ErrTaken is returned for a name somebody else holds.
	ErrTaken = errors.New("name is taken")
	// ErrNotFounder is returned where only the network's founder may act.
	ErrNotFounder = errors.New("only the network's founder can do this, with the network.key in its directory")
	// ErrRequest is returned for a request that makes no sense.
	ErrRequest = errors.New("bad request")
)
