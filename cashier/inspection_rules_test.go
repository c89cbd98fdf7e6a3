package cashier

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"testing"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
)

// balance is what an account has.
func (n *inspected) balance(k []byte) voucher.Amount {
	n.t.Helper()
	if n.state[string(k)] == nil {
		return 0
	}
	return must[Counters](n.t)(decodeCounters(n.state[string(k)])).Balance()
}

// earnSome pays a provider 1,000,000 through a channel.
func (n *inspected) earnSome(i int) {
	n.t.Helper()
	node, account := key(uint16(5000+i)), key(uint16(6000+i))
	ask := testAsk(epoch, 1, func(a *voucher.Ask) {
		a.Node, a.Account, a.ValidTo, a.ValidFrom = node.Node(), account.Account(), n.head.Time+86_400, 0
	})
	grant := testGrant(ask)
	n.accept(payment(n.t, account, n.until(), PostAsk{
		ID: n.id(), Ask: ask.Append(nil), Node: Signature(ask.Sign(node, network)), Grant: grant.Append(nil),
	}))
	open := OpenChannel{
		ID: n.id(), Provider: account.Account(), Node: node.Node(), Service: files.Service(), Ask: ask.ID(),
		Session: session.Public(), Deposit: voucher.Credit, Expires: n.head.Time + 3600,
	}
	n.accept(payment(n.t, alice, n.until(), open))
	id := wallet(alice, nil).Opening(ask, session.Public(), open.ID).ID()
	v := promise(id, 1, voucher.Credit)
	n.accept(payment(n.t, account, n.until(), SettleChannel{n.id(), v.Append(nil)}))
}

// What vests is paid by the provider's score, and the rest burnt; inspectors are paid
// from the fee when the challenges of an epoch have ended.
func TestPayByScore(t *testing.T) {
	n := inspectedNetwork(t, 4, 2)
	n.dead[1] = true
	for range 12 {
		n.epoch()
	}
	account := func(i int) []byte { return moneyKey(key(uint16(6000 + i)).Account()) }
	inspector := func(i int) []byte { return moneyKey(n.inspectors[i].account.Account()) }
	before := n.balance(inspector(0))
	others := func() (sum voucher.Amount) {
		for i := range n.inspectors {
			sum += n.balance(inspector(i))
		}
		return sum
	}
	all := others()
	for i := range 2 {
		n.earnSome(i)
		// A tenth is for inspectors, and of the rest 40 % vests.
		if got := n.balance(account(i)); got != 540_000 {
			t.Fatalf("provider %d has %d at once", i, got)
		}
	}
	if pool := n.row().Pool; pool != 200_000 {
		t.Fatalf("a pool of %d", pool)
	}
	issued := must[totals](t)(decodeTotals(n.state[string(totalsKey)]))
	vesting := func() voucher.Amount { return n.balance(moneyKey(VestingAccount(network))) }
	scores := [2]uint32{}
	for vesting() > 0 {
		for i := range scores {
			scores[i] = n.standing(i).Score
		}
		n.epoch()
	}
	burnt := voucher.Amount(0)
	for i, score := range scores {
		paid, _ := evidence.Release(360_000, score)
		// The block that released it may have judged once more.
		now, _ := evidence.Release(360_000, n.standing(i).Score)
		if got := uint64(n.balance(account(i)) - 540_000); got != paid && got != now {
			t.Errorf("provider %d of score %d got %d, want %d", i, score, got, paid)
		}
		burnt += 360_000 - (n.balance(account(i)) - 540_000)
	}
	if is := must[totals](t)(decodeTotals(n.state[string(totalsKey)])); is.redeemed-issued.redeemed != burnt || burnt < 360_000 {
		t.Errorf("burnt %d, redeemed %d", burnt, is.redeemed-issued.redeemed)
	}
	for range 3 {
		n.epoch()
	}
	pool := n.row().Pool
	if paid := n.balance(inspector(0)) - before; paid == 0 || pool+others()-all != 200_000 {
		t.Errorf("an inspector got %d, %d are left of 200000", paid, pool)
	}
}

