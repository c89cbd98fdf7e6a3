package tun

import "sync/atomic"

// Metrics is a snapshot of an Edge's counters.
type Metrics struct {
	// PacketsRead and PacketsWritten count the device's packets, with their bytes.
	PacketsRead, PacketsWritten uint64
	BytesRead, BytesWritten     uint64
	// WriteErrors counts packets the device did not take.
	WriteErrors uint64
	// Malformed counts packets that do not parse, Foreign those whose source is no
	// address of this host, Unknown those to an address of ours without a service,
	// Unsolicited those that belong to no flow and start none.
	Malformed, Foreign, Unknown, Unsolicited uint64
	// FlowsOpened, FlowsRefused and FlowsReset count TCP flows; FlowsEarly those answered
	// before the provider did; FlowsDropped those turned away because a bound was reached.
	FlowsOpened, FlowsRefused, FlowsReset, FlowsEarly, FlowsDropped uint64
	// Flows is how many TCP flows there are, Held how many wait for their first answer.
	Flows, Held int
	// BytesUp went from applications to the overlay, BytesDown the other way. A TCP flow
	// counts when it has ended.
	BytesUp, BytesDown uint64
	// PacketFlows is how many UDP flows there are; PacketFlowsOpened and
	// PacketFlowsRefused count them. Datagrams are counted each way, and those dropped
	// because a queue was full.
	PacketFlows                           int
	PacketFlowsOpened, PacketFlowsRefused uint64
	DatagramsUp, DatagramsDown            uint64
	DatagramsDropped                      uint64
	// Pings and PingsFailed count echo requests answered and not.
	Pings, PingsFailed uint64
	// Devices is how many devices other than this host have flows; GuestPackets counts
	// their packets, GuestsRefused what the rules did not allow, GuestsLimited what one
	// device wanted beyond its bounds.
	Devices                                    int
	GuestPackets, GuestsRefused, GuestsLimited uint64
	// Services is how many services have addresses, of at most Addresses over IPv4.
	Services, Addresses int
}

type counters struct {
	read, written, bytesRead, bytesWritten, writeErrors atomic.Uint64
	malformed, foreign, unknown, unsolicited            atomic.Uint64
	opened, refused, reset, early, dropped              atomic.Uint64
	up, down                                            atomic.Uint64
	packetOpened, packetRefused                         atomic.Uint64
	datagramsUp, datagramsDown, datagramsDropped        atomic.Uint64
	pings, pingsFailed                                  atomic.Uint64
	guestPackets, guestsRefused, guestsLimited          atomic.Uint64
}

// Metrics returns the counters.
func (e *Edge) Metrics() Metrics {
	c := &e.count
	m := Metrics{
		PacketsRead: c.read.Load(), PacketsWritten: c.written.Load(),
		BytesRead: c.bytesRead.Load(), BytesWritten: c.bytesWritten.Load(), WriteErrors: c.writeErrors.Load(),
		Malformed: c.malformed.Load(), Foreign: c.foreign.Load(), Unknown: c.unknown.Load(), Unsolicited: c.unsolicited.Load(),
		FlowsOpened: c.opened.Load(), FlowsRefused: c.refused.Load(), FlowsReset: c.reset.Load(),
		FlowsEarly: c.early.Load(), FlowsDropped: c.dropped.Load(),
		BytesUp: c.up.Load(), BytesDown: c.down.Load(),
		PacketFlowsOpened: c.packetOpened.Load(), PacketFlowsRefused: c.packetRefused.Load(),
		DatagramsUp: c.datagramsUp.Load(), DatagramsDown: c.datagramsDown.Load(), DatagramsDropped: c.datagramsDropped.Load(),
		Pings: c.pings.Load(), PingsFailed: c.pingsFailed.Load(),
		GuestPackets: c.guestPackets.Load(), GuestsRefused: c.guestsRefused.Load(), GuestsLimited: c.guestsLimited.Load(),
	}
	m.Flows, m.Held = e.tcp.size()
	m.PacketFlows = e.udp.size()
	m.Devices = e.guests.size()
	m.Services, m.Addresses = e.pool.Len()
	return m
}
