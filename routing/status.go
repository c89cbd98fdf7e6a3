package routing

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"scn.alt/scn/routing/identity"
)

// Status tells how the Router is doing.
type Status struct {
	// Mode is "server" or "client".
	Mode string
	// Peers are in the routing table; Connected are connected now.
	Peers, Connected int
	// Addresses are what the node's record says, SAL ports.
	Addresses []netip.AddrPort
	// Relays are what the node's record says forwards to it.
	Relays []identity.NodeID
	// Sequence is the newest sequence number of the node's record, 0 before the
	// first was made.
	Sequence uint64
	// Published is when the node's record was last put, and Receipt who has it.
	Published time.Time
	Receipt   Receipt
	// Kept counts the records put anew on schedule.
	Kept int
	// NetworkSequence is the number of the network file in force.
	NetworkSequence uint64
}

// Receipt says who stored a record.
type Receipt struct {
	// Stored is how many peers acknowledged it.
	Stored int
	// Tried is how many were asked.
	Tried int
}

// Metrics are counters since Open, and gauges of now.
type Metrics struct {
	// Gauges.
	Peers, Connected   int
	RecordsStored      int   // records held for others
	RecordsStoredBytes int64 // their size
	RecordsKept        int   // records put anew on schedule
	CacheEntries       int
	LookupsRunning     int

	// Counters.
	Lookups        uint64 // lookups sent into the DHT
	LookupsFound   uint64 // that found at least one valid value
	LookupsRefused uint64 // not made because too many were running
	CacheHits      uint64
	CacheMisses    uint64
	Puts           uint64 // records put
	PutAcks        uint64 // peers that acknowledged one
	PutFailures    uint64 // peers that did not
	// Refused counts records that were not accepted, by reason: key, signer,
	// signature, size, expired, future, malformed.
	Refused         map[string]uint64
	RecordsEvicted  uint64 // dropped because the store was full
	RecordsExpired  uint64
	DialsRefused    uint64 // by admission, or to addresses not believed
	Rejoins         uint64 // times all peers were lost and found again
	Moves           uint64 // changes of own addresses
	ServicesMerged  uint64 // records joined after they were written apart
	NetworksAdopted uint64 // newer network files taken over
	// Lookups and records given to the delegate, and values it found.
	DelegatedLookups, DelegatedFound, DelegatedPuts uint64
	// Lookups and records done for other nodes.
	ServedLookups, ServedPuts uint64
}

// counters are Metrics' own, counted where things happen.
type counters struct {
	lookups, lookupsFound, lookupsRefused atomic.Uint64
	cacheHits, cacheMisses                atomic.Uint64
	puts, putAcks, putFailures            atomic.Uint64
	rejoins, moves                        atomic.Uint64
	servicesMerged, networksAdopted       atomic.Uint64
	delegatedLookups, delegatedFound      atomic.Uint64
	delegatedPuts                         atomic.Uint64
	servedLookups, servedPuts             atomic.Uint64
}

// Status tells how the Router is doing.
func (r *Router) Status() Status {
	s := Status{
		Mode: "server", Peers: r.dht.RoutingTable().Size(), Connected: len(r.connected()),
		Addresses: slices.Clone(r.ownAddresses()), Relays: slices.Clone(r.ownRelays()), NetworkSequence: r.Network().Sequence,
	}
	if r.isClient() {
		s.Mode = "client"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Kept = len(r.kept)
	if item := r.kept[nodeKey(r.self)]; item != nil {
		s.Sequence, s.Published, s.Receipt = sequenceOf(item.opened), item.published, item.receipt
	}
	return s
}

// Metrics returns a snapshot.
func (r *Router) Metrics() Metrics {
	c := &r.counters
	records, bytes, evicted, expired := r.store.counts()
	m := Metrics{
		Peers: r.dht.RoutingTable().Size(), Connected: len(r.connected()),
		RecordsStored: records, RecordsStoredBytes: int64(bytes), CacheEntries: r.cache.len(),
		Lookups: c.lookups.Load(), LookupsFound: c.lookupsFound.Load(), LookupsRefused: c.lookupsRefused.Load(),
		CacheHits: c.cacheHits.Load(), CacheMisses: c.cacheMisses.Load(),
		Puts: c.puts.Load(), PutAcks: c.putAcks.Load(), PutFailures: c.putFailures.Load(),
		Refused: r.validator.refusals(), RecordsEvicted: evicted, RecordsExpired: expired,
		DialsRefused: r.gater.refused.Load(), Rejoins: c.rejoins.Load(), Moves: c.moves.Load(),
		ServicesMerged: c.servicesMerged.Load(), NetworksAdopted: c.networksAdopted.Load(),
		DelegatedLookups: c.delegatedLookups.Load(), DelegatedFound: c.delegatedFound.Load(),
		DelegatedPuts: c.delegatedPuts.Load(), ServedLookups: c.servedLookups.Load(), ServedPuts: c.servedPuts.Load(),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m.RecordsKept, m.LookupsRunning = len(r.kept), r.flying
	return m
}
