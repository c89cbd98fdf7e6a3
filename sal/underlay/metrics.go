package underlay

import (
	"sync/atomic"

	"scn.alt/scn/sal/relay"
)

// Metrics are the counters of a Socket since Open.
type Metrics struct {
	// Associations is how many peers there are now.
	Associations int

	// Reads counts system calls that returned datagrams; Received the QUIC
	// datagrams in them, so Received/Reads is how well coalescing works. Sent
	// counts what quic-go wrote, a batch of segments once.
	Reads, Received, Sent uint64
	// PathReceived and PathSent count path messages.
	PathReceived, PathSent uint64
	// FragmentsSent and FragmentsReceived count fragments; Joined the datagrams
	// rejoined.
	FragmentsSent, FragmentsReceived, Joined uint64
	// Moves counts changes of path, Resent the datagrams sent again after one,
	// Sprayed those of handshakes sent to further addresses.
	Moves, Resent, Sprayed uint64
	// Resolves counts requests for newer locators, Dead lost peers, Resumes
	// suspends noticed.
	Resolves, Dead, Resumes uint64
	// UnknownAddress counts QUIC packets of peers from addresses not proved.
	UnknownAddress uint64

	// RelayedSent and RelayedReceived count datagrams sent and received through
	// relays; DroppedRelayStranger and DroppedRelaySpoofed those that came with a
	// token of no relay of ours, or not from its address.
	RelayedSent, RelayedReceived              uint64
	DroppedRelayStranger, DroppedRelaySpoofed uint64
	// KernelDrops counts datagrams that the kernel dropped: because the socket's buffer
	// was full, or because they came from strangers to be forwarded.
	KernelDrops uint64
	// Relay are the counters of this node as a relay, zero if it is none.
	Relay relay.Metrics

	// SendErrors counts errors of the network that were kept from quic-go,
	// SendWaits how often the socket's buffer was full, TooBig datagrams above an
	// interface's MTU, SegmentationRefused devices that cannot do UDP_SEGMENT,
	// ReceiveErrors pending errors of the socket.
	SendErrors, SendWaits, TooBig, SegmentationRefused, ReceiveErrors uint64

	// Dropped datagrams by reason: malformed fragments and path messages, first
	// bytes of no known type, no such peer, connection IDs of ours from unknown
	// addresses, larger than a buffer, not cuttable small enough, and path
	// messages while the machines were behind.
	DroppedMalformed, DroppedUnknownType, DroppedUnknownPeer          uint64
	DroppedUnknownCID, DroppedOversized, DroppedTooBig, DroppedEvents uint64
	// DroppedLinkOff counts datagrams that came by an interface whose policy is off,
	// Duplicated the small ones sent over a second link too.
	DroppedLinkOff, Duplicated uint64

	// Refreshes counts readings of this host's addresses, WatchErrors lost or
	// failed notifications, Nudges neighbours the kernel was made to ask again.
	Refreshes, WatchErrors, Nudges uint64
}

type counters struct {
	reads, received, sent                     atomic.Uint64
	pathReceived, pathSent                    atomic.Uint64
	fragmentsSent, fragmentsReceived, joined  atomic.Uint64
	moves, resent, sprayed                    atomic.Uint64
	resolves, dead, resumes, unknownAddress   atomic.Uint64
	sendErrors, sendWaits, tooBig, gsoRefused atomic.Uint64
	receiveErrors                             atomic.Uint64
	dropMalformed, dropUnknownType            atomic.Uint64
	dropUnknownPeer, dropUnknownCID           atomic.Uint64
	dropOversized, dropTooBig, dropEvents     atomic.Uint64
	refreshes, watchErrors, nudges            atomic.Uint64
	relayedSent, relayedReceived              atomic.Uint64
	dropRelayStranger, dropRelaySpoofed       atomic.Uint64
	dropLinkOff, duplicated                   atomic.Uint64
}

// Metrics returns a snapshot of the counters.
func (s *Socket) Metrics() Metrics {
	c := &s.metrics
	m := Metrics{
		Associations: s.table.len(),
		Reads:        c.reads.Load(), Received: c.received.Load(), Sent: c.sent.Load(),
		PathReceived: c.pathReceived.Load(), PathSent: c.pathSent.Load(),
		FragmentsSent: c.fragmentsSent.Load(), FragmentsReceived: c.fragmentsReceived.Load(),
		Joined: c.joined.Load(),
		Moves:  c.moves.Load(), Resent: c.resent.Load(), Sprayed: c.sprayed.Load(),
		Resolves: c.resolves.Load(), Dead: c.dead.Load(), Resumes: c.resumes.Load(),
		UnknownAddress: c.unknownAddress.Load(),
		SendErrors:     c.sendErrors.Load(), SendWaits: c.sendWaits.Load(), TooBig: c.tooBig.Load(),
		SegmentationRefused: c.gsoRefused.Load(), ReceiveErrors: c.receiveErrors.Load(),
		DroppedMalformed: c.dropMalformed.Load(), DroppedUnknownType: c.dropUnknownType.Load(),
		DroppedUnknownPeer: c.dropUnknownPeer.Load(), DroppedUnknownCID: c.dropUnknownCID.Load(),
		DroppedOversized: c.dropOversized.Load(), DroppedTooBig: c.dropTooBig.Load(),
		DroppedEvents: c.dropEvents.Load(), DroppedLinkOff: c.dropLinkOff.Load(), Duplicated: c.duplicated.Load(),
		Refreshes: c.refreshes.Load(), WatchErrors: c.watchErrors.Load(), Nudges: c.nudges.Load(),
		RelayedSent: c.relayedSent.Load(), RelayedReceived: c.relayedReceived.Load(),
		DroppedRelayStranger: c.dropRelayStranger.Load(), DroppedRelaySpoofed: c.dropRelaySpoofed.Load(),
	}
	m.KernelDrops = s.kernelDrops()
	if s.forwarder != nil {
		m.Relay = s.forwarder.table.Metrics()
	}
	return m
}
