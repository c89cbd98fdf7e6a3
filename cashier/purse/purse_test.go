package purse

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/meter"
	"scn.alt/scn/cashier/spending"
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
	plenty   = spending.Limits{
		MaxPerGiB: spending.Unlimited, MaxPerHour: spending.Unlimited, PerService: spending.Unlimited,
		PerDay: spending.Unlimited, Deposit: 2 * voucher.Credit,
	}
)

// world is a ledger that may be away or lose its answers, a clock, and one ask.
type world struct {
	t      *testing.T
	books  *cashier.Ledger
	now    atomic.Int64
	away   atomic.Bool // nothing gets through
	mute   atomic.Bool // everything gets through, no answer comes back
	ask    voucher.Ask
	dir    string
	meter  *fakeMeter
	limits spending.Limits
}

func (w *world) clock() time.Time { return time.Unix(w.now.Load(), 0) }

func newWorld(t *testing.T, limits spending.Limits) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), meter: &fakeMeter{}, limits: limits}
	w.now.Store(epoch.Unix())
	p := cashier.DefaultParameters()
	p.CloseGrace, p.EpochSeconds = 100, 86_400
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
	w.ask = voucher.Ask{
		Service: files.Service(), Node: node.Node(), Account: provider.Account(), Price: voucher.Price{PerGiB: voucher.Credit},
		ValidTo: epoch.Unix() + 30*86_400, Sequence: 1,
	}
	grant := voucher.Grant{Node: node.Node(), Account: provider.Account(), NotAfter: w.ask.ValidTo}
	grant.Sign(files, network)
	if _, err := cashier.NewWallet(provider, network, books, w.clock).PostAsk(t.Context(), w.ask, node, grant); err != nil {
		t.Fatal(err)
	}
	return w
}

// open opens a purse on the file of the one before.
func (w *world) open() *Purse {
	w.t.Helper()
	p, err := Open(flaky{w}, Config{Network: network, Key: client, File: filepath.Join(w.dir, "purse"), Limits: w.limits, Clock: w.clock})
	if err != nil {
		w.t.Fatal(err)
	}
	p.SetMeter(w.meter)
	return p
}

func (w *world) account(id identity.AccountID) voucher.Amount {
	w.t.Helper()
	a, err := w.books.Account(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return a.Counters.Balance()
}

// pass lets time pass on the ledger.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	// A block each half epoch, or the ledger takes the time for one in which it stood
	// still. A payment of nothing in particular makes it.
	for ; d > 12*time.Hour; d -= 12 * time.Hour {
		w.pass(12 * time.Hour)
	}
	w.now.Add(int64(d / time.Second))
	if _, err := cashier.NewWallet(client, network, w.books, w.clock).Transfer(w.t.Context(), key(99).Account(), 1); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) settle(h meter.Held, amount voucher.Amount) {
	w.t.Helper()
	v := voucher.Voucher{Channel: h.ID, Sequence: 1, Amount: amount, Bytes: 1}
	v.Sign(h.Key, network)
	if _, err := cashier.NewWallet(provider, network, w.books, w.clock).Settle(w.t.Context(), voucher.Signed{Session: h.SessionKey, Voucher: v}); err != nil {
		w.t.Fatal(err)
	}
}

// flaky is the ledger behind a line that breaks.
type flaky struct{ w *world }

func through[T any](f flaky, call func() (T, error)) (T, error) {
	var zero T
	if f.w.away.Load() {
		return zero, cashier.ErrUnreachable
	}
	v, err := call()
	if f.w.mute.Load() {
		return zero, cashier.ErrUnreachable
	}
	return v, err
}

func (f flaky) Submit(ctx context.Context, signed []byte) (cashier.Receipt, error) {
	return through(f, func() (cashier.Receipt, error) { return f.w.books.Submit(ctx, signed) })
}

func (f flaky) Account(ctx context.Context, id identity.AccountID) (cashier.Account, error) {
	return through(f, func() (cashier.Account, error) { return f.w.books.Account(ctx, id) })
}

func (f flaky) Channel(ctx context.Context, id voucher.ChannelID) (cashier.Channel, error) {
	return through(f, func() (cashier.Channel, error) { return f.w.books.Channel(ctx, id) })
}

