package relay

import (
	"sync"
	"time"

	"scn.alt/scn/routing/identity"
)

// Registration is one node for which datagrams are forwarded. Node, Token and Peer
// are constant.
type Registration[P any] struct {
	// Node is whose it is.
	Node identity.NodeID
	// Token is what it was given.
	Token Token
	// Peer is what the caller sends by.
	Peer P

	bucket  bucket
	mu      sync.Mutex // guards unknown
	unknown *unknownList
}

// Prefix is what other nodes name this one by.
func (r *Registration[P]) Prefix() Prefix { return Prefix(r.Node[:8]) }

const (
	// MaxUnknown is how many unregistered destinations a sender is told of in
	// UnknownInterval.
	MaxUnknown = 8
	// UnknownInterval is how often at most it is told of the same one.
	UnknownInterval = time.Minute
)

// unknownList is of what a sender was told of late.
type unknownList [MaxUnknown]struct {
	node Prefix
	at   time.Duration
}

// tell reports whether the sender is to be told that node is not registered, and
// notes it.
func (r *Registration[P]) tell(now time.Duration, node Prefix) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unknown == nil {
		r.unknown = new(unknownList)
	}
	free := -1
	for i := range r.unknown {
		u := &r.unknown[i]
		recent := u.at != 0 && now-u.at < UnknownInterval
		if recent && u.node == node {
			return false
		}
		if !recent && free < 0 {
			free = i
		}
	}
	if free < 0 {
		return false
	}
	r.unknown[free].node, r.unknown[free].at = node, max(now, 1)
	return true
}
