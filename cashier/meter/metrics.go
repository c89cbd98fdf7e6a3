package meter

import (
	"sync/atomic"

	"scn.alt/scn/cashier/voucher"
)

type counters struct {
	sessions, signed, repeated, accepted, refusals atomic.Uint64
	pauses, unpaid, dropped, writtenOff, malformed atomic.Uint64
	receipts, unissued, unacknowledged             atomic.Uint64
}

// Metrics is a snapshot of a Meter's counters.
type Metrics struct {
	// Sessions counts those metered, OpenSessions is the present number.
	Sessions     uint64
	OpenSessions int
	// VouchersSigned and VouchersRepeated count those sent, VouchersAccepted those
	// taken, Refusals the channels and vouchers that were not.
	VouchersSigned, VouchersRepeated, VouchersAccepted, Refusals uint64
	// Pauses counts how often a session waited to be paid for, Unpaid those that were
	// ended for it, DatagramsUnpaid the datagrams that were dropped.
	Pauses, Unpaid, DatagramsUnpaid uint64
	// BytesWrittenOff counts bytes that were sent and not received in ended sessions.
	BytesWrittenOff uint64
	// Receipts counts those signed, ReceiptsDropped those there was no room for,
	// ReceiptsUnacknowledged final ones of which nothing was heard.
	Receipts, ReceiptsDropped, ReceiptsUnacknowledged uint64
	// FramesMalformed counts frames that were none.
	FramesMalformed uint64
	// Syncs counts writes to disk, RowsWritten what they held.
	Syncs, RowsWritten uint64
	// ChannelsPaying and ChannelsEarning are the present numbers, Unsettled what the
	// latter have paid and the ledger has not settled.
	ChannelsPaying, ChannelsEarning int
	Unsettled                       voucher.Amount
}

// Metrics returns a snapshot of the counters.
func (m *Meter) Metrics() Metrics {
	c := &m.counters
	out := Metrics{
		Sessions: c.sessions.Load(), OpenSessions: m.sweeper.len(),
		VouchersSigned: c.signed.Load(), VouchersRepeated: c.repeated.Load(), VouchersAccepted: c.accepted.Load(), Refusals: c.refusals.Load(),
		Pauses: c.pauses.Load(), Unpaid: c.unpaid.Load(), DatagramsUnpaid: c.dropped.Load(), BytesWrittenOff: c.writtenOff.Load(),
		Receipts: c.receipts.Load(), ReceiptsDropped: c.unissued.Load(), ReceiptsUnacknowledged: c.unacknowledged.Load(),
		FramesMalformed: c.malformed.Load(), ChannelsPaying: len(m.Spent()),
	}
	m.keeper.mu.Lock()
	out.Syncs, out.RowsWritten = m.keeper.syncs, m.keeper.rows
	m.keeper.mu.Unlock()
	for _, e := range m.Earned() {
		out.ChannelsEarning++
		if open, ok := e.Voucher.Amount.Sub(e.Channel.Settled); ok {
			out.Unsettled += open
		}
	}
	return out
}
