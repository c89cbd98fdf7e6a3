package spending

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// keepDays is how many days are remembered.
const keepDays = 90

// ErrChannel is returned for a channel the book does not have.
var ErrChannel = errors.New("spending: no such channel")

// Book is what was spent and what may be. Methods take the time from their caller.
type Book struct {
	limits   Limits
	channels map[voucher.ChannelID]*commitment
	days     map[dayKey]voucher.Amount
}

// commitment is an open channel: Paid of Deposit has been spent.
type commitment struct {
	service       identity.ServiceID
	deposit, paid voucher.Amount
}

type dayKey struct {
	day     int64
	service identity.ServiceID
}

// NewBook returns an empty book.
func NewBook(limits Limits) (*Book, error) {
	if err := limits.Validate(); err != nil {
		return nil, err
	}
	return &Book{limits: limits, channels: map[voucher.ChannelID]*commitment{}, days: map[dayKey]voucher.Amount{}}, nil
}

// SetLimits changes the limits from now on. What open channels hold stays theirs.
func (b *Book) SetLimits(l Limits) error {
	if err := l.Validate(); err != nil {
		return err
	}
	b.limits = l
	return nil
}

// Limits returns the limits.
func (b *Book) Limits() Limits { return b.limits }

// Permit says whether a channel at this price could be opened, or an amount added to
// one: nil, a *PriceError or a *BudgetError.
func (b *Book) Permit(service identity.ServiceID, price voucher.Price, least voucher.Amount, now time.Time) error {
	if err := b.limits.Check(price); err != nil {
		return err
	}
	_, err := b.Grant(service, least, least, now)
	return err
}

// Grant says how much may go into a channel now: as much of want as the budget has,
// or a *BudgetError if that is below least.
func (b *Book) Grant(service identity.ServiceID, want, least voucher.Amount, now time.Time) (voucher.Amount, error) {
	granted := want
	for _, scope := range [...]struct {
		name   string
		of     *identity.ServiceID
		budget voucher.Amount
	}{{"this service", &service, b.limits.PerService}, {"all services", nil, b.limits.PerDay}} {
		if scope.budget == Unlimited {
			continue
		}
		spent, committed := b.used(scope.of, now)
		used := plus(spent, committed)
		room, ok := scope.budget.Sub(used)
		if !ok || room < least || scope.budget == 0 {
			return 0, &BudgetError{Scope: scope.name, Budget: scope.budget, Spent: spent, Committed: committed, Needed: least}
		}
		granted = min(granted, room)
	}
	return granted, nil
}

// Open notes a channel and what is in it.
func (b *Book) Open(id voucher.ChannelID, service identity.ServiceID, deposit voucher.Amount) {
	b.channels[id] = &commitment{service: service, deposit: deposit}
}

// Deposit notes what is in a channel after a top-up: all of it, what is paid included.
func (b *Book) Deposit(id voucher.ChannelID, deposit voucher.Amount) error {
	c := b.channels[id]
	if c == nil {
		return ErrChannel
	}
	c.deposit = max(c.deposit, deposit)
	return nil
}

// Withdraw notes that a top-up did not come about: the deposit is what it was before.
func (b *Book) Withdraw(id voucher.ChannelID, deposit voucher.Amount) error {
	c := b.channels[id]
	if c == nil {
		return ErrChannel
	}
	c.deposit = max(deposit, c.paid)
	return nil
}

// Pay notes that amount has been promised on a channel since it was opened. A lower
// amount than before is old news. The difference is spent on the day of now.
func (b *Book) Pay(id voucher.ChannelID, amount voucher.Amount, now time.Time) error {
	c := b.channels[id]
	if c == nil {
		return ErrChannel
	}
	amount = min(amount, c.deposit)
	if more, ok := amount.Sub(c.paid); ok && more > 0 {
		c.paid = amount
		b.spend(c.service, more, now)
	}
	return nil
}

// Close notes that a channel is closed, and what the provider got of it in the end.
// What was promised beyond that was never spent, and counts for today no more.
func (b *Book) Close(id voucher.ChannelID, settled voucher.Amount, now time.Time) error {
	if err := b.Pay(id, settled, now); err != nil {
		return err
	}
	c := b.channels[id]
	delete(b.channels, id)
	if back, ok := c.paid.Sub(settled); ok && back > 0 {
		key := dayKey{day(now), c.service}
		b.days[key] -= min(back, b.days[key])
	}
	return nil
}

func (b *Book) spend(service identity.ServiceID, amount voucher.Amount, now time.Time) {
	key := dayKey{day(now), service}
	if _, known := b.days[key]; !known {
		for k := range b.days {
			if k.day < key.day-keepDays {
				delete(b.days, k)
			}
		}
	}
	b.days[key] = plus(b.days[key], amount)
}

// used is what a service, or all together where of is nil, spent today and hold in
// open channels.
func (b *Book) used(of *identity.ServiceID, now time.Time) (spent, committed voucher.Amount) {
	today := day(now)
	if of != nil {
		spent = b.days[dayKey{today, *of}]
	} else {
		for k, v := range b.days {
			if k.day == today {
				spent = plus(spent, v)
			}
		}
	}
	for _, c := range b.channels {
		if of == nil || c.service == *of {
			committed = plus(committed, c.deposit-c.paid)
		}
	}
	return spent, committed
}

// Day is what one service cost on one day.
type Day struct {
	// Start is the first second of the day, in UTC.
	Start   time.Time
	Service identity.ServiceID
	Spent   voucher.Amount
}

// Days returns what was spent since a time, oldest first.
func (b *Book) Days(since time.Time) []Day {
	from := day(since)
	var out []Day
	for k, v := range b.days {
		if k.day >= from && v > 0 {
			out = append(out, Day{time.Unix(k.day*secondsPerDay, 0).UTC(), k.service, v})
		}
	}
	slices.SortFunc(out, func(x, y Day) int {
		return cmp.Or(x.Start.Compare(y.Start), slices.Compare(x.Service[:], y.Service[:]))
	})
	return out
}

// Summary is where the budget stands.
type Summary struct {
	Limits           Limits
	Spent, Committed voucher.Amount
	Channels         int
}

// Summary says where the budget of all services stands today.
func (b *Book) Summary(now time.Time) Summary {
	spent, committed := b.used(nil, now)
	return Summary{Limits: b.limits, Spent: spent, Committed: committed, Channels: len(b.channels)}
}

const secondsPerDay = 24 * 60 * 60

func day(t time.Time) int64 { return t.Unix() / secondsPerDay }

// plus adds, and stays at the largest amount where the sum does not fit.
func plus(a, b voucher.Amount) voucher.Amount {
	if sum, ok := a.Add(b); ok {
		return sum
	}
	return voucher.MaxAmount
}
