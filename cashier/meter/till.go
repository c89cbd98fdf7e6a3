package meter

import (
	"context"
	"errors"
	"sync"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Bounds of a till.
const (
	// maxInbox is how many vouchers of one channel wait to be judged: the newest
	// counts, and it is repeated.
	maxInbox = 16
	// Leases are an eighth of the window, shared by the sessions, within these bounds:
	// each costs a lock of the channel.
	minLease = 4 << 10
	maxLease = 1 << 20
	// tillTick is how often a till with sessions looks at its clock.
	tillTick = 100 * time.Millisecond
	// stateEvery is how often the ledger is asked about one channel at most.
	stateEvery = time.Second
	// claimEvery is how often a claim is repeated that was not paid.
	claimEvery = 250 * time.Millisecond
	// debtAfter is how long a channel stands still before its client is told that too
	// much was not received.
	debtAfter = time.Second
)

// till is paid by one channel: it holds the payee, leases bytes to the sessions, and
// judges vouchers. Its goroutine runs while there are sessions, and a little longer.
type till struct {
	m    *Meter // constant
	id   voucher.ChannelID
	peer identity.NodeID
	kick chan struct{} // cap 1

	mu       sync.Mutex // guards below
	payee    *payee     // nil: the ledger has not confirmed the channel yet
	sessions map[*Account]struct{}
	inbox    []voucher.Voucher
	running  bool
	idle     time.Duration
	asked    time.Duration // when the ledger was asked last
	asking   bool
	refresh  bool // the deposit may have grown
	moved    time.Duration
	carried  uint64 // as reported
	charged  voucher.Amount
}

func newTill(m *Meter, id voucher.ChannelID, peer identity.NodeID) *till {
	return &till{m: m, id: id, peer: peer, kick: make(chan struct{}, 1), sessions: make(map[*Account]struct{}), asked: -time.Hour}
}

// standing says what the till knows of its channel, for an acceptance.
func (t *till) standing(s Session) (has byte, newest voucher.Voucher) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.peer != s.Peer:
		return hasRefused, voucher.Voucher{}
	case t.payee == nil || t.payee.newest.Sequence == 0:
		return hasPending, voucher.Voucher{}
	case t.unfit(t.payee.channel, s.Service) != RefusedNone:
		return hasRefused, voucher.Voucher{}
	}
	return hasVoucher, t.payee.newest
}

// unfit says why a channel does not pay for a service here.
func (t *till) unfit(c Channel, service identity.ServiceID) Refusal {
	ask, _ := t.m.ask(service)
	switch {
	case c.ID != t.id || c.Ask.Service != service || c.Ask.Node != t.m.cfg.Key.Node() || ask.Account != c.Ask.Account && !ask.Account.IsZero():
		return RefusedUnknown
	case c.Ask.Price.IsZero():
		return RefusedPrice
	case !c.Open || c.Expires != 0 && t.m.cfg.Clock().Add(t.m.cfg.ExpiryMargin).Unix() >= c.Expires:
		return RefusedExpired
	}
	return RefusedNone
}

// attach has a session paid by this channel.
func (t *till) attach(a *Account, v voucher.Voucher) {
	refuse := func(why Refusal) {
		t.m.counters.refusals.Add(1)
		a.send(appendRefusal(nil, refusal{why, t.id}))
	}
	if t.peer != a.session.Peer {
		refuse(RefusedUnknown)
		return
	}
	a.mu.Lock()
	old, closed := a.till, a.closed
	a.mu.Unlock()
	if closed {
		return
	}
	if old != nil && old != t {
		old.detach(a)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.payee != nil {
		if why := t.unfit(t.payee.channel, a.session.Service); why != RefusedNone {
			refuse(why)
			return
		}
	}
	if _, known := t.sessions[a]; !known {
		t.sessions[a] = struct{}{}
		a.leased, a.base = 0, a.used.Load()
		if t.payee != nil {
			t.payee.Start(t.m.now(), a.session.Exporter)
		}
		a.mu.Lock()
		a.till = t
		a.mu.Unlock()
		t.moved = t.m.now()
	}
	a.claimNow = true
	t.refresh = true // an offer of what is known says that the deposit has grown
	t.put(v)
	t.start()
}

// put takes a voucher to be judged. mu must be held.
func (t *till) put(v voucher.Voucher) {
	if v.Sequence > 0 && len(t.inbox) < maxInbox {
		t.inbox = append(t.inbox, v)
	}
}

// receive takes a voucher that came from the client's node.
func (t *till) receive(v voucher.Voucher) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(v)
	t.start()
}

