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
	// together, fsync included.
	Blocks     uint64
	CommitTime time.Duration
	// Published and PublishFailed count puts of name records.
	Published, PublishFailed uint64
	// Queue is how many transactions wait.
	Queue int
}

type metrics struct {
	submitted, accepted, rejected, blocks, commitNanos atomic.Uint64
	published, publishFailed                           atomic.Uint64
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
	m := Metrics{
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
	for i := range m.ByCode {
		m.ByCode[i] = l.metrics.byCode[i].Load()
	}
	return m
}
