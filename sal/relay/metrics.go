package relay

// Metrics are the counters of a Table. All but Registrations only grow.
type Metrics struct {
	// Registrations is how many nodes are registered now, Registered how many ever
	// were, Refused how many could not be.
	Registrations       int
	Registered, Refused uint64
	// Forwarded counts datagrams sent on, ForwardedBytes what they carried, headers
	// included.
	Forwarded, ForwardedBytes uint64
	// Dropped datagrams by reason: no known token, a token from elsewhere than its
	// owner's address, a destination not registered, more than the sender's quota
	// or that of all, the socket full, no way to the destination.
	DroppedStranger, DroppedSpoofed, DroppedUnknown                uint64
	DroppedOverNode, DroppedOverTotal, DroppedBusy, DroppedNoRoute uint64
}

// Metrics returns a snapshot of the counters.
func (t *Table[P]) Metrics() Metrics {
	return Metrics{
		Registrations: t.Len(), Registered: t.registered.Load(), Refused: t.refused.Load(),
		Forwarded: t.forwarded.Load(), ForwardedBytes: t.bytes.Load(),
		DroppedStranger: t.strangers.Load(), DroppedSpoofed: t.spoofed.Load(), DroppedUnknown: t.unknown.Load(),
		DroppedOverNode: t.overNode.Load(), DroppedOverTotal: t.overTotal.Load(),
		DroppedBusy: t.busy.Load(), DroppedNoRoute: t.noRoute.Load(),
	}
}
