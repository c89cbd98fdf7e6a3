package cashier

import (
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// MaxChannelLife is how far ahead a channel may expire, in seconds. Its rows stay that
// long.
const MaxChannelLife = 90 * 24 * 60 * 60

// OpenChannel puts a deposit of the signer's aside for the provider of a service on a
// node, at the price of an ask, which the channel keeps for life. The session key
// signs the channel's vouchers.
type OpenChannel struct {
	// ID is the nonce of the channel's Opening as well.
	ID       voucher.TransferID `cbor:"1,keyasint"`
	Provider identity.AccountID `cbor:"2,keyasint"`
	Node     identity.NodeID    `cbor:"3,keyasint"`
	Service  identity.ServiceID `cbor:"4,keyasint"`
	Ask      voucher.AskID      `cbor:"5,keyasint"`
	Session  voucher.SessionKey `cbor:"6,keyasint"`
	Deposit  voucher.Amount     `cbor:"7,keyasint"`
	// Expires is the last second at which a voucher may be settled, in Unix seconds,
	// at most MaxChannelLife ahead. What is left then goes back to the signer.
	Expires int64 `cbor:"8,keyasint"`
}

// TopUpChannel adds to the deposit of the signer's channel, or lets it expire later,
// or both.
type TopUpChannel struct {
	ID      voucher.TransferID `cbor:"1,keyasint"`
	Channel voucher.ChannelID  `cbor:"2,keyasint"`
	Amount  voucher.Amount     `cbor:"3,keyasint,omitzero"`
	// Expires is not before the present expiry; 0 leaves it.
	Expires int64 `cbor:"4,keyasint,omitzero"`
}

// CloseChannel ends a channel at once, by both of its parties: the signer and the
// other, whose consent it carries. The provider is paid up to a sum both agree upon.
type CloseChannel struct {
	ID      voucher.TransferID `cbor:"1,keyasint"`
	Channel voucher.ChannelID  `cbor:"2,keyasint"`
	// Amount is what the provider gets over the channel's whole life, what was settled
	// before included.
	Amount voucher.Amount `cbor:"3,keyasint,omitzero"`
	// Key is the key that signs for the other party, and Consent is its signature; see
	// CloseConsent.
	Key     identity.AccountID `cbor:"4,keyasint"`
	Consent Signature          `cbor:"5,keyasint"`
}

// RequestClose begins to close the signer's channel. Its provider has the grace of
// the ledger's parameters to settle what it is owed; then what is left goes back.
type RequestClose struct {
	ID      voucher.TransferID `cbor:"1,keyasint"`
	Channel voucher.ChannelID  `cbor:"2,keyasint"`
}

// Kind implements Operation.
func (OpenChannel) Kind() Kind { return KindOpenChannel }

// Kind implements Operation.
func (TopUpChannel) Kind() Kind { return KindTopUpChannel }

// Kind implements Operation.
func (CloseChannel) Kind() Kind { return KindCloseChannel }

// Kind implements Operation.
func (RequestClose) Kind() Kind { return KindRequestClose }

func (o OpenChannel) transferID() voucher.TransferID  { return o.ID }
func (o TopUpChannel) transferID() voucher.TransferID { return o.ID }
func (o CloseChannel) transferID() voucher.TransferID { return o.ID }
func (o RequestClose) transferID() voucher.TransferID { return o.ID }

// Channel returns the ID of the channel that the operation opens when the client
// signs it: that of its Opening.
func (o OpenChannel) Channel(network identity.NetworkID, client identity.AccountID) voucher.ChannelID {
	return voucher.Opening{
		Network: network, Client: client, Provider: o.Provider, Node: o.Node, Service: o.Service, Session: o.Session, Nonce: o.ID,
	}.ID()
}

func (o OpenChannel) check(tx *Transaction) *Rejection {
	switch {
	case o.Deposit == 0:
		return &Rejection{Code: ZeroAmount}
	case o.Session.IsZero() || o.Node.IsZero() || o.Service.IsZero():
		return reject(Malformed, "a channel without a session key, a node or a service")
	case o.Expires <= 0:
		return reject(BadDeadline, "a channel says when it expires")
	}
	if r := checkIdentified(tx, o.ID); r != nil {
		return r
	}
	return checkPayee(tx, o.Provider)
}

func (o TopUpChannel) check(tx *Transaction) *Rejection {
	switch {
	case o.Channel.IsZero():
		return reject(Malformed, "no channel")
	case o.Expires < 0:
		return reject(Malformed, "negative time")
	case o.Amount == 0 && o.Expires == 0:
		return &Rejection{Code: ZeroAmount}
	}
	return checkIdentified(tx, o.ID)
}

// closing is what a party of a channel signs to agree to its end.
type closing struct {
	Network identity.NetworkID `cbor:"1,keyasint"`
	Channel voucher.ChannelID  `cbor:"2,keyasint"`
	Amount  voucher.Amount     `cbor:"3,keyasint"`
}

// CloseConsent is the consent of a channel's party, by the key that signs for its
// account, to the channel's end with this sum paid to the provider in all.
func CloseConsent(party identity.PrivateKey, network identity.NetworkID, channel voucher.ChannelID, amount voucher.Amount) Signature {
	return party.Sign(domain, typeClose, mustEncode(closing{network, channel, amount}))
}

func (o CloseChannel) check(tx *Transaction) *Rejection {
	if o.Channel.IsZero() {
		return reject(Malformed, "no channel")
	}
	if r := checkIdentified(tx, o.ID); r != nil {
		return r
	}
	if !identity.Verify(o.Key, domain, typeClose, mustEncode(closing{tx.Network, o.Channel, o.Amount}), o.Consent) {
		return reject(BadSignature, "of the channel's other party")
	}
	return nil
}

func (o RequestClose) check(tx *Transaction) *Rejection {
	if o.Channel.IsZero() {
		return reject(Malformed, "no channel")
	}
	return checkIdentified(tx, o.ID)
}

func (o OpenChannel) apply(x *execution, tx *Transaction) *Rejection {
	ask, r := x.askFor(o)
	switch {
	case r != nil || x.err != nil:
		return r
	case o.Deposit < x.parameters.MinDeposit:
		return &Rejection{Code: DepositTooSmall, Available: x.parameters.MinDeposit}
	case o.Expires <= x.time || o.Expires-x.time > MaxChannelLife:
		return &Rejection{Code: BadDeadline, Time: x.time, Detail: "a channel expires within 90 days"}
	}
	id := o.Channel(x.network, tx.Account)
	var was, c channelRow
	// A channel outlives the memory of its transaction's ID.
	if x.channel(id, &was) || x.err != nil {
		return &Rejection{Code: DuplicateID, Detail: "it names a channel"}
	}
	if r := x.move(tx.Account, x.escrow, movement{post: o.Deposit}); r != nil || x.err != nil {
		return r
	}
	c = channelRow{
		client: tx.Account, provider: o.Provider, node: o.Node, service: o.Service, session: o.Session,
		price: ask.Price, loss: ask.LossAllowance, window: ask.MaxWindow, opened: x.height,
		state: ChannelOpen, deposit: o.Deposit, expires: o.Expires - x.market.halted,
	}
	c.next = x.fallsDue(channelReference(id, listExpiry), o.Expires)
	x.setChannel(id, &was, &c)
	x.state.set(heldKey(c.client, id), []byte{})
	x.state.set(heldKey(c.provider, id), []byte{})
	x.assertMarket()
	return nil
}

// usable loads a channel that is neither closed nor over.
func (x *execution) usable(id voucher.ChannelID, c *channelRow) *Rejection {
	switch {
	case !x.channel(id, c):
		return &Rejection{Code: NoChannel}
	case c.over(x.running):
		return &Rejection{Code: ChannelOver, Time: x.time, Detail: c.state.String()}
	}
	return nil
}

func (o TopUpChannel) apply(x *execution, tx *Transaction) *Rejection {
	var was channelRow
	switch r := x.usable(o.Channel, &was); {
	case r != nil || x.err != nil:
		return r
	case tx.Account != was.client:
		return reject(NotAllowed, "the channel is another's to top up")
	case was.state != ChannelOpen:
		return &Rejection{Code: ChannelIsClosing}
	case o.Expires != 0 && (o.Expires-x.time > MaxChannelLife || o.Expires-x.market.halted < was.expires):
		return &Rejection{Code: BadDeadline, Time: x.time, Detail: "a channel expires no earlier than it did, and within 90 days"}
	}
	is := was
	if o.Amount > 0 {
		sum, ok := was.deposit.Add(o.Amount)
		if !ok {
			return &Rejection{Code: Overflow}
		}
		if r := x.move(tx.Account, x.escrow, movement{post: o.Amount}); r != nil || x.err != nil {
			return r
		}
		is.deposit = sum
	}
	if o.Expires != 0 {
		is.expires = o.Expires - x.market.halted // its list finds it extended
	}
	x.setChannel(o.Channel, &was, &is)
	x.assertMarket()
	return nil
}

func (o CloseChannel) apply(x *execution, tx *Transaction) *Rejection {
	var was channelRow
	if r := x.usable(o.Channel, &was); r != nil || x.err != nil {
		return r
	}
	other := was.provider
	switch tx.Account {
	case was.client:
	case was.provider:
		other = was.client
	default:
		return reject(NotAllowed, "the channel is between others")
	}
	switch {
	case !x.signs(other, o.Key):
		return reject(BadSignature, "the key does not sign for the channel's other party")
	case o.Amount < was.settled:
		return &Rejection{Code: NotHigher, Available: was.settled}
	case o.Amount > was.deposit:
		return &Rejection{Code: ExceedsDeposit, Available: was.deposit}
	}
	is, pay := was, payout{to: was.provider}
	x.split(&pay, &is, o.Amount-was.settled)
	is.settled = o.Amount
	return x.end(o.Channel, &was, &is, &pay)
}

// end pays out, gives back what is left of the deposit and closes the channel.
func (x *execution) end(id voucher.ChannelID, was, is *channelRow, pay *payout) *Rejection {
	if r := x.payOut(pay); r != nil || x.err != nil {
		return r
	}
	if rest := is.left(); rest > 0 {
		if r := x.fromEscrow(is.client, rest); r != nil || x.err != nil {
			return r
		}
	}
	is.state = ChannelClosed
	x.setChannel(id, was, is)
	x.assertMarket()
	return nil
}

func (o RequestClose) apply(x *execution, tx *Transaction) *Rejection {
	var was channelRow
	switch r := x.usable(o.Channel, &was); {
	case r != nil || x.err != nil:
		return r
	case tx.Account != was.client:
		return reject(NotAllowed, "the channel is another's to close")
	case was.state != ChannelOpen:
		return &Rejection{Code: ChannelIsClosing}
	}
	is := was
	is.state = ChannelClosing
	is.deadline = min(x.running+x.parameters.closeGrace(), was.expires)
	is.listed = true
	is.nextClosing = x.fallsDue(channelReference(o.Channel, listDeadline), is.deadline+x.market.halted)
	x.setChannel(o.Channel, &was, &is)
	return nil
}

// channelDue does what the time asks of a channel, and returns what hung behind it.
// A deadline that a halt has moved hangs itself up again.
func (x *execution) channelDue(r reference) reference {
	id := voucher.ChannelID(r.account)
	var was channelRow
	if !x.channel(id, &was) {
		x.fail(errMissing("channel"))
		return reference{}
	}
	is := was
	if r.move == listDeadline {
		is.nextClosing, is.listed = reference{}, false
		switch {
		case was.state == ChannelClosing && x.running <= was.deadline:
			is.nextClosing, is.listed = x.fallsDue(r, was.deadline+x.market.halted), true
		case was.state == ChannelClosing:
			x.giveBack(&is)
		}
		x.setChannel(id, &was, &is)
		return was.nextClosing
	}
	switch {
	case x.running <= was.expires:
		is.next = x.fallsDue(r, was.expires+x.market.halted)
		x.setChannel(id, &was, &is)
	case was.listed: // the list of its deadline still names the row
		is.next = x.fallsDue(r, x.time)
		x.setChannel(id, &was, &is)
	default:
		x.giveBack(&is)
		x.countChannel(id, &was, &is)
		for _, key := range [][]byte{channelKey(id), heldKey(was.client, id), heldKey(was.provider, id)} {
			x.state.set(key, nil)
		}
	}
	x.assertMarket()
	return was.next
}

// giveBack closes a channel whose time has passed.
func (x *execution) giveBack(c *channelRow) {
	if rest := c.left(); rest > 0 {
		if r := x.fromEscrow(c.client, rest); r != nil {
			x.breakInvariant("what is escrowed can be given back", "%v", r)
		}
	}
	c.state = ChannelClosed
}