// start makes the goroutine run. mu must be held.
func (t *till) start() {
	if !t.running {
		t.running = t.m.spawn(t.run)
	}
	t.wake()
}

func (t *till) wake() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// lease lets a session carry n bytes, which are taken at once, and some more.
func (t *till) lease(a *Account, n int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, attached := t.sessions[a]; !attached {
		return false
	}
	for range 4 {
		if !t.grant(a, n) {
			break
		}
		if a.used.Add(n) <= a.granted.Load() {
			return true
		}
		a.used.Add(-n) // another direction of the session was faster
	}
	a.claimNow = true
	t.wake()
	return false
}

// grant leases a session at least n bytes, if need be those that others do not use.
// mu must be held.
func (t *till) grant(a *Account, n int64) bool {
	if t.payee == nil {
		return false
	}
	now := t.m.now()
	want := max(uint64(n), min(max(t.payee.Window()/8/uint64(max(1, len(t.sessions))), minLease), maxLease))
	got := t.payee.Lease(now, uint64(n), want, a.datagrams)
	if got == 0 && t.reclaim(a) {
		got = t.payee.Lease(now, uint64(n), uint64(n), a.datagrams)
	}
	if got == 0 {
		return false
	}
	a.leased += int64(got)
	a.granted.Add(int64(got))
	t.moved = now
	return true
}

// reclaim takes back what other sessions leased and did not use. mu must be held.
func (t *till) reclaim(but *Account) (any bool) {
	for a := range t.sessions {
		if a != but && t.takeBack(a) {
			any = true
		}
	}
	return any
}

// takeBack takes back what a session did not use of its lease. Take adds to used
// before it reads granted, so whatever it was let through is seen here. mu must be
// held.
func (t *till) takeBack(a *Account) bool {
	unused := a.granted.Load() - a.used.Load()
	if unused <= 0 {
		return false
	}
	left := a.granted.Add(-unused)
	if over := a.used.Load() - left; over > 0 {
		over = min(over, unused)
		a.granted.Add(over)
		unused -= over
	}
	a.leased -= unused
	t.payee.Return(uint64(unused), a.datagrams)
	return unused > 0
}

// wanted serves a session that waits.
func (t *till) wanted(a *Account) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a.claimNow = true
	t.serve(a)
	t.start()
}

// serve lets those go on for whom there is credit. mu must be held.
func (t *till) serve(a *Account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.waiters) > 0 {
		w := a.waiters[0]
		if !t.grant(a, w.n) {
			return
		}
		a.waiters = a.waiters[1:]
		close(w.done)
	}
}

// detach ends what a session has of this channel: another pays from now on.
func (t *till) detach(a *Account) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, attached := t.sessions[a]; !attached {
		return
	}
	delete(t.sessions, a)
	if t.payee != nil {
		t.takeBack(a)
		t.payee.Stop(t.m.now(), a.session.Exporter)
	}
	if t.idle = t.m.now(); t.payee == nil && len(t.sessions) == 0 {
		t.wake()
	}
}

// end ends a session.
func (t *till) end(a *Account) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, attached := t.sessions[a]; !attached {
		return
	}
	delete(t.sessions, a)
	t.idle = t.m.now()
	if t.payee != nil {
		if unused := a.leased - (a.used.Load() - a.base); unused > 0 {
			t.payee.Return(uint64(unused), a.datagrams)
		}
		t.payee.Stop(t.m.now(), a.session.Exporter)
	}
	t.start()
}

// writeOff settles an ended session: the client says how much it has received.
func (t *till) writeOff(a *Account, received uint64) {
	sent, _ := a.counts()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.payee != nil && received < sent {
		t.payee.WriteOff(sent, sent-received, a.datagrams)
		t.m.counters.writtenOff.Add(sent - received)
		t.wake()
	} else if t.payee != nil && a.datagrams {
		t.payee.WriteOff(sent, 0, true)
	}
}

// update takes what the ledger says of the channel.
func (t *till) update(c Channel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.payee != nil {
		t.payee.Update(c)
		t.wake()
	}
}

// run does the till's work until there is nothing left to do.
func (t *till) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait, more := t.work()
		if !more {
			return
		}
		timer.Reset(wait)
		select {
		case <-t.kick:
		case <-timer.C:
		case <-t.m.ctx.Done():
			t.mu.Lock()
			t.running = false
			t.mu.Unlock()
			return
		}
	}
}

