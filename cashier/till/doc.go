// Package till earns: it posts what a provider asks for its services, and settles what
// it was promised.
//
// # Model
//
// A Till knows what each service costs at this node (meter.Asks) and has the ledger
// know it too. The first ask of a service is in force at once; a change is announced
// and comes into force an epoch later, so that nobody pays a price he could not have
// known. Asks run out and are posted anew, at the same price, long before they do; one
// that ran out all the same is asked on, for free would be worse: channels opened
// against it go on, and new ones wait for the ledger.
//
// Run settles in each epoch, in batches: the newest voucher of each channel that pays
// more than was settled. It also looks for channels whose client wants them closed,
// and refutes with a higher voucher where it has one. Together with Settle at shutdown
// that bounds what a crash costs: vouchers are on disk before more is delivered
// (package meter), and what is delivered unpaid is one window.
//
// # Disk
//
// One file, replaced as a whole: deterministic CBOR with a version in front. An ask is
// written before it is submitted, and counts when the ledger has it.
//
// # What it does not do
//
// It checks no vouchers; package meter did before it kept them.
//
// # Concurrency
//
// A Till is safe for concurrent use; Run is called once.
package till
