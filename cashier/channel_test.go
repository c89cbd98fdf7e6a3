package cashier

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// The parties of the channels of tests: alice is the client, bob is paid for files on
// node.
var (
	node    = key(20)
	session = key(21)
)

// testAsk is bob's ask for files on node, valid for a day from a time.
func testAsk(now time.Time, sequence uint64, change ...func(*voucher.Ask)) voucher.Ask {
	a := voucher.Ask{
		Service: files.Service(), Node: node.Node(), Account: bob.Account(), Price: voucher.Price{PerGiB: voucher.Credit},
		LossAllowance: 30_000, ValidTo: now.Unix() + 86_400, Sequence: sequence,
	}
	for _, f := range change {
		f(&a)
	}
	return a
}

// testGrant is the grant of files for an ask.
func testGrant(a voucher.Ask) voucher.Grant {
	g := voucher.Grant{Node: a.Node, Account: a.Account, NotAfter: a.ValidTo}
	g.Sign(files, network)
	return g
}

// posting is an ask as bob posts it.
func posting(id uint64, a voucher.Ask) PostAsk {
	g := testGrant(a)
	return PostAsk{ID: transferNumber(id), Ask: a.Append(nil), Node: Signature(a.Sign(node, network)), Grant: g.Append(nil)}
}

// promise is a voucher of the session key.
func promise(channel voucher.ChannelID, sequence uint64, amount voucher.Amount) voucher.Signed {
	v := voucher.Voucher{Channel: channel, Sequence: sequence, Amount: amount, Bytes: uint64(amount) * 100}
	v.Sign(session, network)
	return voucher.Signed{Session: session.Public(), Voucher: v}
}

// clock is a time that tests move.
type clock struct{ now time.Time }

func (c *clock) time() time.Time { return c.now }

// market is a ledger with an ask and money, whose clock the test moves.
type market struct {
	*testing.T
	*Ledger
	clock *clock
	n     uint64 // of the next ID
}

func newMarket(t *testing.T, change ...func(*Parameters)) *market {
	t.Helper()
	c := &clock{epoch}
	p := DefaultParameters()
	for _, f := range change {
		f(&p)
	}
	l := open(t, func(cfg *Config) {
		cfg.Clock, cfg.Tick, cfg.Parameters = c.time, time.Hour, p
		cfg.Balances = []GenesisBalance{{alice.Account(), 1000}, {bob.Account(), 50}, {key(9).Account(), 1000}}
	})
	m := &market{t, l, c, 1000}
	m.accept(bob, posting(1, testAsk(epoch, 1)))
	return m
}

func (m *market) id() voucher.TransferID {
	m.n++
	return transferNumber(m.n)
}

func (m *market) submit(who identity.PrivateKey, op Operation) (Receipt, error) {
	m.Helper()
	return m.Submit(m.Context(), payment(m, who, m.clock.now.Unix()+600, op))
}

func (m *market) accept(who identity.PrivateKey, op Operation) Receipt {
	m.Helper()
	r, err := m.submit(who, op)
	if err != nil {
		m.Fatalf("%s: %v", op.Kind(), err)
	}
	return r
}

func (m *market) refuse(who identity.PrivateKey, op Operation, want error) {
	m.Helper()
	before := must[Status](m)(m.Status(m.Context()))
	_, err := m.submit(who, op)
	if !errors.Is(err, want) {
		m.Errorf("%s: %v, want %v", op.Kind(), err, want)
	}
	if after := must[Status](m)(m.Status(m.Context())); after.AppHash != before.AppHash {
		m.Errorf("%s was refused and changed the state", op.Kind())
	}
}

// pass lets time pass as a running ledger does, with a block every 30 seconds.
func (m *market) pass(d time.Duration) {
	m.Helper()
	for end := m.clock.now.Add(d); m.clock.now.Before(end); {
		m.clock.now = m.clock.now.Add(min(30*time.Second, end.Sub(m.clock.now)))
		m.beat()
	}
}

// beat makes a block.
func (m *market) beat() {
	m.Helper()
	m.accept(key(9), Transfer{m.id(), []Move{{Kind: MovePay, To: key(10).Account(), Amount: 1}}})
}

func (m *market) opening(id voucher.TransferID, deposit voucher.Amount, life time.Duration) OpenChannel {
	now := m.clock.now
	return OpenChannel{
		ID: id, Provider: bob.Account(), Node: node.Node(), Service: files.Service(), Ask: testAsk(epoch, 1).ID(),
		Session: session.Public(), Deposit: deposit, Expires: now.Add(life).Unix(),
	}
}

func (m *market) openChannel(deposit voucher.Amount, life time.Duration) voucher.ChannelID {
	m.Helper()
	op := m.opening(m.id(), deposit, life)
	m.accept(alice, op)
	return op.Channel(network, alice.Account())
}

func (m *market) settle(v voucher.Signed) SettleChannel {
	return SettleChannel{m.id(), v.Append(nil)}
}

func (m *market) balance(who identity.AccountID) voucher.Amount {
	m.Helper()
	return must[Account](m)(m.Account(m.Context(), who)).Counters.Balance()
}

