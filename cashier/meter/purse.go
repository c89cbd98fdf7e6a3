package meter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Bounds of a purse.
const (
	// maxOpens is how many channels one purse opens in openPeriod that carried less
	// than openWorth: a provider that takes none must not eat deposits.
	maxOpens   = 3
	openPeriod = 10 * time.Minute
	openWorth  = 1 << 20
	// channelTimeout is how long opening or topping up a channel may take.
	channelTimeout = 20 * time.Second
	// purseLinger is how long a purse without sessions repeats its last voucher.
	purseLinger = 15 * time.Second
	// minSessionMark bounds how seldom a session tells its purse of bytes.
	minSessionMark = 4 << 10
)

// purse pays one provider for one service: it holds the payer of the channel there
// is, opens one when there is none, and signs. Its goroutine runs while there are
// sessions, and a little longer.
type purse struct {
	m    *Meter // constant
	of   pair
	kick chan struct{} // cap 1

	mu       sync.Mutex // guards below
	ask      voucher.Ask
	payer    *payer // nil: no channel
	key      identity.PrivateKey
	sessions map[*Account]struct{}
	running  bool
	opening  bool
	opens    []time.Duration
	flush    bool
	idle     time.Duration // since when there is no session
	topUp    error         // why the last one failed
	starved  bool          // the provider says that the deposit is used up
	charged  voucher.Amount
}

func newPurse(m *Meter, of pair) *purse {
	return &purse{m: m, of: of, kick: make(chan struct{}, 1), sessions: make(map[*Account]struct{})}
}

// adopt takes a channel of an earlier run, or one just opened.
func (p *purse) adopt(h Held, pay *payer) {
	p.m.mu.Lock()
	p.m.paid[h.ID] = p
	p.m.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.payer, p.key, p.ask = pay, h.Key, h.Ask
	amount, _ := h.Ask.Price.Cost(pay.bytes, pay.newest.Milliseconds)
	p.charged = amount
	p.topUp, p.starved = nil, false
	now := p.m.now()
	for range p.sessions {
		pay.Start(now)
	}
	for a := range p.sessions {
		a.offered, a.offerAt, a.offers = false, 0, 0
	}
}

// usable reports whether new sessions may be paid from a channel. mu must be held.
func (p *purse) usable() bool {
	if p.payer == nil {
		return false
	}
	c := p.payer.channel
	return c.Open && (c.Expires == 0 || p.m.cfg.Clock().Add(2*p.m.cfg.ExpiryMargin).Unix() < c.Expires)
}

// openingExtension returns the extension of a session's opening.
func (p *purse) openingExtension() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.usable() {
		return nil
	}
	v := p.payer.newest
	v.Channel = p.payer.channel.ID
	return appendOpening(make([]byte, 0, 1+voucher.VoucherSize), v)
}

// begin pays for a session from now on, if the settings permit.
func (p *purse) begin(a *Account, offer accepting) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if offer.Has == hasRefused {
		p.drop()
	}
	if !p.usable() {
		p.drop()
	}
	if p.payer == nil || p.topUp != nil {
		// Only a new channel, or one whose deposit has run out, asks the settings again: an open one
		// keeps its price.
		if p.m.cfg.Channels == nil {
			return ErrPrice
		}
		if err := p.m.cfg.Channels.Permit(offer.Ask); err != nil {
			return err
		}
		if p.topUp, p.starved = nil, false; p.payer != nil {
			p.payer.TopUpFailed()
		}
	}
	p.ask = offer.Ask
	now := p.m.now()
	if offer.Has == hasVoucher && p.payer != nil {
		p.payer.Adopt(now, offer.Newest)
	}
	a.mu.Lock()
	a.purse, a.ask = p, offer.Ask
	a.mu.Unlock()
	a.offered = p.payer != nil && offer.Has == hasVoucher
	if offer.Has == hasPending {
		a.offerAt = now + 200*time.Millisecond // it knows the channel; no need to hurry
	}
	p.sessions[a] = struct{}{}
	if p.payer != nil {
		p.payer.Start(now)
	}
	p.start()
	return nil
}

// start makes the goroutine run. mu must be held.
func (p *purse) start() {
	if !p.running {
		p.running = p.m.spawn(p.run)
	}
	p.wake()
}

