package cashier

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"pgregory.net/rapid"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// marketModel is the market part of the ledger written down as plainly as possible.
type marketModel struct {
	last, halted int
	channels     map[voucher.ChannelID]*modelChannel
	asks         map[identity.NodeID]*modelAsk // of files
	vests        map[modelVest]int
	hangs        []modelHang         // what falls due, in the order it was hung up
	known        []voucher.ChannelID // opened last
}

type modelChannel struct {
	client, provider              identity.AccountID
	session                       voucher.SessionKey
	price                         voucher.Price
	deposit, settled              int
	sequence, bytes, milliseconds uint64
	state                         ChannelState
	expires, deadline             int // by the time the ledger ran
	listed                        bool
}

type modelAsk struct {
	current, next *voucher.Ask
	withdrawn     bool
	sequence      uint64
	until         int
}

type modelVest struct {
	account identity.AccountID
	at      int
}

// modelHang is a channel in the list of its expiry or its deadline, an ask, or what
// vests.
type modelHang struct {
	at      int
	channel voucher.ChannelID
	closing bool
	ask     identity.NodeID
	vest    modelVest
}

func newMarketModel() marketModel {
	return marketModel{
		channels: map[voucher.ChannelID]*modelChannel{}, asks: map[identity.NodeID]*modelAsk{}, vests: map[modelVest]int{},
	}
}

func (m *marketModel) clone() marketModel {
	c := newMarketModel()
	c.last, c.halted, c.hangs, c.known = m.last, m.halted, slices.Clone(m.hangs), m.known
	for id, v := range m.channels {
		w := *v
		c.channels[id] = &w
	}
	for id, v := range m.asks {
		w := *v
		c.asks[id] = &w
	}
	for id, v := range m.vests {
		c.vests[id] = v
	}
	return c
}

// running is the time the ledger ran.
func (m *moneyModel) running() int { return int(m.time) - m.market.halted }

// beginMarket counts a halt and does what is due: of the lists that are over the
// earliest first, and in each what was hung up last first.
func (m *moneyModel) beginMarket() {
	k := &m.market
	if gap := int(m.time) - k.last; k.last > 0 && gap > m.pause() {
		k.halted += gap
	}
	k.last = int(m.time)
	var due, rest []modelHang
	for _, h := range k.hangs {
		if h.at>>4 < int(m.time)>>4 {
			due = append(due, h)
		} else {
			rest = append(rest, h)
		}
	}
	k.hangs = rest
	slices.Reverse(due)
	slices.SortStableFunc(due, func(a, b modelHang) int { return cmp.Compare(a.at>>4, b.at>>4) })
	for _, h := range due {
		switch {
		case h.vest != modelVest{}:
			m.account(VestingAccount(network)).has -= k.vests[h.vest]
			m.account(h.vest.account).has += k.vests[h.vest]
			delete(k.vests, h.vest)
		case h.ask != identity.NodeID{}:
			if a := k.asks[h.ask]; int(m.time) <= a.until {
				h.at = a.until
				k.hangs = append(k.hangs, h)
			} else {
				delete(k.asks, h.ask)
			}
		case h.closing:
			c := k.channels[h.channel]
			c.listed = false
			if c.state == ChannelClosing && m.running() <= c.deadline {
				c.listed, h.at = true, c.deadline+k.halted
				k.hangs = append(k.hangs, h)
			} else if c.state == ChannelClosing {
				m.giveBack(c)
			}
		default:
			c := k.channels[h.channel]
			switch {
			case m.running() <= c.expires:
				h.at = c.expires + k.halted
				k.hangs = append(k.hangs, h)
			case c.listed:
				h.at = int(m.time)
				k.hangs = append(k.hangs, h)
			default:
				m.giveBack(c)
				delete(k.channels, h.channel)
			}
		}
	}
}

// pause is how long a running ledger makes no block at most.
func (m *moneyModel) pause() int {
	e := m.epoch()
	return e + 2*min(e/4, 30)
}

func (m *moneyModel) epoch() int {
	if m.parameters.EpochSeconds == 0 {
		return 600
	}
	return int(m.parameters.EpochSeconds)
}

