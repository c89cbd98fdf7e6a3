package record

import (
	"net/netip"
	"time"

	"scn.alt/scn/routing/identity"
)

// Candidate is one provider a resolution found: who, where, and how it ranks.
type Candidate struct {
	Node identity.NodeID
	// Locators are the node's UDP addresses, best first; empty when only the
	// grant is known yet.
	Locators []netip.AddrPort
	// Relays are nodes that forward to it.
	Relays []identity.NodeID
	// Priority and Weight are the grant's (RFC 2782: lower priority first).
	Priority, Weight uint16
	// Sequence is the NodeRecord's, 0 when none is known.
	Sequence uint64
	// Expires is when the NodeRecord ends; a past time means the locators are
	// stale and may only be probed.
	Expires time.Time
	// Region and Load are what the node says of itself.
	Region string
	Load   uint8
	// Source says where the answer came from.
	Source Source
}

// Source says where an answer came from.
type Source string

// The sources of a Candidate.
const (
	// FromCache answers were known already.
	FromCache Source = "cache"
	// FromDHT answers were just fetched.
	FromDHT Source = "dht"
	// FromNetwork answers are addresses written in the network file.
	FromNetwork Source = "network"
	// FromSelf answers name this node.
	FromSelf Source = "self"
)
