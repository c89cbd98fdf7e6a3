package usage

import (
	"cmp"
	"encoding/csv"
	"io"
	"iter"
	"slices"
	"strconv"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Position is where a channel stands: the second and third layer of a bill.
type Position struct {
	Channel          voucher.ChannelID
	Service          identity.ServiceID
	Node             identity.NodeID
	Client, Provider identity.AccountID
	Price            voucher.Price
	// Promised is what the newest voucher says, Settled what the ledger has moved,
	// Deposit what is in the channel at most.
	Promised, Settled, Deposit voucher.Amount
	// State is "open", "closing" or "closed"; empty where the ledger was not asked.
	State string
	// Opened is when it was, zero where that is not known.
	Opened time.Time
}

// Difference is an amount with a sign.
type Difference struct {
	Negative bool
	Amount   voucher.Amount
}

// Between returns a-b.
func Between(a, b voucher.Amount) Difference {
	if a >= b {
		return Difference{Amount: a - b}
	}
	return Difference{true, b - a}
}

// String returns the amount in credits, with a minus where it is below zero.
func (d Difference) String() string {
	if d.Negative {
		return "-" + d.Amount.String()
	}
	return d.Amount.String()
}

// MarshalText implements encoding.TextMarshaler.
func (d Difference) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Line is one channel on a statement, or the free sessions with one peer for one
// service.
type Line struct {
	Channel voucher.ChannelID
	Service identity.ServiceID
	Peer    identity.NodeID
	// Payer says that this end pays.
	Payer bool
	// Sessions, Sent, Received and Milliseconds are of the period, Used what they cost.
	Sessions       int
	Sent, Received uint64
	Milliseconds   uint64
	Used           voucher.Amount
	// UsedAll is what all recorded usage of the channel cost, before and after the
	// period as well: what is to be compared with vouchers, which are sums.
	UsedAll voucher.Amount
	// Position is the channel's; zero on a line of free sessions.
	Position Position
	// Unpromised is usage beyond the newest voucher: below zero where a voucher pays
	// ahead, or records were lost. Unsettled is what was promised and not yet moved.
	Unpromised, Unsettled Difference
}

// Statement is an invoice: what was used in a period, paid by or to an account.
type Statement struct {
	// Account is the one it is for; zero for all of this node's.
	Account      identity.AccountID
	Since, Until time.Time
	Lines        []Line
	// Paid and Earned sum up what the period's usage cost, Settled what the ledger has
	// moved on the lines' channels.
	Paid, Earned                   voucher.Amount
	SettledPaid, SettledEarned     voucher.Amount
	UnsettledPaid, UnsettledEarned voucher.Amount
}

type lineKey struct {
	channel voucher.ChannelID
	service identity.ServiceID // of free sessions alone
	peer    identity.NodeID
	payer   bool
}

// MakeStatement sums up records, which must be all there are, oldest first or not,
// for a period and an account: the zero account takes every channel. Free sessions
// belong to no account and are on the statement of all alone.
func MakeStatement(records iter.Seq2[Record, error], positions []Position, account identity.AccountID, since, until time.Time) (Statement, error) {
	out := Statement{Account: account, Since: since, Until: until}
	byChannel := map[voucher.ChannelID]Position{}
	for _, p := range positions {
		if account.IsZero() || p.Client == account || p.Provider == account {
			byChannel[p.Channel] = p
		}
	}
	lines := map[lineKey]*Line{}
	sessions := map[lineKey]map[[32]byte]bool{}
	for r, err := range records {
		if err != nil {
			return Statement{}, err
		}
		position, known := byChannel[r.Channel]
		if !account.IsZero() && !known {
			continue
		}
		key := lineKey{channel: r.Channel, peer: r.Peer, payer: r.Payer}
		if r.Channel.IsZero() {
			key.service = r.Service
		}
		line := lines[key]
		if line == nil {
			line = &Line{Channel: r.Channel, Service: r.Service, Peer: r.Peer, Payer: r.Payer, Position: position}
			lines[key], sessions[key] = line, map[[32]byte]bool{}
		}
		line.UsedAll = plus(line.UsedAll, r.Amount)
		if at := time.UnixMilli(r.Start); at.Before(since) || !at.Before(until) {
			continue
		}
		sessions[key][r.Nonce] = true
		line.Sent += r.Sent
		line.Received += r.Received
		line.Milliseconds += r.Milliseconds
		line.Used = plus(line.Used, r.Amount)
	}
	for key, line := range lines {
		line.Sessions = len(sessions[key])
		if line.Sessions > 0 {
			out.add(*line)
		}
	}
	slices.SortFunc(out.Lines, compareLines)
	return out, nil
}

func (s *Statement) add(l Line) {
	p := l.Position
	if !l.Channel.IsZero() {
		l.Unpromised, l.Unsettled = Between(l.UsedAll, p.Promised), Between(p.Promised, p.Settled)
	}
	unsettled := voucher.Amount(0)
	if !l.Unsettled.Negative {
		unsettled = l.Unsettled.Amount
	}
	if l.Payer {
		s.Paid, s.SettledPaid, s.UnsettledPaid = plus(s.Paid, l.Used), plus(s.SettledPaid, p.Settled), plus(s.UnsettledPaid, unsettled)
	} else {
		s.Earned, s.SettledEarned, s.UnsettledEarned = plus(s.Earned, l.Used), plus(s.SettledEarned, p.Settled), plus(s.UnsettledEarned, unsettled)
	}
	s.Lines = append(s.Lines, l)
}

// compareLines puts what is paid first, then what is earned, then what is free.
func compareLines(a, b Line) int {
	kind := func(l Line) int {
		switch {
		case l.Channel.IsZero():
			return 2
		case l.Payer:
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(kind(a), kind(b)), slices.Compare(a.Service[:], b.Service[:]),
		slices.Compare(a.Peer[:], b.Peer[:]), slices.Compare(a.Channel[:], b.Channel[:]))
}

// csvHeader names the columns of WriteCSV: append only.
var csvHeader = []string{
	"since", "until", "channel", "service", "peer", "direction", "sessions", "sent", "received", "milliseconds",
	"price_per_gib", "price_per_hour", "used", "used_since_opening", "promised", "settled", "unpromised", "unsettled", "state",
}

// WriteCSV writes the lines as comma-separated values (RFC 4180) with a header.
func (s Statement) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	if err := c.Write(csvHeader); err != nil {
		return err
	}
	for _, l := range s.Lines {
		p := l.Position
		channel := ""
		if !l.Channel.IsZero() {
			channel = l.Channel.String()
		}
		err := c.Write([]string{
			s.Since.UTC().Format(time.RFC3339), s.Until.UTC().Format(time.RFC3339), channel, l.Service.String(), l.Peer.String(), l.Direction(),
			strconv.Itoa(l.Sessions), strconv.FormatUint(l.Sent, 10), strconv.FormatUint(l.Received, 10), strconv.FormatUint(l.Milliseconds, 10),
			p.Price.PerGiB.String(), p.Price.PerHour.String(), l.Used.String(), l.UsedAll.String(), p.Promised.String(), p.Settled.String(),
			l.Unpromised.String(), l.Unsettled.String(), p.State,
		})
		if err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// Direction is "paid", "earned" or "free".
func (l Line) Direction() string {
	switch {
	case l.Channel.IsZero():
		return "free"
	case l.Payer:
		return "paid"
	}
	return "earned"
}

// plus adds, and stays at the largest amount where the sum does not fit.
func plus(a, b voucher.Amount) voucher.Amount {
	if sum, ok := a.Add(b); ok {
		return sum
	}
	return voucher.MaxAmount
}
