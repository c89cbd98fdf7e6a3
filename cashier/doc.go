// Package cashier keeps the ledger of a network: an append-only, hash-chained
// book of signed transactions, at present about names. Whoever registers a name
// first has it, and nobody but its owner changes it.
//
// # Model
//
// One pure state machine decides everything:
//
//	Apply(state, block) → results, changes, app hash
//
// It uses integers only; it has no clock, no goroutine, no I/O and iterates over
// no map, so the same blocks give the same app hash on every machine. A
// transaction is an operation (Register, Update, Offer, Accept, Release,
// SetParameters) in an envelope signed by an account, for one network, with a
// sequence number that only grows within that account. A name points at a service
// only with the consent of that service's own key, and changes hands in two
// steps: its owner offers it, the other account accepts.
//
// Ledger is the embedded engine around the machine: one process, one goroutine
// that gathers waiting transactions into a block, one Pebble store, one fsync per
// block before any of its submitters is answered. It signs name records
// (naming/name) with the authority's key; records travel in the DHT, so names
// resolve while the authority is down. Server and Client speak HTTP/1.1 with
// CBOR bodies over any net.Listener and any dialled net.Conn. Wallet builds and
// signs transactions and numbers them.
//
// # Blocks
//
//	header   version, network, height, previous block's hash, time,
//	         app hash before the block, hash of the transactions
//	body     the signed transactions, as received
//
// The hash of a block is SHA-256 over a domain and its encoded header. The app
// hash after a block is SHA-256 over the app hash before it and every row the
// block changed, in order of keys.
//
// # Store
//
//	m/format         version of this layout, 8 bytes big endian
//	m/head           height, block hash, app hash, time and network of the newest block
//	b/<height>       block, height 8 bytes big endian
//	s/a<account>     account: last sequence, number of names
//	s/i<transaction> where an accepted transaction is: height, index
//	s/n<name>        name: owner, service, offer, height, the owner's transaction
//	s/o<account><name>  the names of an account
//	s/p              parameters
//
// A block, its changes and the head are one atomic write. Everything below s/ is
// a function of the blocks; Verify recomputes it and compares.
//
// # At most once
//
// A transaction is identified by what was signed. Submitting one again that was
// accepted gives the first answer, however often and whenever; so a client whose
// connection broke simply submits again. A transaction that was rejected left no
// trace and may be judged differently later; ValidUntil bounds that.
//
// # What it does not do
//
// It keeps no money yet, has one authority and no consensus, and dials and
// publishes nothing by itself: callers give it connections and fetch its records.
//
// # Concurrency
//
// Ledger, Server, Client and Wallet are safe for concurrent use.
package cashier
