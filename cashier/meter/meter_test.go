package meter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// testLedger is a ledger of channels, for both ends.
type testLedger struct {
	ask     voucher.Ask
	deposit voucher.Amount

	mu       sync.Mutex // guards below
	channels map[voucher.ChannelID]Channel
	held     []Held
	opens    int
	topUps   int
	permit   error
	openErr  error
	topUpErr error
	expires  int64
	records  []UsageRecord
}

func newTestLedger(price voucher.Price) *testLedger {
	c := testChannel(price, 0)
	return &testLedger{ask: c.Ask, deposit: 10_000_000, channels: make(map[voucher.ChannelID]Channel)}
}

func (l *testLedger) Permit(voucher.Ask) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.permit
}

func (l *testLedger) Held() []Held {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Held
	for _, h := range l.held {
		h.Channel = l.channels[h.ID]
		out = append(out, h)
	}
	return out
}

func (l *testLedger) Open(_ context.Context, ask voucher.Ask) (Held, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.openErr != nil {
		return Held{}, l.openErr
	}
	l.opens++
	key, err := identity.GenerateKey(rand.Reader)
	if err != nil {
		return Held{}, err
	}
	c := Channel{
		ID: voucher.ChannelID{byte(l.opens)}, Client: testKey(1).Account(), Ask: ask, SessionKey: key.Public(),
		Deposit: l.deposit, Expires: l.expires, Open: true,
	}
	l.channels[c.ID] = c
	h := Held{c, key}
	l.held = append(l.held, h)
	return h, nil
}

func (l *testLedger) TopUp(_ context.Context, id voucher.ChannelID, atLeast voucher.Amount) (Channel, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.topUpErr != nil {
		return Channel{}, l.topUpErr
	}
	l.topUps++
	c := l.channels[id]
	c.Deposit = max(c.Deposit, atLeast)
	l.channels[id] = c
	return c, nil
}

func (l *testLedger) State(_ context.Context, id voucher.ChannelID) (Channel, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.channels[id]
	if !ok {
		return Channel{}, errors.New("no such channel")
	}
	return c, nil
}

func (l *testLedger) Ask(service identity.ServiceID) (voucher.Ask, bool) {
	return l.ask, service == l.ask.Service
}

func (l *testLedger) Record(r UsageRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
}

// testPair is a client's and a provider's meter with a line between them.
type testPair struct {
	tb               testing.TB
	ledger           *testLedger
	client, provider *Meter
	clientFS         *vfs.MemFS
	providerFS       *vfs.MemFS
	wg               sync.WaitGroup
	loss             atomic.Int64 // of frames, per thousand
	mute             atomic.Bool  // nothing comes from the client any more
	timeout          time.Duration
	service          identity.ServiceID
}

func newTestPair(t *testing.T, price voucher.Price) *testPair {
	p := &testPair{
		tb: t, ledger: newTestLedger(price), clientFS: vfs.NewCrashableMem(), providerFS: vfs.NewCrashableMem(), timeout: 10 * time.Second,
	}
	p.service = p.ledger.ask.Service
	return p
}

func (p *testPair) open() {
	p.tb.Helper()
	p.client, p.provider = p.openOne(testKey(1), p.clientFS, false), p.openOne(testKey(2), p.providerFS, true)
	p.tb.Cleanup(p.close)
}

func (p *testPair) openOne(key identity.PrivateKey, fs vfs.FS, provides bool) *Meter {
	p.tb.Helper()
	cfg := Config{
		Key: key, Network: testNetwork, Dir: "meter", Channels: p.ledger, Usage: p.ledger, PaymentTimeout: p.timeout, fs: fs,
		Send: func(_ identity.NodeID, b []byte) bool { p.carry(b, !provides, nil); return true },
	}
	if provides {
		cfg.Asks = p.ledger
	}
	m, err := Open(cfg)
	if err != nil {
		p.tb.Fatal(err)
	}
	return m
}

func (p *testPair) close() {
	for _, m := range []*Meter{p.client, p.provider} {
		if err := m.Close(); err != nil {
			p.tb.Error(err)
		}
	}
	p.wg.Wait()
}

