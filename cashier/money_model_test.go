package cashier

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

var operationsWanted = flag.Int("operations", 0, "operations of the money model; default 100,000, under the race detector 4000")

// moneyModel is the money part of the ledger written down as plainly as possible:
// maps, big enough numbers, no lists of what is due.
type moneyModel struct {
	time       int64
	parameters Parameters
	accounts   map[identity.AccountID]*modelAccount
	holds      map[modelID]*modelHold
	done       map[modelID]modelDone
	issued     int
	redeemed   int
	market     marketModel
}

type modelAccount struct{ has, reserved, expected int }

type modelID struct {
	account identity.AccountID
	id      voucher.TransferID
	move    int
}

type modelHold struct {
	from, to identity.AccountID
	amount   int
	expires  int64
	open     bool
}

type modelDone struct {
	content [16]byte
	until   int64
}

func (m *moneyModel) account(id identity.AccountID) *modelAccount {
	if m.accounts[id] == nil {
		m.accounts[id] = &modelAccount{}
	}
	return m.accounts[id]
}

// begin does what the time does: lists are of 16 seconds, and nothing is given back
// before its list is over.
func (m *moneyModel) begin(now int64) {
	m.time = now
	over := func(t int64) bool { return t>>4 < now>>4 }
	for id, h := range m.holds {
		if over(h.expires) {
			if h.open {
				m.account(h.from).reserved -= h.amount
				m.account(h.to).expected -= h.amount
			}
			delete(m.holds, id)
		}
	}
	maps.DeleteFunc(m.done, func(_ modelID, d modelDone) bool { return over(d.until) })
	m.beginMarket()
}

func (m *moneyModel) clone() *moneyModel {
	c := *m
	c.market = m.market.clone()
	c.accounts, c.holds, c.done = map[identity.AccountID]*modelAccount{}, map[modelID]*modelHold{}, maps.Clone(m.done)
	for id, a := range m.accounts {
		v := *a
		c.accounts[id] = &v
	}
	for id, h := range m.holds {
		v := *h
		c.holds[id] = &v
	}
	return &c
}

// execute returns the code, and whether the transaction was accepted before.
func (m *moneyModel) execute(tx Transaction) (Code, bool) {
	id := modelID{account: tx.Account, id: tx.Operation.(identified).transferID()}
	if d, ok := m.done[id]; ok {
		if d.content != tx.content {
			return DuplicateID, false
		}
		return Accepted, true
	}
	switch {
	case tx.ValidUntil < m.time:
		return Expired, false
	case tx.ValidUntil > m.time+MaxValidity:
		return BadDeadline, false
	}
	before := m.clone()
	if code := m.operate(tx); code != Accepted {
		*m = *before
		return code, false
	}
	m.done[id] = modelDone{tx.content, tx.ValidUntil}
	return Accepted, false
}

func (m *moneyModel) operate(tx Transaction) Code {
	founder := identity.AccountID(network)
	switch op := tx.Operation.(type) {
	case Issue:
		switch {
		case tx.Account != founder:
			return NotAllowed
		case m.issued-m.redeemed+int(op.Amount) > int(m.parameters.SupplyCap):
			return CapExceeded
		}
		m.issued += int(op.Amount)
		m.account(op.To).has += int(op.Amount)
		return Accepted
	case Redeem:
		switch {
		case tx.Account != founder:
			return NotAllowed
		case m.account(founder).has-m.account(founder).reserved < int(op.Amount):
			return InsufficientFunds
		}
		m.redeemed += int(op.Amount)
		m.account(founder).has -= int(op.Amount)
		return Accepted
	case Transfer:
		for i, move := range op.Moves {
			if code := m.move(tx.Account, op.ID, i, move); code != Accepted {
				return code
			}
		}
		if fee := int(m.parameters.TransferFee); fee > 0 && tx.Account != founder {
			return m.pay(tx.Account, founder, fee)
		}
		return Accepted
	}
	return m.operateMarket(tx)
}

func (m *moneyModel) pay(from, to identity.AccountID, amount int) Code {
	a := m.account(from)
	if a.has-a.reserved < amount {
		return InsufficientFunds
	}
	a.has -= amount
	m.account(to).has += amount
	return Accepted
}

