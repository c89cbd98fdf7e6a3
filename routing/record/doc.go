// Package record holds the two signed records of the overlay and what a
// resolution yields: NodeRecord (where a node is now), ServiceRecord (which nodes
// may provide a service) and Candidate.
//
// # Model
//
// Identity and location are apart. A node that moves rewrites one small
// NodeRecord, however many services it carries; a ServiceRecord changes only when
// its owner grants or revokes. Being granted in the ServiceRecord is the
// delegation: the service key may stay off-line.
//
// Records carry a sequence number. The higher one wins; of two with the same
// number the greater encoding wins, so every node decides alike, and the loser
// merges and writes anew. NextSequence makes numbers that never run backwards, even
// over a restored backup.
//
// # Limits
//
// A record is at most MaxSize bytes, lists at most MaxLocators locators or
// MaxGrants grants. Times are whole seconds since the Unix epoch.
//
// # What it does not do
//
// No I/O, no clock (callers pass the time), no goroutine, no cache.
package record
