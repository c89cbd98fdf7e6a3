package cashier

import (
	"testing"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// marketHistory submits a fixed history with every kind of operation of the market,
// and lets time pass so that lists fall due.
func marketHistory(t *testing.T, l *Ledger, now *time.Time) {
	t.Helper()
	n := uint64(1000)
	id := func() voucher.TransferID {
		n++
		return transferNumber(n)
	}
	send := func(signed []byte) { t.Helper(); must[Receipt](t)(l.Submit(t.Context(), signed)) }
	pay := func(who identity.PrivateKey, op Operation) {
		t.Helper()
		send(payment(t, who, now.Unix()+600, op))
	}
	send(sealed(t, founder, 3, SetParameters{Parameters{
		MaxNames: 9, SupplyCap: 1000 * voucher.Credit, TransferFee: 1, Treasury: key(9).Account(),
		SettlementFee: 20_000, CloseGrace: 60, VestingShare: 250_000, VestingEpochs: 1, EpochSeconds: 40, MinDeposit: 5,
		RentThree: 300, RentFour: 200, Rent: 100, RevealDelay: 5, RevealDelayBlocks: 1, CommitDeposit: 50, Unbonding: 3600,
	}}))

	pay(bob, posting(1000, testAsk(epoch, 1)))
	var ids []voucher.ChannelID
	for range 5 {
		op := OpenChannel{
			ID: id(), Provider: bob.Account(), Node: node.Node(), Service: files.Service(), Ask: testAsk(epoch, 1).ID(),
			Session: session.Public(), Deposit: 1000, Expires: epoch.Unix() + 200,
		}
		ids = append(ids, op.Channel(network, alice.Account()))
		pay(alice, op)
	}
	pay(alice, TopUpChannel{id(), ids[0], 500, epoch.Unix() + 300})
	pay(key(8), SettleChannel{id(), promise(ids[0], 1, 1200).Append(nil)})
	pay(bob, SettleBatch{id(), bob.Account(), promise(voucher.ChannelID{1}, 1, 1).Append(promise(ids[2], 2, 77).Append(promise(ids[1], 1, 333).Append(nil)))})
	pay(alice, CloseChannel{id(), ids[1], 400, bob.Account(), CloseConsent(bob, network, ids[1], 400)})
	pay(alice, RequestClose{id(), ids[2]})
	pay(bob, Refute{id(), promise(ids[2], 3, 100).Append(nil)})
	pay(alice, RequestClose{id(), ids[3]})
	next := testAsk(epoch, 2, func(a *voucher.Ask) { a.ValidFrom, a.ValidTo = now.Unix()+40, now.Unix()+100 })
	pay(bob, posting(999, next))

	salt := Salt{7}
	send(sealed(t, alice, 20, CommitName{CommitHash(network, alice.Account(), "hidden", salt)}))
	pay(bob, Stake{id(), 5000})
	pay(bob, Unstake{id(), 2000})
	for range 2 {
		*now = now.Add(30 * time.Second)
		pay(alice, Transfer{id(), []Move{{Kind: MovePay, To: key(8).Account(), Amount: 1}}})
	}
	send(sealed(t, alice, 21, RevealName{Name: "hidden", Salt: salt, Service: files.Service(), Consent: Consent(files, network, alice.Account(), 21, "hidden"), Term: 28 * 86_400}))
	send(sealed(t, alice, 22, RenewName{Name: "hidden", Term: 365 * 86_400}))
	send(sealed(t, bob, 20, Bind{
		Node: node.Node(), Service: files.Service(),
		NodeProof:    BindProof(node, network, bob.Account(), 20, node.Node(), files.Service()),
		ServiceProof: BindProof(files, network, bob.Account(), 20, node.Node(), files.Service()),
	}))
	send(sealed(t, alice, 23, SetRecovery{bob.Account()}))
	send(sealed(t, bob, 21, Recover{alice.Account(), key(50).Account(), KeyProof(key(50), network, alice.Account(), bob.Account(), 21)}))
	send(sealed(t, alice, 24, CancelRecovery{}))
	send(sealed(t, alice, 25, RotateKey{key(51).Account(), KeyProof(key(51), network, alice.Account(), alice.Account(), 25)}))
	pay(bob, PostAsk{ID: id(), Ask: next.Append(nil), Withdraw: true})
	for range 4 {
		*now = now.Add(45 * time.Second)
		pay(bob, Transfer{id(), []Move{{Kind: MovePay, To: key(8).Account(), Amount: 1}}})
	}
	*now = now.Add(time.Hour) // a halt
	pay(bob, Transfer{id(), []Move{{Kind: MovePay, To: key(8).Account(), Amount: 1}}})
	*now = now.Add(30 * time.Second)
	pay(bob, Transfer{id(), []Move{{Kind: MovePay, To: key(8).Account(), Amount: 1}}})
	// What a store of these rules should hold besides what fell due.
	if _, err := l.Channel(t.Context(), ids[0]); err != nil {
		t.Error(err)
	}
	if _, err := l.Channel(t.Context(), ids[1]); err == nil {
		t.Error("a channel that expired is still there")
	}
}