// work does what is due, and returns how long nothing will be.
func (t *till) work() (wait time.Duration, more bool) {
	t.judge()
	now := t.m.now()
	t.mu.Lock()
	if t.payee == nil {
		defer t.mu.Unlock()
		return t.confirm(now)
	}
	for a := range t.sessions {
		if rtt := a.roundTrip(); rtt > 0 {
			t.payee.roundTrip = rtt
			break
		}
	}
	t.keep(t.holdsUp()) // credit counts from the disk
	for a := range t.sessions {
		t.serve(a)
	}
	price := t.payee.channel.Ask.Price
	if price.PerHour != 0 && t.payee.Late(now) {
		t.reclaim(nil)
	}
	if t.refresh && now-t.asked >= stateEvery || len(t.sessions) > 0 && t.payee.short(now) && now-t.asked >= 2*stateEvery {
		t.refresh = false
		t.ask(now)
	}
	out := t.claims(now)
	wait, more = time.Second, true
	if len(t.sessions) > 0 {
		wait = tillTick
	} else if now-t.idle > purseLinger {
		t.keep(true)
		more = t.payee.keeping != t.payee.kept.Sequence
	}
	t.running = more
	t.mu.Unlock()
	for _, o := range out {
		o.to(o.frame)
	}
	return wait, more
}

// judge judges the vouchers that came.
func (t *till) judge() {
	t.mu.Lock()
	inbox, pay := t.inbox, t.payee
	var key voucher.SessionKey
	if pay != nil {
		t.inbox, key = nil, pay.channel.SessionKey
	}
	t.mu.Unlock()
	if pay == nil || len(inbox) == 0 {
		return
	}
	var why Refusal
	for _, v := range inbox {
		t.mu.Lock()
		err := pay.Check(v)
		t.mu.Unlock()
		if err == nil {
			err = verify(v, key, t.m.cfg.Network) // 50 µs: not under the lock
		}
		if err == nil {
			t.mu.Lock()
			if err = pay.Accept(v); err == nil {
				t.moved = t.m.now()
			}
			t.mu.Unlock()
		}
		switch {
		case err == nil:
			t.m.counters.accepted.Add(1)
		case errors.Is(err, ErrStale):
		case errors.Is(err, ErrDeposit):
			t.mu.Lock()
			t.refresh = true
			t.mu.Unlock()
		case errors.Is(err, ErrOtherConnection):
			// The session it is bound to may be about to begin: it will be repeated.
			t.m.counters.refusals.Add(1)
		default:
			t.m.counters.refusals.Add(1)
			if why = RefusedVoucher; errors.Is(err, ErrExpired) {
				why = RefusedExpired
			}
			t.m.cfg.Logger.Debug("voucher refused", "peer", t.peer.Short(), "err", err)
		}
	}
	t.mu.Lock()
	ack := voucherAck{t.id, pay.newest.Sequence, pay.Claim(t.m.now())}
	var one *Account
	for a := range t.sessions {
		one = a
	}
	t.mu.Unlock()
	if ack.Sequence > 0 {
		t.m.cfg.Send(t.peer, appendVoucherAck(nil, ack))
	}
	if why != RefusedNone && one != nil {
		one.send(appendRefusal(nil, refusal{why, t.id}))
	}
}

// keep writes the newest voucher to disk when that is due. mu must be held.
func (t *till) keep(all bool) {
	pay := t.payee
	v, carried, ok := pay.Keep(all)
	if !ok {
		return
	}
	row := mustMarshal(payeeRow{t.peer, rowOf(pay.channel), carried, rowVoucher(v)})
	t.m.keeper.put(write{payeeKey(t.id), row, func(err error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if err != nil {
			pay.Unkept()
			return
		}
		pay.Kept(v)
		for a := range t.sessions {
			t.serve(a)
		}
		t.wake()
	}})
}

