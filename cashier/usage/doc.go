// Package usage keeps what sessions used, at the end where they were used, and makes
// invoices of it.
//
// # Model
//
// Billing has three layers, each the sum of the one before: the usage records of each
// session, off the ledger and private to the two ends; one voucher for each channel,
// signed as it grows; one settlement on the ledger. A Log keeps the first, a
// Statement puts the three side by side for a period and an account, with what
// differs and why it may: usage not yet promised, promises not yet settled.
//
// A session writes a record at least each minute and one when it ends, each with what
// was used since the one before. Records of free sessions are kept as well.
//
// # Disk
//
// A Pebble store:
//
//	m/format                 version of this layout, 8 bytes big endian
//	r/<start><nonce><seq>    a record in deterministic CBOR; start in milliseconds and
//	                         seq 8 bytes big endian each, nonce 32 bytes
//
// Records are written in batches, some seconds after they came: a crash loses those,
// and no money, for money is what vouchers say. What is older than the retention is
// deleted.
//
// # What it does not do
//
// It meters nothing and pays nothing.
//
// # Concurrency
//
// A Log is safe for concurrent use. Record never waits: where the disk does not
// follow, records are dropped and counted.
package usage
