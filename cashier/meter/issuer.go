package meter

import (
	"slices"
	"sync"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Bounds of the issuer.
const (
	// maxIssues is how many receipts wait to be signed. Those that are not final are
	// not put in once half of them do.
	maxIssues = 1 << 16
	// maxPending is how many final receipts wait to be acknowledged.
	maxPending = 1 << 16
	// issueDelay is how long receipts gather before they are signed: a frame has room
	// for several, and nobody waits for one.
	issueDelay = 20 * time.Millisecond
	// issueBatch is how many are signed at a time, 1 ms of work, and issueRest the
	// pause after each while there is room in the queue: signing takes at most a fifth
	// of a core from those whose sessions go on.
	issueBatch = 64
	issueRest  = 4 * time.Millisecond
	// issueTries is how often a final receipt is sent: after 1, 4, 16 and 64 s.
	issueTries = 5
)

// issuer signs receipts: one goroutine, off the data path.
type issuer struct {
	m    *Meter
	wake chan struct{} // cap 1

	mu      sync.Mutex // guards below
	queue   []issue
	pending map[[32]byte]*pending
}

// issueState is what the issuer keeps at an account, guarded by its lock.
type issueState struct {
	sequence       uint64
	sent, received uint64 // of the last receipt
	final          bool
}

// issue is a receipt to be signed.
type issue struct {
	peer    identity.NodeID
	receipt voucher.Receipt
	account *Account // of a final one, to settle
}

// pending is a final receipt that the client has not acknowledged.
type pending struct {
	issue
	tries int
	next  time.Duration
}

func newIssuer(m *Meter) *issuer {
	return &issuer{m: m, wake: make(chan struct{}, 1), pending: make(map[[32]byte]*pending)}
}

// issue queues a receipt of what a session has carried by now. One that is not final
// is left out when nothing was carried since the last.
func (i *issuer) issue(a *Account, final bool) {
	sent, received := a.counts()
	age := milliseconds(i.m.now() - a.began)
	i.mu.Lock()
	defer i.mu.Unlock()
	state := &a.issue
	switch {
	case state.final,
		!final && state.sequence > 0 && state.sent == sent && state.received == received,
		!final && sent+received == 0,
		!final && len(i.queue) >= maxIssues/2:
		return
	case len(i.queue) >= maxIssues:
		i.m.counters.unissued.Add(1)
		return
	}
	state.sequence++
	state.sent, state.received, state.final = sent, received, final
	r := issue{peer: a.session.Peer, receipt: voucher.Receipt{
		Node: a.session.Local, Service: a.session.Service, Nonce: a.session.Nonce, Sequence: state.sequence,
		Sent: sent, Received: received, Duration: age, Final: final,
	}}
	if final && a.priced() {
		r.account = a
	}
	i.queue = append(i.queue, r)
	if len(i.queue) == 1 {
		select {
		case i.wake <- struct{}{}:
		default:
		}
	}
}

// run signs what is queued, until the meter is closed.
func (i *issuer) run() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	delay := time.NewTimer(time.Hour)
	defer delay.Stop()
	for {
		select {
		case <-i.wake:
			delay.Reset(issueDelay)
		case <-delay.C:
			i.sign()
		case <-tick.C:
			i.repeat()
		case <-i.m.ctx.Done():
			i.sign() // sessions that ended with the node
			return
		}
	}
}

// sign signs and sends everything queued.
func (i *issuer) sign() {
	for {
		queue, left := i.take()
		if len(queue) == 0 {
			return
		}
		slices.SortStableFunc(queue, func(a, b issue) int { return a.peer.Compare(b.peer) })
		now := i.m.now()
		batch := make([]voucher.Receipt, 0, maxReceipts)
		frame := make([]byte, 0, MaxFrame)
		for k := range queue {
			q := &queue[k]
			q.receipt.Sign(i.m.cfg.Key, i.m.cfg.Network)
			if q.receipt.Final {
				i.expect(q, now)
			}
			batch = append(batch, q.receipt)
			if len(batch) == maxReceipts || k+1 == len(queue) || queue[k+1].peer != q.peer {
				i.m.cfg.Send(q.peer, appendReceipts(frame, batch))
				batch = batch[:0]
			}
		}
		i.m.counters.receipts.Add(uint64(len(queue)))
		if left == 0 || left > maxIssues/4 {
			continue
		}
		select {
		case <-time.After(issueRest):
		case <-i.m.ctx.Done():
		}
	}
}

// take takes the next batch from the queue, and says how many are left.
func (i *issuer) take() (batch []issue, left int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := min(len(i.queue), issueBatch)
	batch, i.queue = i.queue[:n:n], i.queue[n:]
	if len(i.queue) == 0 {
		i.queue = nil
	}
	return batch, len(i.queue)
}

// expect waits for the acknowledgement of a final receipt.
func (i *issuer) expect(q *issue, now time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.pending) < maxPending {
		i.pending[q.receipt.Nonce] = &pending{*q, 1, now + time.Second}
	}
}

// repeat sends final receipts again that were not acknowledged.
func (i *issuer) repeat() {
	now := i.m.now()
	again := make(map[identity.NodeID][]voucher.Receipt)
	i.mu.Lock()
	for nonce, p := range i.pending {
		switch {
		case now < p.next:
		case p.tries == issueTries:
			delete(i.pending, nonce)
			i.m.counters.unacknowledged.Add(1)
		default:
			p.next = now + time.Second<<(2*p.tries)
			p.tries++
			again[p.peer] = append(again[p.peer], p.receipt)
		}
	}
	i.mu.Unlock()
	for peer, list := range again {
		for len(list) > 0 {
			n := min(len(list), maxReceipts)
			i.m.cfg.Send(peer, appendReceipts(make([]byte, 0, MaxFrame), list[:n]))
			list = list[n:]
		}
	}
}

// acknowledged takes acknowledgements, with what the client counted: that settles a
// session that is paid for.
func (i *issuer) acknowledged(peer identity.NodeID, acks []receiptAck) {
	for _, ack := range acks {
		i.mu.Lock()
		p := i.pending[ack.Nonce]
		ok := p != nil && p.peer == peer && ack.Sequence >= p.receipt.Sequence
		if ok {
			delete(i.pending, ack.Nonce)
		}
		i.mu.Unlock()
		if !ok || p.account == nil {
			continue
		}
		p.account.mu.Lock()
		t := p.account.till
		p.account.mu.Unlock()
		if t != nil {
			t.writeOff(p.account, ack.Received)
		}
	}
}
