// Package meter lets sessions be paid for as they are delivered, and gives every
// session a receipt.
//
// # Model
//
// A client pays a provider through a channel (see the ledger, package cashier): a
// deposit, and vouchers signed by the channel's session key. A voucher says what is
// owed in all since the channel began, so the newest is the only one that counts.
// One channel carries all sessions of a client with one provider for one service; the
// sums are the channel's, and survive every move of a session.
//
//	payer                                   payee
//	counts what both ends received          leases bytes to sessions before they carry
//	signs every interval, newest repeated   them: what is paid and on disk + window
//	until acknowledged         ──voucher──► accepts, writes ranges to disk
//	counts                     ◄──claim──── what it received, and its clock
//
// Billed are the bytes received, each way: those the client received and those it
// admits the provider has received, never more than it sent. Time is that in which at
// least one session of the channel was open, as the provider claims it and never ahead
// of the client's own clock.
//
// # The window
//
// The provider carries at most a window ahead of payment: max(2·RTT, 400 ms) of the
// present rate, at least 64 KiB, which the first voucher of a channel pays in advance,
// at most 16 MiB, and at most what the channel has paid already. The payer signs every
// max(16 KiB, min(100 ms of the rate, a quarter of the window)). So the provider
// loses at most one window, whenever the client stops paying or either end's power is
// cut, and the client nothing beyond the 64 KiB.
//
// Lost datagrams are written off up to the ask's allowance. What was on the way when a
// stream was given up was received by nobody; it is written off up to 64 KiB and an
// eighth of what the channel has paid. Beyond both the provider carries no more on
// the channel, and a client that wants to go on opens another.
//
// # Disk
//
// The payer reserves sequence numbers and an amount, ahead of signing, and never signs
// beyond; after a crash it goes on above. The payee's credit counts from the newest
// voucher on its disk. Either writes once for a range of vouchers, and all channels
// that are due share one fsync. A node that never met a price has no store at all.
//
//	m/format      version of this layout, 8 bytes big endian
//	c/<channel>   payer: reservation, newest voucher, bytes
//	p/<channel>   payee: the channel, its client's node, newest voucher, bytes
//
// # Receipts
//
// The provider signs a receipt at the end of each session, priced or not, and every
// ten seconds before; one goroutine does so, off the data path. The client keeps the
// newest of each session for a while and acknowledges each alike, with its own counts.
// Its signature is verified when it is first asked for.
//
// # What it does not do
//
// It does no networking: frames are handed to and taken from whoever carries sessions.
// It opens, tops up, settles and closes no channel: Channels does.
//
// # Concurrency
//
// Meter, Account and Receipts are safe for concurrent use. Account.Take allocates
// nothing and takes no lock unless its lease is used up. payer and payee are sans-IO
// and belong to whoever holds their channel's lock. Open starts goroutines, Close
// waits for them.
package meter
