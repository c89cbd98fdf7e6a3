package cashier

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// payments holds one operation of each kind about money, all good for alice.
func payments() []Operation {
	return []Operation{
		Issue{transferNumber(1), bob.Account(), 5},
		Redeem{transferNumber(1), 5},
		Stake{transferNumber(1), 5},
		Unstake{transferNumber(1), 5},
		OpenChannel{transferNumber(1), bob.Account(), node.Node(), files.Service(), voucher.AskID{1}, session.Public(), 5, 1_900_000_000},
		TopUpChannel{transferNumber(1), voucher.ChannelID{1}, 5, 1_900_000_000},
		SettleChannel{transferNumber(1), promise(voucher.ChannelID{1}, 1, 5).Append(nil)},
		SettleBatch{transferNumber(1), bob.Account(), promise(voucher.ChannelID{2}, 2, 6).Append(promise(voucher.ChannelID{1}, 1, 5).Append(nil))},
		CloseChannel{transferNumber(1), voucher.ChannelID{1}, 5, bob.Account(), CloseConsent(bob, network, voucher.ChannelID{1}, 5)},
		RequestClose{transferNumber(1), voucher.ChannelID{1}},
		Refute{transferNumber(1), promise(voucher.ChannelID{1}, 1, 5).Append(nil)},
		alicesAsk(),
		AdmitInspector{transferNumber(1), evidence.Admission{Account: alice.Account(), Key: evidence.VRFKeyOf(bob), Operator: "one", Network: "as1"}.Append(nil)},
		WithdrawInspector{transferNumber(1)},
		ListProvider{transferNumber(1), evidence.Provider{Service: files.Service(), Node: node.Node()}.Append(nil), true},
		CommitReport{transferNumber(1), 7, evidence.Commit{1}},
		RevealReport{transferNumber(1), (&evidence.Reveal{Epoch: 7, Outcomes: []evidence.Outcome{{Verdict: evidence.Absent}}}).Append(nil)},
		ChallengeReport{transferNumber(1), evidence.Challenge{Epoch: 7, Inspector: bob.Account(), Row: 3}.Append(nil)},
		AnswerChallenge{transferNumber(1), (&evidence.Answer{Epoch: 7, Inspector: alice.Account()}).Append(nil)},
		AdmitAuthority{transferNumber(1), evidence.VRFKeyOf(bob)},
		PostSeed{transferNumber(1), 9, evidence.VRFProof{1}},
		Transfer{transferNumber(1), []Move{{Kind: MovePay, To: bob.Account(), Amount: 5}}},
		Transfer{transferNumber(1), []Move{
			{Kind: MoveHold, To: bob.Account(), Amount: 5, Expires: 1_900_000_000},
			{Kind: MovePost, From: bob.Account(), ID: transferNumber(2), Index: 3, Amount: 1},
			{Kind: MoveVoid, From: bob.Account(), ID: transferNumber(2)},
		}},
	}
}

// alicesAsk is an ask as alice posts it.
func alicesAsk() PostAsk {
	return posting(1, testAsk(epoch, 1, func(a *voucher.Ask) { a.Account = alice.Account() }))
}

// The signed bytes of a payment, byte by byte.
func TestGoldenPayment(t *testing.T) {
	op := Transfer{transferNumber(7), []Move{{Kind: MovePay, To: identity.AccountID{0xaa}, Amount: 1_500_000}}}
	want := unhex(t, `
		a2                                  # a map of 2
		01 50                               # 1: ID, 16 bytes
		   00000000000000000000000000000007
		02 81                               # 2: one movement
		   a3                               #   a map of 3
		   01 01                            #   1: pay
		   02 58 20                         #   2: to
		      aa00000000000000000000000000000000000000000000000000000000000000
		   03 1a 0016e360                   #   3: amount, 1500000
	`)
	if got := mustEncode(op); !bytes.Equal(got, want) {
		t.Errorf("%x, want\n%x", got, want)
	}
}

func TestEveryPaymentSurvives(t *testing.T) {
	for _, op := range payments() {
		b := payment(t, alice, 1_800_000_000, op)
		got := must[Transaction](t)(OpenTransaction(network, b))
		if !reflect.DeepEqual(got.Operation, op) || got.Account != alice.Account() || got.content == [16]byte{} {
			t.Errorf("%s: %+v, want %+v", op.Kind(), got, op)
		}
		var txs [1]Transaction
		for i := range b {
			if _, err := OpenTransaction(network, b[:i]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s cut at %d: %v", op.Kind(), i, err)
			}
			flipped := bytes.Clone(b)
			flipped[i] ^= 1 << (i % 8)
			if _, err := OpenTransaction(network, flipped); err == nil {
				t.Errorf("%s: byte %d flipped, and nobody noticed", op.Kind(), i)
			}
			if openTransactions(network, [][]byte{flipped}, txs[:])[0] == nil || txs[0].id != (Hash{}) {
				t.Errorf("%s: byte %d flipped, and the batch did not notice", op.Kind(), i)
			}
		}
	}
}

