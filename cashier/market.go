package cashier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// EscrowAccount is the account that holds the deposits of all open channels, less
// what was settled of them.
func EscrowAccount(network identity.NetworkID) identity.AccountID {
	return specialAccount("escrow", network)
}

// VestingAccount is the account that holds the parts of settlements that are paid
// out later.
func VestingAccount(network identity.NetworkID) identity.AccountID {
	return specialAccount("vesting", network)
}

// marketRow is what the ledger keeps of all channels together, and of its own clock.
//
// A client and a provider can act upon a deadline only while there is a ledger to act
// on. So the deadlines of channels run by the time the ledger ran. Where a channel waits
// for its expiry a ledger that runs makes a block an epoch, if only a tick; so when a
// block comes more than an epoch and two looks after the one before it, the ledger was
// down in between, and the whole gap is added to halted. (A shorter halt does not count,
// and without channels nothing does.) Deadlines are kept as times less halted; every halt
// that follows moves them all, without a row of theirs being written.
type marketRow struct {
	// last is the time of the newest block, halted how many seconds the ledger did not
	// run in all.
	last, halted int64
	// escrowed is what all open channels have left, vesting what is to be paid out,
	// each as the rows say.
	escrowed, vesting voucher.Amount
	// open is how many channels are not closed.
	open uint64
}

const marketRowSize = 5 * 8

var marketKey = []byte{channelRef}

func (m marketRow) encode() []byte {
	b := make([]byte, 0, marketRowSize)
	for _, v := range [...]uint64{uint64(m.last), uint64(m.halted), uint64(m.escrowed), uint64(m.vesting), m.open} {
		b = appendUint64(b, v)
	}
	return b
}

func decodeMarket(b []byte) (marketRow, error) {
	if len(b) != marketRowSize {
		return marketRow{}, fmt.Errorf("%w: market row of %d bytes", ErrCorrupt, len(b))
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	return marketRow{int64(n(0)), int64(n(1)), voucher.Amount(n(2)), voucher.Amount(n(3)), n(4)}, nil
}

// readMarket reads the row, zero where there is none yet.
func readMarket(s State) (marketRow, error) {
	b, err := s.Get(marketKey)
	if b == nil || err != nil {
		return marketRow{}, err
	}
	return decodeMarket(b)
}

// beginChannels loads the market's row, counts a halt that ended with this block, and
// reports whether there was one.
func (x *execution) beginChannels() (halted bool) {
	x.escrow, x.vesting = EscrowAccount(x.network), VestingAccount(x.network)
	if b := x.get(marketKey); b != nil {
		var err error
		x.market, err = decodeMarket(b)
		x.fail(err)
	}
	x.written.market = x.market
	if gap := x.time - x.market.last; x.market.last > 0 && gap > x.parameters.mostPause() {
		x.market.halted += gap
		halted = true
	}
	x.market.last = x.time
	x.running = x.time - x.market.halted
	x.assertMarket()
	return halted
}

// finishChannels writes the market's row.
func (x *execution) finishChannels() {
	if x.market != x.written.market {
		x.state.set(marketKey, x.market.encode())
	}
}

// assertMarket asserts what must hold after every operation.
func (x *execution) assertMarket() {
	x.assertHolds(x.escrow, x.market.escrowed, "deposits of open channels less what was settled")
	x.assertHolds(x.vesting, x.market.vesting, "what is to be paid out later")
}

// million is the whole, in parts per million.
const million = 1_000_000

// share returns so many parts per million of an amount, rounded down.
func share(a voucher.Amount, ppm uint32) voucher.Amount {
	high, low := bits.Mul64(uint64(a), uint64(min(ppm, million)))
	part, _ := bits.Div64(high, low, million)
	return voucher.Amount(part)
}

// sumMarket adds up every channel and everything that vests, and compares the sums with
// those kept from block to block and with the accounts that hold them.
func sumMarket(s rows, network identity.NetworkID) error {
	m, err := readMarket(s)
	if err != nil {
		return err
	}
	x := execution{} // to count as the machine does
	var failure error
	parties := 0
	err = s.scan([]byte{channelRef}, nil, func(key, value []byte) bool {
		switch len(key) {
		case 1 + identity.Size:
			var none, c channelRow
			if failure = decodeChannel(value, &c); failure == nil {
				x.countChannel(voucher.ChannelID(key[1:]), &none, &c)
				failure, parties = x.err, parties+2
			}
		case 1 + 2*identity.Size:
			parties--
		}
		return failure == nil
	})
	if err := errors.Join(failure, err); err != nil {
		return err
	}
	err = s.scan([]byte{vestingRef}, nil, func(_, value []byte) bool {
		var row vestingRow
		row, failure = decodeVesting(value)
		x.market.vesting += row.amount
		return failure == nil
	})
	if err := errors.Join(failure, err); err != nil {
		return err
	}
	escrow, err := readCounters(s, EscrowAccount(network))
	if err != nil {
		return err
	}
	vesting, err := readCounters(s, VestingAccount(network))
	if err != nil {
		return err
	}
	x.market.last, x.market.halted = m.last, m.halted
	if x.market != m || escrow.Balance() != m.escrowed || vesting.Balance() != m.vesting || parties != 0 {
		return fmt.Errorf("%w: the channels add up to %+v, the totals are %+v, escrow has %d, vesting %d, %d parties are missing",
			ErrCorrupt, x.market, m, escrow.Balance(), vesting.Balance(), parties)
	}
	return nil
}
