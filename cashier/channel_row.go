package cashier

import (
	"encoding/binary"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// The life of a channel:
//
//	 OpenChannel            RequestClose by the client
//	─────────────► open ───────────────────────────────► closing ──┐
//	                │  ▲ TopUpChannel                        │      │ the grace passes
//	                │  └───┘  Settle (anyone, any time)      │      │
//	                │                                        ▼      ▼
//	                └──────────────────────────────────────► closed ─────► forgotten
//	                  CloseChannel (both), Refute (provider,          at its expiry
//	                  while closing), its expiry
//
// When a channel closes, what is left of the deposit goes back to the client. Its row
// stays until it would have expired, so that whoever comes late is told.

// ChannelState is where a channel stands. The numbers stand in the state of ledgers.
type ChannelState uint8

// The states of a channel.
const (
	// ChannelOpen pays.
	ChannelOpen ChannelState = 1
	// ChannelClosing pays until its deadline; it takes no more money.
	ChannelClosing ChannelState = 2
	// ChannelClosed is over. What was left went back to the client.
	ChannelClosed ChannelState = 3
)

// String returns the state as a word.
func (s ChannelState) String() string {
	switch s {
	case ChannelOpen:
		return "open"
	case ChannelClosing:
		return "closing"
	case ChannelClosed:
		return "closed"
	}
	return fmt.Sprintf("state-%d", uint8(s))
}

// channelRow is a channel. What stands before state never changes.
type channelRow struct {
	client, provider identity.AccountID
	node             identity.NodeID
	service          identity.ServiceID
	session          voucher.SessionKey
	price            voucher.Price
	loss, window     uint32
	opened           uint64 // height

	state ChannelState
	// listed says that the row hangs in the list of its deadline, besides that of its
	// expiry.
	listed           bool
	deposit, settled voucher.Amount
	// What the highest voucher settled said, each for itself.
	sequence, bytes, milliseconds uint64
	// expires and deadline are times less what the ledger had halted; see marketRow.
	expires, deadline int64
	next, nextClosing reference
}

const (
	channelFixedSize = 5*identity.Size + 3*8 + 2*4
	channelRowSize   = channelFixedSize + 2 + 7*8 + 2*referenceSize
)

func (c *channelRow) append(b []byte) []byte {
	b = append(b, c.client[:]...)
	b = append(b, c.provider[:]...)
	b = append(b, c.node[:]...)
	b = append(b, c.service[:]...)
	b = append(b, c.session[:]...)
	b = appendUint64(appendUint64(b, uint64(c.price.PerGiB)), uint64(c.price.PerHour))
	b = binary.BigEndian.AppendUint32(b, c.loss)
	b = binary.BigEndian.AppendUint32(b, c.window)
	b = appendUint64(b, c.opened)
	b = append(b, byte(c.state), 0)
	if c.listed {
		b[len(b)-1] = 1
	}
	b = appendUint64(appendUint64(b, uint64(c.deposit)), uint64(c.settled))
	b = appendUint64(appendUint64(appendUint64(b, c.sequence), c.bytes), c.milliseconds)
	b = appendUint64(appendUint64(b, uint64(c.expires)), uint64(c.deadline))
	return c.nextClosing.append(c.next.append(b))
}

// decodeChannel reads a row into c.
func decodeChannel(b []byte, c *channelRow) error {
	if len(b) != channelRowSize {
		return fmt.Errorf("%w: channel row of %d bytes", ErrCorrupt, len(b))
	}
	for _, id := range []*[identity.Size]byte{
		(*[identity.Size]byte)(&c.client), (*[identity.Size]byte)(&c.provider), (*[identity.Size]byte)(&c.node),
		(*[identity.Size]byte)(&c.service), (*[identity.Size]byte)(&c.session),
	} {
		b = b[copy(id[:], b):]
	}
	number := func() uint64 {
		v := binary.BigEndian.Uint64(b)
		b = b[8:]
		return v
	}
	c.price = voucher.Price{PerGiB: voucher.Amount(number()), PerHour: voucher.Amount(number())}
	c.loss, c.window = binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	b = b[8:]
	c.opened = number()
	c.state, c.listed = ChannelState(b[0]), b[1] == 1
	if c.state < ChannelOpen || c.state > ChannelClosed || b[1] > 1 {
		return fmt.Errorf("%w: channel in %s", ErrCorrupt, c.state)
	}
	b = b[2:]
	c.deposit, c.settled = voucher.Amount(number()), voucher.Amount(number())
	c.sequence, c.bytes, c.milliseconds = number(), number(), number()
	c.expires, c.deadline = int64(number()), int64(number())
	var err error
	if c.next, err = decodeReference(b[:referenceSize]); err == nil {
		c.nextClosing, err = decodeReference(b[referenceSize:])
	}
	return err
}

// left is what the escrow account holds for the channel.
func (c *channelRow) left() voucher.Amount {
	if c.state == ChannelClosed || c.state == 0 {
		return 0
	}
	rest, _ := c.deposit.Sub(c.settled)
	return rest
}

// over reports whether a channel takes no more vouchers at a running time: it was
// closed, or what closes it only waits for its list.
func (c *channelRow) over(running int64) bool {
	return c.state == ChannelClosed || running > c.expires || c.state == ChannelClosing && running > c.deadline
}

func channelKey(id voucher.ChannelID) []byte { return append([]byte{channelRef}, id[:]...) }

// heldKey is the key of the row that says a channel is an account's, as its client or
// its provider.
func heldKey(a identity.AccountID, id voucher.ChannelID) []byte {
	return append(append([]byte{channelRef}, a[:]...), id[:]...)
}

// The two lists a channel's row hangs in, as the move of a reference.
const (
	listExpiry   = 0
	listDeadline = 1
)

func channelReference(id voucher.ChannelID, list uint8) reference {
	return reference{kind: channelRef, account: identity.AccountID(id), move: list}
}

// channel loads a channel.
func (x *execution) channel(id voucher.ChannelID, c *channelRow) bool {
	x.key = append(append(x.key[:0], channelRef), id[:]...)
	b := x.get(x.key)
	if b == nil {
		return false
	}
	x.fail(decodeChannel(b, c))
	return x.err == nil
}

// setChannel writes a channel's row and asserts what holds of it. What is escrowed in
// all is kept from the rows as they became. was is zero for a new channel.
func (x *execution) setChannel(id voucher.ChannelID, was, is *channelRow) {
	if x.err != nil {
		return
	}
	switch {
	case is.settled > is.deposit:
		x.breakInvariant("no more is settled than was deposited", "channel %s: %+v became %+v", id, *was, *is)
	case is.settled < was.settled || is.deposit < was.deposit || is.sequence < was.sequence || is.bytes < was.bytes || is.milliseconds < was.milliseconds:
		x.breakInvariant("what a channel counts never falls", "channel %s: %+v became %+v", id, *was, *is)
	case was.state == ChannelClosed && is.state != ChannelClosed:
		x.breakInvariant("a closed channel stays closed", "channel %s: %+v became %+v", id, *was, *is)
	}
	x.countChannel(id, was, is)
	x.key = append(append(x.key[:0], channelRef), id[:]...)
	x.state.set(x.key, x.made(is.append(x.room(channelRowSize))))
}

// countChannel takes the change of a channel into the market's sums.
func (x *execution) countChannel(id voucher.ChannelID, was, is *channelRow) {
	rest, ok := x.market.escrowed.Sub(was.left())
	if !ok {
		x.breakInvariant("what is escrowed is the sum over all channels", "%d in all, channel %s: %+v", x.market.escrowed, id, *was)
	}
	sum, ok := rest.Add(is.left())
	if !ok {
		x.breakInvariant("what is escrowed is money there is", "%d besides channel %s: %+v", rest, id, *is)
	}
	x.market.escrowed = sum
	open := func(c *channelRow) bool { return c.state == ChannelOpen || c.state == ChannelClosing }
	if open(was) {
		x.market.open--
	}
	if open(is) {
		x.market.open++
	}
}