func (m *moneyModel) giveBack(c *modelChannel) {
	if c.state != ChannelClosed {
		m.account(EscrowAccount(network)).has -= c.deposit - c.settled
		m.account(c.client).has += c.deposit - c.settled
	}
	c.state = ChannelClosed
}

// askAt returns the ask of a node that holds now.
func (m *moneyModel) askAt(node identity.NodeID) *voucher.Ask {
	a := m.market.asks[node]
	if a == nil {
		return nil
	}
	ask := a.current
	if a.next != nil && m.time >= a.next.ValidFrom {
		ask = a.next
	}
	if ask == nil || ask.ValidFrom > m.time || ask.ValidTo < m.time {
		return nil
	}
	return ask
}

// usable returns a channel that takes vouchers.
func (m *moneyModel) usable(id voucher.ChannelID) (*modelChannel, Code) {
	c := m.market.channels[id]
	switch {
	case c == nil:
		return nil, NoChannel
	case c.state == ChannelClosed || m.running() > c.expires || c.state == ChannelClosing && m.running() > c.deadline:
		return nil, ChannelOver
	}
	return c, Accepted
}

// earn divides what a channel pays.
func (m *moneyModel) earn(provider identity.AccountID, amount int) {
	founder := identity.AccountID(network)
	fee, vest := 0, 0
	if provider != founder {
		fee = amount * int(m.parameters.SettlementFee) / million
	}
	if m.parameters.VestingEpochs > 0 {
		vest = (amount - fee) * int(m.parameters.VestingShare) / million
	}
	m.account(EscrowAccount(network)).has -= amount
	m.account(founder).has += fee
	m.account(provider).has += amount - fee - vest
	if vest > 0 {
		m.account(VestingAccount(network)).has += vest
		v := modelVest{provider, (int(m.time)/m.epoch() + 1 + int(m.parameters.VestingEpochs)) * m.epoch()}
		if m.market.vests[v] == 0 {
			m.market.hangs = append(m.market.hangs, modelHang{at: v.at, vest: v})
		}
		m.market.vests[v] += vest
	}
}

// pays judges a voucher and returns its channel.
func (m *moneyModel) pays(b []byte) (*modelChannel, voucher.Voucher, Code) {
	s, _ := voucher.ParseSigned(b)
	c, code := m.usable(s.Voucher.Channel)
	switch {
	case code != Accepted:
		return nil, s.Voucher, code
	case s.Session != c.session:
		return nil, s.Voucher, WrongSession
	case int(s.Voucher.Amount) > c.deposit:
		return nil, s.Voucher, ExceedsDeposit
	}
	return c, s.Voucher, Accepted
}

// take settles a voucher that pays, and returns how much is to be divided. Of a batch
// the sum of the parts is divided voucher by voucher as well.
func (m *moneyModel) take(c *modelChannel, v voucher.Voucher) {
	if delta := int(v.Amount) - c.settled; delta > 0 {
		m.earn(c.provider, delta)
		c.settled = int(v.Amount)
	}
	c.sequence, c.bytes, c.milliseconds = max(c.sequence, v.Sequence), max(c.bytes, v.Bytes), max(c.milliseconds, v.Milliseconds)
}

