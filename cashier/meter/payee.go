package meter

import (
	"math"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

const (
	// maxBindings is how many sessions of a channel, live and just ended, a voucher may
	// be bound to.
	maxBindings = 256
	// forgivenShare is which part of what a channel has paid the payee may write off,
	// beside Prepaid, of what it sent on streams that the client gave up: what was on
	// the way then was not received, and nobody can tell how much it was.
	forgivenShare = 8
)

// unlimited is what sessions may carry that nobody pays for by the byte.
const unlimited = math.MaxInt64

// mark is how far a channel is paid, or kept on disk.
type mark struct{ Sequence, Bytes, Milliseconds uint64 }

// payee is the provider's side of one channel, sans-IO as payer is. Bytes are leased
// to the sessions before they are carried, so their sum never goes beyond what was
// paid, on disk, and the window.
//
//	Voucher ──► Keep ──► Kept ──► Lease ──► (carried) ──► Return, WriteOff
type payee struct {
	channel  Channel
	network  identity.NetworkID
	newest   voucher.Voucher // accepted
	kept     mark            // on disk
	keeping  uint64          // sequence on its way there
	leased   uint64          // bytes carried or leased, less what was written off
	datagram uint64          // of them, sent as datagrams in sessions not settled
	forgiven uint64
	rate     rate
	// roundTrip is the connection's.
	roundTrip time.Duration
	clock     stopwatch
	excused   uint64 // milliseconds written off
	live      map[[32]byte]int
	ended     [][32]byte // bindings of ended sessions, oldest first
}

// newPayee goes on where a payee stopped that kept these.
func newPayee(c Channel, network identity.NetworkID, newest voucher.Voucher, carried uint64) *payee {
	p := &payee{channel: c, network: network, newest: newest, live: make(map[[32]byte]int)}
	p.kept = mark{newest.Sequence, newest.Bytes, newest.Milliseconds}
	p.keeping = newest.Sequence
	// What was carried and not paid when it stopped is lost: the sessions are gone.
	p.leased = min(carried, newest.Bytes)
	p.clock.total = time.Duration(newest.Milliseconds) * time.Millisecond
	return p
}

// Start and Stop tell of the sessions of the channel and of their exporters.
func (p *payee) Start(now time.Duration, binding [32]byte) {
	p.clock.start(now)
	p.live[binding]++
}

// Stop ends a session. A moment of time is written off each time the last one ends:
// the two ends do not see it at the same instant.
func (p *payee) Stop(now time.Duration, binding [32]byte) {
	p.clock.stop(now)
	if p.live[binding]--; p.live[binding] <= 0 {
		delete(p.live, binding)
		if len(p.ended) == maxBindings {
			p.ended = append(p.ended[:0], p.ended[1:]...)
		}
		p.ended = append(p.ended, binding)
	}
	if p.clock.running == 0 {
		if used := p.milliseconds(now); used > p.newest.Milliseconds {
			p.excused += min(used-p.newest.Milliseconds, milliseconds(min(2*p.roundTrip, maxRoundTrip)+diskTime))
		}
	}
}

// milliseconds is the time to be paid for.
func (p *payee) milliseconds(now time.Duration) uint64 {
	return milliseconds(p.clock.at(now)) - p.excused
}

// Claim returns the milliseconds that the client is asked to pay for: never ahead of
// this node's own monotonic clock.
func (p *payee) Claim(now time.Duration) uint64 { return p.milliseconds(now) }

// Window returns the credit window.
func (p *payee) Window() uint64 {
	return creditWindow(p.rate.perSecond, p.roundTrip, p.kept.Bytes, p.channel.Ask.MaxWindow)
}

// lost returns how many datagram bytes are taken for lost, within the allowance.
func (p *payee) lost() uint64 {
	return p.datagram/voucher.MaxLossAllowance*uint64(p.channel.Ask.LossAllowance) +
		p.datagram%voucher.MaxLossAllowance*uint64(p.channel.Ask.LossAllowance)/voucher.MaxLossAllowance
}

// limit returns how many bytes may have been carried by now.
func (p *payee) limit(now time.Duration) uint64 {
	if p.kept.Sequence == 0 || !p.channel.Open {
		return 0
	}
	price, used := p.channel.Ask.Price, p.milliseconds(now)
	if price.PerHour != 0 && used > p.kept.Milliseconds+timeWindow(p.roundTrip, p.kept.Milliseconds) {
		return 0
	}
	if price.PerGiB == 0 {
		return unlimited
	}
	limit := p.kept.Bytes + p.Window()
	if cost, fits := price.Cost(limit, max(used, p.newest.Milliseconds)); !fits || cost > p.channel.Deposit {
		limit = min(limit, affordable(price, p.channel.Deposit, max(used, p.newest.Milliseconds)))
	}
	return limit + p.lost()
}

// affordable returns how many bytes an amount pays for beside the time.
func affordable(price voucher.Price, amount voucher.Amount, milliseconds uint64) uint64 {
	low, high := uint64(0), uint64(math.MaxInt64) // low is affordable unless it is 0
	for low < high {
		middle := low + (high-low+1)/2
		if cost, fits := price.Cost(middle, milliseconds); fits && cost <= amount {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low
}

// short reports whether the deposit holds the window back.
func (p *payee) short(now time.Duration) bool {
	cost, fits := p.channel.Ask.Price.Cost(p.kept.Bytes+p.Window(), max(p.milliseconds(now), p.newest.Milliseconds))
	return !fits || cost > p.channel.Deposit
}

// Available returns how many bytes could be leased now.
func (p *payee) Available(now time.Duration) uint64 {
	limit := p.limit(now)
	if limit <= p.leased {
		return 0
	}
	return min(limit-p.leased, unlimited)
}

// Lease gives a session the right to carry at least least and up to want bytes, and
// returns how many; 0 if it must wait.
func (p *payee) Lease(now time.Duration, least, want uint64, datagrams bool) uint64 {
	n := min(p.Available(now), want)
	if n < least {
		return 0
	}
	p.leased += n
	if datagrams {
		p.datagram += n
	}
	p.rate.add(now, n)
	return n
}

// Return takes back what a session did not use of its lease.
func (p *payee) Return(n uint64, datagrams bool) {
	p.leased -= min(n, p.leased)
	if datagrams {
		p.datagram -= min(n, p.datagram)
	}
}

// WriteOff settles a session that has ended: of sent bytes the client received
// missing fewer. Lost datagrams are written off within the allowance, what was on the
// way in an aborted stream within a share of what the channel has paid.
func (p *payee) WriteOff(sent, missing uint64, datagrams bool) {
	missing = min(missing, sent)
	var off uint64
	if datagrams {
		before := p.lost()
		p.datagram -= min(sent, p.datagram)
		off = min(missing, before-p.lost())
	}
	budget := Prepaid + p.newest.Bytes/forgivenShare
	rest := min(missing-off, budget-min(budget, p.forgiven))
	p.forgiven += rest
	p.leased -= min(off+rest, p.leased)
}

// Owed returns how many bytes are carried or leased beyond what was paid.
func (p *payee) Owed() uint64 { return p.leased - min(p.leased, p.newest.Bytes) }

// Late reports whether time has run further ahead of payment than it may.
func (p *payee) Late(now time.Duration) bool {
	return p.limit(now) == 0
}

// Check judges a voucher but for its signature.
func (p *payee) Check(v voucher.Voucher) error {
	switch {
	case v.Channel != p.channel.ID:
		return ErrOtherChannel
	case v.Sequence <= p.newest.Sequence:
		return ErrStale
	case !p.bound(v.Binding):
		return ErrOtherConnection
	case v.Amount < p.newest.Amount || v.Bytes < p.newest.Bytes || v.Milliseconds < p.newest.Milliseconds:
		return ErrFalling
	case !p.channel.Open:
		return ErrExpired
	case v.Amount > p.channel.Deposit:
		return ErrDeposit
	}
	if cost, fits := p.channel.Ask.Price.Cost(v.Bytes, v.Milliseconds); !fits || v.Amount < cost {
		return ErrUnderpaid
	}
	return nil
}

// bound reports whether a voucher may carry this binding.
func (p *payee) bound(binding [32]byte) bool {
	if p.live[binding] > 0 || p.newest.Sequence > 0 && p.newest.Binding == binding {
		return true
	}
	for _, b := range p.ended {
		if b == binding {
			return true
		}
	}
	return false
}

// verify judges a voucher's signature.
func verify(v voucher.Voucher, key voucher.SessionKey, network identity.NetworkID) error {
	if !v.Verify(key, network) {
		return ErrSignature
	}
	return nil
}

// Accept takes a voucher that Check and verify found good.
func (p *payee) Accept(v voucher.Voucher) error {
	if err := p.Check(v); err != nil {
		return err
	}
	p.newest = v
	return nil
}

// Keep returns the newest voucher if it is to be written to disk now, with the bytes
// carried: credit counts from what is there, so a crash at any instant costs no more
// than the window. One write covers a range of vouchers. With all, any is due.
func (p *payee) Keep(all bool) (v voucher.Voucher, carried uint64, ok bool) {
	if p.newest.Sequence <= p.keeping {
		return voucher.Voucher{}, 0, false
	}
	ahead := p.newest.Bytes - p.kept.Bytes
	passed := p.newest.Milliseconds - p.kept.Milliseconds
	if !all && p.kept.Sequence != 0 && ahead < keepRange(p.rate.perSecond, p.Window(), p.roundTrip) &&
		passed < milliseconds(PrepaidTime)/4 {
		return voucher.Voucher{}, 0, false
	}
	p.keeping = p.newest.Sequence
	return p.newest, p.leased, true
}

// Kept notes that a voucher is on disk.
func (p *payee) Kept(v voucher.Voucher) {
	if v.Sequence > p.kept.Sequence {
		p.kept = mark{v.Sequence, v.Bytes, v.Milliseconds}
	}
}

// Unkept notes that it could not be written: it will be asked for again.
func (p *payee) Unkept() { p.keeping = p.kept.Sequence }

// Update takes what the ledger says of the channel now.
func (p *payee) Update(c Channel) {
	c.Deposit = max(c.Deposit, p.channel.Deposit)
	p.channel = c
}
