package meter

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Session describes a session to the meter.
type Session struct {
	// Local and Peer are the two nodes.
	Local, Peer identity.NodeID
	// Initiator says that this node dialled: it is the client.
	Initiator bool
	Service   identity.ServiceID
	Port      uint16
	// Protocol is 6 for streams and 17 for datagrams.
	Protocol uint8
	// Nonce names the session to both ends, Exporter binds vouchers to it.
	Nonce, Exporter [32]byte
	// Opening and Accepting are what the meters told each other with the session's
	// first messages. They must not be modified.
	Opening, Accepting []byte
	Start              time.Time
	// RoundTrip returns the connection's smoothed round trip time; nil: not known.
	RoundTrip func() time.Duration
	// End ends the session and tells the other end why; nil: it cannot be ended.
	End func(error)
}

// pair is what a client's channel is for.
type pair struct {
	peer    identity.NodeID
	service identity.ServiceID
}

// maxStrangers bounds the channels that clients have offered and the ledger has not
// confirmed yet.
const maxStrangers = 1024

// Meter meters the sessions of a node, at either end. Its methods return ErrPrice,
// ErrBudget, ErrLedgerUnreachable and ErrClosed.
type Meter struct {
	cfg      Config // constant
	started  time.Time
	keeper   *keeper
	issuer   *issuer
	receipts *Receipts
	sweeper  *sweeper
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	paying   atomic.Bool // some purse exists: sessions may have to say so
	counters counters
	// strangers counts the tills whose channel the ledger has not confirmed yet.
	strangers atomic.Int64

	life   sync.RWMutex // guards below; held while a goroutine starts
	closed bool

	mu     sync.RWMutex // guards below
	purses map[pair]*purse
	paid   map[voucher.ChannelID]*purse // purses by their channels
	tills  map[voucher.ChannelID]*till
}

// Open reads what was kept and starts to meter.
func Open(cfg Config) (*Meter, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	k, err := openKeeper(cfg.Dir, cfg.fs, cfg.Logger)
	if err != nil {
		return nil, err
	}
	m := &Meter{
		cfg: cfg, started: time.Now(), keeper: k, receipts: newReceipts(cfg.Network, cfg.ReceiptMemory),
		purses: make(map[pair]*purse), paid: make(map[voucher.ChannelID]*purse), tills: make(map[voucher.ChannelID]*till),
	}
	m.issuer, m.sweeper = newIssuer(m), newSweeper(m)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	if err := m.load(); err != nil {
		return nil, errors.Join(err, k.close())
	}
	k.start()
	m.wg.Go(m.issuer.run)
	m.wg.Go(m.sweeper.run)
	return m, nil
}

// load goes on where the last run stopped.
func (m *Meter) load() error {
	rows := make(map[voucher.ChannelID]payerRow)
	err := m.keeper.load(
		func(id voucher.ChannelID, r payerRow) error { rows[id] = r; return nil },
		func(id voucher.ChannelID, r payeeRow) error {
			newest, err := keptVoucher(r.Newest)
			if err != nil {
				return err
			}
			t := newTill(m, id, r.Peer)
			t.payee = newPayee(r.Channel.channel(id), m.cfg.Network, newest, r.Carried)
			m.tills[id] = t
			return nil
		})
	if err != nil || m.cfg.Channels == nil {
		return err
	}
	for _, h := range m.cfg.Channels.Held() {
		row := rows[h.ID]
		newest, err := keptVoucher(row.Newest)
		if err != nil {
			return errors.Join(ErrCorrupt, err)
		}
		p := m.purse(pair{h.Ask.Node, h.Ask.Service})
		p.adopt(h, newPayer(h.Channel, m.cfg.Network, newest, row.Bytes, reservation{row.Sequence, row.Amount}))
	}
	return nil
}

// now is the time since the meter was opened, by the monotonic clock.
func (m *Meter) now() time.Duration { return time.Since(m.started) }