func (f flaky) Status(ctx context.Context) (cashier.Status, error) {
	return through(f, func() (cashier.Status, error) { return f.w.books.Status(ctx) })
}

// fakeMeter remembers what it was told.
type fakeMeter struct {
	mu      sync.Mutex // guards below
	spent   []meter.Spent
	updates []meter.Channel
	forgot  []voucher.ChannelID
}

func (m *fakeMeter) Spent() []meter.Spent {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.spent
}

func (m *fakeMeter) Update(c meter.Channel) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.updates = append(m.updates, c)
}

func (m *fakeMeter) Forget(id voucher.ChannelID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgot = append(m.forgot, id)
	return nil
}

func (m *fakeMeter) promise(c meter.Channel, amount voucher.Amount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spent = []meter.Spent{{Channel: c, Voucher: voucher.Voucher{Channel: c.ID, Amount: amount}}}
}

// TestLifeOfAChannel opens, pays, tops up, restarts, closes and sweeps: the client has
// in the end what it had, less what it paid, and a provider sees an account of its own.
func TestLifeOfAChannel(t *testing.T) {
	w := newWorld(t, plenty)
	p := w.open()
	if err := p.Permit(w.ask); err != nil {
		t.Fatal(err)
	}
	h, err := p.Open(t.Context(), w.ask)
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.books.Channel(t.Context(), h.ID)
	if err != nil || c.Deposit != 2*voucher.Credit || c.Client == client.Account() || c.Client != h.Client || c.Session != voucher.SessionKey(h.Key.Public()) {
		t.Fatalf("%+v, %v", c, err)
	}
	if got := w.account(client.Account()); got != 98*voucher.Credit {
		t.Errorf("the node's account has %s", got)
	}
	raised, err := p.TopUp(t.Context(), h.ID, 3*voucher.Credit)
	if err != nil || raised.Deposit != 4*voucher.Credit {
		t.Fatalf("%+v, %v", raised, err)
	}
	w.settle(h, voucher.Credit)
	w.meter.promise(h.Channel, voucher.Credit)
	if s := p.Summary(); s.Spent != voucher.Credit || s.Committed != 3*voucher.Credit {
		t.Errorf("%+v", s)
	}
	p = w.open() // after a crash
	held := p.Held()
	if len(held) != 1 || held[0].Key.Account() != h.Key.Account() || held[0].Deposit != 4*voucher.Credit {
		t.Fatalf("%+v", held)
	}
	shown, err := p.Close(t.Context(), h.ID)
	if err != nil || shown.State != StateClosing || shown.Deadline.Unix() != w.now.Load()+100 {
		t.Fatalf("%+v, %v", shown, err)
	}
	if _, err := p.Close(t.Context(), h.ID); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if len(p.Held()) != 0 {
		t.Error("a closing channel is paid from")
	}
	w.pass(120 * time.Second)
	p.Look(t.Context())
	p.Look(t.Context())
	if got := w.account(client.Account()); got != 99*voucher.Credit-1 { // 1 to let time pass
		t.Errorf("the node's account has %s in the end", got)
	}
	if got := w.account(h.Client); got != 0 {
		t.Errorf("%s lie in the account of the provider", got)
	}
	if s := p.Summary(); s.Spent != voucher.Credit || s.Committed != 0 || s.Channels != 0 {
		t.Errorf("%+v", s)
	}
	if m := p.Metrics(); m.Closed != 1 || m.Channels != 0 || m.Spent != int64(voucher.Credit) {
		t.Errorf("%+v", m)
	}
	if len(w.meter.forgot) != 1 || w.meter.forgot[0] != h.ID {
		t.Errorf("the meter forgot %v", w.meter.forgot)
	}
	if last := w.meter.updates[len(w.meter.updates)-1]; last.Open {
		t.Errorf("the meter was told last %+v", last)
	}
}

