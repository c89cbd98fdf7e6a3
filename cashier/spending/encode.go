package spending

import (
	"errors"
	"fmt"
	"slices"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// bookVersion is the version of the encoding.
const bookVersion = 1

// Bounds of what Decode believes.
const (
	maxChannels = 1 << 16
	maxRows     = 1 << 20
)

// ErrBook is returned for an encoding that is no book of this version.
var ErrBook = errors.New("spending: not a book of this version")

// encoded is a Book on disk. Rules for adding a field: a new number, and a new
// bookVersion if an older program must not overlook it.
type encoded struct {
	Version  uint64           `cbor:"1,keyasint"`
	Channels []encodedChannel `cbor:"2,keyasint,omitempty"`
	Days     []encodedDay     `cbor:"3,keyasint,omitempty"`
}

type encodedChannel struct {
	ID      voucher.ChannelID  `cbor:"1,keyasint"`
	Service identity.ServiceID `cbor:"2,keyasint"`
	Deposit voucher.Amount     `cbor:"3,keyasint"`
	Paid    voucher.Amount     `cbor:"4,keyasint"`
}

type encodedDay struct {
	Day     int64              `cbor:"1,keyasint"`
	Service identity.ServiceID `cbor:"2,keyasint"`
	Spent   voucher.Amount     `cbor:"3,keyasint"`
}

// Encode returns the book, without its limits: those stand in the settings.
func (b *Book) Encode() ([]byte, error) {
	e := encoded{Version: bookVersion}
	for id, c := range b.channels {
		e.Channels = append(e.Channels, encodedChannel{id, c.service, c.deposit, c.paid})
	}
	slices.SortFunc(e.Channels, func(x, y encodedChannel) int { return slices.Compare(x.ID[:], y.ID[:]) })
	for k, v := range b.days {
		e.Days = append(e.Days, encodedDay{k.day, k.service, v})
	}
	slices.SortFunc(e.Days, func(x, y encodedDay) int {
		if x.Day != y.Day {
			return int(x.Day - y.Day)
		}
		return slices.Compare(x.Service[:], y.Service[:])
	})
	return identity.Marshal(e)
}

// DecodeBook reads what Encode wrote.
func DecodeBook(raw []byte, limits Limits) (*Book, error) {
	b, err := NewBook(limits)
	if err != nil {
		return nil, err
	}
	var e encoded
	if err := identity.Unmarshal(raw, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBook, err)
	}
	if e.Version != bookVersion || len(e.Channels) > maxChannels || len(e.Days) > maxRows {
		return nil, fmt.Errorf("%w: version %d with %d channels", ErrBook, e.Version, len(e.Channels))
	}
	for _, c := range e.Channels {
		if _, twice := b.channels[c.ID]; twice || c.Paid > c.Deposit {
			return nil, fmt.Errorf("%w: channel %s", ErrBook, c.ID.Short())
		}
		b.channels[c.ID] = &commitment{c.Service, c.Deposit, c.Paid}
	}
	for _, d := range e.Days {
		key := dayKey{d.Day, d.Service}
		if _, twice := b.days[key]; twice {
			return nil, fmt.Errorf("%w: day %d twice", ErrBook, d.Day)
		}
		b.days[key] = d.Spent
	}
	return b, nil
}