// balances checks what accounts have.
func (m *market) balances(want map[identity.AccountID]voucher.Amount) {
	m.Helper()
	for who, amount := range want {
		if got := m.balance(who); got != amount {
			m.Errorf("%s has %d, want %d", who, got, amount)
		}
	}
}

func (m *market) verify() {
	m.Helper()
	if err := m.Verify(m.Context(), nil); err != nil {
		m.Error(err)
	}
}

func TestChannelLife(t *testing.T) {
	m := newMarket(t)
	escrow := EscrowAccount(network)
	id := m.openChannel(100, time.Hour)
	m.balances(map[identity.AccountID]voucher.Amount{alice.Account(): 900, escrow: 100})
	c := must[Channel](t)(m.Channel(t.Context(), id))
	want := Channel{
		Network: network, ID: id, State: ChannelOpen, Client: alice.Account(), Provider: bob.Account(), Node: node.Node(),
		Service: files.Service(), Session: session.Public(), Price: voucher.Price{PerGiB: voucher.Credit}, LossAllowance: 30_000,
		Deposit: 100, Expires: epoch.Unix() + 3600, Opened: 2, Height: 2, Time: epoch.Unix(),
	}
	if c != want {
		t.Errorf("%+v\nwant %+v", c, want)
	}

	if r := m.accept(key(9), m.settle(promise(id, 1, 30))); r.Paid != 30 {
		t.Errorf("paid %d", r.Paid)
	}
	// What was settled is settled: again, or an older voucher, pays nothing.
	for _, v := range []voucher.Signed{promise(id, 1, 30), promise(id, 9, 29)} {
		if r := m.accept(bob, m.settle(v)); r.Paid != 0 {
			t.Errorf("paid %d", r.Paid)
		}
	}
	m.balances(map[identity.AccountID]voucher.Amount{bob.Account(): 80, escrow: 70})
	m.refuse(bob, m.settle(promise(id, 10, 101)), ErrExceedsDeposit)
	m.accept(alice, TopUpChannel{m.id(), id, 50, 0})
	m.accept(bob, m.settle(promise(id, 10, 101)))
	c = must[Channel](t)(m.Channel(t.Context(), id))
	if c.Settled != 101 || c.Sequence != 10 || c.Bytes != 10_100 || c.Deposit != 150 || c.Left() != 49 {
		t.Errorf("%+v", c)
	}

	m.accept(bob, CloseChannel{m.id(), id, 120, alice.Account(), CloseConsent(alice, network, id, 120)})
	m.balances(map[identity.AccountID]voucher.Amount{alice.Account(): 880, bob.Account(): 170, escrow: 0})
	for _, op := range []Operation{
		m.settle(promise(id, 11, 130)),
		RequestClose{m.id(), id},
		TopUpChannel{m.id(), id, 1, 0},
		CloseChannel{m.id(), id, 130, bob.Account(), CloseConsent(bob, network, id, 130)},
	} {
		m.refuse(alice, op, ErrChannelOver)
	}
	if c := must[Channel](t)(m.Channel(t.Context(), id)); c.State != ChannelClosed || c.Left() != 0 {
		t.Errorf("%+v", c)
	}
	m.pass(time.Hour + time.Minute) // the row stays until the channel would have expired
	m.refuse(bob, m.settle(promise(id, 11, 130)), ErrNoChannel)
	m.verify()
}

// What nobody settles goes back when the channel expires.
func TestChannelExpiry(t *testing.T) {
	m := newMarket(t)
	id := m.openChannel(100, 10*time.Minute)
	m.accept(bob, m.settle(promise(id, 1, 40)))
	m.pass(10 * time.Minute)
	m.accept(bob, m.settle(promise(id, 2, 60))) // the last second counts
	m.clock.now = m.clock.now.Add(time.Second)
	m.refuse(bob, m.settle(promise(id, 3, 70)), ErrChannelOver)
	m.refuse(alice, TopUpChannel{m.id(), id, 10, 0}, ErrChannelOver)
	m.pass(time.Minute)
	m.balances(map[identity.AccountID]voucher.Amount{alice.Account(): 940, bob.Account(): 110, EscrowAccount(network): 0})
	if _, err := m.Channel(t.Context(), id); !errors.Is(err, ErrNoChannel) {
		t.Errorf("an expired channel is still there: %v", err)
	}
	if all := must[[]Channel](t)(m.Channels(t.Context(), alice.Account(), voucher.ChannelID{}, 10)); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	m.verify()
}

// A channel that is topped up in time lives on.
func TestChannelExtended(t *testing.T) {
	m := newMarket(t)
	id := m.openChannel(100, 10*time.Minute)
	m.pass(5 * time.Minute)
	m.refuse(alice, TopUpChannel{m.id(), id, 0, m.clock.now.Unix() + 60}, ErrDeadline)
	m.refuse(alice, TopUpChannel{m.id(), id, 0, m.clock.now.Unix() + MaxChannelLife + 1}, ErrDeadline)
	m.accept(alice, TopUpChannel{m.id(), id, 0, m.clock.now.Unix() + 1200})
	m.pass(15 * time.Minute)
	m.accept(bob, m.settle(promise(id, 1, 100)))
	m.pass(6 * time.Minute)
	m.refuse(bob, m.settle(promise(id, 1, 100)), ErrNoChannel)
	m.verify()
}

