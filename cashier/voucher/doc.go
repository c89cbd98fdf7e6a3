// Package voucher holds the values of money that cross layers: amounts, the IDs of
// transfers, and what a provider and its client say to one another about a payment
// channel: the ask, the vouchers and the receipts.
//
// # Amounts
//
// An Amount is a whole number of micro-credits. People read and write credits as
// a decimal number with at most six places, "1.5"; programs never see a fraction
// or a float. Sums are checked: what does not fit is reported, never wrapped.
//
// # Channels
//
// An Ask is what a provider wants for one service on one node. A client opens a
// channel against it on the ledger, under a ChannelID that both can compute from the
// Opening, and pays with vouchers: each says how much the client owes in all since
// the channel began, so the newest replaces all others, a lost one costs nothing and
// the ledger sees one of thousands. A voucher is signed by the channel's session key.
// A Receipt is what a provider signs of a session, priced or not: how much it
// carried. Both are cumulative.
//
// # Encodings
//
// Each value has one encoding of a fixed length: a version byte 1, then the fields in
// their order, numbers big endian, the signature last. Parsing takes exactly that
// length; more bytes are an error as fewer are. A signature covers the network's ID
// and everything before it, under the domain of its kind (identity.PrivateKey.Sign),
// and is judged by identity.Verify, alone or in an identity.Batch with the same
// verdict.
//
//	Ask      version, service 32, node 32, account 32, per GiB 8, per hour 8,
//	         loss allowance 4, max window 4, from 8, to 8, sequence 8    (145 bytes)
//	Grant    version, service 32, node 32, account 32, not after 8, signature 64  (169)
//	Voucher  version, channel 32, sequence 8, amount 8, bytes 8, milliseconds 8,
//	         binding 32, signature 64                                    (161 bytes)
//	Receipt  version, node 32, service 32, nonce 32, sequence 8, sent 8, received 8,
//	         duration 8, final 1, signature 64                           (194 bytes)
//
// # What it does not do
//
// It does no I/O, keeps no state and does not know what a ledger holds. Every
// function may be called concurrently.
package voucher
