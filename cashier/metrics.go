package cashier

import (
	"errors"
	"sync/atomic"
	"time"
)

// Metrics is a snapshot of a ledger's counters since Open.
type Metrics struct {
	// Height is the newest block's.
	Height uint64
	// Submitted, Accepted and Rejected count transactions; a repeated submission
	// counts as submitted only.
	Submitted, Accepted, Rejected uint64
	// ByCode counts rejections, indexed by Code.
	ByCode [len(codeTexts)]uint64
	// Blocks counts blocks written, and CommitTime is the time their writing took
	// together, fsync included; SlowestCommit is the longest of one.
	Blocks        uint64
	CommitTime    time.Duration
	SlowestCommit time.Duration
	// Lag is how long the oldest transaction of the newest block had waited when it
	// was answered, BlockAge how old that block is, ClockHeld what is held of the clock.
	Lag       time.Duration
	BlockAge  time.Duration
	ClockHeld time.Duration
	// Circulating is how much money there is, Reserved what is set aside in two-phase
	// transfers, and Unsettled what is in channels' deposits and not paid yet, in
	// micro-credits.
	Circulating, Reserved, Unsettled int64
	// Pruned is the height up to which blocks are kept no more.
	Pruned int64
	// RolledBack says that the ledger takes no transactions since it has less than it
	// promised.
	RolledBack bool
	// Published and PublishFailed count puts of name records.
	Published, PublishFailed uint64
	// Queue is how many transactions wait.
	Queue int
}

type metrics struct {
	submitted, accepted, rejected, blocks, commitNanos atomic.Uint64
	published, publishFailed                           atomic.Uint64
	slowestNanos, lagNanos                             atomic.Int64
	byCode                                             [len(codeTexts)]atomic.Uint64
}

func (m *metrics) count(err error) {
	r, ok := errors.AsType[*Rejection](err)
	if !ok {
		return
	}
	m.rejected.Add(1)
	if int(r.Code) < len(m.byCode) {
		m.byCode[r.Code].Add(1)
	}
}

// Metrics returns the counters.
func (l *Ledger) Metrics() Metrics {
	h := l.head.Load()
	m := Metrics{
		SlowestCommit: time.Duration(l.metrics.slowestNanos.Load()), Lag: time.Duration(l.metrics.lagNanos.Load()),
		ClockHeld: l.time.holds(), Pruned: int64(l.begin.Load()), RolledBack: l.rolledBack.Load() != nil,
		Height:     l.head.Load().Height,
		Submitted:  l.metrics.submitted.Load(),
		Accepted:   l.metrics.accepted.Load(),
		Rejected:   l.metrics.rejected.Load(),
		Blocks:     l.metrics.blocks.Load(),
		CommitTime: time.Duration(l.metrics.commitNanos.Load()),
		Queue:      len(l.queue),

		Published:     l.metrics.published.Load(),
		PublishFailed: l.metrics.publishFailed.Load(),
	}
	if h.Time > 0 {
		m.BlockAge = l.now().Sub(time.Unix(h.Time, 0))
	}
	// What cannot be read is not told; whoever uses the ledger learns why.
	_ = l.read(func(s rows) error {
		supply, err := readSupply(s, l.cfg.Network, Parameters{})
		m.Circulating, m.Reserved = int64(supply.Circulating()), int64(supply.Pending)
		if err != nil {
			return err
		}
		escrow, err := readCounters(s, EscrowAccount(l.cfg.Network))
		m.Unsettled = int64(escrow.Balance())
		return err
	})
	for i := range m.ByCode {
		m.ByCode[i] = l.metrics.byCode[i].Load()
	}
	return m
}

// Refusals counts rejections by their causes, in words.
func (m Metrics) Refusals() map[string]uint64 {
	out := map[string]uint64{}
	for i, n := range m.ByCode {
		if n > 0 {
			out[Code(i).String()] = n
		}
	}
	return out
}
