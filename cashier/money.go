package cashier

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Counters are an account's four sums, each of which counts up over its whole
// life but for the pending ones. What it has is credits posted less debits posted.
type Counters struct {
	// DebitsPending is reserved for payees that have not taken it yet,
	// CreditsPending what others have reserved for this account.
	DebitsPending  voucher.Amount `cbor:"1,keyasint,omitzero"`
	DebitsPosted   voucher.Amount `cbor:"2,keyasint,omitzero"`
	CreditsPending voucher.Amount `cbor:"3,keyasint,omitzero"`
	CreditsPosted  voucher.Amount `cbor:"4,keyasint,omitzero"`

	rotated bool // another key than the account's own signs for it
}

// Balance returns what the account has, reserved amounts included.
func (c Counters) Balance() voucher.Amount {
	rest, _ := c.CreditsPosted.Sub(c.DebitsPosted)
	return rest
}

// Available returns what the account may spend.
func (c Counters) Available() voucher.Amount {
	rest, _ := c.available()
	return rest
}

// available reports false for an account below zero.
func (c Counters) available() (voucher.Amount, bool) {
	rest, ok := c.CreditsPosted.Sub(c.DebitsPosted)
	if !ok {
		return 0, false
	}
	if rest, ok = rest.Sub(c.DebitsPending); !ok {
		return 0, false
	}
	return rest, true
}

// countersSize is the length of an account's money row: four numbers of 8 bytes,
// big endian. One byte more, which is 1, marks an account with another key.
const countersSize = 32

func (c Counters) encode() []byte { return c.append(make([]byte, 0, countersSize)) }

// size returns the length of the row.
func (c Counters) size() int {
	if c.rotated {
		return countersSize + 1
	}
	return countersSize
}

func (c Counters) append(b []byte) []byte {
	for _, v := range [...]voucher.Amount{c.DebitsPending, c.DebitsPosted, c.CreditsPending, c.CreditsPosted} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	if c.rotated {
		b = append(b, 1)
	}
	return b
}

func decodeCounters(b []byte) (Counters, error) {
	rotated := len(b) == countersSize+1 && b[countersSize] == 1
	if len(b) != countersSize && !rotated {
		return Counters{}, fmt.Errorf("%w: money row of %d bytes", ErrCorrupt, len(b))
	}
	n := func(i int) voucher.Amount { return voucher.Amount(binary.BigEndian.Uint64(b[8*i:])) }
	return Counters{n(0), n(1), n(2), n(3), rotated}, nil
}

// SupplyAccount is the account that money comes from when it is issued and goes to
// when it is redeemed; what it owes is what all others have. It is no key: it is
// the hash of a text, and nobody can sign for it.
func SupplyAccount(network identity.NetworkID) identity.AccountID {
	s := sha256.New()
	s.Write([]byte("scn/ledger/v1 supply account"))
	s.Write(network[:])
	return identity.AccountID(s.Sum(nil))
}

// wide is a sum over all accounts, which may pass 64 bits.
type wide struct{ high, low uint64 }

func (w wide) change(was, is voucher.Amount) wide {
	low, carry := bits.Add64(w.low, uint64(is), 0)
	high := w.high + carry
	low, borrow := bits.Sub64(low, uint64(was), 0)
	return wide{high - borrow, low}
}

func (w wide) String() string {
	if w.high == 0 {
		return fmt.Sprint(w.low)
	}
	return fmt.Sprintf("%d·2^64+%d", w.high, w.low)
}

// totals are the sums over all accounts, the supply account included, and what was
// issued and redeemed ever.
type totals struct {
	debitsPending, debitsPosted   wide
	creditsPending, creditsPosted wide
	issued, redeemed              voucher.Amount
	// accounts is how many accounts have a money row besides the supply's, holds how many amounts are
	// reserved at present.
	accounts, holds uint64
}

const totalsSize = 4*16 + 4*8