func (m *moneyModel) operateMarket(tx Transaction) Code {
	k := &m.market
	switch op := tx.Operation.(type) {
	case OpenChannel:
		return m.open(tx, op)
	case TopUpChannel:
		c, code := m.usable(op.Channel)
		switch {
		case code != Accepted:
			return code
		case tx.Account != c.client:
			return NotAllowed
		case c.state != ChannelOpen:
			return ChannelIsClosing
		case op.Expires != 0 && (op.Expires > m.time+MaxChannelLife || int(op.Expires)-k.halted < c.expires):
			return BadDeadline
		}
		if code := m.pay(c.client, EscrowAccount(network), int(op.Amount)); code != Accepted {
			return code
		}
		c.deposit += int(op.Amount)
		if op.Expires != 0 {
			c.expires = int(op.Expires) - k.halted
		}
	case SettleChannel:
		c, v, code := m.pays(op.Voucher)
		if code != Accepted {
			return code
		}
		m.take(c, v)
	case SettleBatch:
		refused, n := 0, len(op.Vouchers)/voucher.SignedSize
		for i := range n {
			c, v, code := m.pays(op.Vouchers[i*voucher.SignedSize : (i+1)*voucher.SignedSize])
			if code != Accepted || c.provider != op.Provider {
				refused++
				continue
			}
			m.take(c, v)
		}
		if refused == n {
			return NothingPaid
		}
	case CloseChannel:
		c, code := m.usable(op.Channel)
		if code != Accepted {
			return code
		}
		other := map[identity.AccountID]identity.AccountID{c.client: c.provider, c.provider: c.client}[tx.Account]
		switch {
		case other.IsZero():
			return NotAllowed
		case op.Key != other:
			return BadSignature
		case int(op.Amount) < c.settled:
			return NotHigher
		case int(op.Amount) > c.deposit:
			return ExceedsDeposit
		}
		m.earn(c.provider, int(op.Amount)-c.settled)
		c.settled = int(op.Amount)
		m.giveBack(c)
	case RequestClose:
		c, code := m.usable(op.Channel)
		switch {
		case code != Accepted:
			return code
		case tx.Account != c.client:
			return NotAllowed
		case c.state != ChannelOpen:
			return ChannelIsClosing
		}
		grace := 86_400
		if m.parameters.CloseGrace > 0 {
			grace = int(m.parameters.CloseGrace)
		}
		c.state, c.listed, c.deadline = ChannelClosing, true, min(m.running()+grace, c.expires)
		k.hangs = append(k.hangs, modelHang{at: c.deadline + k.halted, channel: op.Channel, closing: true})
	case Refute:
		c, v, code := m.pays(op.Voucher)
		switch {
		case code != Accepted:
			return code
		case tx.Account != c.provider:
			return NotAllowed
		case c.state != ChannelClosing:
			return NotClosing
		case int(v.Amount) <= c.settled:
			return NotHigher
		}
		m.take(c, v)
		m.giveBack(c)
	case PostAsk:
		return m.post(op)
	}
	return Accepted
}

func (m *moneyModel) open(tx Transaction, op OpenChannel) Code {
	k := &m.market
	id := op.Channel(network, tx.Account)
	ask := m.askAt(op.Node)
	switch {
	case ask == nil || ask.ID() != op.Ask || ask.Account != op.Provider:
		return NoAsk
	case op.Deposit < m.parameters.MinDeposit:
		return DepositTooSmall
	case op.Expires <= m.time || op.Expires > m.time+MaxChannelLife:
		return BadDeadline
	case k.channels[id] != nil:
		return DuplicateID
	}
	if code := m.pay(tx.Account, EscrowAccount(network), int(op.Deposit)); code != Accepted {
		return code
	}
	k.channels[id] = &modelChannel{
		client: tx.Account, provider: op.Provider, session: op.Session, price: ask.Price, deposit: int(op.Deposit),
		state: ChannelOpen, expires: int(op.Expires) - k.halted,
	}
	k.hangs = append(k.hangs, modelHang{at: int(op.Expires), channel: id})
	k.known = append(slices.Clone(k.known[max(0, len(k.known)-5):]), id)
	return Accepted
}

func (m *moneyModel) post(op PostAsk) Code {
	k := &m.market
	ask, _ := voucher.ParseAsk(op.Ask)
	a := k.asks[ask.Node]
	if a != nil && a.next != nil && m.time >= a.next.ValidFrom {
		a.current, a.next = a.next, nil
	}
	is := func(p *voucher.Ask) bool { return p != nil && *p == ask }
	valid := func(p *voucher.Ask) bool { return p != nil && p.ValidTo >= m.time }
	if op.Withdraw {
		if a == nil || !is(a.current) && !is(a.next) {
			return NoAsk
		}
		a.current, a.next, a.withdrawn, a.until = nil, nil, true, max(a.until, int(m.time)+m.epoch())
		return Accepted
	}
	grant, _ := voucher.ParseGrant(op.Grant)
	alive := a != nil && (a.withdrawn || valid(a.current) || valid(a.next))
	switch {
	case ask.ValidTo < m.time || ask.ValidTo > m.time+MaxAskLife:
		return BadDeadline
	case grant.NotAfter < m.time:
		return NotGranted
	case a != nil && ask.Sequence <= a.sequence:
		return StaleAsk
	case alive && int(ask.ValidFrom) < int(m.time)+m.epoch():
		return TooSoon
	}
	if a == nil {
		a = &modelAsk{}
		k.asks[ask.Node] = a
		k.hangs = append(k.hangs, modelHang{at: int(ask.ValidTo), ask: ask.Node})
	}
	if !alive {
		a.current = nil
	}
	a.next, a.withdrawn, a.sequence, a.until = &ask, false, ask.Sequence, max(a.until, int(ask.ValidTo))
	return Accepted
}

