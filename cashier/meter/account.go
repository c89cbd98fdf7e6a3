package meter

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"scn.alt/scn/cashier/voucher"
)

// Account is one metered session.
//
// At the provider of a priced service it may carry what it was granted by its
// channel's till, and asks for more when that is used up. At the client, and where
// nothing is asked, it only counts.
type Account struct {
	meter   *Meter // constant
	session Session
	send    func([]byte)
	began   time.Duration
	shard   int // the sweeper's
	// datagrams may be lost on the way.
	datagrams bool

	used     atomic.Int64 // bytes both ways
	received atomic.Int64
	granted  atomic.Int64 // what used may become
	notice   atomic.Int64 // at how many received bytes the purse wants to hear
	refused  atomic.Int64 // since when the session is held up, unix ns of meter time; 0: it is not
	dropped  atomic.Uint64

	// owned by the lock of purse or till
	counted  int64  // received bytes the purse has counted
	admitted uint64 // bytes the provider has received, as far as they were counted
	offered  bool   // the provider knows the channel
	offerAt  time.Duration
	offers   int
	claimed  uint64 // received bytes in the newest claim
	claimAt  time.Duration
	claimNow bool
	ask      voucher.Ask
	leased   int64 // granted by the present till
	base     int64 // used when it began

	issue issueState // the issuer's

	mu       sync.Mutex // guards below; taken after the till's lock
	purse    *purse
	till     *till
	err      error
	waiters  []*waiter
	closed   bool
	reported usageMark
}

// waiter is somebody who waits until n more bytes may be carried.
type waiter struct {
	n    int64
	done chan struct{}
}

// usageMark is up to where a session's usage was reported.
type usageMark struct {
	at             time.Time
	sent, received uint64
}

func newAccount(m *Meter, s Session, send func([]byte)) *Account {
	a := &Account{meter: m, session: s, send: send, began: m.now(), datagrams: s.Protocol == 17}
	a.granted.Store(math.MaxInt64)
	a.notice.Store(math.MaxInt64)
	a.reported.at = s.Start
	return a
}

// price makes the session wait to be paid for. It is called before anything else.
func (a *Account) price(ask voucher.Ask) {
	a.ask = ask
	a.granted.Store(0)
}

// priced reports whether the session is paid for at this end.
func (a *Account) priced() bool { return !a.ask.Price.IsZero() }

// Take counts n bytes that were received, or are about to be sent, and reports whether
// they may be carried; if not it counts nothing. It does not wait.
func (a *Account) Take(received bool, n int) bool {
	used := a.used.Add(int64(n))
	if used > a.granted.Load() {
		a.used.Add(-int64(n))
		if !a.takeLease(int64(n)) {
			return false
		}
	}
	if received {
		if r := a.received.Add(int64(n)); r >= a.notice.Load() {
			a.notify()
		}
	}
	return true
}

// Return uncounts n bytes that were taken to be sent and were not.
func (a *Account) Return(n int) { a.used.Add(-int64(n)) }

// takeLease asks the till for more, and takes n of it.
func (a *Account) takeLease(n int64) bool {
	a.mu.Lock()
	t, err := a.till, a.err
	a.mu.Unlock()
	if err == nil && t != nil && t.lease(a, n) {
		a.refused.Store(0)
		return true
	}
	a.refused.CompareAndSwap(0, max(1, int64(a.meter.now())))
	return false
}

// notify tells the purse that an interval is full.
func (a *Account) notify() {
	a.notice.Store(math.MaxInt64)
	a.mu.Lock()
	p := a.purse
	a.mu.Unlock()
	if p != nil {
		p.wake()
	}
}

// Drop counts bytes of a datagram that Take did not let through.
func (a *Account) Drop(n int) {
	a.dropped.Add(uint64(n))
	a.meter.counters.dropped.Add(1)
}