func (p *purse) wake() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// drop gives the channel up. mu must be held.
func (p *purse) drop() {
	if p.payer == nil {
		return
	}
	if p.payer.acked > 0 && p.payer.newest.Bytes >= openWorth {
		p.opens = nil
	}
	p.m.cfg.Logger.Info("payment channel left", "peer", p.of.peer.Short(), "channel", p.payer.channel.ID.Short())
	p.payer = nil
}

// end ends a session: what it received is paid for at once.
func (p *purse) end(a *Account) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.sessions[a]; !ok {
		return
	}
	p.collect(a, p.m.now())
	delete(p.sessions, a)
	if p.payer != nil {
		p.payer.Stop(p.m.now())
	}
	p.flush, p.idle = true, p.m.now()
	p.start()
}

// collect counts what a session has received since it was last looked at. mu must be
// held.
func (p *purse) collect(a *Account, now time.Duration) {
	r := a.received.Load()
	if p.payer != nil {
		p.payer.Count(now, uint64(max(r-a.counted, 0)))
	}
	a.counted = r
}

// claimed takes what the provider says it has received: what this end sent, at most.
func (p *purse) claimed(a *Account, c claim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.offered = true
	if p.payer == nil {
		return
	}
	p.admit(a, c.Received)
	p.payer.Claim(c.Milliseconds)
	p.start()
}

// admit counts what the provider has received. mu must be held.
func (p *purse) admit(a *Account, received uint64) {
	sent, _ := a.counts()
	if admit := min(received, sent); admit > a.admitted && p.payer != nil {
		p.payer.Count(p.m.now(), admit-a.admitted)
		a.admitted = admit
	}
}

// receipt takes what the final receipt of a session says the provider received.
func (p *purse) receipt(a *Account, received uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.admit(a, received)
	p.flush = true
	p.start()
}

// acknowledged takes the acknowledgement of a voucher.
func (p *purse) acknowledged(ack voucherAck) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.payer != nil && p.payer.channel.ID == ack.Channel {
		p.payer.Ack(ack.Sequence)
		p.payer.Claim(ack.Milliseconds)
	}
}

// refused takes the provider's word that it does not go on with a channel.
func (p *purse) refused(r refusal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.payer == nil || p.payer.channel.ID != r.Channel {
		return
	}
	p.m.cfg.Logger.Debug("provider refuses", "peer", p.of.peer.Short(), "channel", r.Channel.Short(), "err", r.Why.String())
	switch r.Why {
	case RefusedDeposit:
		p.starved = true
		p.payer.TopUpFailed()
	case RefusedLedger:
		for a := range p.sessions {
			a.offered = false
		}
	case RefusedDebt:
		// Only a payer that owes nothing itself is held up by what was lost.
		if !p.payer.Due(p.m.now(), true) && p.payer.acked == p.payer.newest.Sequence {
			p.drop()
		}
	default:
		p.drop()
	}
	p.start()
}

// update takes what the ledger says of the channel.
func (p *purse) update(c Channel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.payer == nil || p.payer.channel.ID != c.ID {
		return
	}
	p.payer.Update(c)
	p.starved = false
	for a := range p.sessions {
		a.offered, a.offerAt, a.offers = false, 0, 0 // so that the provider looks again
	}
	p.start()
}

// retire gives a channel up that is closed.
func (p *purse) retire(id voucher.ChannelID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.payer != nil && p.payer.channel.ID == id {
		p.drop()
		if len(p.sessions) > 0 {
			p.start()
		}
	}
}

// fail ends all sessions of the purse. mu must not be held.
func (p *purse) fail(err error) {
	p.mu.Lock()
	all := make([]*Account, 0, len(p.sessions))
	for a := range p.sessions {
		all = append(all, a)
	}
	p.mu.Unlock()
	p.m.cfg.Logger.Warn("sessions cannot be paid for", "peer", p.of.peer.Short(), "service", p.of.service.Short(), "err", err)
	for _, a := range all {
		a.fail(err)
	}
}