// compareMarket checks every row of the market against the model.
func (m *moneyModel) compareMarket(t *rapid.T, state memory) {
	k := &m.market
	row, err := readMarket(state)
	escrowed, open := 0, uint64(0)
	for id, c := range k.channels {
		var got channelRow
		if found, err := readChannel(state, id, &got); err != nil || !found {
			t.Fatalf("channel %s is not there: %v", id, err)
		}
		is := modelChannel{
			got.client, got.provider, got.session, got.price, int(got.deposit), int(got.settled), got.sequence, got.bytes, got.milliseconds,
			got.state, int(got.expires), int(got.deadline), got.listed,
		}
		if is != *c {
			t.Fatalf("channel %s: %+v, want %+v", id, is, *c)
		}
		if c.state != ChannelClosed {
			escrowed, open = escrowed+c.deposit-c.settled, open+1
		}
	}
	vesting := 0
	for v, amount := range k.vests {
		b := state[string(vestingReference(v.account, providerID{}, int64(v.at)).key())]
		got, err := decodeVesting(b)
		if err != nil || int(got.amount) != amount {
			t.Fatalf("vesting %+v: %+v, %v, want %d", v, got, err, amount)
		}
		vesting += amount
	}
	for node, a := range k.asks {
		got, err := decodeAsk(state[string(askReference(files.Service(), node).key())])
		same := func(ask voucher.Ask, p *voucher.Ask) bool {
			return p == nil && ask == (voucher.Ask{}) || p != nil && *p == ask
		}
		if err != nil || !same(got.current, a.current) || !same(got.next, a.next) || got.withdrawn != a.withdrawn ||
			got.sequence != a.sequence || int(got.until) != a.until {
			t.Fatalf("ask on %s: %+v, %v, want %+v", node, got, err, a)
		}
	}
	if want := (marketRow{int64(k.last), int64(k.halted), voucher.Amount(escrowed), voucher.Amount(vesting), open}); err != nil || row != want {
		t.Fatalf("market %+v, %v, want %+v", row, err, want)
	}
	if m.account(EscrowAccount(network)).has != escrowed || m.account(VestingAccount(network)).has != vesting {
		t.Fatalf("the model itself has %d in escrow and %d vesting, want %d and %d",
			m.account(EscrowAccount(network)).has, m.account(VestingAccount(network)).has, escrowed, vesting)
	}
}

// modelNodes are the nodes of those who are paid.
var modelNodes = map[identity.AccountID]identity.NodeID{bob.Account(): key(20).Node(), key(7).Account(): key(40).Node()}