func (m *moneyModel) move(from identity.AccountID, id voucher.TransferID, i int, move Move) Code {
	amount := int(move.Amount)
	switch move.Kind {
	case MovePay:
		return m.pay(from, move.To, amount)
	case MoveHold:
		a := m.account(from)
		switch {
		case move.Expires <= m.time || move.Expires > m.time+maxHold:
			return BadDeadline
		case m.holds[modelID{from, id, i}] != nil:
			return DuplicateID
		case a.has-a.reserved < amount:
			return InsufficientFunds
		}
		a.reserved += amount
		m.account(move.To).expected += amount
		m.holds[modelID{from, id, i}] = &modelHold{from, move.To, amount, move.Expires, true}
		return Accepted
	case MovePost, MoveVoid:
	}
	h := m.holds[modelID{move.From, move.ID, int(move.Index)}]
	switch {
	case h == nil:
		return NoHold
	case from != h.to && (move.Kind != MovePost || from != h.from):
		return NotAllowed
	case !h.open || m.time > h.expires:
		return HoldSettled
	case amount > h.amount:
		return ExceedsHold
	}
	h.open = false
	m.account(h.from).reserved -= h.amount
	m.account(h.to).expected -= h.amount
	return m.pay(h.from, h.to, amount)
}

// compare checks every money row against the model.
func (m *moneyModel) compare(t *rapid.T, state memory) {
	sum := 0
	for id, a := range m.accounts {
		c, err := readCounters(state, id)
		if err != nil || int(c.Balance()) != a.has || int(c.DebitsPending) != a.reserved || int(c.CreditsPending) != a.expected ||
			int(c.Available()) != a.has-a.reserved {
			t.Fatalf("account %s: %+v, %v, want %+v", id, c, err, a)
		}
		sum += a.has
	}
	if sum != m.issued-m.redeemed {
		t.Fatalf("the model itself has %d, issued %d, redeemed %d", sum, m.issued, m.redeemed)
	}
	rows := map[byte]int{}
	for k := range state {
		rows[k[0]]++
	}
	if rows[holdRef] != len(m.holds) || rows[transferRef] != len(m.done) {
		t.Fatalf("%d holds and %d IDs, want %d and %d", rows[holdRef], rows[transferRef], len(m.holds), len(m.done))
	}
	if rows[channelRef] != 1+3*len(m.market.channels) || rows[vestingRef] != len(m.market.vests) || rows[askRef] != len(m.market.asks) {
		t.Fatalf("%d rows of channels, %d that vest, %d asks, want those of %+v", rows[channelRef], rows[vestingRef], rows[askRef], m.market)
	}
	m.compareMarket(t, state)
	if q := state[string(queueKey)]; q != nil {
		row, err := decodeQueue(q)
		if err != nil || int(row.entries) != len(m.holds)+len(m.done)+len(m.market.hangs) {
			t.Fatalf("queue %+v, %v", row, err)
		}
	}
	supply, err := readSupply(state, network, m.parameters)
	if err != nil || int(supply.Issued) != m.issued || int(supply.Redeemed) != m.redeemed {
		t.Fatalf("supply %+v, %v", supply, err)
	}
	if err := sumUpMemory(state); err != nil {
		t.Fatal(err)
	}
}

// sumUpMemory checks that the totals are the sums over all rows.
func sumUpMemory(state memory) error {
	raw := state[string(totalsKey)]
	if raw == nil {
		return nil
	}
	want, err := decodeTotals(raw)
	var sum totals
	for k, v := range state {
		if k[0] != 'b' {
			continue
		}
		c, e := decodeCounters(v)
		err = errors.Join(err, e)
		sum.debitsPending = sum.debitsPending.change(0, c.DebitsPending)
		sum.debitsPosted = sum.debitsPosted.change(0, c.DebitsPosted)
		sum.creditsPending = sum.creditsPending.change(0, c.CreditsPending)
		sum.creditsPosted = sum.creditsPosted.change(0, c.CreditsPosted)
	}
	if sum.debitsPosted != want.debitsPosted || sum.creditsPosted != want.creditsPosted ||
		sum.debitsPending != want.debitsPending || sum.creditsPending != want.creditsPending || sum.debitsPosted != sum.creditsPosted {
		err = errors.Join(err, fmt.Errorf("accounts add up to %+v, totals %+v", sum, want))
	}
	return err
}

