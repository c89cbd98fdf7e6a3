// Package evidence is the vocabulary of proof of service: what inspectors are told
// to look at, what they say they saw, how anybody checks it, and the arithmetic
// that turns many such reports into a score.
//
// # An epoch
//
//	  E−3        E−2                E−1              E                E+1
//	───┬──────────┬──────────────────┬────────────────┬────────────────┬───
//	   │ roster   │ authorities post │ seed of E is   │ inspectors     │ reveals,
//	   │ of E is  │ VRF outputs      │ known: plans   │ visit; commits │ challenges
//	   │ frozen   │                  │ are made       │ (until grace)  │ (two epochs)
//
// The keys of inspectors and the list of providers are frozen (Roster) before the
// Seed of the epoch is fixed, else keys would be ground until their plan is
// convenient. One output of a verifiable random function (ECVRF-EDWARDS25519-
// SHA512-ELL2, RFC 9381) per inspector and epoch expands into its whole plan
// (PlanOf), so nobody foresees it, everybody can recompute it afterwards, and what
// was left out is seen.
//
// # A report
//
// An inspector writes one Outcome of 16 bytes per planned Row. It commits to all
// of them (CommitOf) before anybody shows any, and shows them in a Reveal in the
// epoch after. Exact times and the providers' signed receipts are leaves of a
// Merkle tree (RFC 6962) whose root the Reveal has; they are shown row by row, to a
// Challenge, in an Answer: publishing all would tell a provider which of its
// sessions were probes, and so which addresses to treat well next time. For the
// same reason a plan names a window of time for each row, not an instant, and the
// nonce of a probe depends on a secret of its row (NonceOf).
//
// # Judgement
//
// All of it is arithmetic on integers, without state of its own: values go in and
// values come out, so that the ledger stores them and judges alike everywhere.
// A View is what one operator saw of one provider: a CUSUM and its last checks. A
// Standing is what follows for the provider from all views. An alarm counts when
// more than half of the weight of the eligible operators has it standing; the
// score comes from the median of the operators; so that a quarter of liars neither
// suspends an honest provider nor moves its score by much. Conduct is the same
// for an inspector.
//
// # Encodings
//
// Fixed layouts, integers big endian, the first byte a version; bytes missing or
// left over are errors, so that each value has one encoding. A field is added with
// a new version only.
//
// # What it does not do
//
// It stores nothing, has no clock, no goroutine and does no I/O. It does not know
// who is registered, bonded or paid: the ledger's rules (package cashier) call it.
// Every function may be called concurrently; nothing here is changed by a call but
// the receiver.
package evidence