// anyMarket makes a transaction of the market, mostly one that makes sense. Its
// signatures are missing: the machine looks at none.
func anyMarket(r *rand.Rand, m *moneyModel, who identity.AccountID, id voucher.TransferID, until int64) Transaction {
	k := &m.market
	one := func(n int64, more ...int64) int64 { return append(more, n)[r.IntN(len(more)+1)] }
	provider := bob.Account()
	if r.IntN(3) == 0 {
		provider = key(7).Account()
	}
	var channel voucher.ChannelID
	if len(k.known) > 0 && r.IntN(20) > 0 {
		channel = k.known[r.IntN(len(k.known))]
	}
	c := k.channels[channel]
	if c == nil {
		c = &modelChannel{client: alice.Account(), provider: provider, session: session.Public(), deposit: 10}
	}
	party := func(should identity.AccountID) identity.AccountID {
		if r.IntN(8) > 0 {
			return should
		}
		return who
	}
	promised := func() []byte {
		s := voucher.Signed{Session: c.session, Voucher: voucher.Voucher{
			Channel: channel, Sequence: r.Uint64N(9), Amount: voucher.Amount(1 + r.IntN(c.deposit+3)), Bytes: r.Uint64N(99), Milliseconds: r.Uint64N(99),
		}}
		if r.IntN(12) == 0 {
			s.Session[0]++
		}
		return s.Append(nil)
	}
	switch r.IntN(14) {
	case 0, 1:
		node := modelNodes[provider]
		a := k.asks[node]
		ask := voucher.Ask{
			Service: files.Service(), Node: node, Account: provider, Price: voucher.Price{PerGiB: voucher.Amount(r.IntN(9))},
			ValidFrom: one(0, m.time, m.time+int64(m.epoch())-1, m.time+int64(m.epoch()), m.time+int64(m.epoch())+50), Sequence: 1,
		}
		ask.ValidTo = max(1, ask.ValidFrom, m.time+one(-1, 0, 30, 300, 3000, 30_000, 30_000, 300_000, 300_000, MaxAskLife, MaxAskLife+1))
		if a != nil {
			ask.Sequence = a.sequence + 1 - min(a.sequence, uint64(r.IntN(8)/7))
			if p := []*voucher.Ask{a.current, a.next}[r.IntN(2)]; p != nil && r.IntN(6) == 0 {
				return madeUp(provider, until, PostAsk{ID: id, Ask: p.Append(nil), Withdraw: true})
			}
		}
		ask.Sequence = max(1, ask.Sequence)
		g := voucher.Grant{Service: ask.Service, Node: node, Account: provider, NotAfter: m.time + one(1000, 1000, 1000, 1000, 1000, 0, -1)}
		return madeUp(provider, until, PostAsk{ID: id, Ask: ask.Append(nil), Node: Signature{1}, Grant: g.Append(nil)})
	case 2, 3, 4:
		op := OpenChannel{
			ID: id, Provider: provider, Node: modelNodes[provider], Service: files.Service(), Session: session.Public(),
			Deposit: voucher.Amount(1 + r.IntN(60)), Expires: m.time + one(0, 1, 10, 40, 200, 200, 400, 400, 400, 5000, 5000, 5000, MaxChannelLife, MaxChannelLife+1),
		}
		if ask := m.askAt(op.Node); ask != nil && r.IntN(12) > 0 {
			op.Ask = ask.ID()
		}
		if who == provider {
			who = alice.Account()
		}
		return madeUp(who, until, op)
	case 5:
		op := TopUpChannel{ID: id, Channel: channel, Amount: voucher.Amount(r.IntN(20))}
		if r.IntN(3) == 0 || op.Amount == 0 {
			op.Expires = max(1, int64(c.expires+k.halted)+one(-1, 0, 20, 300, MaxChannelLife))
		}
		return madeUp(party(c.client), until, op)
	case 6, 7, 8:
		return madeUp(who, until, SettleChannel{id, promised()})
	case 9, 10:
		op := SettleBatch{ID: id, Provider: party(c.provider)}
		for range 1 + r.IntN(4) {
			op.Vouchers = append(op.Vouchers, promised()...)
			if len(k.known) > 0 {
				channel = k.known[r.IntN(len(k.known))]
			}
			if other := k.channels[channel]; other != nil {
				c = other
			}
		}
		return madeUp(who, until, op)
	case 11:
		op := CloseChannel{ID: id, Channel: channel, Amount: voucher.Amount(max(0, c.settled-2+r.IntN(c.deposit+5))), Key: c.client}
		by := party(c.provider)
		if r.IntN(2) == 0 {
			op.Key, by = c.provider, party(c.client)
		}
		if r.IntN(6) == 0 {
			op.Key = by
		}
		return madeUp(by, until, op)
	case 12:
		return madeUp(party(c.client), until, RequestClose{id, channel})
	}
	return madeUp(party(c.provider), until, Refute{id, promised()})
}
