// Package spending decides what a node pays for by itself, and keeps the books of it:
// prices it accepts, what it may spend for one service and in one day, and how much
// goes into the channel of a provider.
//
// # Model
//
// A Book is the pure core: Limits, what was paid on which day for which service, and
// what lies in open channels. Money in an open channel may be spent at any time, so
// it counts as much as money spent:
//
//	spent today + what open channels still hold + what is asked for ≤ the budget
//
// holds for each service by itself and for all together, so that no sequence of
// channels, vouchers and crashes spends more than the settings say. What a closed
// channel gives back is free again at once. Days are those of UTC.
//
// # Accounts
//
// Accounts derives an account for each provider from one secret, so that two
// providers cannot tell from the payer's account that they serve the same client, and
// losing the state loses no money: the same secret gives the same accounts. The
// ledger itself shows the transfers that fund them; whoever reads it can link them.
//
// # Disk
//
// Encode gives the book as deterministic CBOR with a version in front; Decode refuses
// others. Whoever keeps it writes the whole: it has a row for each open channel and
// for each service and day of the last ninety.
//
// # What it does not do
//
// It does no I/O, has no clock and speaks to no ledger.
//
// # Concurrency
//
// A Book is not safe for concurrent use. Accounts is.
package spending