// Bad reports are refused, each with its own code and without a trace.
func TestBadReports(t *testing.T) {
	n := inspectedNetwork(t, 3, 2)
	for range 3 {
		n.epoch()
	}
	n.post()
	e := n.row().Epoch
	frame, _, ok := n.frameAt(e)
	if !ok {
		t.Fatalf("epoch %d has no plans", e)
	}
	one, two := n.inspectors[0].account, n.inspectors[1].account
	good := n.report(frame, 0)
	commit := func(r *evidence.Reveal) CommitReport {
		return CommitReport{n.id(), e, evidence.CommitOf(network, one.Account(), r)}
	}
	reveal := func(r *evidence.Reveal) []byte {
		return payment(t, one, n.until(), RevealReport{n.id(), r.Append(nil)})
	}
	changed := func(f func(*evidence.Reveal)) *evidence.Reveal {
		r := *good
		r.Outcomes = append([]evidence.Outcome(nil), good.Outcomes...)
		f(&r)
		return &r
	}
	// Commits.
	n.refuse(payment(t, bob, n.until(), commit(good)), ErrNotInspector)
	n.refuse(payment(t, one, n.until(), CommitReport{n.id(), e + 1, evidence.Commit{1}}), ErrWrongEpoch)
	n.refuse(payment(t, one, n.until(), CommitReport{n.id(), e - 1, evidence.Commit{1}}), ErrNotInspector)
	n.refuse(payment(t, one, n.until(), CommitReport{n.id(), e + 9, evidence.Commit{1}}), ErrNoPlan)
	n.accept(payment(t, one, n.until(), commit(good)))
	n.accept(payment(t, one, n.until(), commit(good)))
	n.refuse(payment(t, one, n.until(), commit(changed(func(r *evidence.Reveal) { r.Salt[0]++ }))), ErrReportExists)
	// The same for what is bad in itself, by the second inspector.
	forged := n.report(frame, 1)
	bad := *forged
	bad.Proof[40] ^= 1
	n.accept(payment(t, two, n.until(), CommitReport{n.id(), e, evidence.CommitOf(network, two.Account(), &bad)}))
	three := n.inspectors[2].account
	wild := n.report(frame, 2)
	wild.Outcomes[0].Latency = 1 << 31
	n.accept(payment(t, three, n.until(), CommitReport{n.id(), e, evidence.CommitOf(network, three.Account(), wild)}))

	n.refuse(reveal(good), ErrWrongEpoch)
	n.next()
	n.refuse(reveal(good), ErrWrongEpoch) // in the grace
	n.head.Time += 15
	n.refuse(reveal(changed(func(r *evidence.Reveal) { r.Salt[0]++ })), ErrOtherReport)
	n.refuse(reveal(changed(func(r *evidence.Reveal) { r.Outcomes = r.Outcomes[1:] })), ErrUnplanned)
	n.refuse(payment(t, bob, n.until(), RevealReport{n.id(), good.Append(nil)}), ErrNotInspector)
	n.refuse(payment(t, two, n.until(), RevealReport{n.id(), bad.Append(nil)}), ErrVRFProof)
	n.refuse(payment(t, three, n.until(), RevealReport{n.id(), wild.Append(nil)}), ErrOutcome)
	n.refuse(payment(t, one, n.until(), CommitReport{n.id(), e, evidence.Commit{1}}), ErrWrongEpoch)
	n.refuse(payment(t, one, n.until(), Unstake{n.id(), 2 * voucher.Credit}), ErrNotStaked)
	before := maps.Clone(n.state)
	n.accept(payment(t, one, n.until(), Unstake{n.id(), 1}))
	n.refuse(reveal(good), ErrUnbonded)
	n.state = before
	n.accept(reveal(good))
	n.accept(reveal(good))
	n.refuse(reveal(changed(func(r *evidence.Reveal) { r.Salt[0]++ })), ErrReportExists)

	long := append(good.Append(nil), 0)
	for _, tt := range []struct {
		report []byte
		want   error
	}{{long, ErrTrailing}, {make([]byte, evidence.MaxReveal+1), ErrTooLarge}, {nil, ErrMalformed}} {
		if _, err := OpenTransaction(network, payment(t, one, n.until(), RevealReport{n.id(), tt.report})); err == nil || !errors.Is(err, tt.want) {
			t.Errorf("%d bytes: %v, want %v", len(tt.report), err, tt.want)
		}
	}
	// Admissions and others.
	a := evidence.Admission{Account: bob.Account(), Key: evidence.VRFKeyOf(bob), Operator: "x", Network: "y"}
	n.refuse(payment(t, bob, n.until(), AdmitInspector{n.id(), a.Append(nil)}), ErrUnbonded)
	a = evidence.Admission{Account: one.Account(), Key: evidence.VRFKeyOf(bob), Operator: "x", Network: "y"}
	n.refuse(payment(t, one, n.until(), AdmitInspector{n.id(), a.Append(nil)}), ErrInspectorExists)
	a.Key = evidence.VRFKey{1}
	if _, err := OpenTransaction(network, payment(t, one, n.until(), AdmitInspector{n.id(), a.Append(nil)})); !errors.Is(err, ErrVRFKey) {
		t.Errorf("a bad key: %v", err)
	}
	n.refuse(payment(t, bob, n.until(), ListProvider{n.id(), n.providers[0].Append(nil), false}), ErrNotBound)
	n.refuse(payment(t, bob, n.until(), WithdrawInspector{n.id()}), ErrNotInspector)
	n.refuse(payment(t, bob, n.until(), PostSeed{n.id(), e, evidence.VRFProof{}}), ErrNotAuthority)
	n.refuse(payment(t, authority, n.until(), PostSeed{n.id(), n.row().Epoch + 2, evidence.VRFProof{}}), ErrVRFProof)
	n.refuse(payment(t, authority, n.until(), PostSeed{n.id(), n.row().Epoch, evidence.VRFProof{}}), ErrWrongEpoch)
}