// Close ends metering: newest vouchers and reservations are written, goroutines
// waited for. Sessions should have ended before. It is idempotent.
func (m *Meter) Close() error {
	m.life.Lock()
	closed := m.closed
	m.closed = true
	m.life.Unlock()
	if closed {
		return nil
	}
	m.cancel()
	m.wg.Wait()
	m.mu.RLock()
	purses, tills := m.list()
	m.mu.RUnlock()
	for _, p := range purses {
		p.settle()
	}
	for _, t := range tills {
		t.settle()
	}
	return m.keeper.close()
}

// list returns all purses and tills. mu must be held.
func (m *Meter) list() (purses []*purse, tills []*till) {
	for _, p := range m.purses {
		purses = append(purses, p)
	}
	for _, t := range m.tills {
		tills = append(tills, t)
	}
	return purses, tills
}

// spawn runs f in a goroutine that Close waits for; false after Close.
func (m *Meter) spawn(f func()) bool {
	m.life.RLock()
	defer m.life.RUnlock()
	if m.closed {
		return false
	}
	m.wg.Go(f)
	return true
}

// Opening returns what a client tells the provider with the opening of a session: the
// channel it would pay with, if it has one.
func (m *Meter) Opening(s Session) []byte {
	if !m.paying.Load() {
		return nil
	}
	m.mu.RLock()
	p := m.purses[pair{s.Peer, s.Service}]
	m.mu.RUnlock()
	if p == nil {
		return nil
	}
	return p.openingExtension()
}

// Accepting returns what a provider tells the client with its acceptance: nothing if
// the service is free, else what it asks, and what it knows of the channel offered.
func (m *Meter) Accepting(s Session) ([]byte, error) {
	ask, priced := m.ask(s.Service)
	if !priced {
		return nil, nil
	}
	a := accepting{Ask: ask}
	if offered, err := parseOpening(s.Opening); err == nil {
		a.Has = hasPending
		if t := m.known(offered.Channel); t != nil {
			a.Has, a.Newest = t.standing(s)
		}
	}
	return a.Append(make([]byte, 0, 1+voucher.AskSize+1+voucher.VoucherSize)), nil
}

// ask returns the price of a service here.
func (m *Meter) ask(service identity.ServiceID) (voucher.Ask, bool) {
	if m.cfg.Asks == nil || m.cfg.Channels == nil {
		return voucher.Ask{}, false
	}
	ask, priced := m.cfg.Asks.Ask(service)
	return ask, priced && !ask.Price.IsZero()
}

func (m *Meter) known(id voucher.ChannelID) *till {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.tills[id]
}

// till returns the till of a channel that a client offers, nil when there are too many
// unconfirmed ones.
func (m *Meter) till(id voucher.ChannelID, peer identity.NodeID) *till {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tills[id]
	if t == nil && m.strangers.Load() < maxStrangers && !id.IsZero() {
		t = newTill(m, id, peer)
		m.tills[id] = t
		m.strangers.Add(1)
	}
	return t
}

// purse returns the purse for a service at a node.
func (m *Meter) purse(of pair) *purse {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.purses[of]
	if p == nil {
		p = newPurse(m, of)
		m.purses[of] = p
		m.paying.Store(true)
	}
	return p
}

// Begin starts the account of an accepted session. send gives a frame to the account
// of the other end, as Config.Send does.
func (m *Meter) Begin(s Session, send func(frame []byte)) (*Account, error) {
	if m.ctx.Err() != nil {
		return nil, ErrClosed
	}
	a := newAccount(m, s, send)
	var err error
	if s.Initiator {
		err = m.beginPaying(a)
	} else if ask, priced := m.ask(s.Service); priced {
		m.beginEarning(a, ask)
	}
	if err != nil {
		return nil, err
	}
	if s.Initiator {
		m.receipts.begin(a)
	}
	m.sweeper.add(a)
	m.counters.sessions.Add(1)
	return a, nil
}

// beginPaying looks what the provider asks, and pays if the settings permit.
func (m *Meter) beginPaying(a *Account) error {
	if len(a.session.Accepting) == 0 {
		return nil
	}
	offer, err := parseAccepting(a.session.Accepting)
	if err != nil {
		return errors.Join(ErrChannel, err)
	}
	if offer.Ask.Price.IsZero() {
		return nil
	}
	if offer.Ask.Service != a.session.Service || offer.Ask.Node != a.session.Peer {
		return errors.Join(ErrChannel, errors.New("an ask for another service or node"))
	}
	p := m.purse(pair{a.session.Peer, a.session.Service})
	return p.begin(a, offer)
}