// Rows decode to what they were encoded from, and nothing else decodes.
func FuzzDecodeRows(f *testing.F) {
	next := reference{holdRef, alice.Account(), transferNumber(9), 2}
	for _, b := range [][]byte{
		Counters{1, 2, 3, 4, false}.encode(), Counters{1, 2, 3, 4, true}.encode(),
		totals{debitsPosted: wide{1, 2}, creditsPosted: wide{1, 2}, issued: 7, accounts: 3}.encode(),
		queueRow{5, 6}.encode(),
		transferRow{content: [16]byte{1}, place: placeRow{3, 4}, next: next}.encode(),
		transferRow{}.encode(),
		holdRow{state: holdPending, to: bob.Account(), amount: 5, expires: 9, next: next}.encode(),
		next.append(nil),
		commitRow{hash: Hash{1}, deposit: 2, place: placeRow{3, 4}, time: 5, revealed: true, next: next}.encode(),
		leaseRow{name: "files", next: next}.encode(),
		stakeRow{1, 2, 3}.encode(),
		marketRow{1, 2, 3, 4, 5}.encode(),
		(&channelRow{client: alice.Account(), state: ChannelClosing, listed: true, deposit: 5, settled: 4, next: next, nextClosing: next}).append(nil),
		(&channelRow{state: ChannelOpen}).append(nil),
		(&askRow{current: testAsk(epoch, 1), withdrawn: true, sequence: 1, until: 2, following: next}).append(nil),
		(&askRow{next: testAsk(epoch, 1)}).append(nil),
		vestingRow{5, providerID{}, next}.append(nil),
		vestingRow{5, providerID{files.Service(), key(5).Node()}, next}.append(nil),
		unbondingRow{amount: 1, since: 2, due: 3, next: next}.encode(),
		appendUint64(nil, 7),
		{},
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(kind string, err error, again []byte) {
			switch {
			case err != nil && !errors.Is(err, ErrCorrupt):
				t.Errorf("%s: %v", kind, err)
			case err == nil && !bytes.Equal(again, b):
				t.Errorf("%s: %x has a second encoding %x", kind, b, again)
			}
		}
		c, err := decodeCounters(b)
		same("counters", err, c.encode())
		all, err := decodeTotals(b)
		same("totals", err, all.encode())
		q, err := decodeQueue(b)
		same("queue", err, q.encode())
		row, err := decodeTransfer(b)
		same("transfer", err, row.encode())
		h, err := decodeHold(b)
		same("hold", err, h.encode())
		m, err := decodeCommit(b)
		same("commit", err, m.encode())
		l, err := decodeLease(b)
		same("lease", err, l.encode())
		g, err := decodeStake(b)
		same("stake", err, g.encode())
		market, err := decodeMarket(b)
		same("market", err, market.encode())
		var ch channelRow
		same("channel", decodeChannel(b, &ch), ch.append(nil))
		ask, err := decodeAsk(b)
		same("ask", err, ask.append(nil))
		v, err := decodeVesting(b)
		same("vesting", err, v.append(nil))
		earned, err := decodeRevenue(b)
		same("revenue", err, earned.encode())
		u, err := decodeUnbonding(b)
		same("unbonding", err, u.encode())
		sum, err := decodeSum(b)
		same("sum", err, appendUint64(nil, uint64(sum)))
		if len(b) == referenceSize {
			r, err := decodeReference(b)
			same("reference", err, r.append(nil))
		}
	})
}

// A Genesis comes out of the network file's words and over the wire.
func FuzzGenesis(f *testing.F) {
	f.Add(mustEncode(NewGenesis(DefaultParameters())))
	f.Add(mustEncode(NewGenesis(DefaultParameters(), GenesisBalance{alice.Account(), 5}, GenesisBalance{bob.Account(), voucher.Credit})))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var g Genesis
		if identity.Unmarshal(b, &g) != nil {
			return
		}
		_, app, err := g.start(network)
		if (err == nil) != (g.Validate(network) == nil) {
			t.Errorf("%+v: %v, but Validate says %v", g, err, g.Validate(network))
		}
		if err == nil && app == (Hash{}) {
			t.Error("no app hash")
		}
	})
}