// A client that wants to close waits for the grace; its provider may settle
// meanwhile, and end it at once with a higher voucher.
func TestRequestClose(t *testing.T) {
	m := newMarket(t, func(p *Parameters) { p.CloseGrace = 600 })
	for _, refuted := range []bool{false, true} {
		t.Run(fmt.Sprintf("refuted=%v", refuted), func(t *testing.T) {
			client, provider := m.balance(alice.Account()), m.balance(bob.Account())
			id := m.openChannel(100, time.Hour)
			m.refuse(bob, Refute{m.id(), promise(id, 1, 10).Append(nil)}, ErrNotClosing)
			m.refuse(bob, RequestClose{m.id(), id}, ErrNotAllowed)
			m.accept(alice, RequestClose{m.id(), id})
			m.refuse(alice, RequestClose{m.id(), id}, ErrChannelClosing)
			m.refuse(alice, TopUpChannel{m.id(), id, 1, 0}, ErrChannelClosing)
			if c := must[Channel](t)(m.Channel(t.Context(), id)); c.State != ChannelClosing || c.Deadline != m.clock.now.Unix()+600 {
				t.Errorf("%+v", c)
			}
			m.pass(9 * time.Minute)
			m.accept(bob, m.settle(promise(id, 1, 10)))
			if refuted {
				m.refuse(bob, Refute{m.id(), promise(id, 1, 10).Append(nil)}, ErrNotHigher)
				m.refuse(alice, Refute{m.id(), promise(id, 2, 20).Append(nil)}, ErrNotAllowed)
				m.accept(bob, Refute{m.id(), promise(id, 2, 20).Append(nil)})
			} else {
				m.pass(2 * time.Minute)
			}
			paid := map[bool]voucher.Amount{false: 10, true: 20}[refuted]
			m.balances(map[identity.AccountID]voucher.Amount{
				alice.Account(): client - paid, bob.Account(): provider + paid, EscrowAccount(network): 0,
			})
			m.refuse(bob, m.settle(promise(id, 3, 30)), ErrChannelOver)
			m.pass(time.Hour)
			m.refuse(bob, m.settle(promise(id, 3, 30)), ErrNoChannel)
		})
	}
	m.verify()
}

// While the ledger does not run nobody can act: its deadlines wait for it.
func TestHaltMovesDeadlines(t *testing.T) {
	m := newMarket(t, func(p *Parameters) { p.CloseGrace = 600 })
	closing, expiring := m.openChannel(100, 3*time.Hour), m.openChannel(100, 20*time.Minute)
	m.accept(alice, RequestClose{m.id(), closing})
	m.pass(5 * time.Minute)
	const halt = 5 * time.Hour
	m.clock.now = m.clock.now.Add(halt)
	// The first block after the halt does not count them as passed.
	m.accept(bob, m.settle(promise(closing, 1, 10)))
	m.accept(bob, m.settle(promise(expiring, 1, 10)))
	c := must[Channel](t)(m.Channel(t.Context(), closing))
	if want := epoch.Add(10*time.Minute + halt).Unix(); c.Deadline != want || c.Expires != epoch.Add(3*time.Hour+halt).Unix() {
		t.Errorf("deadline %d, want %d; expires %d", c.Deadline, want, c.Expires)
	}
	m.pass(4 * time.Minute)
	m.accept(bob, m.settle(promise(closing, 2, 20)))
	m.pass(2 * time.Minute)
	m.refuse(bob, m.settle(promise(closing, 3, 30)), ErrChannelOver)
	m.accept(bob, m.settle(promise(expiring, 3, 30)))
	m.pass(10 * time.Minute)
	m.refuse(bob, m.settle(promise(expiring, 4, 40)), ErrNoChannel)
	m.balances(map[identity.AccountID]voucher.Amount{alice.Account(): 950, bob.Account(): 100, EscrowAccount(network): 0})
	m.pass(3 * time.Hour)
	m.refuse(bob, m.settle(promise(closing, 3, 30)), ErrNoChannel)
	m.verify()
}

// A deadline and an expiry in the same list of what falls due.
func TestDeadlineAtExpiry(t *testing.T) {
	m := newMarket(t) // the grace is 24 hours, the channel has minutes
	for _, life := range []time.Duration{10 * time.Minute, 11 * time.Minute} {
		id := m.openChannel(100, life)
		m.accept(alice, RequestClose{m.id(), id})
	}
	m.pass(14 * time.Minute)
	m.balances(map[identity.AccountID]voucher.Amount{alice.Account(): 1000, EscrowAccount(network): 0})
	if all := must[[]Channel](t)(m.Channels(t.Context(), bob.Account(), voucher.ChannelID{}, 10)); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	m.verify()
}