// madeUp returns a transaction as if it had been signed and opened: the machine
// looks at no signature, and making thousands would take the time.
func madeUp(account identity.AccountID, until int64, op Operation) Transaction {
	encoded := mustEncode(op)
	tx := Transaction{Account: account, Network: network, ValidUntil: until, Operation: op, content: contentOf(op.Kind(), encoded)}
	tx.signed = fmt.Appendf(nil, "%s %d %d %x", account, until, op.Kind(), encoded)
	tx.id = sha256.Sum256(tx.signed)
	return tx
}

// anyPayment draws a transaction about money that passes its check. Most settle
// one of the holds that were made.
func anyPayment(t *rapid.T, m *moneyModel, holds []modelID) Transaction {
	now := m.time
	accounts := []identity.AccountID{founder.Account(), alice.Account(), bob.Account(), key(7).Account()}
	who := rapid.SampledFrom(accounts).Draw(t, "who")
	id := transferNumber(rapid.Uint64Range(1, 40).Draw(t, "id"))
	until := now + rapid.SampledFrom([]int64{100, 0, 1, 5, 20, 20, 100, 100, 100, MaxValidity, -1, MaxValidity + 1}).Draw(t, "until")
	amount := voucher.Amount(rapid.Uint64Range(1, 60).Draw(t, "amount"))
	if rapid.IntRange(0, 9).Draw(t, "id") > 0 {
		id = transferNumber(rapid.Uint64().Filter(func(n uint64) bool { return n != 0 }).Draw(t, "id"))
	}
	if rapid.Bool().Draw(t, "market") {
		until = max(until, now+rapid.SampledFrom([]int64{100, 100, -1}).Draw(t, "later"))
		return anyMarket(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), m, who, id, until)
	}
	tx := madeUp(who, until, Issue{id, rapid.SampledFrom(accounts).Draw(t, "to"), amount})
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		if rapid.IntRange(0, 3).Draw(t, "by") > 0 {
			tx = madeUp(founder.Account(), until, tx.Operation)
		}
	case 1:
		tx = madeUp(who, until, Redeem{id, amount})
	default:
		moves := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Move {
			m := Move{
				Kind:   rapid.SampledFrom([]MoveKind{MovePay, MovePay, MoveHold, MoveHold, MovePost, MovePost, MoveVoid}).Draw(t, "move"),
				Amount: voucher.Amount(rapid.Uint64Range(1, 40).Draw(t, "amount")),
			}
			if m.Kind == MovePay || m.Kind == MoveHold {
				m.To = rapid.SampledFrom(accounts).Filter(func(a identity.AccountID) bool { return a != who }).Draw(t, "to")
			} else {
				m.From, m.ID = rapid.SampledFrom(accounts).Draw(t, "from"), transferNumber(rapid.Uint64Range(1, 40).Draw(t, "of"))
				m.Index = uint8(rapid.IntRange(0, 2).Draw(t, "index"))
				if len(holds) > 0 && rapid.IntRange(0, 7).Draw(t, "known") > 0 {
					of := rapid.SampledFrom(holds).Draw(t, "hold")
					m.From, m.ID, m.Index = of.account, of.id, uint8(of.move)
				}
			}
			if m.Kind == MoveHold {
				m.Expires = now + rapid.SampledFrom([]int64{0, 1, 10, 40, 200, maxHold, maxHold + 1}).Draw(t, "expires")
			}
			if m.Kind == MoveVoid {
				m.Amount = 0
			}
			return m
		}), 1, 3).Draw(t, "moves")
		tx = madeUp(who, until, Transfer{id, moves})
	}
	if r := tx.Operation.check(&tx); r != nil {
		t.Fatalf("drawn transaction does not pass its check: %v", r)
	}
	return tx
}

