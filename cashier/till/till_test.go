package till

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/meter"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

func key(n byte) identity.PrivateKey { return identity.NewKeyFromSeed([32]byte{n}) }

var (
	epoch    = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	network  = key(1).Network()
	client   = key(2) // with 100 credits
	provider = key(3)
	node     = key(4)
	files    = key(5)
	session  = key(6)
	credit   = Terms{Price: voucher.Price{PerGiB: voucher.Credit}}
)

// world is a ledger that may be away or lose its answers, and a clock.
type world struct {
	t     *testing.T
	books *cashier.Ledger
	now   atomic.Int64
	away  atomic.Bool // nothing gets through
	mute  atomic.Bool // everything gets through, no answer comes back
	dir   string
	meter *fakeMeter
	n     byte
}

func (w *world) clock() time.Time { return time.Unix(w.now.Load(), 0) }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), meter: &fakeMeter{earned: map[voucher.ChannelID]meter.Earned{}}}
	w.now.Store(epoch.Unix())
	p := cashier.DefaultParameters()
	p.EpochSeconds, p.CloseGrace = 600, 3600
	books, err := cashier.Open(filepath.Join(w.dir, "ledger"), key(9), cashier.Config{
		Network: network, Parameters: p, Balances: []cashier.GenesisBalance{{Account: client.Account(), Amount: 100 * voucher.Credit}},
		Clock: w.clock, Tick: 5 * time.Millisecond, MaxClockJump: 1 << 40,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.books = books
	t.Cleanup(func() {
		if err := books.Close(); err != nil {
			t.Errorf("close ledger: %v", err)
		}
	})
	return w
}

func (w *world) open() *Till {
	w.t.Helper()
	books := flaky{w.books, w}
	till, err := Open(books, Config{Network: network, Node: node, Wallet: cashier.NewWallet(provider, network, books, w.clock), File: filepath.Join(w.dir, "till"), Clock: w.clock})
	if err != nil {
		w.t.Fatal(err)
	}
	till.SetMeter(w.meter)
	return till
}

func grant() voucher.Grant {
	g := voucher.Grant{Node: node.Node(), Account: provider.Account(), NotAfter: epoch.Unix() + 400*86_400}
	g.Sign(files, network)
	return g
}

// channel opens a channel of 10 credits against the ask in force.
func (w *world) channel(ask voucher.Ask) meter.Channel {
	w.t.Helper()
	w.n++
	id, _, err := cashier.NewWallet(client, network, w.books, w.clock).OpenChannel(w.t.Context(), ask, voucher.SessionKey(session.Public()),
		voucher.TransferID{w.n}, 10*voucher.Credit, w.clock().Add(24*time.Hour))
	if err != nil {
		w.t.Fatal(err)
	}
	return meter.Channel{
		ID: id, Client: client.Account(), Ask: ask, SessionKey: voucher.SessionKey(session.Public()), Deposit: 10 * voucher.Credit,
		Expires: w.clock().Add(24 * time.Hour).Unix(), Open: true,
	}
}

func (w *world) account(id identity.AccountID) voucher.Amount {
	w.t.Helper()
	a, err := w.books.Account(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return a.Counters.Balance()
}

// flaky is the ledger behind a line that breaks when something is submitted.
type flaky struct {
	*cashier.Ledger
	w *world
}

func (f flaky) Submit(ctx context.Context, signed []byte) (cashier.Receipt, error) {
	if f.w.away.Load() {
		return cashier.Receipt{}, cashier.ErrUnreachable
	}
	r, err := f.Ledger.Submit(ctx, signed)
	if f.w.mute.Load() {
		return cashier.Receipt{}, cashier.ErrUnreachable
	}
	return r, err
}

func (f flaky) Asks(ctx context.Context, service identity.ServiceID) ([]cashier.PostedAsk, error) {
	if f.w.away.Load() {
		return nil, cashier.ErrUnreachable
	}
	return f.Ledger.Asks(ctx, service)
}

// fakeMeter has the vouchers.
type fakeMeter struct {
	mu     sync.Mutex // guards below
	earned map[voucher.ChannelID]meter.Earned
	forgot int
}

func (m *fakeMeter) Earned() []meter.Earned {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []meter.Earned
	for _, e := range m.earned {
		out = append(out, e)
	}
	return out
}

func (m *fakeMeter) Update(c meter.Channel) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.earned[c.ID]
	e.Channel = c
	m.earned[c.ID] = e
}

func (m *fakeMeter) Forget(id voucher.ChannelID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.earned, id)
	m.forgot++
	return nil
}

func (m *fakeMeter) accept(c meter.Channel, sequence uint64, amount voucher.Amount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := voucher.Voucher{Channel: c.ID, Sequence: sequence, Amount: amount, Bytes: uint64(amount)}
	v.Sign(session, network)
	if e, known := m.earned[c.ID]; known {
		c = e.Channel
	}
	m.earned[c.ID] = meter.Earned{Channel: c, Voucher: v}
}