func TestSettlementIsDivided(t *testing.T) {
	treasury := key(30).Account()
	m := newMarket(t, func(p *Parameters) {
		p.SettlementFee, p.VestingShare, p.VestingEpochs, p.Treasury = 100_000, 500_000, 2, treasury
	})
	id := m.openChannel(500, 3*time.Hour)
	vesting := VestingAccount(network)
	// 10 % are the treasury's, half of the rest waits.
	m.accept(bob, m.settle(promise(id, 1, 100)))
	m.balances(map[identity.AccountID]voucher.Amount{treasury: 10, vesting: 45, bob.Account(): 50 + 45})
	m.pass(time.Minute)
	m.accept(bob, m.settle(promise(id, 2, 200)))
	m.balances(map[identity.AccountID]voucher.Amount{treasury: 20, vesting: 90, bob.Account(): 50 + 90})
	if n := len(must[map[string][]byte](t)(m.rowsOf(vestingRef))); n != 1 {
		t.Errorf("%d rows for what one account earned in one epoch", n)
	}
	m.pass(10 * time.Minute)
	m.accept(bob, m.settle(promise(id, 3, 300)))
	m.balances(map[identity.AccountID]voucher.Amount{vesting: 135, bob.Account(): 50 + 135})
	m.pass(20 * time.Minute)
	m.balances(map[identity.AccountID]voucher.Amount{vesting: 45, bob.Account(): 50 + 135 + 90})
	m.pass(10 * time.Minute)
	m.balances(map[identity.AccountID]voucher.Amount{vesting: 0, bob.Account(): 50 + 270, treasury: 30})
	m.verify()
}

// rowsOf returns the rows of a prefix.
func (m *market) rowsOf(prefix byte) (map[string][]byte, error) {
	out := map[string][]byte{}
	err := m.read(func(s rows) error {
		return s.scan([]byte{prefix}, nil, func(k, v []byte) bool {
			out[string(k)] = slices.Clone(v)
			return true
		})
	})
	return out, err
}

func TestSettleBatch(t *testing.T) {
	m := newMarket(t)
	var ids []voucher.ChannelID
	for range 5 {
		ids = append(ids, m.openChannel(100, time.Hour))
	}
	other := testAsk(epoch, 1, func(a *voucher.Ask) { a.Node, a.Account = key(40).Node(), key(9).Account() })
	g := testGrant(other)
	m.accept(key(9), PostAsk{ID: m.id(), Ask: other.Append(nil), Node: Signature(other.Sign(key(40), network)), Grant: g.Append(nil)})
	foreign := m.opening(m.id(), 10, time.Hour)
	foreign.Node, foreign.Provider, foreign.Ask = other.Node, other.Account, other.ID()
	m.accept(alice, foreign)
	m.accept(alice, CloseChannel{m.id(), ids[4], 0, bob.Account(), CloseConsent(bob, network, ids[4], 0)})

	stranger := promise(ids[3], 1, 10)
	stranger.Voucher.Sign(key(50), network)
	stranger.Session = key(50).Public()
	var b []byte
	for _, v := range []voucher.Signed{
		promise(ids[0], 1, 10), promise(ids[1], 1, 20), promise(ids[1], 2, 25), promise(ids[2], 1, 101), // beyond the deposit
		stranger, promise(ids[4], 1, 1), promise(foreign.Channel(network, alice.Account()), 1, 5), promise(voucher.ChannelID{1}, 1, 1),
		promise(ids[1], 1, 20),
	} {
		b = v.Append(b)
	}
	signed := payment(t, key(9), epoch.Unix()+600, SettleBatch{m.id(), bob.Account(), b})
	r := must[Receipt](t)(m.Submit(t.Context(), signed))
	want := []Refusal{{3, ExceedsDeposit}, {4, WrongSession}, {5, ChannelOver}, {6, OtherProvider}, {7, NoChannel}}
	if r.Paid != 35 || !slices.Equal(r.Refused, want) {
		t.Errorf("paid %d, refused %v", r.Paid, r.Refused)
	}
	if again := must[Receipt](t)(m.Submit(t.Context(), signed)); !again.Again || again.Paid != 0 {
		t.Errorf("%+v", again)
	}
	m.balances(map[identity.AccountID]voucher.Amount{bob.Account(): 85, EscrowAccount(network): 400 + 10 - 35})
	m.refuse(bob, SettleBatch{m.id(), bob.Account(), promise(ids[4], 1, 1).Append(nil)}, ErrNothingPaid)
	m.refuse(bob, SettleBatch{m.id(), bob.Account(), nil}, ErrMalformed)
	m.refuse(bob, SettleBatch{m.id(), bob.Account(), b[:len(b)-1]}, ErrTrailing)
	bad := slices.Clone(b)
	bad[2*voucher.SignedSize-1] ^= 1
	m.refuse(bob, SettleBatch{m.id(), bob.Account(), bad}, ErrSignature)
	big := make([]byte, (MaxBatchVouchers+1)*voucher.SignedSize)
	m.refuse(bob, SettleBatch{m.id(), bob.Account(), big}, ErrBatch)
	if _, err := (Transaction{Network: network, ValidUntil: 1, Operation: SettleBatch{m.id(), bob.Account(), make([]byte, MaxBatchTransaction)}}).Sign(bob); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a huge batch is signed: %v", err)
	}
	m.verify()
}