// The machine beside the plain maps: same verdicts, same balances, same rows, over
// transfers, chains, holds, expiry, fees, supply, repetitions and pruning.
func TestMoneyAgainstModel(t *testing.T) {
	operations, codes := 0, map[Code]int{}
	const perRun = 200
	run := func(t *rapid.T) {
		p := Parameters{
			MaxNames: 1, SupplyCap: 1000, TransferFee: voucher.Amount(rapid.IntRange(0, 1).Draw(t, "fee")),
			SettlementFee: rapid.SampledFrom([]uint32{0, 100_000, 333_333}).Draw(t, "settlement fee"),
			VestingShare:  rapid.SampledFrom([]uint32{0, 500_000, million}).Draw(t, "vesting share"),
			VestingEpochs: rapid.SampledFrom([]uint32{0, 1, 3}).Draw(t, "vesting epochs"),
			CloseGrace:    rapid.SampledFrom([]uint32{0, 30, 150}).Draw(t, "grace"),
			EpochSeconds:  rapid.SampledFrom([]uint32{0, 40, 100}).Draw(t, "epoch"),
			MinDeposit:    voucher.Amount(rapid.IntRange(0, 5).Draw(t, "least deposit")),
		}
		state, app := begun(t, p, GenesisBalance{alice.Account(), 400}, GenesisBalance{bob.Account(), 400})
		m := &moneyModel{
			issued: 800, market: newMarketModel(),
			accounts: map[identity.AccountID]*modelAccount{alice.Account(): {has: 400}, bob.Account(): {has: 400}}, holds: map[modelID]*modelHold{}, done: map[modelID]modelDone{},
		}
		if _, err := read(state, parametersKey, &m.parameters); err != nil {
			t.Fatal(err)
		}
		var past []Transaction
		var holds []modelID
		now := int64(1000)
		for height, n := uint64(1), 0; n < perRun; height++ {
			now += rapid.SampledFrom([]int64{0, 0, 1, 1, 3, 3, 16, 16, 40, 60, 60, 100, 160, 700, MaxValidity / 4}).Draw(t, "pause")
			m.begin(now)
			txs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Transaction {
				if len(past) > 0 && rapid.IntRange(0, 5).Draw(t, "repeat") == 0 {
					return rapid.SampledFrom(past).Draw(t, "past")
				}
				return anyPayment(t, m, holds)
			}), 1, 20).Draw(t, "transactions")
			n += len(txs)
			h := Header{Version: RulesVersion, Network: network, Height: height, Time: now, AppHash: app}
			out, err := Apply(state, h, txs)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := Apply(state, h, txs); err != nil || !reflect.DeepEqual(again, out) {
				t.Fatalf("applied twice, two outcomes: %v", err)
			}
			for i, tx := range txs {
				want, repeated := m.execute(tx)
				got := Accepted
				if r := out.Results[i].Rejection; r != nil {
					got = r.Code
				}
				if got != want || out.Results[i].Again != repeated {
					t.Fatalf("block %d, transaction %d, %+v: %s (again: %v), want %s (%v)",
						height, i, tx.Operation, got, out.Results[i].Again, want, repeated)
				}
				codes[got]++
				if op, ok := tx.Operation.(Transfer); ok && got == Accepted {
					for k, move := range op.Moves {
						if move.Kind == MoveHold {
							holds = append(holds, modelID{tx.Account, op.ID, k})
						}
					}
				}
			}
			past, holds = append(past, txs...), holds[max(0, len(holds)-12):]
			operations += len(txs)
			_ = state.put(out.Changes)
			m.compare(t, state)
		}
	}
	wanted := *operationsWanted
	if wanted == 0 {
		wanted = map[bool]int{false: 100_000, true: 4_000}[raceEnabled]
	}
	for operations < wanted && !t.Failed() {
		rapid.Check(t, run)
	}
	t.Logf("%d operations: %v", operations, codes)
	if wanted < 50_000 {
		return // too few for every code to come
	}
	for _, code := range []Code{
		Accepted, Expired, BadDeadline, DuplicateID, InsufficientFunds, NoHold, NotAllowed, HoldSettled, ExceedsHold, CapExceeded,
		NoChannel, ChannelOver, ChannelIsClosing, ExceedsDeposit, WrongSession, NoAsk, StaleAsk, TooSoon, DepositTooSmall, NotHigher,
		NotClosing, NotGranted, NothingPaid, BadSignature,
	} {
		if codes[code] == 0 {
			t.Errorf("%d operations, and %q never came", operations, code)
		}
	}
}

