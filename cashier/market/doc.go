// Package market lets a client choose among providers by what they ask and how near
// they are.
//
// # Model
//
// A Policy orders the providers of one service: Weighted as their owner wants it, the
// dearer ones less often; Cheapest by price; Fastest by round trip; Score by what
// inspectors found, ScorePerPrice by that and the price. Who is suspended comes last. Prices of two
// parts are compared by what a GiB in an hour costs. Which prices are acceptable at
// all is not decided here: whoever calls says so for each.
//
// A Cache holds what the ledger says is asked for a service. It is asked in every
// dial and never waits: of a service nobody asked about for a while it knows nothing
// yet, and says so, and the answer is there for the next dial. Meanwhile the provider
// itself says what it asks when the session is accepted, so nothing is ever paid that
// the user did not allow. The ledger announces changes of a price long before they
// are in force, which is why an answer may be kept for a minute.
//
// # What it does not do
//
// It pays nothing, and does no I/O but through the function it is given.
//
// # Concurrency
//
// A Cache is safe for concurrent use; Run is called once.
package market