// carry carries a frame to the other end: to an account, or to the meter.
func (p *testPair) carry(b []byte, fromClient bool, to func() *Account) {
	if mathrand.Int64N(1000) < p.loss.Load() || fromClient && p.mute.Load() {
		return
	}
	if len(b) > MaxFrame {
		p.tb.Errorf("a frame of %d bytes", len(b))
	}
	b = append([]byte(nil), b...)
	p.wg.Go(func() {
		switch {
		case to != nil:
			if a := to(); a != nil {
				a.Frame(b)
			}
		case fromClient:
			p.provider.Frame(testKey(1).Node(), b)
		default:
			p.client.Frame(testKey(2).Node(), b)
		}
	})
}

// session is both ends of one.
type session struct {
	nonce            [32]byte
	client, provider *Account
	ended            chan error
	received         atomic.Int64 // by the client
}

func (p *testPair) dial(protocol uint8) (*session, error) {
	var s session
	var client, provider atomic.Pointer[Account]
	_, _ = rand.Read(s.nonce[:])
	s.ended = make(chan error, 10)
	end := func(err error) { s.ended <- err }
	rtt := func() time.Duration { return time.Millisecond }
	c := Session{
		Local: testKey(1).Node(), Peer: testKey(2).Node(), Initiator: true, Service: p.service, Port: 80, Protocol: protocol,
		Nonce: s.nonce, Start: time.Now(), RoundTrip: rtt, End: end,
	}
	_, _ = rand.Read(c.Exporter[:])
	c.Opening = p.client.Opening(c)
	sv := c
	sv.Local, sv.Peer, sv.Initiator = c.Peer, c.Local, false
	accepting, err := p.provider.Accepting(sv)
	if err != nil {
		return nil, err
	}
	sv.Accepting, c.Accepting = accepting, accepting
	s.provider, err = p.provider.Begin(sv, func(b []byte) { p.carry(b, false, client.Load) })
	if err != nil {
		return nil, err
	}
	provider.Store(s.provider)
	s.client, err = p.client.Begin(c, func(b []byte) { p.carry(b, true, provider.Load) })
	if err != nil {
		s.provider.Close()
		return nil, err
	}
	client.Store(s.client)
	return &s, nil
}

func (p *testPair) mustDial(protocol uint8) *session {
	p.tb.Helper()
	s, err := p.dial(protocol)
	if err != nil {
		p.tb.Fatal(err)
	}
	return s
}