// TestBudgetAndPriceAreKept: nothing is submitted beyond what the settings allow, and
// the reason is remembered.
func TestBudgetAndPriceAreKept(t *testing.T) {
	limits := plenty
	limits.PerDay, limits.MaxPerGiB = 3*voucher.Credit, voucher.Credit
	w := newWorld(t, limits)
	p := w.open()
	h, err := p.Open(t.Context(), w.ask)
	if err != nil {
		t.Fatal(err)
	}
	raised, err := p.TopUp(t.Context(), h.ID, 2*voucher.Credit+1)
	if err != nil || raised.Deposit != 3*voucher.Credit {
		t.Errorf("%+v, %v", raised, err)
	}
	if _, err := p.TopUp(t.Context(), h.ID, 3*voucher.Credit+1); !errors.Is(err, meter.ErrBudget) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("beyond the budget: %v", err)
	}
	if err := p.Permit(w.ask); err != nil {
		t.Errorf("a channel that is funded already: %v", err)
	}
	other := w.ask
	other.Node = key(50).Node()
	if err := p.Permit(other); !errors.Is(err, meter.ErrBudget) {
		t.Errorf("another provider: %v", err)
	}
	dear := w.ask
	dear.Node, dear.Price.PerGiB = key(51).Node(), voucher.Credit+1
	if err := p.Permit(dear); !errors.Is(err, meter.ErrPrice) {
		t.Errorf("too dear: %v", err)
	}
	if _, err := p.Open(t.Context(), dear); !errors.Is(err, meter.ErrPrice) {
		t.Errorf("too dear: %v", err)
	}
	refusals := p.Refusals(epoch)
	if len(refusals) != 3 || refusals[2].Node != dear.Node {
		t.Errorf("%+v", refusals)
	}
	if c, err := w.books.Channel(t.Context(), h.ID); err != nil || c.Deposit != 3*voucher.Credit {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestLedgerAway: what was begun while no answer came is finished under the same ID,
// after a restart too; new sessions hear that the ledger is away.
func TestLedgerAway(t *testing.T) {
	w := newWorld(t, plenty)
	p := w.open()
	w.mute.Store(true)
	if _, err := p.Open(t.Context(), w.ask); !errors.Is(err, meter.ErrLedgerUnreachable) || !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("%v", err)
	}
	if err := p.Permit(w.ask); !errors.Is(err, meter.ErrLedgerUnreachable) {
		t.Errorf("%v", err)
	}
	p = w.open()
	w.mute.Store(false)
	h, err := p.Open(t.Context(), w.ask)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.account(client.Account()); got != 98*voucher.Credit {
		t.Errorf("the node's account has %s: funded twice", got)
	}
	w.mute.Store(true)
	if _, err := p.TopUp(t.Context(), h.ID, 3*voucher.Credit); !errors.Is(err, meter.ErrLedgerUnreachable) {
		t.Fatalf("%v", err)
	}
	if len(p.Held()) != 1 {
		t.Error("an open channel is not paid from while the ledger is away")
	}
	p = w.open()
	w.mute.Store(false)
	p.Look(t.Context())
	c, err := w.books.Channel(t.Context(), h.ID)
	if held := p.Held(); err != nil || c.Deposit != 4*voucher.Credit || len(held) != 1 || held[0].Deposit != c.Deposit {
		t.Errorf("%+v, %v; held %+v", c, err, held)
	}
	if got := w.account(client.Account()); got != 96*voucher.Credit {
		t.Errorf("the node's account has %s: topped up twice", got)
	}
}

// TestRefusedOpeningGivesBack: the ledger knows no such ask; what was set aside for it
// comes back to the budget and to the account.
func TestRefusedOpeningGivesBack(t *testing.T) {
	w := newWorld(t, plenty)
	p := w.open()
	unknown := w.ask
	unknown.Sequence = 7
	if _, err := p.Open(t.Context(), unknown); !errors.Is(err, meter.ErrChannel) || !errors.Is(err, cashier.ErrNoAsk) {
		t.Fatalf("%v", err)
	}
	p.Look(t.Context())
	if s := p.Summary(); s.Committed != 0 {
		t.Errorf("%+v", s)
	}
	if got := w.account(client.Account()); got != 100*voucher.Credit {
		t.Errorf("the node's account has %s", got)
	}
}