// Rows that are challenged and not shown are void and cost their inspector; who shows
// them loses nothing. A dead provider found alive convicts.
func TestChallengesAndCanaries(t *testing.T) {
	n := inspectedNetwork(t, 4, 2)
	n.dead[1] = true
	n.lies[0] = true // it finds the dead one alive
	e := n.row().Epoch + 3
	canary := evidence.Canary{Service: n.providers[1].Service, Node: n.providers[1].Node, From: e, To: e, Salt: [32]byte{7}}
	n.accept(payment(t, founder, n.until(), CommitCanary{n.id(), canary.Commit(network)}))
	for n.row().Epoch <= e+1 {
		n.epoch()
	}
	n.post()
	challenge := func(by, of int, row uint16) []byte {
		c := evidence.Challenge{Epoch: e, Inspector: n.inspectors[of].account.Account(), Row: row}
		return payment(t, n.inspectors[by].account, n.until(), ChallengeReport{n.id(), c.Append(nil)})
	}
	answer := func(of int, row int) []byte {
		a := evidence.AnswerTo(e, n.inspectors[of].account.Account(), n.inspectors[of].details[e], row)
		return payment(t, n.inspectors[of].account, n.until(), AnswerChallenge{n.id(), a.Append(nil)})
	}
	absent := -1 // a row whose provider did not answer needs no receipt
	for i, o := range n.reports[e][1].Outcomes {
		if o.Verdict == evidence.Absent {
			absent = i
		}
	}
	passed := 0
	for n.reports[e][1].Outcomes[passed].Verdict != evidence.Pass {
		passed++
	}
	n.refuse(answer(1, absent), ErrNotChallenged)
	n.accept(challenge(2, 1, uint16(passed)))
	n.refuse(challenge(2, 1, uint16(absent)), ErrTooManyChallenges)
	n.refuse(challenge(2, 1, 99), ErrUnplanned)
	n.refuse(answer(1, passed), ErrDetail) // it says nothing of when
	was := n.conductOf(1)
	n.refuse(payment(t, founder, n.until(), RevealCanary{n.id(), evidence.Canary{Service: files.Service(), From: e, To: e}.Append(nil)}), ErrNoCanary)
	n.accept(payment(t, founder, n.until(), RevealCanary{n.id(), canary.Append(nil)}))
	if c := n.conductOf(0); c.Faults&evidence.Invents == 0 {
		t.Errorf("who found a dead provider alive: %+v", c)
	}
	if c := n.conductOf(2); c.Faults != 0 {
		t.Errorf("who did not: %+v", c)
	}
	for n.row().Epoch <= e+5 {
		n.epoch()
	}
	if c := n.conductOf(1); c.Invention <= was.Invention {
		t.Errorf("what was not shown cost nothing: %+v, before %+v", c, was)
	}
	if c := n.conductOf(0); c.Until == 0 || c.Faults != 0 {
		t.Errorf("the liar is paid still: %+v", c)
	}
}

