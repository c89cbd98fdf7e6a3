// Package homes decides which relays a node keeps as its home relays, and tells
// whether a relay still does its work.
//
// # Model
//
// A [Machine] knows relays by hearsay, has the shell register at some of them, and
// keeps as homes the few with the shortest round trip:
//
//	known ──Register──► trying ──Registered──► home ◄──► ailing
//	  ▲                    │                    │           │
//	  └── back-off ◄───────┴── Failed, Refused ─┴── Drop ◄──┘
//
// A home that ends is replaced at once, one that ails as soon as another home is
// known to be well: where all of them ail it is this host that has no network, and
// nothing is given up. A relay measured to be clearly faster takes the place of the
// slowest home; others are measured one at a time, ever more rarely.
//
// A [Health] watches one registration by packets the node sends to itself through the
// relay. The relay forwards them as it forwards any others, so they tell a relay that
// is gone from one that is slow, and one that drops half of everything from one that
// is well.
//
// Both are sans-IO: no clock, no socket, no goroutine. Time is given with each call.
// Methods must not be called concurrently.
//
// # What it does not do
//
// It neither registers nor sends (sal does), nor chooses a relay for a dial: those of
// the peer's record are used for that.
package homes