// beginEarning lets a session carry nothing until its channel is known.
func (m *Meter) beginEarning(a *Account, ask voucher.Ask) {
	a.price(ask)
	if offered, err := parseOpening(a.session.Opening); err == nil {
		m.offered(a, offered)
	}
}

// offered attaches a session to the channel its client offers.
func (m *Meter) offered(a *Account, v voucher.Voucher) {
	t := m.till(v.Channel, a.session.Peer)
	if t == nil {
		a.send(appendRefusal(nil, refusal{RefusedLedger, v.Channel}))
		return
	}
	t.attach(a, v)
}

// Frame takes a frame that the meter of a node sent with its Config.Send. It does not
// wait and does not keep b.
func (m *Meter) Frame(peer identity.NodeID, b []byte) {
	f, err := parseFrame(b)
	if err != nil {
		m.counters.malformed.Add(1)
		return
	}
	switch f.Type {
	case typeVoucher:
		if t := m.known(f.Voucher.Channel); t != nil && t.peer == peer {
			t.receive(f.Voucher)
		}
	case typeVoucherAck:
		m.mu.RLock()
		p := m.paid[f.Ack.Channel]
		m.mu.RUnlock()
		if p != nil && p.of.peer == peer {
			p.acknowledged(f.Ack)
		}
	case typeReceipts:
		if acks := m.receipts.receive(peer, f.Receipts); len(acks) > 0 {
			m.cfg.Send(peer, appendReceiptAcks(make([]byte, 0, MaxFrame), acks))
		}
	case typeReceiptAcks:
		m.issuer.acknowledged(peer, f.Acks)
	default:
		m.counters.malformed.Add(1)
	}
}

// Receipts returns the receipts of sessions that this node dialled.
func (m *Meter) Receipts() *Receipts { return m.receipts }

// Earned is what a channel has paid this node.
type Earned struct {
	Peer    identity.NodeID
	Channel Channel
	// Voucher is the newest accepted; its sequence is 0 if there is none.
	Voucher voucher.Voucher
}

// Earned returns what the channels have paid that this node earns by.
func (m *Meter) Earned() []Earned {
	m.mu.RLock()
	_, tills := m.list()
	m.mu.RUnlock()
	var out []Earned
	for _, t := range tills {
		if e, ok := t.earned(); ok {
			out = append(out, e)
		}
	}
	return out
}

// Spent is what this node has paid on a channel.
type Spent struct {
	Peer    identity.NodeID
	Channel Channel
	// Voucher is the newest signed; its sequence is 0 if there is none.
	Voucher voucher.Voucher
	// Reserved is the most it may have signed for, crashes included.
	Reserved voucher.Amount
}

// Spent returns what this node has paid on its channels.
func (m *Meter) Spent() []Spent {
	m.mu.RLock()
	purses, _ := m.list()
	m.mu.RUnlock()
	var out []Spent
	for _, p := range purses {
		if s, ok := p.spent(); ok {
			out = append(out, s)
		}
	}
	return out
}

// Update takes what the ledger says of a channel now, at either end.
func (m *Meter) Update(c Channel) {
	m.mu.RLock()
	p, t := m.paid[c.ID], m.tills[c.ID]
	m.mu.RUnlock()
	if p != nil {
		p.update(c)
	}
	if t != nil {
		t.update(c)
	}
}

// Forget drops what is kept of a channel that is closed and paid out. It returns once
// the disk has it.
func (m *Meter) Forget(id voucher.ChannelID) error {
	m.mu.Lock()
	p := m.paid[id]
	delete(m.paid, id)
	t := m.tills[id]
	delete(m.tills, id)
	m.mu.Unlock()
	if p != nil {
		p.retire(id)
	}
	if t != nil {
		t.update(Channel{ID: id}) // closed
	}
	done := make(chan error, 2)
	m.keeper.put(write{payerKey(id), nil, func(err error) { done <- err }})
	m.keeper.put(write{payeeKey(id), nil, func(err error) { done <- err }})
	return errors.Join(<-done, <-done)
}