// take carries n bytes at one end, and waits for credit.
func take(ctx context.Context, a *Account, received bool, n int) error {
	for !a.Take(received, n) {
		if err := a.Wait(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// carry carries bytes both ways.
func (s *session) carry(ctx context.Context, down, up int) error {
	for down > 0 || up > 0 {
		if n := min(down, unit); n > 0 {
			if err := take(ctx, s.provider, false, n); err != nil {
				return err
			}
			if err := take(ctx, s.client, true, n); err != nil {
				return err
			}
			s.received.Add(int64(n))
			down -= n
		}
		if n := min(up, unit); n > 0 {
			if err := take(ctx, s.client, false, n); err != nil {
				return err
			}
			if err := take(ctx, s.provider, true, n); err != nil {
				return err
			}
			up -= n
		}
	}
	return nil
}

func (s *session) close() {
	s.provider.Close()
	s.client.Close()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// A free session has a receipt and costs nothing, and no store is made.
func TestFreeSession(t *testing.T) {
	p := newTestPair(t, voucher.Price{})
	p.open()
	s := p.mustDial(6)
	if err := s.carry(t.Context(), 1<<20, 1000); err != nil {
		t.Fatal(err)
	}
	s.close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := p.client.Receipts().Await(ctx, s.nonce)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Final || r.Sent != 1<<20 || r.Received != 1000 || r.Node != testKey(2).Node() || r.Service != p.service {
		t.Errorf("%+v", r)
	}
	eventually(t, "the receipt is acknowledged", func() bool {
		p.provider.issuer.mu.Lock()
		defer p.provider.issuer.mu.Unlock()
		return len(p.provider.issuer.pending) == 0
	})
	if p.ledger.opens != 0 || p.provider.keeper.db != nil || p.client.keeper.db != nil {
		t.Error("a free session opened a channel or a store")
	}
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	if len(p.ledger.records) != 2 || p.ledger.records[0].Sent+p.ledger.records[1].Sent != 1<<20+1000 {
		t.Errorf("usage %+v", p.ledger.records)
	}
}

// A priced session pays as it is delivered, whatever frames are lost; what one end has
// signed the other has accepted, and the next session goes on with the same channel.
func TestPricedSessions(t *testing.T) {
	p := newTestPair(t, testPrice)
	p.loss.Store(100)
	p.open()
	total := 0
	for range 3 {
		s := p.mustDial(6)
		if err := s.carry(t.Context(), 3<<20, 1<<20); err != nil {
			t.Fatal(err)
		}
		total += 4 << 20
		s.close()
		eventually(t, "all is paid", func() bool {
			e := p.provider.Earned()
			return len(e) == 1 && e[0].Voucher.Bytes == uint64(total)
		})
	}
	e, sp := p.provider.Earned()[0], p.client.Spent()[0]
	if e.Voucher != sp.Voucher || p.ledger.opens != 1 {
		t.Errorf("earned %+v, spent %+v, %d channels", e.Voucher, sp.Voucher, p.ledger.opens)
	}
	if cost, _ := testPrice.Cost(e.Voucher.Bytes, e.Voucher.Milliseconds); cost != e.Voucher.Amount {
		t.Errorf("%s for what costs %s", e.Voucher.Amount, cost)
	}
	if sp.Reserved < sp.Voucher.Amount {
		t.Error("more was signed than reserved")
	}
	m := p.provider.Metrics()
	if m.Unsettled != e.Voucher.Amount || m.ChannelsEarning != 1 || m.VouchersAccepted == 0 || m.Syncs == 0 || m.Syncs >= m.VouchersAccepted+4 {
		t.Errorf("metrics %+v", m)
	}
}

// Many sessions at once share one channel, and none starves.
func TestManySessionsOneChannel(t *testing.T) {
	p := newTestPair(t, testPrice)
	p.open()
	var wg sync.WaitGroup
	const sessions, each = 40, 1 << 20
	for range sessions {
		s := p.mustDial(6)
		wg.Go(func() {
			defer s.close()
			if err := s.carry(t.Context(), each, each/8); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	eventually(t, "all is paid", func() bool {
		e := p.provider.Earned()
		return len(e) == 1 && e[0].Voucher.Bytes == sessions*(each+each/8)
	})
	if p.ledger.opens != 1 {
		t.Errorf("%d channels", p.ledger.opens)
	}
}

// A client that stops paying gets at most the window more, and a typed error.
func TestUnpaidSession(t *testing.T) {
	p := newTestPair(t, testPrice)
	p.timeout = time.Second
	p.open()
	s := p.mustDial(6)
	defer s.close()
	if err := s.carry(t.Context(), 2<<20, 0); err != nil {
		t.Fatal(err)
	}
	p.mute.Store(true)
	if err := s.carry(t.Context(), 1<<30, 0); !errors.Is(err, ErrUnpaid) {
		t.Errorf("not paid: %v", err)
	}
	sent, _ := s.provider.counts()
	if paid := p.provider.Earned()[0].Voucher.Bytes; sent > paid+min(MaxWindow, paid) {
		t.Errorf("%d bytes were delivered, %d paid", sent, paid)
	}
}

// Datagrams that nobody pays for are dropped, and their session is ended in the end.
func TestUnpaidDatagrams(t *testing.T) {
	p := newTestPair(t, testPrice)
	p.timeout = time.Second
	p.mute.Store(true)
	p.open()
	s := p.mustDial(17)
	defer s.close()
	if s.provider.Take(false, 1200) {
		t.Error("carried unpaid")
	}
	s.provider.Drop(1200)
	select {
	case err := <-s.ended:
		if !errors.Is(err, ErrUnpaid) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the session goes on unpaid")
	}
	if p.provider.Metrics().DatagramsUnpaid != 1 {
		t.Error("the datagram was not counted")
	}
}

// The settings' no reaches the dialer at once, the ledger's silence ends the session.
func TestNotPermitted(t *testing.T) {
	p := newTestPair(t, testPrice)
	p.open()
	for _, want := range []error{ErrPrice, ErrBudget, ErrLedgerUnreachable} {
		p.ledger.mu.Lock()
		p.ledger.permit = fmt.Errorf("%w: files", want)
		p.ledger.mu.Unlock()
		if _, err := p.dial(6); !errors.Is(err, want) {
			t.Errorf("%v instead of %v", err, want)
		}
	}
	p.ledger.mu.Lock()
	p.ledger.permit, p.ledger.openErr = nil, ErrLedgerUnreachable
	p.ledger.mu.Unlock()
	s := p.mustDial(6)
	defer s.close()
	select {
	case err := <-s.ended:
		if !errors.Is(err, ErrLedgerUnreachable) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a session without channel goes on")
	}
}

// A deposit is topped up before it is used up; where that fails the session ends
// with the reason, and the provider has lost nothing.
func TestTopUp(t *testing.T) {
	p := newTestPair(t, voucher.Price{PerGiB: 1_000_000_000})
	p.ledger.deposit = 2_000_000 // 2 MiB
	p.open()
	s := p.mustDial(6)
	defer s.close()
	if err := s.carry(t.Context(), 8<<20, 0); err != nil {
		t.Fatal(err)
	}
	p.ledger.mu.Lock()
	if p.ledger.topUps == 0 {
		t.Error("never topped up")
	}
	p.ledger.topUpErr = ErrBudget
	p.ledger.mu.Unlock()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	p.wg.Go(func() { // as the session layer does
		select {
		case err := <-s.ended:
			cancel(err)
		case <-ctx.Done():
		}
	})
	err := s.carry(ctx, 1<<30, 0)
	if !errors.Is(err, ErrBudget) {
		t.Errorf("carrying beyond the budget: %v", err)
	}
	e := p.provider.Earned()[0]
	sent, _ := s.provider.counts()
	if cost, _ := e.Channel.Ask.Price.Cost(sent, 0); cost > e.Channel.Deposit {
		t.Errorf("carried for %s with a deposit of %s", cost, e.Channel.Deposit)
	}
}

// Sessions outlive their channel: where it is about to expire another is opened.
func TestChannelExpires(t *testing.T) {
	p := newTestPair(t, testPrice)
	p.open()
	s := p.mustDial(6)
	defer s.close()
	if err := s.carry(t.Context(), 1<<20, 0); err != nil {
		t.Fatal(err)
	}
	p.ledger.mu.Lock()
	c := p.ledger.channels[voucher.ChannelID{1}]
	c.Open = false
	p.ledger.channels[c.ID] = c
	p.ledger.mu.Unlock()
	p.provider.Update(c)
	if err := s.carry(t.Context(), 2<<20, 0); err != nil {
		t.Fatal(err)
	}
	if p.ledger.opens != 2 {
		t.Errorf("%d channels", p.ledger.opens)
	}
}

// After a restart of both, the channel goes on where it was.
func TestRestart(t *testing.T) {
	p := newTestPair(t, testPrice)
	p.open()
	var bytes uint64
	for range 3 {
		s := p.mustDial(6)
		if err := s.carry(t.Context(), 1<<20, 1<<18); err != nil {
			t.Fatal(err)
		}
		bytes += 1<<20 + 1<<18
		s.close()
		eventually(t, "all is paid", func() bool {
			e := p.provider.Earned()
			return len(e) == 1 && e[0].Voucher.Bytes == bytes
		})
		p.close()
		p.client, p.provider = p.openOne(testKey(1), p.clientFS, false), p.openOne(testKey(2), p.providerFS, true)
	}
	if p.ledger.opens != 1 {
		t.Errorf("%d channels", p.ledger.opens)
	}
	id := p.provider.Earned()[0].Channel.ID
	if err := errors.Join(p.provider.Forget(id), p.client.Forget(id)); err != nil {
		t.Fatal(err)
	}
	if len(p.provider.Earned())+len(p.client.Spent()) != 0 {
		t.Error("a forgotten channel is still there")
	}
}

// Taking what is granted allocates nothing.
func TestTakeAllocatesNothing(t *testing.T) {
	p := newTestPair(t, voucher.Price{})
	p.open()
	s := p.mustDial(6)
	defer s.close()
	if n := testing.AllocsPerRun(1000, func() { s.provider.Take(false, 1200); s.client.Take(true, 1200) }); n != 0 {
		t.Errorf("%v allocations for a packet", n)
	}
	q := newTestPair(t, testPrice)
	q.open()
	paid := q.mustDial(6)
	defer paid.close()
	if err := paid.carry(t.Context(), 4<<20, 0); err != nil {
		t.Fatal(err)
	}
	paid.provider.granted.Add(1 << 30)
	paid.client.notice.Store(1 << 60)
	if n := testing.AllocsPerRun(1000, func() { paid.provider.Take(false, 1200); paid.client.Take(true, 1200) }); n != 0 {
		t.Errorf("%v allocations for a packet that is paid for", n)
	}
}