// TestPrices: the first is in force at once, a change an epoch later, a withdrawal at
// once; all of it over restarts.
func TestPrices(t *testing.T) {
	w := newWorld(t)
	till := w.open()
	if _, priced := till.Ask(files.Service()); priced {
		t.Fatal("priced before anybody asked")
	}
	p, err := till.Post(t.Context(), grant(), credit)
	if err != nil || p.Ask.Price != credit.Price || p.Next.Sequence != 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	till = w.open()
	if ask, priced := till.Ask(files.Service()); !priced || ask != p.Ask {
		t.Errorf("after a restart %+v, %v", ask, priced)
	}
	dearer := Terms{Price: voucher.Price{PerGiB: 2 * voucher.Credit}, LossAllowance: 5}
	p, err = till.Post(t.Context(), grant(), dearer)
	if err != nil || p.Ask.Price != credit.Price || p.Next.Price != dearer.Price || p.Next.ValidFrom < epoch.Unix()+600 {
		t.Fatalf("%+v, %v", p, err)
	}
	till = w.open()
	if ask, _ := till.Ask(files.Service()); ask.Price != credit.Price {
		t.Errorf("in force before its time: %+v", ask)
	}
	w.now.Add(700)
	till = w.open()
	ask, _ := till.Ask(files.Service())
	posted, err := w.books.Asks(t.Context(), files.Service())
	if ask.Price != dearer.Price || err != nil || len(posted) != 1 {
		t.Fatalf("%+v, %+v, %v", ask, posted, err)
	}
	if on, in := posted[0].At(w.clock()); !in || on != ask {
		t.Errorf("here %+v, on the ledger %+v", ask, on)
	}
	if err := till.Withdraw(t.Context(), files.Service()); err != nil {
		t.Fatal(err)
	}
	if _, priced := w.open().Ask(files.Service()); priced {
		t.Error("priced after it was withdrawn")
	}
	if err := till.Withdraw(t.Context(), files.Service()); !errors.Is(err, ErrFree) {
		t.Errorf("withdrawn again: %v", err)
	}
	// It was asked for a moment ago: a new price needs its epoch, though none is in force.
	p, err = till.Post(t.Context(), grant(), credit)
	if err != nil {
		t.Fatal(err)
	}
	if _, priced := till.Ask(files.Service()); priced {
		t.Errorf("in force at once: %+v", p)
	}
	w.now.Add(700)
	if _, priced := till.Ask(files.Service()); !priced {
		t.Error("not in force in its time")
	}
}

// TestBadTerms: each with an error of its own, nothing charged.
func TestBadTerms(t *testing.T) {
	w := newWorld(t)
	till := w.open()
	other := grant()
	other.Account = client.Account()
	other.Sign(files, network)
	forged := grant()
	forged.NotAfter++
	for name, c := range map[string]struct {
		grant voucher.Grant
		terms Terms
		want  error
	}{
		"free":            {grant(), Terms{}, ErrFree},
		"another account": {other, credit, ErrNoGrant},
		"forged":          {forged, credit, ErrNoGrant},
	} {
		if _, err := till.Post(t.Context(), c.grant, c.terms); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, priced := till.Ask(files.Service()); priced || len(till.Prices()) != 0 {
		t.Error("charged")
	}
}

// TestPostWithoutAnswer: whether an ask was taken is found out later; until then
// nobody is charged.
func TestPostWithoutAnswer(t *testing.T) {
	for name, taken := range map[string]bool{"it was": true, "it was not": false} {
		w := newWorld(t)
		till := w.open()
		flag := &w.away
		if taken {
			flag = &w.mute
		}
		w.mute.Store(true) // the status is had, the ask is not answered
		if !taken {
			w.mute.Store(false)
			if err := till.submitting(voucher.Ask{
				Service: files.Service(), Node: node.Node(), Account: provider.Account(), Price: credit.Price, ValidTo: epoch.Unix() + 86_400, Sequence: 1,
			}, grant()); err != nil {
				t.Fatal(err)
			}
		} else if _, err := till.Post(t.Context(), grant(), credit); !errors.Is(err, cashier.ErrUnreachable) {
			t.Fatalf("%v", err)
		}
		flag.Store(true)
		till = w.open()
		if _, priced := till.Ask(files.Service()); priced {
			t.Errorf("%s: charged before it was known", name)
		}
		flag.Store(false)
		if err := till.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ask, priced := till.Ask(files.Service()); !priced || ask.Price != credit.Price {
			t.Errorf("%s: %+v, %v", name, ask, priced)
		}
	}
}

// TestAsksAreRenewed before they run out.
func TestAsksAreRenewed(t *testing.T) {
	w := newWorld(t)
	till := w.open()
	p, err := till.Post(t.Context(), grant(), credit)
	if err != nil {
		t.Fatal(err)
	}
	w.now.Add(31 * 86_400)
	if err := till.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := till.Prices()[files.Service()].Next
	if next.Price != credit.Price || next.ValidTo <= p.Ask.ValidTo {
		t.Errorf("%+v", next)
	}
	if err := till.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := till.Prices()[files.Service()].Next; again != next {
		t.Errorf("renewed again: %+v", again)
	}
}

// TestSettle settles many channels at once, twice the same costs nothing, and what was
// not reached is settled later.
func TestSettle(t *testing.T) {
	w := newWorld(t)
	till := w.open()
	p, err := till.Post(t.Context(), grant(), credit)
	if err != nil {
		t.Fatal(err)
	}
	var channels []meter.Channel
	for range 3 {
		c := w.channel(p.Ask)
		channels = append(channels, c)
		w.meter.accept(c, 1, voucher.Credit)
	}
	w.mute.Store(true)
	if _, err := till.Settle(t.Context()); !errors.Is(err, cashier.ErrUnreachable) {
		t.Fatalf("%v", err)
	}
	w.mute.Store(false)
	w.meter.accept(channels[0], 2, 2*voucher.Credit)
	s, err := till.Settle(t.Context())
	if err != nil || s.Channels != 3 || s.Refused != 0 || s.Amount != voucher.Credit {
		t.Errorf("two of them were settled already: %+v, %v", s, err)
	}
	if got := w.account(provider.Account()); got != 4*voucher.Credit {
		t.Errorf("the provider has %s", got)
	}
	if s, err := till.Settle(t.Context()); err != nil || s != (Settled{}) {
		t.Errorf("nothing was left: %+v, %v", s, err)
	}
	if m := till.Metrics(); m.Settlements != 1 || m.Settled != 3 || m.Amount != voucher.Credit || m.Prices != 1 {
		t.Errorf("%+v", m)
	}
	if s := till.Status(); s.Promised != 4*voucher.Credit || s.Settled != s.Promised || s.Channels != 3 || s.Err != nil {
		t.Errorf("%+v", s)
	}
}

// TestFirstPriceWakesTheTill: one that had nothing to do when it was started settles
// what comes, in the epoch and not when it happens to look again.
func TestFirstPriceWakesTheTill(t *testing.T) {
	w := newWorld(t)
	till := w.open()
	till.cfg.Interval = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { // ends with ctx
		if err := till.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer cancel()
	time.Sleep(soon + 500*time.Millisecond) // it has looked, and found nothing to do
	p, err := till.Post(t.Context(), grant(), credit)
	if err != nil {
		t.Fatal(err)
	}
	w.meter.accept(w.channel(p.Ask), 1, voucher.Credit)
	for end := time.Now().Add(20 * time.Second); w.account(provider.Account()) != voucher.Credit; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not settled")
		}
	}
}