// run does the purse's work until there is nothing left to do.
func (p *purse) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait, more := p.work()
		if !more {
			return
		}
		timer.Reset(wait)
		select {
		case <-p.kick:
		case <-timer.C:
		case <-p.m.ctx.Done():
			p.mu.Lock()
			p.running = false
			p.mu.Unlock()
			return
		}
	}
}

// outgoing is a frame on its way out, to a session's other end or to the node's meter.
type outgoing struct {
	to    func([]byte)
	frame []byte
}

// work does what is due, and returns how long nothing will be.
func (p *purse) work() (wait time.Duration, more bool) {
	now := p.m.now()
	p.mu.Lock()
	if p.payer == nil {
		defer p.mu.Unlock()
		if len(p.sessions) == 0 && !p.opening {
			p.running = false
			return 0, false
		}
		p.open(now)
		return time.Second, true
	}
	pay := p.payer
	binding := p.survey(now)
	p.write(now)
	p.raise(now)
	out := p.sign(now, binding)
	out = p.offer(now, out)
	wait = pay.Wake(now)
	done := len(p.sessions) == 0 && now-p.idle > purseLinger
	if len(p.sessions) == 0 {
		done = done || pay.acked >= pay.newest.Sequence && !pay.Due(now, true) && now-p.idle > 2*time.Second
		wait = min(wait, time.Second)
	}
	exhausted := error(nil)
	if p.topUp != nil && (p.starved || pay.Exhausted(now)) {
		exhausted = p.topUp
	}
	p.running = !done
	p.mu.Unlock()
	for _, o := range out {
		o.to(o.frame)
	}
	if exhausted != nil {
		p.fail(exhausted)
	}
	return wait, !done
}

// survey counts what the sessions received, tells them when to say more, and picks the
// session that vouchers are bound to. mu must be held.
func (p *purse) survey(now time.Duration) (binding *Account) {
	for a := range p.sessions {
		p.collect(a, now)
		if binding == nil || a.session.Exporter == p.payer.newest.Binding {
			binding = a
		}
	}
	if binding != nil {
		if rtt := binding.roundTrip(); rtt > 0 {
			p.payer.roundTrip = rtt
		}
	}
	unpaid := p.payer.bytes - min(p.payer.bytes, p.payer.newest.Bytes)
	left := p.payer.Interval()
	left -= min(unpaid, left)
	each := int64(left)
	if n := int64(len(p.sessions)); n > 1 {
		each = max(each/n, minSessionMark)
	}
	for a := range p.sessions {
		a.notice.Store(a.counted + max(each, 1))
	}
	return binding
}

// write reserves what will be signed. mu must be held.
func (p *purse) write(now time.Duration) {
	pay := p.payer
	r, ok := pay.Reserve(now)
	if !ok {
		return
	}
	row := mustMarshal(payerRow{r.Sequence, r.Amount, pay.bytes, rowVoucher(pay.newest)})
	p.m.keeper.put(write{payerKey(pay.channel.ID), row, func(err error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if err != nil {
			pay.Unreserved()
			return
		}
		pay.Reserved(r)
		p.wake()
	}})
}