// claims tells clients what was received, and those whose channel stands still why.
// mu must be held.
func (t *till) claims(now time.Duration) (out []outgoing) {
	pay := t.payee
	passed := pay.Claim(now)
	owes := pay.Owed() > 0
	for a := range t.sessions {
		_, received := a.counts()
		news := received-min(received, a.claimed) >= minInterval
		again := owes || pay.channel.Ask.Price.PerHour != 0
		if !news && (!a.claimNow || now-a.claimAt < diskTime) && (!again || now-a.claimAt < claimEvery) {
			continue
		}
		a.claimNow, a.claimed, a.claimAt = false, received, now
		out = append(out, outgoing{a.send, appendClaim(nil, claim{received, passed})})
	}
	if t.holdsUp() && pay.kept.Sequence > 0 && now-t.moved > max(debtAfter, min(8*pay.roundTrip, maxRoundTrip)) && pay.keeping == pay.kept.Sequence {
		why := RefusedDebt
		if pay.short(now) {
			why = RefusedDeposit
		}
		if unfit := t.unfit(pay.channel, pay.channel.Ask.Service); unfit != RefusedNone {
			why = unfit
		}
		for a := range t.sessions {
			out = append(out, outgoing{a.send, appendRefusal(nil, refusal{why, t.id})})
		}
		t.moved = now
	}
	return out
}

// holdsUp reports whether a session waits for credit. mu must be held.
func (t *till) holdsUp() bool {
	for a := range t.sessions {
		a.mu.Lock()
		waits := len(a.waiters) > 0 || a.refused.Load() != 0
		a.mu.Unlock()
		if waits {
			return true
		}
	}
	return false
}

// confirm asks the ledger about a channel that is not known yet. mu must be held.
func (t *till) confirm(now time.Duration) (wait time.Duration, more bool) {
	if len(t.sessions) == 0 && !t.asking {
		t.running = false
		t.m.spawn(func() { t.m.dropTill(t) })
		return 0, false
	}
	if !t.asking && now-t.asked >= stateEvery {
		t.ask(now)
	}
	return stateEvery, true
}

// ask asks the ledger in the background. mu must be held.
func (t *till) ask(now time.Duration) {
	if t.asking || t.m.cfg.Channels == nil {
		return
	}
	t.asked = now
	t.asking = t.m.spawn(func() {
		ctx, cancel := context.WithTimeout(t.m.ctx, channelTimeout)
		defer cancel()
		c, err := t.m.cfg.Channels.State(ctx, t.id)
		t.told(c, err)
	})
}

// told takes the ledger's answer.
func (t *till) told(c Channel, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asking = false
	defer t.wake()
	why := RefusedNone
	switch {
	case errors.Is(err, ErrLedgerUnreachable):
		why = RefusedLedger
	case err != nil:
		why = RefusedUnknown
	case t.payee != nil:
		t.payee.Update(c)
		return
	default:
		for a := range t.sessions {
			if why = t.unfit(c, a.session.Service); why != RefusedNone {
				break
			}
		}
	}
	if t.payee != nil {
		return // what was known stays; the ledger will be asked again
	}
	if why != RefusedNone {
		t.m.counters.refusals.Add(1)
		t.m.cfg.Logger.Debug("channel refused", "peer", t.peer.Short(), "channel", t.id.Short(), "err", why.String())
		for a := range t.sessions {
			a.send(appendRefusal(nil, refusal{why, t.id}))
		}
		if why != RefusedLedger {
			for a := range t.sessions {
				a.mu.Lock()
				a.till = nil
				a.mu.Unlock()
			}
			clear(t.sessions)
		}
		return
	}
	t.payee = newPayee(c, t.m.cfg.Network, voucher.Voucher{}, 0)
	for a := range t.sessions {
		t.payee.Start(t.m.now(), a.session.Exporter)
	}
	t.m.strangers.Add(-1)
}

// usage returns what the price has grown by since it was last asked, with so many
// bytes more.
func (t *till) usage(bytes uint64) (voucher.ChannelID, voucher.Amount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.carried += bytes
	if t.payee == nil {
		return t.id, 0
	}
	amount, fits := t.payee.channel.Ask.Price.Cost(t.carried, milliseconds(t.payee.clock.at(t.m.now())))
	if !fits || amount <= t.charged {
		return t.id, 0
	}
	grown := amount - t.charged
	t.charged = amount
	return t.id, grown
}

// earned describes the channel for whoever settles it.
func (t *till) earned() (Earned, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.payee == nil {
		return Earned{}, false
	}
	return Earned{t.peer, t.payee.channel, t.payee.newest}, true
}

// settle keeps the newest voucher, at the end of the run.
func (t *till) settle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.payee != nil {
		t.keep(true)
	}
}

// dropTill forgets a till whose channel was never confirmed.
func (m *Meter) dropTill(t *till) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.tills[t.id] == t && t.payee == nil && len(t.sessions) == 0 && !t.running {
		delete(m.tills, t.id)
		m.strangers.Add(-1)
	}
}