func TestChannelRefusals(t *testing.T) {
	m := newMarket(t, func(p *Parameters) { p.MinDeposit = 5 })
	id := m.openChannel(100, time.Hour)
	open := func(change func(*OpenChannel)) OpenChannel {
		op := m.opening(m.id(), 10, time.Hour)
		change(&op)
		return op
	}
	reused := m.opening(m.id(), 10, time.Hour)
	m.accept(alice, reused)
	reused.Deposit++
	unsigned := promise(id, 1, 10)
	unsigned.Voucher.Amount++
	elsewhere := promise(id, 1, 10)
	elsewhere.Voucher.Sign(session, key(99).Network())
	for _, tt := range []struct {
		name string
		who  identity.PrivateKey
		op   Operation
		want error
	}{
		{"overdraft", alice, open(func(o *OpenChannel) { o.Deposit = 100_000 }), ErrFunds},
		{"deposit of nothing", alice, open(func(o *OpenChannel) { o.Deposit = 0 }), ErrZeroAmount},
		{"deposit too small", alice, open(func(o *OpenChannel) { o.Deposit = 4 }), ErrDeposit},
		{"expired at once", alice, open(func(o *OpenChannel) { o.Expires = epoch.Unix() }), ErrDeadline},
		{"no expiry", alice, open(func(o *OpenChannel) { o.Expires = 0 }), ErrDeadline},
		{"for ever", alice, open(func(o *OpenChannel) { o.Expires = epoch.Unix() + MaxChannelLife + 1 }), ErrDeadline},
		{"another ask", alice, open(func(o *OpenChannel) { o.Ask[0]++ }), ErrNoAsk},
		{"another provider", alice, open(func(o *OpenChannel) { o.Provider = key(9).Account() }), ErrNoAsk},
		{"another node", alice, open(func(o *OpenChannel) { o.Node[31]++ }), ErrNoAsk},
		{"another service", alice, open(func(o *OpenChannel) { o.Service = mail.Service() }), ErrNoAsk},
		{"no session key", alice, open(func(o *OpenChannel) { o.Session = voucher.SessionKey{} }), ErrMalformed},
		{"with oneself", bob, open(func(*OpenChannel) {}), ErrMalformed},
		{"the same ID for another channel", alice, reused, ErrDuplicateID},
		{"no ID", alice, open(func(o *OpenChannel) { o.ID = voucher.TransferID{} }), ErrMalformed},

		{"top up of another's", key(9), TopUpChannel{m.id(), id, 10, 0}, ErrNotAllowed},
		{"top up with nothing", alice, TopUpChannel{m.id(), id, 0, 0}, ErrZeroAmount},
		{"top up overdraft", alice, TopUpChannel{m.id(), id, 100_000, 0}, ErrFunds},
		{"top up overflow", alice, TopUpChannel{m.id(), id, voucher.MaxAmount, 0}, ErrOverflow},
		{"top up of no channel", alice, TopUpChannel{m.id(), voucher.ChannelID{1}, 10, 0}, ErrNoChannel},

		{"beyond the deposit", bob, m.settle(promise(id, 1, 101)), ErrExceedsDeposit},
		{"of no channel", bob, m.settle(promise(voucher.ChannelID{1}, 1, 10)), ErrNoChannel},
		{"voucher over nothing", bob, m.settle(promise(id, 1, 0)), ErrZeroAmount},
		{"voucher changed", bob, m.settle(unsigned), ErrSignature},
		{"voucher of another network", bob, m.settle(elsewhere), ErrSignature},
		{"voucher cut short", bob, SettleChannel{m.id(), promise(id, 1, 10).Append(nil)[:100]}, ErrMalformed},
		{"voucher with more behind", bob, SettleChannel{m.id(), append(promise(id, 1, 10).Append(nil), 0)}, ErrTrailing},
		{"voucher of another key", bob, m.settle(func() voucher.Signed {
			v := promise(id, 1, 10)
			v.Voucher.Sign(alice, network)
			v.Session = alice.Public()
			return v
		}()), ErrWrongSession},

		{"close without consent", alice, CloseChannel{m.id(), id, 10, bob.Account(), Signature{}}, ErrSignature},
		{"close with consent to another sum", alice, CloseChannel{m.id(), id, 10, bob.Account(), CloseConsent(bob, network, id, 11)}, ErrSignature},
		{"close with a stranger's consent", alice, CloseChannel{m.id(), id, 10, key(9).Account(), CloseConsent(key(9), network, id, 10)}, ErrSignature},
		{"close with one's own consent", alice, CloseChannel{m.id(), id, 10, alice.Account(), CloseConsent(alice, network, id, 10)}, ErrSignature},
		{"close of others", key(9), CloseChannel{m.id(), id, 10, bob.Account(), CloseConsent(bob, network, id, 10)}, ErrNotAllowed},
		{"close beyond the deposit", alice, CloseChannel{m.id(), id, 101, bob.Account(), CloseConsent(bob, network, id, 101)}, ErrExceedsDeposit},
		{"close of no channel", alice, CloseChannel{m.id(), voucher.ChannelID{1}, 10, bob.Account(), CloseConsent(bob, network, voucher.ChannelID{1}, 10)}, ErrNoChannel},
		{"request of a stranger", key(9), RequestClose{m.id(), id}, ErrNotAllowed},
		{"pay into escrow", alice, Transfer{m.id(), []Move{{Kind: MovePay, To: EscrowAccount(network), Amount: 1}}}, ErrNotAllowed},
		{"hold for vesting", alice, Transfer{m.id(), []Move{{Kind: MoveHold, To: VestingAccount(network), Amount: 1, Expires: epoch.Unix() + 60}}}, ErrNotAllowed},
		{"issue into escrow", founder, Issue{m.id(), EscrowAccount(network), 1}, ErrNotAllowed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.T = t
			m.refuse(tt.who, tt.op, tt.want)
		})
	}
	m.T = t
	m.accept(bob, m.settle(promise(id, 1, 50)))
	m.refuse(alice, CloseChannel{m.id(), id, 49, bob.Account(), CloseConsent(bob, network, id, 49)}, ErrNotHigher)
	tx := Transaction{Network: key(99).Network(), ValidUntil: epoch.Unix() + 60, Operation: m.settle(promise(id, 2, 60))}
	if _, err := m.Submit(t.Context(), must[[]byte](t)(tx.Sign(bob))); !errors.Is(err, ErrWrongNetwork) {
		t.Errorf("of another chain: %v", err)
	}
	m.verify()
}

