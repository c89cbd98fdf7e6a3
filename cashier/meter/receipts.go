package meter

import (
	"context"
	"errors"
	"sync"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// ErrNoReceipt is returned for a session of which no good receipt came, or that is not
// remembered any more.
var ErrNoReceipt = errors.New("meter: no receipt of this session")

// Receipts keeps the receipts of the sessions that this node dialled: the newest of
// each, of the last ReceiptMemory sessions and of all that are open.
type Receipts struct {
	network identity.NetworkID // constant
	limit   int

	mu      sync.Mutex // guards below
	entries map[[32]byte]*receiptEntry
	order   []*receiptEntry // ring of the oldest first
	head, n int
}

// receiptEntry is what is kept of one session.
type receiptEntry struct {
	nonce   [32]byte
	peer    identity.NodeID
	service identity.ServiceID
	account *Account // while the session is open, and of a priced one a little longer
	open    bool
	have    voucher.Receipt // its sequence is 0 when there is none
	verdict byte            // of have: 0 not verified yet, 1 good, 2 bad
	changed chan struct{}   // closed when have changes; nil: nobody waits
	sent    uint64
	got     uint64
}

func newReceipts(network identity.NetworkID, limit int) *Receipts {
	return &Receipts{network: network, limit: limit, entries: make(map[[32]byte]*receiptEntry)}
}

// begin expects receipts of a session.
func (r *Receipts) begin(a *Account) {
	e := &receiptEntry{nonce: a.session.Nonce, peer: a.session.Peer, service: a.session.Service, account: a, open: true}
	r.mu.Lock()
	defer r.mu.Unlock()
	for tries := 0; r.n >= r.limit && tries < 8; tries++ {
		oldest := r.pop()
		if !oldest.open {
			delete(r.entries, oldest.nonce)
			break
		}
		r.push(oldest)
	}
	r.entries[e.nonce] = e
	r.push(e)
}

func (r *Receipts) push(e *receiptEntry) {
	if r.n == len(r.order) {
		grown := make([]*receiptEntry, max(16, 2*len(r.order)))
		for i := range r.n {
			grown[i] = r.order[(r.head+i)%len(r.order)]
		}
		r.order, r.head = grown, 0
	}
	r.order[(r.head+r.n)%len(r.order)] = e
	r.n++
}

func (r *Receipts) pop() *receiptEntry {
	e := r.order[r.head]
	r.order[r.head] = nil
	r.head = (r.head + 1) % len(r.order)
	r.n--
	return e
}

// end notes that a session is closed. A final receipt that came before is acknowledged
// now that this side's counts are final as well.
func (r *Receipts) end(a *Account) {
	r.mu.Lock()
	e := r.entries[a.session.Nonce]
	if e == nil || e.account != a {
		r.mu.Unlock()
		return
	}
	e.open = false
	e.sent, e.got = a.counts()
	final := e.have.Final
	if ack := e.ack(); final {
		r.settled(e)
		r.mu.Unlock()
		a.meter.cfg.Send(e.peer, appendReceiptAcks(nil, []receiptAck{ack}))
		return
	}
	r.mu.Unlock()
}

// settled forgets the account of a session whose last word was said. mu must be held.
func (r *Receipts) settled(e *receiptEntry) { e.account = nil }

func (e *receiptEntry) ack() receiptAck {
	return receiptAck{e.nonce, e.have.Sequence, e.sent, e.got}
}

// receive takes receipts that a node sent, and returns what to acknowledge. Who sends
// them signs them too, so they are verified when somebody asks.
func (r *Receipts) receive(peer identity.NodeID, list []voucher.Receipt) (acks []receiptAck) {
	type told struct {
		account  *Account
		received uint64
	}
	var tell []told
	r.mu.Lock()
	for _, got := range list {
		e := r.entries[got.Nonce]
		if e == nil || e.peer != peer || got.Node != peer || got.Service != e.service {
			continue
		}
		if got.Sequence > e.have.Sequence && !e.have.Final {
			e.have, e.verdict = got, 0
			if e.changed != nil {
				close(e.changed)
				e.changed = nil
			}
			if e.account != nil {
				tell = append(tell, told{e.account, got.Received})
			}
		}
		if e.open {
			if e.have.Final {
				continue // acknowledged when this side has ended as well
			}
			e.sent, e.got = e.account.counts()
		}
		acks = append(acks, e.ack())
		if e.have.Final {
			r.settled(e)
		}
	}
	r.mu.Unlock()
	for _, t := range tell {
		t.account.mu.Lock()
		p := t.account.purse
		t.account.mu.Unlock()
		if p != nil {
			p.receipt(t.account, t.received)
		}
	}
	return acks
}

// Newest returns the newest receipt of a session, by its nonce, if its signature is
// good.
func (r *Receipts) Newest(nonce [32]byte) (voucher.Receipt, bool) {
	for {
		r.mu.Lock()
		e := r.entries[nonce]
		if e == nil || e.have.Sequence == 0 || e.verdict != 0 {
			defer r.mu.Unlock()
			if e == nil || e.verdict != 1 {
				return voucher.Receipt{}, false
			}
			return e.have, true
		}
		have := e.have
		r.mu.Unlock()
		verdict := byte(2)
		if have.Verify(r.network) {
			verdict = 1
		}
		r.mu.Lock()
		if e.have == have {
			e.verdict = verdict
		}
		r.mu.Unlock()
	}
}

// Await returns the final receipt of a session, as soon as it is there. When ctx ends
// before, it returns the newest there is with the reason of ctx, or ErrNoReceipt.
func (r *Receipts) Await(ctx context.Context, nonce [32]byte) (voucher.Receipt, error) {
	for {
		r.mu.Lock()
		e := r.entries[nonce]
		if e == nil {
			r.mu.Unlock()
			return voucher.Receipt{}, ErrNoReceipt
		}
		if e.changed == nil {
			e.changed = make(chan struct{})
		}
		changed, final := e.changed, e.have.Final
		r.mu.Unlock()
		if final {
			if have, good := r.Newest(nonce); good {
				return have, nil
			}
			return voucher.Receipt{}, ErrNoReceipt
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if have, good := r.Newest(nonce); good {
				return have, context.Cause(ctx)
			}
			return voucher.Receipt{}, errors.Join(ErrNoReceipt, context.Cause(ctx))
		}
	}
}
