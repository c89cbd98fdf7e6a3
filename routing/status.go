package routing

import (
	"net/netip"
	"time"
)

// Status tells how the Router is doing.
type Status struct {
	// Mode is "server" or "client".
	Mode string
	// Peers are in the routing table; Connected are connected now.
	Peers, Connected int
	// Addresses are what the node's record says, SAL ports.
	Addresses []netip.AddrPort
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
	Lookups         uint64 // lookups sent into the DHT
	LookupsFound    uint64 // that found at least one valid value
	LookupsRefused  uint64 // not made because too many were running
	CacheHits       uint64
	CacheMisses     uint64
	Puts            uint64 // records put
	PutAcks         uint64 // peers that acknowledged one
	PutFailures     uint64 // peers that did not
	Refused         map[string]uint64
	RecordsEvicted  uint64 // dropped because the store was full
	RecordsExpired  uint64
	DialsRefused    uint64 // by admission, or to addresses not believed
	Rejoins         uint64 // times all peers were lost and found again
	Moves           uint64 // changes of own addresses
	ServicesMerged  uint64 // records joined after they were written apart
	NetworksAdopted uint64 // newer network files taken over
}