// TestStaleClosingIsRefuted: a client closes a channel as if it owed nothing.
func TestStaleClosingIsRefuted(t *testing.T) {
	w := newWorld(t)
	till := w.open()
	p, err := till.Post(t.Context(), grant(), credit)
	if err != nil {
		t.Fatal(err)
	}
	c := w.channel(p.Ask)
	w.meter.accept(c, 1, 3*voucher.Credit)
	if _, err := cashier.NewWallet(client, network, w.books, w.clock).RequestClose(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if err := till.watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := w.books.Channel(t.Context(), c.ID)
	if err != nil || got.State != cashier.ChannelClosed || got.Settled != 3*voucher.Credit {
		t.Errorf("%+v, %v", got, err)
	}
	if w.account(provider.Account()) != 3*voucher.Credit || w.account(client.Account()) != 97*voucher.Credit || w.meter.forgot != 1 {
		t.Errorf("the provider has %s, the client %s", w.account(provider.Account()), w.account(client.Account()))
	}
}

// TestIdleTillAsksNobody: a node without prices and channels does not bother the
// ledger.
func TestIdleTillAsksNobody(t *testing.T) {
	till, err := Open(nil, Config{Network: network, Node: node, Wallet: cashier.NewWallet(provider, network, nil, nil), File: filepath.Join(t.TempDir(), "till")})
	if err != nil {
		t.Fatal(err)
	}
	till.SetMeter(&fakeMeter{})
	if err := till.Look(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStrangersFileIsRefused(t *testing.T) {
	w := newWorld(t)
	if _, err := w.open().Post(t.Context(), grant(), credit); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.dir, "till")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, whole[:len(whole)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(w.books, Config{Network: network, Node: node, Wallet: cashier.NewWallet(provider, network, w.books, nil), File: path}); !errors.Is(err, ErrState) {
		t.Errorf("%v", err)
	}
}

func TestConfigValidate(t *testing.T) {
	err := Config{Interval: -1, Validity: 1}.Validate()
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 6 {
		t.Errorf("not every fault is reported: %v", err)
	}
}

func FuzzDecodeState(f *testing.F) {
	g := grant()
	whole, err := identity.Marshal(stateFile{Version: stateVersion, Network: network, Prices: []priceRow{{
		Ask:   voucher.Ask{Service: files.Service(), Node: node.Node(), Account: provider.Account(), ValidTo: 5, Sequence: 1},
		Known: true, Grant: g.Append(nil),
	}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Fuzz(func(t *testing.T, raw []byte) {
		rows, err := decodeState(raw, network)
		if err != nil {
			return
		}
		again, err := identity.Marshal(stateFile{Version: stateVersion, Network: network, Prices: rows})
		if err != nil || string(again) != string(raw) {
			t.Errorf("%x is written again as %x, %v", raw, again, err)
		}
	})
}
