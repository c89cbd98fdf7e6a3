package meter

import (
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Bounds of the payer.
const (
	// sequenceRange is how many sequence numbers one fsync reserves.
	sequenceRange = 4096
	// reserveTime is how long what one fsync reserves lasts at the present rate.
	reserveTime = 10 * time.Second
	// reserveBytes is the least of it.
	reserveBytes = 64 << 20
	// flushAfter is how long a rest below one interval stays unpaid.
	flushAfter = time.Second
	// maxBackOff bounds the time between repetitions of a voucher.
	maxBackOff = 2 * time.Second
)

// reservation says how far a payer may have signed: no voucher it ever signed goes
// beyond. It is on disk before the first voucher that needs it is sent.
type reservation struct {
	Sequence uint64
	Amount   voucher.Amount
}

// payer is the client's side of one channel. It is sans-IO: now is the time since
// some fixed moment, by a monotonic clock; what it wants done it says when asked, and
// keys, disks and networks are its caller's. It is not safe for concurrent use.
//
//	Received, Admit ──► Due ──► Sign ──► (sent) ──► Ack
//	                     │ Reserve ──► Reserved        │ Repeat, until acknowledged
type payer struct {
	channel Channel
	network identity.NetworkID
	newest  voucher.Voucher // zero Sequence: none yet
	// base is a sequence that an earlier run may have signed up to.
	base uint64
	// reserved is on disk, reserving on the way there.
	reserved, reserving reservation
	acked               uint64 // sequence of the newest voucher the payee has
	bytes               uint64 // received by either end, all sessions
	owedSince           time.Duration
	owing               bool
	rate                rate
	roundTrip           time.Duration
	clock               stopwatch
	claimed             uint64 // milliseconds the payee says have passed
	sent                time.Duration
	tries               int
	asked               voucher.Amount // deposit that was asked for
}

// newPayer goes on where a payer stopped that kept these; newest may be zero.
func newPayer(c Channel, network identity.NetworkID, newest voucher.Voucher, bytes uint64, kept reservation) *payer {
	p := &payer{channel: c, network: network, newest: newest, bytes: bytes, base: kept.Sequence, reserved: kept, reserving: kept}
	p.clock.total = time.Duration(newest.Milliseconds) * time.Millisecond
	p.claimed = newest.Milliseconds
	return p
}

// Start and Stop tell when sessions of the channel begin and end.
func (p *payer) Start(now time.Duration) { p.clock.start(now) }
func (p *payer) Stop(now time.Duration)  { p.clock.stop(now) }

// Count notes n more bytes that either end has received.
func (p *payer) Count(now time.Duration, n uint64) {
	if n == 0 {
		return
	}
	p.bytes += n
	p.rate.add(now, n)
	if !p.owing {
		p.owing, p.owedSince = true, now
	}
}

// Claim notes how many milliseconds the payee wants to be paid for.
func (p *payer) Claim(milliseconds uint64) { p.claimed = max(p.claimed, milliseconds) }

// due returns what the next voucher would say.
func (p *payer) due(now time.Duration) voucher.Voucher {
	v := voucher.Voucher{Channel: p.channel.ID, Sequence: max(p.newest.Sequence, p.base) + 1}
	v.Bytes = max(p.bytes, p.newest.Bytes)
	// Time is paid for as the payee claims it, but never ahead of this node's clock.
	v.Milliseconds = max(min(p.claimed, milliseconds(p.clock.at(now))), p.newest.Milliseconds)
	if p.newest.Sequence == 0 {
		v.Bytes, v.Milliseconds = max(v.Bytes, Prepaid), max(v.Milliseconds, milliseconds(PrepaidTime))
	}
	return v
}

// Window returns the credit window as this side estimates it.
func (p *payer) Window() uint64 {
	return creditWindow(p.rate.perSecond, p.roundTrip, max(p.newest.Bytes, Prepaid), p.channel.Ask.MaxWindow)
}

// Interval returns after how many unpaid bytes the next voucher is due.
func (p *payer) Interval() uint64 { return voucherInterval(p.rate.perSecond, p.Window()) }

// Due reports whether it is time for another voucher. With flush, whatever is
// unpaid is due, as at the end of a session.
func (p *payer) Due(now time.Duration, flush bool) bool {
	if p.newest.Sequence == 0 {
		return true
	}
	v := p.due(now)
	bytes, passed := v.Bytes-p.newest.Bytes, v.Milliseconds-p.newest.Milliseconds
	if p.channel.Ask.Price.PerHour == 0 {
		passed = 0
	}
	if bytes == 0 && passed == 0 {
		return false
	}
	return flush || bytes >= p.Interval() || passed >= milliseconds(PrepaidTime)/4 ||
		bytes > 0 && p.owing && now-p.owedSince >= flushAfter
}

// Sign makes the next voucher, complete but for binding and signature. It is not ok
// while the disk or the deposit is behind: Reserve and TopUp say so.
func (p *payer) Sign(now time.Duration) (voucher.Voucher, bool) {
	v := p.due(now)
	amount, fits := p.channel.Ask.Price.Cost(v.Bytes, v.Milliseconds)
	if !fits || amount > p.channel.Deposit || amount > p.reserved.Amount || v.Sequence > p.reserved.Sequence {
		return voucher.Voucher{}, false
	}
	v.Amount = amount
	return v, true
}

// Signed notes that v, which Sign gave, was signed and sent.
func (p *payer) Signed(now time.Duration, v voucher.Voucher) {
	p.newest, p.sent, p.tries = v, now, 0
	p.owing = p.bytes > v.Bytes
	p.owedSince = now
}

// Ack notes what the payee acknowledges.
func (p *payer) Ack(sequence uint64) {
	if sequence <= p.newest.Sequence {
		p.acked = max(p.acked, sequence)
	}
}

// backOff returns how long a voucher waits for its acknowledgement.
func (p *payer) backOff() time.Duration {
	d := max(2*p.roundTrip, 50*time.Millisecond) << min(p.tries, 8)
	return min(d, maxBackOff)
}

// Repeat returns the newest voucher if it is to be sent again.
func (p *payer) Repeat(now time.Duration) (voucher.Voucher, bool) {
	if p.acked >= p.newest.Sequence || now-p.sent < p.backOff() {
		return voucher.Voucher{}, false
	}
	p.sent = now
	p.tries++
	return p.newest, true
}

// Wake returns how long nothing is to be done, unless bytes are received meanwhile.
func (p *payer) Wake(now time.Duration) time.Duration {
	wake := time.Minute
	if p.acked < p.newest.Sequence {
		wake = min(wake, p.sent+p.backOff()-now)
	}
	if p.owing {
		wake = min(wake, p.owedSince+flushAfter-now)
	}
	if p.clock.running > 0 && p.channel.Ask.Price.PerHour != 0 {
		wake = min(wake, PrepaidTime/4)
	}
	return max(wake, time.Millisecond)
}

// ahead returns the price of what is due and of some seconds more.
func (p *payer) ahead(v voucher.Voucher) voucher.Amount {
	bytes := max(during(p.rate.perSecond, reserveTime), reserveBytes)
	amount, fits := p.channel.Ask.Price.Cost(v.Bytes+bytes, v.Milliseconds+uint64(reserveTime/time.Millisecond))
	if !fits {
		return voucher.MaxAmount
	}
	return amount
}

// Reserve says what is to be written to disk next, well before it is needed. Nothing
// is while another is on its way there.
func (p *payer) Reserve(now time.Duration) (reservation, bool) {
	if p.reserving != p.reserved {
		return reservation{}, false
	}
	v := p.due(now)
	amount, fits := p.channel.Ask.Price.Cost(v.Bytes, v.Milliseconds)
	if !fits {
		return reservation{}, false
	}
	next := p.reserved
	if v.Sequence+sequenceRange/2 > next.Sequence {
		next.Sequence = v.Sequence + sequenceRange
	}
	if target := p.ahead(v); amount+(target-amount)/2 >= next.Amount {
		next.Amount = max(next.Amount, min(target, p.channel.Deposit))
	}
	if next == p.reserved {
		return reservation{}, false
	}
	p.reserving = next
	return next, true
}

// Reserved notes that a reservation is on disk.
func (p *payer) Reserved(r reservation) { p.reserved = r }

// Unreserved notes that it could not be written: it will be asked for again.
func (p *payer) Unreserved() { p.reserving = p.reserved }

// TopUp returns the deposit the channel should have soon, and whether more than
// there is must be asked for. It asks for each deposit once.
func (p *payer) TopUp(now time.Duration) (voucher.Amount, bool) {
	v := p.due(now)
	soon, fits := p.channel.Ask.Price.Cost(v.Bytes+4*p.Window(), v.Milliseconds+2*uint64(PrepaidTime/time.Millisecond))
	if !fits || soon <= max(p.channel.Deposit, p.asked) {
		return 0, false
	}
	p.asked = max(p.ahead(v), soon)
	return p.asked, true
}

// Exhausted reports whether what is due goes beyond the deposit.
func (p *payer) Exhausted(now time.Duration) bool {
	v := p.due(now)
	amount, fits := p.channel.Ask.Price.Cost(v.Bytes, v.Milliseconds)
	return !fits || amount > p.channel.Deposit
}

// Update takes what the ledger says of the channel now.
func (p *payer) Update(c Channel) {
	c.Deposit = max(c.Deposit, p.channel.Deposit)
	p.channel = c
}

// TopUpFailed lets TopUp ask again.
func (p *payer) TopUpFailed() { p.asked = 0 }

// Adopt takes the newest voucher that the payee holds, which carries this payer's
// own signature: after a crash or an older backup the payer may know an older one.
func (p *payer) Adopt(now time.Duration, v voucher.Voucher) bool {
	if v.Channel != p.channel.ID || v.Sequence <= p.newest.Sequence || v.Amount < p.newest.Amount ||
		!v.Verify(p.channel.SessionKey, p.network) {
		return false
	}
	p.newest = v
	p.acked = v.Sequence
	p.reserved.Sequence = max(p.reserved.Sequence, v.Sequence)
	p.reserved.Amount = max(p.reserved.Amount, v.Amount)
	p.reserving = p.reserved
	if v.Bytes > Prepaid {
		p.bytes = max(p.bytes, v.Bytes)
	}
	p.claimed = max(p.claimed, v.Milliseconds)
	if behind := time.Duration(v.Milliseconds)*time.Millisecond - p.clock.at(now); behind > 0 {
		p.clock.total += behind
	}
	return true
}