func (t totals) encode() []byte {
	b := make([]byte, 0, totalsSize)
	for _, w := range [...]wide{t.debitsPending, t.debitsPosted, t.creditsPending, t.creditsPosted} {
		b = binary.BigEndian.AppendUint64(b, w.high)
		b = binary.BigEndian.AppendUint64(b, w.low)
	}
	for _, v := range [...]uint64{uint64(t.issued), uint64(t.redeemed), t.accounts, t.holds} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func decodeTotals(b []byte) (totals, error) {
	if len(b) != totalsSize {
		return totals{}, fmt.Errorf("%w: totals of %d bytes", ErrCorrupt, len(b))
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	return totals{
		wide{n(0), n(1)},
		wide{n(2), n(3)},
		wide{n(4), n(5)},
		wide{n(6), n(7)},
		voucher.Amount(n(8)), voucher.Amount(n(9)), n(10), n(11),
	}, nil
}

func moneyKey(a identity.AccountID) []byte { return append([]byte{'b'}, a[:]...) }

var totalsKey = []byte{'u'}

// counters loads an account's money row; an account never seen has zeros.
func (x *execution) counters(id identity.AccountID) (c Counters, exists bool) {
	if p := &x.payerRow; p.known && p.id == id {
		return p.counters, p.exists
	}
	b := x.get(x.moneyKey(id))
	if b == nil {
		return Counters{}, false
	}
	c, err := decodeCounters(b)
	x.fail(err)
	return c, true
}

// setCounters writes an account's money row and asserts what holds of it.
func (x *execution) setCounters(id identity.AccountID, was, is Counters, existed bool) {
	if x.err != nil {
		return
	}
	if !existed && id != x.supply {
		x.totals.accounts++
	}
	if p := &x.payerRow; p.known && p.id == id {
		p.counters, p.exists = is, true
	}
	x.state.set(x.moneyKey(id), x.made(is.append(x.room(is.size()))))
	x.record(id, was, is)
}

// movement is what happens to the counters of a payer and a payee. All of the
// four ways money moves are made of it: paying, reserving, posting, releasing.
type movement struct {
	post    voucher.Amount // moves now
	reserve voucher.Amount // is put aside
	release voucher.Amount // was put aside and is no more
}

// move makes a movement, or refuses it and changes nothing. It asserts the
// invariants after it.
func (x *execution) move(from, to identity.AccountID, m movement) *Rejection {
	payer, payerExists := x.counters(from)
	payee, payeeExists := x.counters(to)
	if x.err != nil {
		return nil
	}
	wasPayer, wasPayee := payer, payee
	fits := true
	add := func(c *voucher.Amount, v voucher.Amount) {
		sum, ok := c.Add(v)
		*c, fits = sum, fits && ok
	}
	sub := func(c *voucher.Amount, v voucher.Amount) {
		rest, ok := c.Sub(v)
		if !ok {
			x.breakInvariant("what is released was reserved", "release %d of %d, from %s to %s", v, *c, from, to)
		}
		*c = rest
	}
	sub(&payer.DebitsPending, m.release)
	sub(&payee.CreditsPending, m.release)
	if x.err != nil {
		return nil
	}
	spend, ok := m.post.Add(m.reserve)
	if have := payer.Available(); from != x.supply && (!ok || have < spend) {
		return &Rejection{Code: InsufficientFunds, Account: from, Available: have}
	}
	add(&payer.DebitsPending, m.reserve)
	add(&payee.CreditsPending, m.reserve)
	add(&payer.DebitsPosted, m.post)
	add(&payee.CreditsPosted, m.post)
	if !fits {
		return &Rejection{Code: Overflow}
	}
	x.setCounters(from, wasPayer, payer, payerExists)
	x.setCounters(to, wasPayee, payee, payeeExists)
	x.assertBalanced()
	return nil
}

// issue makes money.
func (x *execution) issue(to identity.AccountID, amount voucher.Amount) *Rejection {
	// What is left below the cap, were all that was redeemed issued again.
	circulating, _ := x.totals.issued.Sub(x.totals.redeemed)
	room, ok := x.parameters.SupplyCap.Sub(circulating)
	if !ok {
		room = 0 // the cap was lowered below what there is
	}
	if amount > room {
		return &Rejection{Code: CapExceeded, Available: room}
	}
	issued, ok := x.totals.issued.Add(amount)
	if !ok {
		return &Rejection{Code: Overflow}
	}
	x.totals.issued = issued
	return x.move(x.supply, to, movement{post: amount})
}

// redeem takes money out of the world.
func (x *execution) redeem(from identity.AccountID, amount voucher.Amount) *Rejection {
	redeemed, ok := x.totals.redeemed.Add(amount)
	if !ok {
		return &Rejection{Code: Overflow}
	}
	x.totals.redeemed = redeemed
	return x.move(from, x.supply, movement{post: amount})
}