func TestAsks(t *testing.T) {
	m := newMarket(t)
	now := epoch.Unix()
	first := testAsk(epoch, 1)
	asks := func() []PostedAsk { return must[[]PostedAsk](t)(m.Asks(t.Context(), files.Service())) }
	if got := asks(); len(got) != 1 || got[0].Ask != first {
		t.Fatalf("%+v", got)
	}
	announced := testAsk(epoch, 2, func(a *voucher.Ask) { a.ValidFrom, a.Price.PerGiB = now+600, 7 })
	grant := testGrant(first)
	strange := grant
	strange.Sign(mail, network)
	ended := voucher.Grant{Node: node.Node(), Account: bob.Account(), NotAfter: now - 1}
	ended.Sign(files, network)
	for _, tt := range []struct {
		name string
		who  identity.PrivateKey
		op   PostAsk
		want error
	}{
		{"at once", bob, posting(m.n+1, testAsk(epoch, 2)), ErrTooSoon},
		{"a second too soon", bob, posting(m.n+2, testAsk(epoch, 2, func(a *voucher.Ask) { a.ValidFrom = now + 599 })), ErrTooSoon},
		{"stale", bob, posting(m.n+3, testAsk(epoch, 1, func(a *voucher.Ask) { a.ValidFrom = now + 600 })), ErrStaleAsk},
		{"another's", alice, posting(m.n+4, announced), ErrNotAllowed},
		{"no node", bob, PostAsk{ID: m.id(), Ask: announced.Append(nil), Grant: grant.Append(nil)}, ErrNodeConsent},
		{"another node", bob, PostAsk{ID: m.id(), Ask: announced.Append(nil), Node: Signature(announced.Sign(key(40), network)), Grant: grant.Append(nil)}, ErrNodeConsent},
		{"another service's grant", bob, PostAsk{ID: m.id(), Ask: announced.Append(nil), Node: Signature(announced.Sign(node, network)), Grant: strange.Append(nil)}, ErrNotGranted},
		{"an ended grant", bob, PostAsk{ID: m.id(), Ask: announced.Append(nil), Node: Signature(announced.Sign(node, network)), Grant: ended.Append(nil)}, ErrNotGranted},
		{"no grant", bob, PostAsk{ID: m.id(), Ask: announced.Append(nil), Node: Signature(announced.Sign(node, network))}, ErrMalformed},
		{"over already", bob, posting(m.n+5, testAsk(epoch, 2, func(a *voucher.Ask) { a.ValidTo = now - 1 })), ErrDeadline},
		{"for ever", bob, posting(m.n+6, testAsk(epoch, 2, func(a *voucher.Ask) { a.ValidTo = now + MaxAskLife + 1 })), ErrDeadline},
		{"bytes behind", bob, PostAsk{ID: m.id(), Ask: append(announced.Append(nil), 0), Grant: grant.Append(nil)}, ErrTrailing},
		{"withdrawal of what is not", bob, PostAsk{ID: m.id(), Ask: announced.Append(nil), Withdraw: true}, ErrNoAsk},
		{"withdrawal by another", alice, PostAsk{ID: m.id(), Ask: first.Append(nil), Withdraw: true}, ErrNotAllowed},
		{"withdrawal with a grant", bob, PostAsk{ID: m.id(), Ask: first.Append(nil), Grant: grant.Append(nil), Withdraw: true}, ErrMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.T = t
			m.refuse(tt.who, tt.op, tt.want)
		})
	}
	m.T = t
	m.n += 100

	m.accept(bob, posting(m.n, announced))
	if got := asks(); len(got) != 1 || got[0].Ask != first || got[0].Next != announced {
		t.Fatalf("%+v", got)
	}
	early := m.opening(m.id(), 10, time.Hour)
	early.Ask = announced.ID()
	m.refuse(alice, early, ErrNoAsk)
	m.openChannel(10, time.Hour)
	m.pass(10 * time.Minute)
	if got := asks(); len(got) != 1 || got[0] != (PostedAsk{Ask: announced}) {
		t.Fatalf("%+v", got)
	}
	m.refuse(alice, m.opening(m.id(), 10, time.Hour), ErrNoAsk)
	early.ID = m.id()
	m.accept(alice, early)

	m.accept(bob, PostAsk{ID: m.id(), Ask: announced.Append(nil), Withdraw: true})
	if got := asks(); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
	early.ID = m.id()
	m.refuse(alice, early, ErrNoAsk)
	// Whoever withdraws does not get round announcing.
	m.n += 10
	m.refuse(bob, posting(m.n, testAsk(m.clock.now, 3)), ErrTooSoon)
	back := testAsk(m.clock.now, 3, func(a *voucher.Ask) { a.ValidFrom = m.clock.now.Unix() + 600 })
	m.n += 10
	m.accept(bob, posting(m.n, back))

	// An ask that ran out by itself leaves room for one that holds at once.
	m.n += 10
	m.clock.now = m.clock.now.Add(25 * time.Hour)
	m.accept(bob, posting(m.n, testAsk(m.clock.now, 4)))
	if got := asks(); len(got) != 1 || got[0].Ask.Sequence+got[0].Next.Sequence != 4 {
		t.Fatalf("%+v", got)
	}
	m.clock.now = m.clock.now.Add(25 * time.Hour)
	m.beat()
	m.beat()
	if n := len(must[map[string][]byte](t)(m.rowsOf(askRef))); n != 0 {
		t.Errorf("%d rows of asks that are over", n)
	}
	m.verify()
}

