package cashier

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// model is the ledger written down as plainly as possible: the machine beside it
// must always say the same.
type model struct {
	max      uint32
	accounts map[identity.AccountID]uint64 // last sequence
	names    map[name.Name]*modelName
	done     map[string]bool
	touched  map[name.Name]bool
	time     int64
}

type modelName struct {
	owner, offered identity.AccountID
	service        identity.ServiceID
}

func newModel(most uint32) *model {
	return &model{
		max: most, accounts: map[identity.AccountID]uint64{}, names: map[name.Name]*modelName{},
		done: map[string]bool{}, touched: map[name.Name]bool{},
	}
}

func (m *model) owns(a identity.AccountID) (n uint32) {
	for _, v := range m.names {
		if v.owner == a {
			n++
		}
	}
	return n
}

// execute returns the code, and whether the transaction was accepted before.
func (m *model) execute(tx Transaction) (Code, bool) {
	key := content(tx)
	if m.done[key] {
		return Accepted, true
	}
	if tx.ValidUntil != 0 && tx.ValidUntil < m.time {
		return Expired, false
	}
	if tx.Sequence <= m.accounts[tx.Account] {
		return StaleSequence, false
	}
	code := m.operate(tx)
	if code == Accepted {
		m.accounts[tx.Account] = tx.Sequence
		m.done[key] = true
		if n, ok := nameOf(tx.Operation); ok {
			m.touched[n] = true
		}
	}
	return code, false
}

func (m *model) operate(tx Transaction) Code {
	if op, ok := tx.Operation.(SetParameters); ok {
		m.max = op.Parameters.MaxNames
		return Accepted
	}
	n, _ := nameOf(tx.Operation)
	has := m.names[n]
	switch op := tx.Operation.(type) {
	case Register:
		switch {
		case has != nil:
			return NameTaken
		case m.touched[n]:
			return NameBusy
		case m.owns(tx.Account) >= m.max:
			return TooManyNames
		}
		m.names[n] = &modelName{owner: tx.Account, service: op.Service}
		return Accepted
	case Accept:
		switch {
		case has == nil:
			return NotRegistered
		case has.offered != tx.Account:
			return NotOffered
		case m.touched[n]:
			return NameBusy
		case m.owns(tx.Account) >= m.max:
			return TooManyNames
		}
		*has = modelName{owner: tx.Account, service: op.Service}
		return Accepted
	}
	switch {
	case has == nil:
		return NotRegistered
	case has.owner != tx.Account:
		return NotOwner
	case m.touched[n]:
		return NameBusy
	}
	switch op := tx.Operation.(type) {
	case Update:
		has.service, has.offered = op.Service, identity.AccountID{}
	case Offer:
		has.offered = op.To
	case Release:
		delete(m.names, n)
	}
	return Accepted
}

var (
	people   = []identity.PrivateKey{founder, alice, bob}
	services = []identity.PrivateKey{files, mail}
	labels   = []name.Name{"aaa", "bbb", "ccc", "ddd"}
)

// content is what makes two transactions the same.
func content(tx Transaction) string {
	return fmt.Sprintf("%s %d %d %T %v", tx.Account, tx.Sequence, tx.ValidUntil, tx.Operation, tx.Operation)
}

// anyTransaction draws a transaction as if it had been signed and opened: the
// machine looks at no signature, and making thousands would take the time.
func anyTransaction(t *rapid.T) Transaction {
	who := rapid.SampledFrom(people).Draw(t, "who")
	seq := rapid.Uint64Range(1, 60).Draw(t, "sequence")
	n := rapid.SampledFrom(labels).Draw(t, "name")
	service := rapid.SampledFrom(services).Draw(t, "service")
	var consent Signature
	tx := Transaction{Network: network, Sequence: seq}
	if rapid.IntRange(0, 5).Draw(t, "ends") == 0 {
		tx.ValidUntil = rapid.Int64Range(1, 12).Draw(t, "end")
	}
	switch rapid.SampledFrom([]Kind{
		KindRegister, KindRegister, KindUpdate, KindOffer, KindOffer, KindAccept, KindAccept, KindRelease, KindSetParameters,
	}).Draw(t, "kind") {
	case KindRegister:
		tx.Operation = Register{n, service.Service(), consent, 0}
	case KindUpdate:
		tx.Operation = Update{n, service.Service(), consent}
	case KindOffer:
		to := rapid.SampledFrom([]identity.AccountID{{}, founder.Account(), alice.Account(), bob.Account()}).Draw(t, "to")
		if to == who.Account() {
			to = identity.AccountID{}
		}
		tx.Operation = Offer{n, to}
	case KindAccept:
		tx.Operation = Accept{n, service.Service(), consent}
	case KindRelease:
		tx.Operation = Release{n}
	case KindSetParameters:
		who = founder
		tx.Operation = SetParameters{Parameters{MaxNames: rapid.Uint32Range(1, 3).Draw(t, "max")}}
	default:
		t.Fatal("not drawn: money has a model of its own")
	}
	tx.Account = who.Account()
	tx.signed = []byte(content(tx))
	tx.id = sha256.Sum256(tx.signed)
	return tx
}

func TestMachineAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const most = 2
		state, app := begun(t, Parameters{MaxNames: most})
		m := newModel(most)
		var past []Transaction
		for height := uint64(1); height <= 12; height++ {
			m.time = int64(height)
			m.touched = map[name.Name]bool{}
			txs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Transaction {
				if len(past) > 0 && rapid.IntRange(0, 3).Draw(t, "repeat") == 0 {
					return rapid.SampledFrom(past).Draw(t, "past")
				}
				return anyTransaction(t)
			}), 0, 12).Draw(t, "transactions")
			h := Header{Version: RulesVersion, Network: network, Height: height, Time: m.time, AppHash: app}
			out, err := Apply(state, h, txs)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Apply(state, h, txs)
			if err != nil || !reflect.DeepEqual(out, again) {
				t.Fatalf("applied twice, two outcomes: %v, %v, %v", out, again, err)
			}
			for i, tx := range txs {
				want, repeated := m.execute(tx)
				got := Accepted
				if r := out.Results[i].Rejection; r != nil {
					got = r.Code
				}
				if got != want || out.Results[i].Again != repeated {
					t.Fatalf("block %d, transaction %d, %s: %s (again: %v), want %s (%v)",
						height, i, content(tx), got, out.Results[i].Again, want, repeated)
				}
			}
			past = append(past, txs...)
			_ = state.put(out.Changes)
			compareWithModel(t, state, m)
		}
	})
}

// compareWithModel checks every row of the state against the model.
func compareWithModel(t *rapid.T, state memory, m *model) {
	owned := map[string]bool{}
	for n, v := range m.names {
		var row nameRow
		if ok, err := read(state, nameKey(n), &row); !ok || err != nil || row.Released ||
			row.Owner != v.owner || row.Service != v.service || row.Offered != v.offered {
			t.Fatalf("name %s: %+v, %v, want %+v", n, row, err, v)
		}
		owned[string(ownedKey(v.owner, n))] = true
	}
	for k := range state {
		switch k[0] {
		case 'n':
			var row nameRow
			if _, err := read(state, []byte(k), &row); err != nil || row.Released == (m.names[name.Name(k[1:])] != nil) {
				t.Fatalf("name %s: %+v, %v", k[1:], row, err)
			}
		case 'o':
			if !owned[k] {
				t.Fatalf("a name listed under an account that does not own it: %q", k)
			}
			delete(owned, k)
		case 'a':
			id := identity.AccountID([]byte(k[1:]))
			var row accountRow
			if _, err := read(state, []byte(k), &row); err != nil || row.Sequence != m.accounts[id] || row.Names != m.owns(id) {
				t.Fatalf("account %s: %+v, %v, want %d names", id, row, err, m.owns(id))
			}
		}
	}
	if len(owned) > 0 {
		t.Fatalf("names not listed: %v", owned)
	}
}

// Two changes of one name never share a height.
func TestNameChangesOnceInABlock(t *testing.T) {
	state, app := begun(t, DefaultParameters())
	var txs []Transaction
	for _, signed := range [][]byte{
		registration(t, alice, files, 1, "files"),
		sealed(t, alice, 2, Offer{"files", bob.Account()}),
		registration(t, alice, files, 3, "other"),
		sealed(t, bob, 1, Release{"files"}),
	} {
		txs = append(txs, must[Transaction](t)(OpenTransaction(network, signed)))
	}
	out, err := Apply(state, Header{Version: RulesVersion, Network: network, Height: 1, AppHash: app}, txs)
	if err != nil {
		t.Fatal(err)
	}
	var codes []Code
	for _, r := range out.Results {
		if r.Rejection == nil {
			codes = append(codes, Accepted)
		} else {
			codes = append(codes, r.Rejection.Code)
		}
	}
	if want := []Code{Accepted, NameBusy, Accepted, NotOwner}; !slices.Equal(codes, want) {
		t.Errorf("got %v, want %v", codes, want)
	}
}

func TestApplyRefusesWhatWasNotOpened(t *testing.T) {
	state, _ := begun(t, DefaultParameters())
	forged := Transaction{Network: network, Account: alice.Account(), Sequence: 1, Operation: Release{"files"}}
	if _, err := Apply(state, Header{Version: RulesVersion, Network: network, Height: 1}, []Transaction{forged}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a transaction nobody verified: %v", err)
	}
	if _, err := Apply(memory{}, Header{Version: RulesVersion, Network: network, Height: 1}, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a state without parameters: %v", err)
	}
	state["nfiles"] = []byte("garbage")
	tx := must[Transaction](t)(OpenTransaction(network, sealed(t, alice, 1, Release{"files"})))
	if _, err := Apply(state, Header{Version: RulesVersion, Network: network, Height: 1}, []Transaction{tx}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a broken row: %v", err)
	}
}
