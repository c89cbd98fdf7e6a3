package cashier

import (
	"testing"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// book is a ledger without an engine: blocks at any time, of any transactions.
type book struct {
	t        *testing.T
	state    memory
	app      Hash
	height   uint64
	time     int64
	sequence uint64
	rules    uint64
}

func newBook(t *testing.T, p Parameters, balances ...GenesisBalance) *book {
	t.Helper()
	state, app := begun(t, p, balances...)
	return &book{t: t, state: state, app: app, time: epoch.Unix(), rules: RulesVersion}
}

// block makes one block of signed transactions, and checks the sums after it.
func (b *book) block(signed ...[]byte) []Result {
	b.t.Helper()
	txs := make([]Transaction, len(signed))
	for i := range signed {
		txs[i] = must[Transaction](b.t)(OpenTransaction(network, signed[i]))
	}
	b.height++
	out := must[Outcome](b.t)(Apply(b.state, Header{Version: b.rules, Network: network, Height: b.height, Time: b.time, AppHash: b.app}, txs))
	_ = b.state.put(out.Changes)
	return out.Results
}

// pass lets time pass, and makes blocks until all that fell due is done.
func (b *book) pass(seconds int64) {
	b.t.Helper()
	b.time += seconds
	for {
		b.block()
		queue := must[queueRow](b.t)(decodeQueue(b.state[string(queueKey)]))
		if queue.entries == 0 || queue.bucket >= uint64(b.time)>>dueShift {
			return
		}
	}
}

// next returns a sequence number nobody used.
func (b *book) next() uint64 {
	b.sequence++
	return b.sequence
}

// do makes a block of one transaction, of the next sequence number or, if it is about
// money, with an ID, and returns what became of it.
func (b *book) do(who identity.PrivateKey, build func(sequence uint64) Operation) *Rejection {
	b.t.Helper()
	signed := b.sign(who, build)
	if _, err := OpenTransaction(network, signed); err != nil {
		return asRejection(err)
	}
	return b.block(signed)[0].Rejection
}

func (b *book) sign(who identity.PrivateKey, build func(sequence uint64) Operation) []byte {
	b.t.Helper()
	tx := Transaction{Network: network, Sequence: b.next()}
	tx.Operation = build(tx.Sequence)
	if _, ok := tx.Operation.(identified); ok {
		tx.Sequence, tx.ValidUntil = 0, b.time+600
	}
	return must[[]byte](b.t)(tx.Sign(who))
}

// want fails unless the rejection has a code.
func (b *book) want(what string, got *Rejection, code Code) {
	b.t.Helper()
	if got == nil && code == Accepted || got != nil && got.Code == code {
		return
	}
	b.t.Errorf("%s: %v, want %s", what, got, code)
}

func (b *book) account(id identity.AccountID) Counters {
	b.t.Helper()
	return must[Counters](b.t)(readCounters(b.state, id))
}

func (b *book) name(n name.Name) (row nameRow, phase NamePhase) {
	b.t.Helper()
	must[bool](b.t)(read(b.state, nameKey(n), &row))
	ends := must[leases](b.t)(leasesOf(b.state))
	if row.Owner.IsZero() {
		return row, NameFree
	}
	return row, ends.phase(&row, b.time)
}

func committing(who identity.PrivateKey, n name.Name, salt byte) func(uint64) Operation {
	return func(uint64) Operation { return CommitName{CommitHash(network, who.Account(), n, Salt{salt})} }
}

func revealing(who, service identity.PrivateKey, n name.Name, salt byte, term int64) func(uint64) Operation {
	return func(seq uint64) Operation {
		return RevealName{n, Salt{salt}, service.Service(), Consent(service, network, who.Account(), seq, n), term}
	}
}

func registering(who, service identity.PrivateKey, n name.Name, term int64) func(uint64) Operation {
	return func(seq uint64) Operation {
		return Register{n, service.Service(), Consent(service, network, who.Account(), seq, n), term}
	}
}

func operation(op Operation) func(uint64) Operation { return func(uint64) Operation { return op } }