func TestMarketOverTheWire(t *testing.T) {
	m := newMarket(t)
	c := serve(t, m.Ledger, ServerConfig{SubmitBurst: 1000, SubmitRate: 1000})
	w := NewWallet(alice, network, c, m.clock.time)
	provider := NewWallet(bob, network, c, m.clock.time)
	c.cfg.Clock = func() time.Time { return epoch }
	ctx := t.Context()
	posted := must[[]PostedAsk](t)(c.Asks(ctx, files.Service()))
	ask, ok := posted[0].At(epoch)
	if !ok || ask != testAsk(epoch, 1) {
		t.Fatalf("%+v", posted)
	}
	var vouchers []voucher.Signed
	for i := range uint64(3) {
		id, _, err := w.OpenChannel(ctx, ask, session.Public(), transferNumber(i+1), 100, epoch.Add(time.Hour))
		if err != nil || id != w.Opening(ask, session.Public(), transferNumber(i+1)).ID() {
			t.Fatal(id, err)
		}
		again, r, err := w.OpenChannel(ctx, ask, session.Public(), transferNumber(i+1), 100, epoch.Add(time.Hour))
		if err != nil || again != id || !r.Again {
			t.Errorf("opened twice: %+v, %v", r, err)
		}
		vouchers = append(vouchers, promise(id, 1, 10))
	}
	if r, err := provider.SettleBatch(ctx, bob.Account(), vouchers); err != nil || r.Paid != 30 || len(r.Refused) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	first := vouchers[0].Voucher.Channel
	if r, err := provider.Settle(ctx, promise(first, 2, 15)); err != nil || r.Paid != 5 {
		t.Errorf("%+v, %v", r, err)
	}
	must[Receipt](t)(w.TopUp(ctx, first, 5, time.Time{}))
	must[Receipt](t)(w.RequestClose(ctx, first))
	must[Receipt](t)(provider.Refute(ctx, promise(first, 3, 20)))
	second := vouchers[1].Voucher.Channel
	must[Receipt](t)(w.CloseChannel(ctx, second, 11, bob.Account(), CloseConsent(bob, network, second, 11)))
	for _, who := range []identity.AccountID{alice.Account(), bob.Account()} {
		all := must[[]Channel](t)(c.Channels(ctx, who, voucher.ChannelID{}, 10))
		if len(all) != 3 || !slices.IsSortedFunc(all, func(a, b Channel) int { return slices.Compare(a.ID[:], b.ID[:]) }) {
			t.Fatalf("%+v", all)
		}
		rest := must[[]Channel](t)(c.Channels(ctx, who, all[0].ID, 1))
		if len(rest) != 1 || rest[0].ID != all[1].ID {
			t.Errorf("%+v", rest)
		}
		for _, ch := range all {
			if one := must[Channel](t)(c.Channel(ctx, ch.ID)); one != ch {
				t.Errorf("%+v\nin the list %+v", one, ch)
			}
		}
	}
	if _, err := c.Channel(ctx, voucher.ChannelID{1}); !errors.Is(err, ErrNoChannel) {
		t.Error(err)
	}
	must[Receipt](t)(provider.WithdrawAsk(ctx, ask))
	next := testAsk(epoch, 2, func(a *voucher.Ask) { a.ValidFrom = epoch.Unix() + 600 })
	must[Receipt](t)(provider.PostAsk(ctx, next, node, testGrant(next)))
	if got := must[[]PostedAsk](t)(c.Asks(ctx, files.Service())); len(got) != 1 || got[0] != (PostedAsk{Next: next}) {
		t.Errorf("%+v", got)
	}
	if _, err := provider.SettleBatch(ctx, bob.Account(), make([]voucher.Signed, MaxBatchVouchers+1)); !errors.Is(err, ErrBatch) {
		t.Error(err)
	}
	m.verify()
}