// raise tops the channel up when its deposit runs out. mu must be held.
func (p *purse) raise(now time.Duration) {
	deposit, ok := p.payer.TopUp(now)
	if !ok || p.m.cfg.Channels == nil {
		return
	}
	pay := p.payer
	p.m.spawn(func() {
		ctx, cancel := context.WithTimeout(p.m.ctx, channelTimeout)
		defer cancel()
		c, err := p.m.cfg.Channels.TopUp(ctx, pay.channel.ID, deposit)
		if err == nil {
			p.update(c)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.topUp = err
		if err != nil {
			p.m.cfg.Logger.Warn("payment channel not topped up", "peer", p.of.peer.Short(), "err", err)
		}
		p.wake()
	})
}

// sign signs the next voucher, or repeats the newest. mu must be held.
func (p *purse) sign(now time.Duration, binding *Account) (out []outgoing) {
	pay := p.payer
	rebind := binding != nil && pay.newest.Sequence > 0 && pay.newest.Binding != binding.session.Exporter
	toMeter := func(b []byte) { p.m.cfg.Send(p.of.peer, b) }
	if binding == nil && pay.newest.Sequence == 0 {
		return nil // ended before it was ever paid: nothing to bind to
	}
	if pay.Due(now, p.flush || rebind) || rebind {
		if v, ok := pay.Sign(now); ok {
			v.Binding = pay.newest.Binding
			if binding != nil {
				v.Binding = binding.session.Exporter
			}
			v.Sign(p.key, p.m.cfg.Network)
			pay.Signed(now, v)
			p.flush = false
			p.m.counters.signed.Add(1)
			out = append(out, outgoing{toMeter, appendVoucher(nil, typeVoucher, v)})
		}
	} else {
		p.flush = false
	}
	if v, ok := pay.Repeat(now); ok {
		p.m.counters.repeated.Add(1)
		out = append(out, outgoing{toMeter, appendVoucher(nil, typeVoucher, v)})
	}
	return out
}

// offer tells the provider which channel pays for the sessions that it does not know
// it of. mu must be held.
func (p *purse) offer(now time.Duration, out []outgoing) []outgoing {
	if p.payer.newest.Sequence == 0 {
		return out // the first voucher is on its way to the disk
	}
	var b []byte
	for a := range p.sessions {
		if a.offered || now < a.offerAt {
			continue
		}
		a.offerAt = now + min(max(2*p.payer.roundTrip, 100*time.Millisecond)<<min(a.offers, 6), maxBackOff)
		a.offers++
		if b == nil {
			b = appendVoucher(nil, typeOffer, p.payer.newest)
		}
		out = append(out, outgoing{a.send, b})
	}
	return out
}

// open opens a channel in the background. mu must be held.
func (p *purse) open(now time.Duration) {
	if p.opening || len(p.sessions) == 0 {
		return
	}
	for len(p.opens) > 0 && now-p.opens[0] > openPeriod {
		p.opens = p.opens[1:]
	}
	ask := p.ask
	if len(p.opens) >= maxOpens {
		p.m.spawn(func() { p.fail(fmt.Errorf("%w: %d channels were opened and not taken", ErrChannel, maxOpens)) })
		return
	}
	p.opens = append(p.opens, now)
	p.opening = p.m.spawn(func() {
		ctx, cancel := context.WithTimeout(p.m.ctx, channelTimeout)
		defer cancel()
		h, err := p.m.cfg.Channels.Open(ctx, ask)
		if err != nil && ctx.Err() != nil && !errors.Is(err, ErrLedgerUnreachable) {
			err = fmt.Errorf("%w: %w", ErrLedgerUnreachable, err)
		}
		if err == nil {
			p.adopt(h, newPayer(h.Channel, p.m.cfg.Network, voucher.Voucher{}, 0, reservation{}))
			p.m.cfg.Logger.Info("payment channel opened", "peer", p.of.peer.Short(), "channel", h.ID.Short())
		}
		p.mu.Lock()
		p.opening = false
		if err != nil {
			p.opens = p.opens[:len(p.opens)-1]
		}
		p.mu.Unlock()
		if err != nil {
			p.fail(err)
		}
		p.wake()
	})
}

// usage returns what the price has grown by since it was last asked.
func (p *purse) usage() (voucher.ChannelID, voucher.Amount) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.payer == nil {
		return voucher.ChannelID{}, 0
	}
	id := p.payer.channel.ID
	amount, fits := p.payer.channel.Ask.Price.Cost(p.payer.bytes, p.payer.due(p.m.now()).Milliseconds)
	if !fits || amount <= p.charged {
		return id, 0
	}
	grown := amount - p.charged
	p.charged = amount
	return id, grown
}

// spent describes the channel for the wallet.
func (p *purse) spent() (Spent, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.payer == nil {
		return Spent{}, false
	}
	return Spent{p.of.peer, p.payer.channel, p.payer.newest, p.payer.reserved.Amount}, true
}

// settle keeps what exactly was signed, at the end of the run.
func (p *purse) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.payer == nil {
		return
	}
	pay := p.payer
	row := payerRow{pay.newest.Sequence, pay.newest.Amount, pay.bytes, rowVoucher(pay.newest)}
	row.Sequence = max(row.Sequence, pay.base)
	p.m.keeper.put(write{payerKey(pay.channel.ID), mustMarshal(row), func(error) {}})
}
