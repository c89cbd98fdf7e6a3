// Package purse pays by itself: it opens, tops up and closes the payment channels of a
// client, within what its owner allowed.
//
// # Model
//
// A Purse is what package meter asks for channels (meter.Channels). Each provider is
// paid from an account of its own, derived from the node's account key (package
// spending) and funded from the node's account with what a channel needs; what comes
// back is swept to the node's account when the channel has ended. So a provider sees
// an account that pays nobody else. The ledger shows the transfers, though: whoever
// holds its blocks can tell that two such accounts were funded by one. Config.OneAccount
// does without, with one transaction less for each channel.
//
// Before anything is submitted to the ledger it is written down, with the ID under
// which it counts once: what a crash or an outage leaves half done is submitted again
// under the same ID, or found to have been done. Money a channel may need is taken
// from the budget before that, and given back only when the ledger has refused.
//
//	opening ──accepted──► open ──request──► closing ──grace over──► closed ──► swept
//	   │                    └──────────expiry, or closed by both──────┘
//	   └─refused──► forgotten
//
// Run looks at the channels each Interval: it finishes what is half done, notes what
// was paid, asks the ledger what became of each, begins to close those not used for
// IdleAfter, and sweeps. A ledger that cannot be reached stops none of the open
// channels; new ones fail with meter.ErrLedgerUnreachable.
//
// # Disk
//
// One file, replaced as a whole at each change that matters: deterministic CBOR with
// a version in front. It has no secrets: all keys are derived again.
//
// # What it does not do
//
// It signs no vouchers; package meter does. It settles nothing; package till does.
//
// # Concurrency
//
// A Purse is safe for concurrent use; Run is called once.
package purse