// A full batch goes over the wire and through a block.
func TestFullBatch(t *testing.T) {
	m := newMarket(t)
	c := serve(t, m.Ledger, ServerConfig{})
	id := m.openChannel(900, time.Hour)
	var vouchers []voucher.Signed
	for i := range MaxBatchVouchers {
		vouchers = append(vouchers, promise(id, uint64(i)+1, voucher.Amount(min(i+1, 900))))
	}
	r, err := NewWallet(bob, network, c, m.clock.time).SettleBatch(t.Context(), bob.Account(), vouchers)
	if err != nil || r.Paid != 900 {
		t.Fatalf("%+v, %v", r, err)
	}
	m.verify()
}

// A broken sum of the market stops the machine, whichever row it is in.
func TestBrokenMarket(t *testing.T) {
	const now, expiry = 1000, 1300
	id := benchChannel(1)
	vesting := vestingReference(bob.Account(), providerID{}, expiry)
	build := func() memory {
		p := DefaultParameters()
		p.VestingShare, p.VestingEpochs = 500_000, 1
		state, _ := begun(t, p)
		withChannels(state, 2, session.Public())
		row := benchChannels(session.Public())
		row.expires = expiry
		row.next = vesting
		state[string(channelKey(id))] = row.append(nil)
		state[string(bucketKey(expiry>>dueShift))] = channelReference(id, listExpiry).append(nil)
		state[string(vesting.key())] = vestingRow{amount: 10}.append(nil)
		state[string(queueKey)] = queueRow{now >> dueShift, 2}.encode()
		state[string(marketKey)] = marketRow{last: now, escrowed: 2 << 40, vesting: 10, open: 2}.encode()
		state[string(moneyKey(VestingAccount(network)))] = Counters{CreditsPosted: 10}.encode()
		total := totals{debitsPosted: wide{0, 2<<40 + 10}, creditsPosted: wide{0, 2<<40 + 10}, issued: 2<<40 + 10, accounts: 2}
		state[string(totalsKey)] = total.encode()
		state[string(moneyKey(SupplyAccount(network)))] = Counters{DebitsPosted: 2<<40 + 10}.encode()
		return state
	}
	// A settlement, and then the time at which the channel expires and what vests is due.
	paid := voucher.Amount(0)
	run := func(state memory) error {
		settle := madeUp(bob.Account(), now+100, SettleChannel{transferNumber(1), promise(id, 1, 100).Append(nil)})
		for _, at := range []int64{now, now + 100, now + 200, expiry + 20, expiry + 40, 1820} {
			txs := []Transaction{settle}
			if at != now {
				txs = nil
			}
			out, err := Apply(state, Header{Version: RulesVersion, Network: network, Height: 1, Time: at}, txs)
			if err != nil {
				return err
			}
			if at == now {
				paid = out.Results[0].Paid
			}
			_ = state.put(out.Changes)
		}
		return nil
	}
	if err := run(build()); err != nil || paid != 100 {
		t.Fatalf("whole: paid %d, %v", paid, err)
	}
	market := func(m memory, f func(*marketRow)) {
		row, _ := readMarket(m)
		f(&row)
		m[string(marketKey)] = row.encode()
	}
	channel := func(m memory, f func(*channelRow)) {
		var row channelRow
		_ = decodeChannel(m[string(channelKey(id))], &row)
		f(&row)
		m[string(channelKey(id))] = row.append(nil)
	}
	for name, alter := range map[string]func(memory){
		"escrowed":  func(m memory) { market(m, func(r *marketRow) { r.escrowed++ }) },
		"vesting":   func(m memory) { market(m, func(r *marketRow) { r.vesting-- }) },
		"escrow":    func(m memory) { m[string(moneyKey(EscrowAccount(network)))] = Counters{CreditsPosted: 1}.encode() },
		"deposit":   func(m memory) { channel(m, func(r *channelRow) { r.deposit += 3 << 40 }) },
		"settled":   func(m memory) { channel(m, func(r *channelRow) { r.settled = r.deposit + 1 }) },
		"a vesting": func(m memory) { m[string(vesting.key())] = vestingRow{amount: 11}.append(nil) },
		"a list":    func(m memory) { delete(m, string(channelKey(id))) },
	} {
		state := build()
		alter(state)
		err := func() (err error) {
			defer func() {
				if r := recover(); r != nil {
					err = fmt.Errorf("panic: %v", r)
				}
			}()
			return run(state)
		}()
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