// A ledger that halts blames nobody, however long.
func TestHaltBlamesNobody(t *testing.T) {
	for _, epochs := range []int64{3, 36} {
		n := inspectedNetwork(t, 4, 2)
		for range 10 {
			n.epoch()
		}
		good := n.standing(0)
		n.head.Time += epochs*inspectedEpoch + 30
		n.block()
		for range 8 {
			n.epoch()
		}
		for i := range n.inspectors {
			if c := n.conductOf(i); c.Done != c.Planned || c.Faults != 0 {
				t.Errorf("%d epochs: inspector %d is blamed: %+v", epochs, i, c)
			}
		}
		if s := n.standing(0); s.Level != 0 || s.Score < good.Score || s.Last <= good.Last {
			t.Errorf("%d epochs: the provider is blamed, or looked at no more: %+v, before %+v", epochs, s, good)
		}
	}
}

// Who is silent while others report is found out; where all are, nobody is.
func TestSilence(t *testing.T) {
	n := inspectedNetwork(t, 3, 2)
	for range 5 {
		n.epoch()
	}
	n.silent = true
	for range 5 {
		n.epoch()
	}
	if c := n.conductOf(0); c.Done != c.Planned {
		t.Errorf("all were silent: %+v", c)
	}
}

// The same blocks make the same rows, and a golden epoch stays what it was.
func TestInspectionReplayed(t *testing.T) {
	n := inspectedNetwork(t, 4, 3)
	n.dead[2], n.lies[3] = true, true
	for i := range 12 {
		if n.epoch(); i == 4 {
			n.earnSome(0)
		}
	}
	state, _ := begun(t, n.genesis.Parameters, n.genesis.Balances...)
	for _, b := range n.blocks {
		b.Header.Transactions, b.Header.Network = bodyHash(b.Header.Version, b.Transactions), network
		txs := must[[]Transaction](t)(b.Open())
		_ = state.put(must[Outcome](t)(Apply(state, b.Header, txs)).Changes)
	}
	if len(state) != len(n.state) {
		t.Fatalf("%d rows, replayed %d", len(n.state), len(state))
	}
	for k, v := range n.state {
		if !bytes.Equal(state[k], v) {
			t.Errorf("%s differs", rowName([]byte(k)))
		}
	}
	const golden = "3faa69c75d4354ba465344d3b765de2731a169783026e18752c453e6fa4a0a62"
	if got := appendState(n.state); got != golden {
		t.Errorf("the epochs lead to %s, recorded %s: the rules changed", got, golden)
	}
	for k := range n.state {
		if rowName([]byte(k)) == fmt.Sprintf("%q", k) {
			t.Errorf("nobody has a name for row %q", k)
		}
	}
}
