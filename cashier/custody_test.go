package cashier

import (
	"errors"
	"math"
	"testing"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// A stake comes back when its unbonding time has passed, not before, and is all the
// while where the sums say.
func TestStakeUnbonds(t *testing.T) {
	b := newBook(t, DefaultParameters(), GenesisBalance{alice.Account(), 100})
	staked := func(amount voucher.Amount) func(uint64) Operation {
		return func(seq uint64) Operation { return Stake{transferNumber(seq), amount} }
	}
	unstaked := func(amount voucher.Amount) func(uint64) Operation {
		return func(seq uint64) Operation { return Unstake{transferNumber(seq), amount} }
	}
	b.want("more than there is", b.do(alice, staked(101)), InsufficientFunds)
	b.want("nothing", b.do(alice, staked(0)), ZeroAmount)
	b.want("nothing back", b.do(alice, unstaked(0)), ZeroAmount)
	b.want("everything there is", b.do(alice, staked(math.MaxUint64)), InsufficientFunds)
	b.want("stake", b.do(alice, staked(60)), Accepted)
	b.want("more than is staked", b.do(alice, unstaked(61)), NotStaked)
	b.want("of nobody", b.do(bob, unstaked(1)), NotStaked)
	b.want("unstake", b.do(alice, unstaked(25)), Accepted)
	b.want("the rest", b.do(alice, unstaked(36)), NotStaked)
	b.want("into the stake account", b.do(alice, func(seq uint64) Operation {
		return Transfer{transferNumber(seq), []Move{{Kind: MovePay, To: StakeAccount(network), Amount: 1}}}
	}), NotAllowed)
	b.want("reserved for it", b.do(alice, func(seq uint64) Operation {
		return Transfer{transferNumber(seq), []Move{{Kind: MoveHold, To: UnbondingAccount(network), Amount: 1, Expires: b.time + 9}}}
	}), NotAllowed)
	b.want("issued to it", b.do(founder, func(seq uint64) Operation { return Issue{transferNumber(seq), NamesAccount(network), 1} }), NotAllowed)
	p := DefaultParameters()
	p.Treasury = StakeAccount(network)
	b.want("as treasury", b.do(founder, operation(SetParameters{p})), NotAllowed)
	expect := func(free, staked, unbonding voucher.Amount) {
		t.Helper()
		for id, want := range map[identity.AccountID]voucher.Amount{
			alice.Account(): free, StakeAccount(network): staked, UnbondingAccount(network): unbonding,
		} {
			if got := b.account(id).Balance(); got != want {
				t.Errorf("%s has %d, want %d", id, got, want)
			}
		}
	}
	expect(40, 35, 25)
	since := b.time
	b.time += defaultUnbonding - 1
	b.block()
	expect(40, 35, 25)
	b.want("more of it", b.do(alice, unstaked(35)), Accepted)
	b.pass(since + defaultUnbonding + 32 - b.time)
	expect(65, 0, 35)
	b.pass(defaultUnbonding)
	expect(100, 0, 0)
	for key := range b.state {
		if key[0] == stakeRef {
			t.Errorf("left: %s", rowName([]byte(key)))
		}
	}
	b.want("stake", b.do(alice, staked(100)), Accepted)
	for range maxUnbondings {
		b.want("one of many", b.do(alice, unstaked(1)), Accepted)
	}
	b.want("too many at once", b.do(alice, unstaked(1)), TooManyUnbondings)
}

// A row that lies about a stake stops the ledger.
func TestStakeInvariant(t *testing.T) {
	b := newBook(t, DefaultParameters(), GenesisBalance{alice.Account(), 100})
	b.want("stake", b.do(alice, func(seq uint64) Operation { return Stake{transferNumber(seq), 50} }), Accepted)
	b.state[string(stakesKey)] = stakeRow{staked: 51}.encode()
	tx := must[Transaction](t)(OpenTransaction(network, b.sign(alice, func(seq uint64) Operation { return Stake{transferNumber(seq), 1} })))
	_, err := Apply(b.state, Header{Version: b.rules, Network: network, Height: 9, Time: b.time, AppHash: b.app}, []Transaction{tx})
	if e, ok := errors.AsType[*InvariantError](err); !ok || e.Rule != "a special account has what its rows add up to" {
		t.Errorf("got %v", err)
	}
}

// What was paid into a special account under older rules goes to the treasury before
// it could confuse the sums.
func TestSpecialAccountsBegin(t *testing.T) {
	b := newBook(t, DefaultParameters(), GenesisBalance{alice.Account(), 100})
	b.rules = rulesMoney
	b.want("paid", b.do(alice, func(seq uint64) Operation {
		return Transfer{transferNumber(seq), []Move{
			{Kind: MovePay, To: StakeAccount(network), Amount: 5}, {Kind: MoveHold, To: StakeAccount(network), Amount: 7, Expires: b.time + 600},
		}}
	}), Accepted)
	hold := transferNumber(b.sequence)
	b.rules = rulesMarket
	b.want("stake", b.do(alice, func(seq uint64) Operation { return Stake{transferNumber(seq), 10} }), Accepted)
	if got := b.account(founder.Account()).Balance(); got != 5 {
		t.Errorf("the treasury has %d", got)
	}
	b.want("what was reserved for it", b.do(alice, func(seq uint64) Operation {
		return Transfer{transferNumber(seq), []Move{{Kind: MovePost, From: alice.Account(), ID: hold, Index: 1, Amount: 7}}}
	}), NotAllowed)
	b.time += 700
	b.want("stake more", b.do(alice, func(seq uint64) Operation { return Stake{transferNumber(seq), 10} }), Accepted)
}

func rotation(to identity.PrivateKey, account identity.AccountID) func(uint64) Operation {
	return func(seq uint64) Operation {
		return RotateKey{to.Account(), KeyProof(to, network, account, account, seq)}
	}
}

// as signs for an account with another key.
func (b *book) as(account identity.AccountID, key identity.PrivateKey, build func(uint64) Operation) *Rejection {
	b.t.Helper()
	tx := Transaction{Account: account, Network: network, Sequence: b.next()}
	tx.Operation = build(tx.Sequence)
	if _, ok := tx.Operation.(identified); ok {
		tx.Sequence, tx.ValidUntil = 0, b.time+600
	}
	signed := must[[]byte](b.t)(tx.Sign(key))
	if _, err := OpenTransaction(network, signed); err != nil {
		return asRejection(err)
	}
	return b.block(signed)[0].Rejection
}

func pays(to identity.PrivateKey, amount voucher.Amount) func(uint64) Operation {
	return func(seq uint64) Operation {
		return Transfer{transferNumber(seq), []Move{{Kind: MovePay, To: to.Account(), Amount: amount}}}
	}
}

// An account keeps its ID, its names and its money when its key changes, and the old
// key is refused from then on.
func TestRotateKey(t *testing.T) {
	b := newBook(t, DefaultParameters(), GenesisBalance{alice.Account(), 100})
	fresh, other, id := key(70), key(71), alice.Account()
	b.want("name", b.do(alice, registering(alice, files, "files", 0)), Accepted)
	b.want("new key before it counts", b.as(id, fresh, pays(bob, 1)), WrongKey)
	b.want("without the new key", b.do(alice, operation(RotateKey{fresh.Account(), Signature{}})), NoProof)
	b.want("proof for another account", b.do(alice, rotation(fresh, bob.Account())), NoProof)
	b.want("to itself", b.do(alice, rotation(alice, id)), Malformed)
	b.want("by somebody else", b.as(id, bob, rotation(fresh, id)), WrongKey)
	again := b.sign(alice, pays(bob, 3))
	b.want("payment", b.block(again)[0].Rejection, Accepted)
	b.want("rotate", b.do(alice, rotation(fresh, id)), Accepted)
	if r := b.block(again)[0]; r.Rejection != nil || !r.Again {
		t.Errorf("submitted again after the key changed: %+v", r)
	}
	b.want("old key pays", b.do(alice, pays(bob, 1)), WrongKey)
	b.want("old key releases", b.do(alice, operation(Release{"files"})), WrongKey)
	b.want("old key rotates", b.do(alice, rotation(other, id)), WrongKey)
	b.want("new key pays", b.as(id, fresh, pays(bob, 1)), Accepted)
	b.want("new key offers", b.as(id, fresh, operation(Offer{"files", bob.Account()})), Accepted)
	b.want("new key on its own", b.do(fresh, pays(bob, 1)), InsufficientFunds)
	b.want("paid", b.do(bob, pays(alice, 2)), Accepted)
	if got := b.account(id); got.Balance() != 98 || !got.rotated {
		t.Errorf("alice has %+v", got)
	}
	b.want("rotate back", b.as(id, fresh, rotation(alice, id)), Accepted)
	b.want("the first key again", b.do(alice, pays(bob, 1)), Accepted)
	b.want("the second no more", b.as(id, fresh, pays(bob, 1)), WrongKey)

	// One that has no money has a key all the same.
	b.want("rotate a poor account", b.do(key(80), rotation(fresh, key(80).Account())), Accepted)
	b.want("old key", b.do(key(80), registering(key(80), files, "poor", 0)), WrongKey)
	b.want("new key", b.as(key(80).Account(), fresh, registering(key(80), files, "poor", 0)), Accepted)
	b.rules = rulesMoney
	b.want("under older rules", b.as(id, alice, pays(bob, 1)), Accepted) // its own key: no delegation
	b.want("a delegation under older rules", b.as(key(80).Account(), fresh, pays(bob, 1)), UnknownOperation)
}

// A lost key is replaced by the recovery account, after a delay in which the key may
// object.
func TestRecovery(t *testing.T) {
	b := newBook(t, DefaultParameters(), GenesisBalance{alice.Account(), 100}, GenesisBalance{bob.Account(), 100})
	id, fresh, carol := alice.Account(), key(70), key(7)
	recovering := func(to identity.PrivateKey) func(uint64) Operation {
		return func(seq uint64) Operation {
			return Recover{id, to.Account(), KeyProof(to, network, id, bob.Account(), seq)}
		}
	}
	b.want("nobody may", b.do(bob, recovering(fresh)), NotRecovery)
	b.want("none under way", b.do(alice, operation(CancelRecovery{})), NoRecovery)
	b.want("itself", b.do(alice, operation(SetRecovery{id})), Malformed)
	b.want("recovery account", b.do(alice, operation(SetRecovery{bob.Account()})), Accepted)
	b.want("another account", b.do(carol, func(seq uint64) Operation {
		return Recover{id, fresh.Account(), KeyProof(fresh, network, id, carol.Account(), seq)}
	}), NotRecovery)
	b.want("without proof", b.do(bob, operation(Recover{id, fresh.Account(), Signature{}})), NoProof)
	b.want("recover", b.do(bob, recovering(fresh)), Accepted)
	b.want("twice", b.do(bob, recovering(key(71))), RecoveryPending)
	b.want("change of the recovery account", b.do(alice, operation(SetRecovery{carol.Account()})), RecoveryPending)
	b.want("new key too early", b.as(id, fresh, pays(bob, 1)), WrongKey)
	b.want("the key objects", b.do(alice, operation(CancelRecovery{})), Accepted)
	since := b.time
	b.want("again", b.do(bob, recovering(key(71))), Accepted)
	b.time += defaultRecovery - 1
	b.block()
	b.want("the key still signs", b.do(alice, pays(bob, 1)), Accepted)
	b.pass(since + defaultRecovery + 32 - b.time)
	b.want("old key", b.do(alice, pays(bob, 1)), WrongKey)
	b.want("cancelled key", b.as(id, fresh, pays(bob, 1)), WrongKey)
	b.want("recovered key", b.as(id, key(71), pays(bob, 1)), Accepted)
	b.want("cancel too late", b.as(id, key(71), operation(CancelRecovery{})), NoRecovery)
	b.want("no recovery account any more", b.as(id, key(71), operation(SetRecovery{})), Accepted)
	b.want("so nobody may", b.do(bob, recovering(fresh)), NotRecovery)
	for key := range b.state {
		if key[0] == keysRef && len(key) > 1+identity.Size {
			t.Errorf("left: %s", rowName([]byte(key)))
		}
	}
}

func TestBind(t *testing.T) {
	b := newBook(t, DefaultParameters())
	node, service := key(50), key(51)
	binding := func(who identity.PrivateKey, service *identity.PrivateKey) func(uint64) Operation {
		return func(seq uint64) Operation {
			op := Bind{Node: node.Node()}
			if service != nil {
				op.Service = service.Service()
				op.ServiceProof = BindProof(*service, network, who.Account(), seq, op.Node, op.Service)
			}
			op.NodeProof = BindProof(node, network, who.Account(), seq, op.Node, op.Service)
			return op
		}
	}
	b.want("account and node", b.do(alice, binding(alice, nil)), Accepted)
	b.want("with a service", b.do(alice, binding(alice, &service)), Accepted)
	b.want("another account's proofs", b.do(bob, binding(alice, &service)), NoProof)
	b.want("no node", b.do(alice, operation(Bind{})), Malformed)
	b.want("no proofs", b.do(alice, operation(Bind{Node: node.Node()})), NoProof)
	b.want("the node's proof alone", b.do(alice, func(seq uint64) Operation {
		op := Bind{Node: node.Node(), Service: service.Service()}
		op.NodeProof = BindProof(node, network, alice.Account(), seq, op.Node, op.Service)
		return op
	}), NoProof)
	b.want("another's removed", b.do(bob, operation(Bind{Node: node.Node(), Remove: true})), NotBound)
	b.want("one that is not", b.do(alice, operation(Bind{Node: key(60).Node(), Remove: true})), NotBound)
	b.want("bound anew", b.do(bob, binding(bob, nil)), Accepted)
	b.want("no longer the first one's", b.do(alice, operation(Bind{Node: node.Node(), Remove: true})), NotBound)
	b.want("removed", b.do(bob, operation(Bind{Node: node.Node(), Remove: true})), Accepted)

	l := open(t)
	w := wallet(alice, l)
	must[Receipt](t)(w.Bind(t.Context(), node, &service))
	must[Receipt](t)(w.Bind(t.Context(), node, nil))
	must[Receipt](t)(wallet(bob, l).Bind(t.Context(), key(60), nil))
	for _, got := range []Bindings{
		must[Bindings](t)(l.Bindings(t.Context(), node.Node())), must[Bindings](t)(serve(t, l, ServerConfig{}).Bindings(t.Context(), node.Node())),
	} {
		if len(got.Bindings) != 2 || !got.Bindings[0].Service.IsZero() || got.Bindings[1].Service != service.Service() || got.Bindings[1].Account != alice.Account() {
			t.Errorf("%+v", got)
		}
	}
	must[Receipt](t)(w.Unbind(t.Context(), node.Node(), service.Service()))
	if got := must[Bindings](t)(l.Bindings(t.Context(), node.Node())); len(got.Bindings) != 1 {
		t.Errorf("%+v", got)
	}
	if err := l.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// What the wallet does of all this, over the wire, and what an account's answer says.
func TestWalletOfRotatedAccount(t *testing.T) {
	l := open(t, func(c *Config) { c.Balances = []GenesisBalance{{alice.Account(), 100}} })
	ctx, remote := t.Context(), serve(t, l, ServerConfig{})
	w, fresh := wallet(alice, remote), key(70)
	must[Receipt](t)(w.SetRecovery(ctx, bob.Account()))
	must[Receipt](t)(w.RotateKey(ctx, fresh))
	must[Receipt](t)(w.Stake(ctx, transferNumber(1), 40))
	must[Receipt](t)(NewWalletOf(alice.Account(), fresh, network, remote, nil).Unstake(ctx, transferNumber(2), 10))
	must[Receipt](t)(w.Register(ctx, "files", files))
	if _, err := wallet(alice, remote).Transfer(ctx, bob.Account(), 1); asRejection(err).Code != WrongKey {
		t.Errorf("old key: %v", err)
	}
	must[Receipt](t)(wallet(bob, remote).Recover(ctx, alice.Account(), key(71)))
	a := must[Account](t)(remote.Account(ctx, alice.Account()))
	if a.Key != fresh.Account() || a.Recovery != bob.Account() || a.NewKey != key(71).Account() || a.RecoveryDue-a.RecoverySince != defaultRecovery {
		t.Errorf("keys: %+v", a)
	}
	if a.Staked != 30 || len(a.Unbonding) != 1 || a.Unbonding[0].Amount != 10 || a.Unbonding[0].Due-a.Unbonding[0].Since != defaultUnbonding {
		t.Errorf("stake: %+v", a)
	}
	must[Receipt](t)(w.CancelRecovery(ctx))
	if err := l.Verify(ctx, nil); err != nil {
		t.Error(err)
	}
}
