package cashier

import (
	"errors"
	"slices"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// MaxBatchVouchers is the largest number of vouchers in one SettleBatch.
const MaxBatchVouchers = 1024

// MaxBatchTransaction is the largest signed SettleBatch in bytes.
const MaxBatchTransaction = MaxBatchVouchers*voucher.SignedSize + 1<<10

// SettleChannel pays a provider what a voucher is above what was settled before, which
// may be nothing. Anyone may submit it.
type SettleChannel struct {
	ID voucher.TransferID `cbor:"1,keyasint"`
	// Voucher is the encoding of a voucher.Signed.
	Voucher []byte `cbor:"2,keyasint"`
}

// SettleBatch settles many vouchers of one provider. Each is judged by itself: the
// Receipt lists those that were refused, and all others are paid. It is refused as a
// whole when every voucher is, or when a signature is bad.
type SettleBatch struct {
	ID       voucher.TransferID `cbor:"1,keyasint"`
	Provider identity.AccountID `cbor:"2,keyasint"`
	// Vouchers are the encodings of voucher.Signed, one behind the other.
	Vouchers []byte `cbor:"3,keyasint"`
}

// Refute answers a RequestClose: the channel's provider presents a voucher above what
// was settled, is paid, and the channel is closed.
type Refute struct {
	ID voucher.TransferID `cbor:"1,keyasint"`
	// Voucher is the encoding of a voucher.Signed.
	Voucher []byte `cbor:"2,keyasint"`
}

// Refusal is a voucher of a batch that was not settled, and why.
type Refusal struct {
	Index uint32 `cbor:"1,keyasint"`
	Code  Code   `cbor:"2,keyasint"`
}

// Kind implements Operation.
func (SettleChannel) Kind() Kind { return KindSettleChannel }

// Kind implements Operation.
func (SettleBatch) Kind() Kind { return KindSettleBatch }

// Kind implements Operation.
func (Refute) Kind() Kind { return KindRefute }

func (o SettleChannel) transferID() voucher.TransferID { return o.ID }
func (o SettleBatch) transferID() voucher.TransferID   { return o.ID }
func (o Refute) transferID() voucher.TransferID        { return o.ID }

func (o SettleChannel) check(tx *Transaction) *Rejection {
	return checkVoucher(tx, o.ID, o.Voucher)
}

func (o Refute) check(tx *Transaction) *Rejection { return checkVoucher(tx, o.ID, o.Voucher) }

func checkVoucher(tx *Transaction, id voucher.TransferID, b []byte) *Rejection {
	if r := checkIdentified(tx, id); r != nil {
		return r
	}
	s, err := voucher.ParseSigned(b)
	switch {
	case errors.Is(err, voucher.ErrTrailing):
		return reject(TrailingBytes, "%v", err)
	case err != nil:
		return reject(Malformed, "%v", err)
	case s.Voucher.Amount == 0:
		return &Rejection{Code: ZeroAmount}
	case !s.Verify(tx.Network):
		return reject(BadSignature, "of the voucher")
	}
	return nil
}

func (o SettleBatch) check(tx *Transaction) *Rejection {
	if r := checkIdentified(tx, o.ID); r != nil {
		return r
	}
	n := len(o.Vouchers) / voucher.SignedSize
	switch {
	case n > MaxBatchVouchers:
		return reject(BatchTooLarge, "%d vouchers, at most %d", n, MaxBatchVouchers)
	case len(o.Vouchers) == 0:
		return reject(Malformed, "a batch without vouchers")
	case len(o.Vouchers)%voucher.SignedSize != 0:
		return reject(TrailingBytes, "behind %d vouchers", n)
	}
	var batch identity.Batch
	for i := range n {
		s, err := o.signed(i)
		switch {
		case err != nil:
			return reject(Malformed, "voucher %d: %v", i, err)
		case s.Voucher.Amount == 0:
			return reject(ZeroAmount, "voucher %d", i)
		}
		s.Voucher.AddTo(&batch, s.Session, tx.Network)
	}
	if !batch.All() {
		return reject(BadSignature, "of a voucher in the batch")
	}
	return nil
}

// signed reads the voucher at a place.
func (o *SettleBatch) signed(i int) (voucher.Signed, error) {
	return voucher.ParseSigned(o.Vouchers[i*voucher.SignedSize : (i+1)*voucher.SignedSize])
}

// payout is what leaves escrow for one provider: how a settlement is divided.
type payout struct {
	to       identity.AccountID
	net, fee voucher.Amount
	total    voucher.Amount
	// inspection is what inspectors are paid from, earned what vests for each provider.
	inspection voucher.Amount
	earned     []earning
}

// earning is what vests for one provider.
type earning struct {
	of   providerID
	vest voucher.Amount
}

// split adds what a channel settles to a payout: a fee is the treasury's, one is for
// inspectors, and a share of the rest is paid later.
func (x *execution) split(p *payout, c *channelRow, amount voucher.Amount) {
	var fee, inspection, vest voucher.Amount
	if p.to != x.parameters.treasury(x.network) {
		fee = share(amount, x.parameters.SettlementFee)
		if x.inspecting {
			inspection = share(amount, x.parameters.InspectionFee)
		}
	}
	if x.parameters.VestingEpochs > 0 {
		vest = share(amount-fee-inspection, x.parameters.VestingShare)
	}
	// No sum is above what escrow holds, which fits.
	p.fee, p.inspection, p.net, p.total = p.fee+fee, p.inspection+inspection, p.net+amount-fee-inspection-vest, p.total+amount
	x.earn(c.service, c.node, amount)
	if vest == 0 {
		return
	}
	var of providerID
	if x.inspecting {
		of = providerID{c.service, c.node}
	}
	// Most vouchers of a batch are of one provider, and come together.
	for i := range slices.Backward(p.earned) {
		if p.earned[i].of == of {
			p.earned[i].vest += vest
			return
		}
	}
	p.earned = append(p.earned, earning{of, vest})
}

// payOut moves a payout out of escrow.
func (x *execution) payOut(p *payout) *Rejection {
	for _, m := range [...]struct {
		to     identity.AccountID
		amount voucher.Amount
	}{{p.to, p.net}, {x.parameters.treasury(x.network), p.fee}, {InspectionAccount(x.network), p.inspection}} {
		if m.amount == 0 {
			continue
		}
		if r := x.fromEscrow(m.to, m.amount); r != nil || x.err != nil {
			return r
		}
	}
	x.inspection.Pool += p.inspection // as much as its account has, which fits
	for _, e := range p.earned {
		if r := x.vest(p.to, e.of, e.vest); r != nil || x.err != nil {
			return r
		}
	}
	x.settled += p.total
	return nil
}

// fromEscrow moves money that a channel's row says is there.
func (x *execution) fromEscrow(to identity.AccountID, amount voucher.Amount) *Rejection {
	r := x.move(x.escrow, to, movement{post: amount})
	if r != nil && r.Code == InsufficientFunds {
		x.breakInvariant("what channels have left is in escrow", "%d to %s, escrow has %d", amount, to, r.Available)
		return nil
	}
	return r
}

// redeemable loads the channel of a voucher and refuses one that does not pay there.
func (x *execution) redeemable(s *voucher.Signed, c *channelRow) *Rejection {
	v := &s.Voucher
	if r := x.usable(v.Channel, c); r != nil || x.err != nil {
		return r
	}
	switch {
	case s.Session != c.session:
		return &Rejection{Code: WrongSession}
	case v.Amount > c.deposit:
		return &Rejection{Code: ExceedsDeposit, Available: c.deposit}
	}
	return nil
}

// mark raises what a channel has settled to what a voucher says. Each mark goes by
// itself: a client that lost its newest state may sign fewer bytes, or a lower
// number, for more money, and the higher voucher simply pays.
func (c *channelRow) mark(v *voucher.Voucher) (delta voucher.Amount) {
	if v.Amount > c.settled {
		delta = v.Amount - c.settled
		c.settled = v.Amount
	}
	c.sequence, c.bytes, c.milliseconds = max(c.sequence, v.Sequence), max(c.bytes, v.Bytes), max(c.milliseconds, v.Milliseconds)
	return delta
}

func (o SettleChannel) apply(x *execution, _ *Transaction) *Rejection {
	s, err := voucher.ParseSigned(o.Voucher)
	if err != nil {
		return reject(Malformed, "%v", err)
	}
	var was channelRow
	if r := x.redeemable(&s, &was); r != nil || x.err != nil {
		return r
	}
	is, pay := was, payout{to: was.provider}
	if delta := is.mark(&s.Voucher); delta > 0 {
		x.split(&pay, &is, delta)
		if r := x.payOut(&pay); r != nil || x.err != nil {
			return r
		}
	}
	x.setChannel(s.Voucher.Channel, &was, &is)
	x.assertMarket()
	return nil
}

func (o SettleBatch) apply(x *execution, _ *Transaction) *Rejection {
	pay := payout{to: o.Provider}
	n := len(o.Vouchers) / voucher.SignedSize
	var was, is channelRow
	for i := range n {
		s, err := o.signed(i)
		if err != nil {
			return reject(Malformed, "voucher %d: %v", i, err)
		}
		r := x.redeemable(&s, &was)
		if x.err != nil {
			return nil
		}
		if r == nil && was.provider != o.Provider {
			r = &Rejection{Code: OtherProvider}
		}
		if r != nil {
			x.refused = append(x.refused, Refusal{uint32(i), r.Code})
			continue
		}
		is = was
		if delta := is.mark(&s.Voucher); delta > 0 {
			x.split(&pay, &is, delta)
		}
		if is != was {
			x.setChannel(s.Voucher.Channel, &was, &is)
		}
	}
	if len(x.refused) == n {
		return reject(NothingPaid, "%d vouchers, the first: %s", n, x.refused[0].Code)
	}
	if r := x.payOut(&pay); r != nil || x.err != nil {
		return r
	}
	x.assertMarket()
	return nil
}

func (o Refute) apply(x *execution, tx *Transaction) *Rejection {
	s, err := voucher.ParseSigned(o.Voucher)
	if err != nil {
		return reject(Malformed, "%v", err)
	}
	var was channelRow
	switch r := x.redeemable(&s, &was); {
	case r != nil || x.err != nil:
		return r
	case tx.Account != was.provider:
		return reject(NotAllowed, "the channel's provider refutes")
	case was.state != ChannelClosing:
		return &Rejection{Code: NotClosing}
	case s.Voucher.Amount <= was.settled:
		return &Rejection{Code: NotHigher, Available: was.settled}
	}
	is, pay := was, payout{to: was.provider}
	x.split(&pay, &is, is.mark(&s.Voucher))
	return x.end(s.Voucher.Channel, &was, &is, &pay)
}