// A broken sum stops the machine, whichever row it is in, and says what it found.
func TestBrokenInvariants(t *testing.T) {
	until := int64(1100)
	for _, tt := range []struct {
		name  string
		alter func(memory)
	}{
		{"totals", func(m memory) {
			total, _ := decodeTotals(m[string(totalsKey)])
			total.debitsPosted.low++
			m[string(totalsKey)] = total.encode()
		}},
		{"reserved totals", func(m memory) {
			total, _ := decodeTotals(m[string(totalsKey)])
			total.creditsPending.low++
			m[string(totalsKey)] = total.encode()
		}},
		{"payer below zero", func(m memory) {
			m[string(moneyKey(bob.Account()))] = Counters{DebitsPosted: 5}.encode()
		}},
		{"issued", func(m memory) {
			total, _ := decodeTotals(m[string(totalsKey)])
			total.issued += 2
			m[string(totalsKey)] = total.encode()
		}},
		{"hold larger than what is reserved", func(m memory) {
			k := string(reference{holdRef, alice.Account(), transferNumber(1), 0}.key())
			h, _ := decodeHold(m[k])
			h.amount += 100
			m[k] = h.encode()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			state, _ := begun(t, DefaultParameters(), GenesisBalance{alice.Account(), 100})
			hold := madeUp(alice.Account(), until, Transfer{transferNumber(1), []Move{{Kind: MoveHold, To: bob.Account(), Amount: 10, Expires: until}}})
			h := Header{Version: RulesVersion, Network: network, Height: 1, Time: 1000}
			_ = state.put(must[Outcome](t)(Apply(state, h, []Transaction{hold})).Changes)
			tt.alter(state)
			h.Height++
			for _, op := range []Operation{
				Transfer{transferNumber(2), []Move{{Kind: MovePay, To: bob.Account(), Amount: 1}}},
				Issue{transferNumber(3), alice.Account(), 1},
				Transfer{transferNumber(4), []Move{{Kind: MovePost, From: alice.Account(), ID: transferNumber(1), Amount: 1}}},
			} {
				who := alice
				if op.Kind() == KindIssue {
					who = founder
				}
				_, err := Apply(state, h, []Transaction{madeUp(who.Account(), until, op)})
				if err == nil {
					continue // it touched nothing broken
				}
				broken, ok := errors.AsType[*InvariantError](err)
				if !ok || !errors.Is(err, ErrInvariant) || !errors.Is(err, ErrCorrupt) || broken.Rule == "" || broken.Evidence == "" {
					t.Fatalf("got %v", err)
				}
				return
			}
			t.Error("nobody noticed")
		})
	}
}

// What an account never reaches in practice: 64 bits full.
func TestCountersOverflow(t *testing.T) {
	state, _ := begun(t, Parameters{MaxNames: 1, SupplyCap: math.MaxUint64}, GenesisBalance{alice.Account(), math.MaxUint64 - 5})
	h := Header{Version: RulesVersion, Network: network, Height: 1, Time: 1000}
	out := must[Outcome](t)(Apply(state, h, []Transaction{
		madeUp(alice.Account(), 1100, Transfer{transferNumber(1), []Move{{Kind: MovePay, To: bob.Account(), Amount: math.MaxUint64 - 5}}}),
		madeUp(bob.Account(), 1100, Transfer{transferNumber(1), []Move{{Kind: MovePay, To: alice.Account(), Amount: 6}}}),
		madeUp(founder.Account(), 1100, Issue{transferNumber(1), alice.Account(), 6}),
		madeUp(bob.Account(), 1100, Transfer{transferNumber(2), []Move{
			{Kind: MoveHold, To: alice.Account(), Amount: math.MaxUint64 - 6, Expires: 1100}, {Kind: MoveHold, To: alice.Account(), Amount: 7, Expires: 1100},
		}}),
	}))
	want := []Code{Accepted, Overflow, CapExceeded, InsufficientFunds}
	for i, r := range out.Results {
		if got := codeOf(r.Rejection); got != want[i] {
			t.Errorf("%d: %s, want %s", i, got, want[i])
		}
	}
}

func codeOf(r *Rejection) Code {
	if r == nil {
		return Accepted
	}
	return r.Code
}