// TestPoorAccount: the node's account has less than the settings would spend.
func TestPoorAccount(t *testing.T) {
	limits := plenty
	limits.Deposit = 500 * voucher.Credit
	w := newWorld(t, limits)
	p := w.open()
	if _, err := p.Open(t.Context(), w.ask); !errors.Is(err, meter.ErrBudget) || !errors.Is(err, cashier.ErrFunds) {
		t.Fatalf("%v", err)
	}
}

// TestIdleChannelsAreClosed by themselves, and expired ones forgotten.
func TestIdleChannelsAreClosed(t *testing.T) {
	w := newWorld(t, plenty)
	p := w.open()
	h, err := p.Open(t.Context(), w.ask)
	if err != nil {
		t.Fatal(err)
	}
	w.pass(6 * 24 * time.Hour)
	p.Look(t.Context())
	if len(p.Held()) != 1 {
		t.Fatal("closed too early")
	}
	w.pass(25 * time.Hour)
	p.Look(t.Context())
	if c, err := w.books.Channel(t.Context(), h.ID); err != nil || c.State != cashier.ChannelClosing {
		t.Fatalf("%+v, %v", c, err)
	}
	w.pass(120 * time.Second)
	p.Look(t.Context())
	p.Look(t.Context())
	if got := w.account(client.Account()); got < 100*voucher.Credit-20 {
		t.Errorf("the node's account has %s", got)
	}
	w.now.Add(130 * 24 * 3600)
	p.Look(t.Context())
	if len(p.Channels()) != 0 {
		t.Error("a channel is remembered for ever")
	}
}

// TestOneAccount pays from the node's own.
func TestOneAccount(t *testing.T) {
	w := newWorld(t, plenty)
	p, err := Open(flaky{w}, Config{
		Network: network, Key: client, File: filepath.Join(w.dir, "purse"), Limits: plenty, OneAccount: true, Clock: w.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	h, err := p.Open(t.Context(), w.ask)
	if err != nil || h.Client != client.Account() {
		t.Errorf("%+v, %v", h.Channel, err)
	}
}

func TestStrangersFileIsRefused(t *testing.T) {
	w := newWorld(t, plenty)
	if _, err := w.open().Open(t.Context(), w.ask); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.dir, "purse")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"cut": whole[:len(whole)-1], "more": append(bytes.Clone(whole), 0), "other": []byte("x")} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(flaky{w}, Config{Network: network, Key: client, File: path}); !errors.Is(err, ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(flaky{w}, Config{Network: key(70).Network(), Key: client, File: path}); !errors.Is(err, ErrState) {
		t.Errorf("another network: %v", err)
	}
}

func TestConfigValidate(t *testing.T) {
	err := Config{Life: 1, IdleAfter: 1, Interval: 1, Keep: -1, Limits: spending.Limits{PerDay: 1, PerService: 1}}.Validate()
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 8 {
		t.Errorf("not every fault is reported: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{cashier.ErrUnreachable, true},
		{net.ErrClosed, true},
		{context.DeadlineExceeded, true},
		{&cashier.Rejection{Code: cashier.OverCapacity}, true},
		{&cashier.Rejection{Code: cashier.NoChannel}, false},
	} {
		if unreachable(c.err) != c.want {
			t.Errorf("%v", c.err)
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	b, err := spending.NewBook(plenty)
	if err != nil {
		f.Fatal(err)
	}
	raw, err := b.Encode()
	if err != nil {
		f.Fatal(err)
	}
	state, err := identity.Marshal(stateFile{Version: stateVersion, Network: network, Book: raw, Channels: []row{{
		ID: voucher.ChannelID{1}, State: StateOpen, Opened: 1, Expires: 2,
		Ask: voucher.Ask{Service: files.Service(), Node: node.Node(), Account: provider.Account(), ValidTo: 5, Sequence: 1},
	}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(state)
	f.Add(state[:len(state)/2])
	f.Fuzz(func(t *testing.T, raw []byte) {
		book, rows, err := decodeState(raw, network, plenty)
		if err != nil {
			return
		}
		encoded, err := book.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := identity.Marshal(stateFile{Version: stateVersion, Network: network, Book: encoded, Channels: rows})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := decodeState(again, network, plenty); err != nil {
			t.Errorf("%x is read, and not when written again: %v", raw, err)
		}
	})
}
