package sal

import (
	"cmp"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/underlay"
)

type counters struct {
	connections, dialFailures, restarts, notAdmitted atomic.Uint64
	dials, accepted, rejected                        atomic.Uint64
	unauthorized, overCapacity, malformed            atomic.Uint64
	unpaidDatagrams                                  atomic.Uint64
	lostSent, lostReceived, lostDropped, lostMangled atomic.Uint64 // datagrams of links that ended
}

// Metrics is a snapshot of a node's counters.
type Metrics struct {
	// Connections counts handshakes completed; DialFailures those that were not;
	// Restarts the peers found to have restarted; NotAdmitted the peers refused.
	Connections, DialFailures, Restarts, NotAdmitted uint64
	// OpenConnections and OpenSessions are the present numbers.
	OpenConnections, OpenSessions int
	// Dials counts sessions asked for here, Accepted and Rejected those asked for
	// by others.
	Dials, Accepted, Rejected uint64
	// Unauthorized, OverCapacity and Malformed count reasons of refusal.
	Unauthorized, OverCapacity, Malformed uint64
	// Retries counts clients sent away to prove their address, HandshakesRefused
	// those refused outright; HandshakesPending is the present number.
	Retries, HandshakesRefused uint64
	HandshakesPending          int64
	// MemoryReserved is what all receive windows could hold together, in bytes.
	MemoryReserved int64
	// DatagramsSent, DatagramsReceived and DatagramsDropped count those of packet
	// sessions; DatagramsMalformed what was no message at all.
	DatagramsSent, DatagramsReceived, DatagramsDropped, DatagramsMalformed uint64
	// DatagramsUnpaid counts those of packet sessions that the meter did not let through.
	DatagramsUnpaid uint64
	// HomeRelays, AilingRelays and OtherRelays are where this node is registered now:
	// at home relays that are well or are not, and at those of its peers.
	HomeRelays, AilingRelays, OtherRelays int
	// Registered is how many nodes are registered here, 0 where this is no relay;
	// RegisteredParked those of them without a connection.
	Registered, RegisteredParked int
	// Underlay are the counters of the socket below.
	Underlay underlay.Metrics
}

// Metrics returns a snapshot of the counters.
func (n *Node) Metrics() Metrics {
	c := &n.counters
	m := Metrics{
		Connections: c.connections.Load(), DialFailures: c.dialFailures.Load(),
		Restarts: c.restarts.Load(), NotAdmitted: c.notAdmitted.Load(),
		Dials: c.dials.Load(), Accepted: c.accepted.Load(), Rejected: c.rejected.Load(),
		Unauthorized: c.unauthorized.Load(), OverCapacity: c.overCapacity.Load(), Malformed: c.malformed.Load(),
		Retries: n.guard.retries.Load(), HandshakesRefused: n.guard.refused.Load(),
		HandshakesPending: n.guard.pending.Load(), MemoryReserved: n.budget.nominal.Load(),
		DatagramsSent: c.lostSent.Load(), DatagramsReceived: c.lostReceived.Load(),
		DatagramsDropped: c.lostDropped.Load(), DatagramsMalformed: c.lostMangled.Load(),
		DatagramsUnpaid: c.unpaidDatagrams.Load(), Underlay: n.carrier.metrics(),
	}
	m.HomeRelays, m.OtherRelays, m.AilingRelays = n.relays.counts()
	if n.relay != nil {
		m.Registered, m.RegisteredParked = n.relay.len()
	}
	for _, l := range n.allLinks() {
		m.OpenConnections++
		m.OpenSessions += l.openCount()
		m.DatagramsSent += l.lane.sent.Load()
		m.DatagramsReceived += l.lane.received.Load()
		m.DatagramsDropped += l.lane.dropped.Load()
		m.DatagramsMalformed += l.lane.garbage.Load()
	}
	return m
}

// PeerInfo describes a connected peer.
type PeerInfo struct {
	Node identity.NodeID
	// Local and Remote are the path in use; invalid before one is known.
	Local, Remote netip.AddrPort
	// RTT is the smoothed round trip time.
	RTT time.Duration
	// MTU is the largest UDP payload that the path carries whole.
	MTU      int
	Sessions int
	// Relay is the node that forwards between this one and the peer; zero when the
	// path is direct. Tunnelled paths go through TCP. Why says in words why the path
	// is the one it is.
	Relay     identity.NodeID
	Tunnelled bool
	Why       string
	// Moves counts changes of the path, LastGap is how long nothing arrived at the
	// last of them.
	Moves                    uint64
	LastGap                  time.Duration
	BytesSent, BytesReceived uint64
	// Since is when the connection was made.
	Since time.Time
	// Hello is what the peer's Config.Hello says; nil until it came.
	Hello []byte
}

// Peers describes the connected peers, in the order of their node IDs. A peer
// with several connections, while one takes over from another, is listed once.
func (n *Node) Peers() []PeerInfo {
	all := n.allLinks()
	// The connection in use last, so that it determines the path shown.
	slices.SortFunc(all, func(a, b *link) int {
		if c := a.peer.Compare(b.peer); c != 0 {
			return c
		}
		if au, bu := a.usable(), b.usable(); au != bu {
			if bu {
				return -1
			}
			return 1
		}
		return a.opened.Compare(b.opened)
	})
	var peers []PeerInfo
	for _, l := range all {
		info := l.assoc.Info()
		p := PeerInfo{
			Node: l.peer, Local: info.Local, Remote: info.Remote,
			RTT: cmp.Or(info.RTT, l.quic.ConnectionStats().SmoothedRTT), MTU: info.MTU,
			Sessions: l.openCount(), Moves: info.Moves, LastGap: info.LastGap,
			BytesSent: info.BytesSent, BytesReceived: info.BytesReceived, Since: l.opened, Hello: l.helloExtension(),
			Relay: info.Relay, Tunnelled: info.Tunnelled, Why: info.Why,
		}
		if k := len(peers) - 1; k >= 0 && peers[k].Node == p.Node {
			p.Sessions += peers[k].Sessions
			p.Moves += peers[k].Moves
			p.BytesSent += peers[k].BytesSent
			p.BytesReceived += peers[k].BytesReceived
			peers[k] = p
			continue
		}
		peers = append(peers, p)
	}
	return peers
}