// Wait waits until n more bytes may be carried: Take will then let them through. It
// returns ErrUnpaid when they were not paid for in time, or why the session ended.
func (a *Account) Wait(ctx context.Context, n int) error {
	w := &waiter{int64(n), make(chan struct{})}
	a.mu.Lock()
	if a.err != nil {
		defer a.mu.Unlock()
		return a.err
	}
	a.waiters = append(a.waiters, w)
	t := a.till
	a.mu.Unlock()
	if t != nil {
		t.wanted(a)
	}
	a.meter.counters.pauses.Add(1)
	timeout := time.NewTimer(a.meter.cfg.PaymentTimeout)
	defer timeout.Stop()
	var err error
	select {
	case <-w.done:
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.err
	case <-timeout.C:
		err = ErrUnpaid
		a.meter.counters.unpaid.Add(1)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, other := range a.waiters {
		if other == w {
			a.waiters = append(a.waiters[:i], a.waiters[i+1:]...)
			break
		}
	}
	return err
}

// fail makes the session carry nothing any more, and ends it.
func (a *Account) fail(err error) {
	a.mu.Lock()
	if a.err != nil || a.closed {
		a.mu.Unlock()
		return
	}
	a.err = err
	waiters := a.waiters
	a.waiters = nil
	a.mu.Unlock()
	a.granted.Store(math.MinInt64 / 2)
	for _, w := range waiters {
		close(w.done)
	}
	if a.session.End != nil {
		a.session.End(err)
	}
}

// Frame takes a frame of the other end's account. It does not keep b.
func (a *Account) Frame(b []byte) {
	f, err := parseFrame(b)
	if err != nil {
		a.meter.counters.malformed.Add(1)
		return
	}
	a.mu.Lock()
	p, closed := a.purse, a.closed
	a.mu.Unlock()
	switch {
	case closed:
	case f.Type == typeOffer && a.priced() && !a.session.Initiator:
		a.meter.offered(a, f.Voucher)
	case f.Type == typeClaim && p != nil:
		p.claimed(a, f.Claim)
	case f.Type == typeRefusal && p != nil:
		p.refused(f.Refusal)
	default:
		a.meter.counters.malformed.Add(1)
	}
}

// Close ends the account: what is left is paid for, or a receipt is signed.
func (a *Account) Close() {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return
	}
	a.closed = true
	p, t := a.purse, a.till
	waiters := a.waiters
	a.waiters = nil
	if a.err == nil {
		a.err = ErrClosed
	}
	a.mu.Unlock()
	a.granted.Store(math.MinInt64 / 2)
	for _, w := range waiters {
		close(w.done)
	}
	a.meter.sweeper.remove(a)
	if p != nil {
		p.end(a)
	}
	if t != nil {
		t.end(a)
	}
	a.report(true)
	if a.session.Initiator {
		a.meter.receipts.end(a)
	} else {
		a.meter.issuer.issue(a, true)
	}
}

// counts returns the bytes carried so far.
func (a *Account) counts() (sent, received uint64) {
	r := a.received.Load()
	s := a.used.Load() - r
	return uint64(max(s, 0)), uint64(max(r, 0))
}

// roundTrip returns the connection's round trip time.
func (a *Account) roundTrip() time.Duration {
	if a.session.RoundTrip == nil {
		return 0
	}
	return a.session.RoundTrip()
}

// report gives the usage since the last report to whoever wants it.
func (a *Account) report(final bool) {
	usage := a.meter.cfg.Usage
	if usage == nil {
		return
	}
	sent, received := a.counts()
	now := a.meter.cfg.Clock()
	a.mu.Lock()
	since := a.reported
	a.reported = usageMark{now, sent, received}
	p, t := a.purse, a.till
	a.mu.Unlock()
	r := UsageRecord{
		Nonce: a.session.Nonce, Peer: a.session.Peer, Service: a.session.Service, Port: a.session.Port,
		Protocol: a.session.Protocol, Initiator: a.session.Initiator,
		Sent: sent - since.sent, Received: received - since.received,
		Milliseconds: milliseconds(now.Sub(since.at)), Start: since.at, End: now, Final: final,
	}
	switch {
	case p != nil:
		r.Channel, r.Amount = p.usage()
	case t != nil:
		r.Channel, r.Amount = t.usage(r.Sent + r.Received)
	}
	usage.Record(r)
}
