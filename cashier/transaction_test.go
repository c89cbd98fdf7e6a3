package cashier

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// unhex reads annotated hex: what follows a # on a line is a note.
func unhex(t testing.TB, text string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenTransaction(t *testing.T) {
	tx := Transaction{Network: network, Sequence: 7, ValidUntil: 1_800_000_000, Operation: Offer{"files", bob.Account()}}
	b := must[[]byte](t)(tx.Sign(alice))
	want := unhex(t, `
		a4                          # envelope, a map of 4
		01 58 20                    # 1: signer, the account
		   076d40fa6cc04b9da4ab77c19a8a5d38a1266fcd6e483ace0be139af79af0441
		02 6b                       # 2: type "transaction"
		   7472616e73616374696f6e
		03 58 5c                    # 3: payload, 92 bytes
		   a5                       # a map of 5
		   01 58 20                 # 1: network
		      9064bd922b1c3cce4d52b9b6dcee1a5dbf82a814284cb27d43131f2c591e3b4f
		   02 07                    # 2: sequence 7
		   03 1a 6b49d200           # 3: valid until 1800000000
		   04 03                    # 4: kind 3, offer
		   05 58 2b                 # 5: operation, 43 bytes
		      a2                    # a map of 2
		      01 65 66696c6573      # 1: name "files"
		      02 58 20              # 2: to
		         552e9e2844a31d2d6284244f5689fd253fe804c0dbe05870b00496ac200c3541
		04 58 40                    # 4: signature
		   7562287291c296757e1952c8bd0683b1c92e01ae08b04a9aef2ee55e140252af
		   5af9d8da850e62cbf577f6a67eacd361eacada694d02daea97d46152d2769602
	`)
	if !bytes.Equal(b, want) {
		t.Fatalf("transaction\n%x, want\n%x", b, want)
	}
	got := must[Transaction](t)(OpenTransaction(network, b))
	tx.Account = alice.Account()
	if diff := cmp.Diff(tx, got, cmpopts.IgnoreUnexported(Transaction{})); diff != "" {
		t.Error(diff)
	}
	if id := "5cb19b6961091f08c23bc05ed973c9522bbe4120b699ffcc4e48335056f19ddd"; got.ID().String() != id {
		t.Errorf("ID %s, want %s", got.ID(), id)
	}
	if !bytes.Equal(got.Signed(), b) {
		t.Error("Signed is not what was received")
	}
}

// operations holds one operation of each kind, all good.
func operations(account identity.PrivateKey, sequence uint64) []Operation {
	consent := Consent(files, network, account.Account(), sequence, "files")
	return []Operation{
		Register{"files", files.Service(), consent, 0},
		Update{"files", files.Service(), consent},
		Offer{"files", bob.Account()},
		Offer{"files", identity.AccountID{}},
		Accept{"files", files.Service(), consent},
		Release{"files"},
		CommitName{Hash{1}},
		RevealName{"files", Salt{2}, files.Service(), consent, year},
		RenewName{"files", MinTerm},
		RenewName{"files", 0},
		RotateKey{bob.Account(), KeyProof(bob, network, account.Account(), account.Account(), sequence)},
		SetRecovery{bob.Account()},
		SetRecovery{},
		Recover{bob.Account(), founder.Account(), KeyProof(founder, network, bob.Account(), account.Account(), sequence)},
		CancelRecovery{},
		Bind{Node: bob.Node(), NodeProof: BindProof(bob, network, account.Account(), sequence, bob.Node(), identity.ServiceID{})},
		Bind{
			Node: bob.Node(), Service: files.Service(),
			NodeProof:    BindProof(bob, network, account.Account(), sequence, bob.Node(), files.Service()),
			ServiceProof: BindProof(files, network, account.Account(), sequence, bob.Node(), files.Service()),
		},
		Bind{Node: bob.Node(), Remove: true},
	}
}

func TestEveryOperationSurvives(t *testing.T) {
	for _, op := range append(operations(alice, 3), SetParameters{Parameters{MaxNames: 9}}) {
		signer := alice
		if op.Kind() == KindSetParameters {
			signer = founder
		}
		b := sealed(t, signer, 3, op)
		got := must[Transaction](t)(OpenTransaction(network, b))
		if !reflect.DeepEqual(got.Operation, op) || got.Account != signer.Account() {
			t.Errorf("%s: %+v, want %+v", op.Kind(), got, op)
		}
		for i := range b {
			if _, err := OpenTransaction(network, b[:i]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s cut at %d: %v", op.Kind(), i, err)
			}
			flipped := bytes.Clone(b)
			flipped[i] ^= 1 << (i % 8)
			if _, err := OpenTransaction(network, flipped); err == nil {
				t.Errorf("%s: byte %d flipped, and nobody noticed", op.Kind(), i)
			}
		}
		if _, err := OpenTransaction(network, append(b, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s with a trailing byte: %v", op.Kind(), err)
		}
	}
}

func TestOpenTransactionRefuses(t *testing.T) {
	consent := Consent(files, network, alice.Account(), 1, "files")
	sign := func(p payload) []byte {
		return must[[]byte](t)(alice.Seal(domain, typeTransaction, mustEncode(p)))
	}
	operation := func(op Operation) []byte { return sealed(t, alice, 1, op) }
	for _, tt := range []struct {
		name string
		b    []byte
		want Code
	}{
		{"empty", nil, Malformed},
		{"too large", make([]byte, MaxTransaction+1), TooLarge},
		{"another network", must[[]byte](t)(Transaction{Network: bob.Network(), Sequence: 1, Operation: Release{"files"}}.Sign(alice)), WrongNetwork},
		{"another type", must[[]byte](t)(alice.Seal(domain, "else", nil)), Malformed},
		{"another domain", must[[]byte](t)(alice.Seal("else", typeTransaction, mustEncode(payload{Network: network, Kind: KindRelease, Operation: mustEncode(Release{"files"})}))), BadSignature},
		{"unknown kind", sign(payload{Network: network, Sequence: 1, Kind: 99}), UnknownOperation},
		{"kind 0", sign(payload{Network: network, Sequence: 1}), UnknownOperation},
		{"operation of another kind", sign(payload{Network: network, Kind: KindRelease, Operation: mustEncode(Offer{"files", bob.Account()})}), Malformed},
		{"byte after the operation", sign(payload{Network: network, Kind: KindRelease, Operation: append(mustEncode(Release{"files"}), 0)}), TrailingBytes},
		{"negative time", sign(payload{Network: network, ValidUntil: -1, Kind: KindRelease, Operation: mustEncode(Release{"files"})}), Malformed},
		{"a key that speaks for itself", sign(payload{Network: network, Kind: KindRelease, Operation: mustEncode(Release{"files"}), Account: alice.Account()}), Malformed},
		{"name too short", operation(Release{"ab"}), Malformed},
		{"name in capitals", operation(Release{"Files"}), Malformed},
		{"name with a dot", operation(Release{"files.top"}), Malformed},
		{"offered to itself", operation(Offer{"files", alice.Account()}), Malformed},
		{"no consent", operation(Register{"files", files.Service(), Signature{}, 0}), NoConsent},
		{"consent of another service", operation(Register{"files", mail.Service(), consent, 0}), NoConsent},
		{"consent to another name", operation(Register{"filez", files.Service(), consent, 0}), NoConsent},
		{"consent to another account", sealed(t, bob, 1, Register{"files", files.Service(), consent, 0}), NoConsent},
		{"consent to another transaction", sealed(t, alice, 2, Update{"files", files.Service(), consent}), NoConsent},
		{"consent for another network", operation(Accept{"files", files.Service(), Consent(files, bob.Network(), alice.Account(), 1, "files")}), NoConsent},
		{"parameters by somebody", operation(SetParameters{DefaultParameters()}), NotAllowed},
		{"parameters out of bounds", sealed(t, founder, 1, SetParameters{}), Malformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tx, err := OpenTransaction(network, tt.b)
			r, _ := errors.AsType[*Rejection](err)
			if r == nil || r.Code != tt.want || tx.id != (Hash{}) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// The signature is not part of the ID: signed again, it is the same transaction.
func TestTransactionID(t *testing.T) {
	a := must[Transaction](t)(OpenTransaction(network, registration(t, alice, files, 1, "files")))
	b := must[Transaction](t)(OpenTransaction(network, registration(t, alice, files, 1, "files")))
	c := must[Transaction](t)(OpenTransaction(network, registration(t, alice, files, 2, "files")))
	d := must[Transaction](t)(OpenTransaction(network, registration(t, bob, files, 1, "files")))
	if a.ID() != b.ID() || a.ID() == c.ID() || a.ID() == d.ID() || a.ID() == (Hash{}) {
		t.Errorf("IDs %s %s %s %s", a.ID(), b.ID(), c.ID(), d.ID())
	}
}

func TestSignBounds(t *testing.T) {
	if _, err := (Transaction{Network: network}).Sign(alice); !errors.Is(err, ErrMalformed) {
		t.Errorf("no operation: %v", err)
	}
	long := Release{name.Name(strings.Repeat("a", MaxTransaction))}
	if _, err := (Transaction{Network: network, Operation: long}).Sign(alice); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too long: %v", err)
	}
}

func FuzzOpenTransaction(f *testing.F) {
	for _, op := range payments() {
		f.Add(mustEncode(payload{Network: network, ValidUntil: 1_800_000_000, Kind: op.Kind(), Operation: mustEncode(op)}))
	}
	for _, op := range operations(alice, 1) {
		b := sealed(f, alice, 1, op)
		f.Add(b)
		var e identity.Envelope
		if err := identity.Unmarshal(b, &e); err != nil {
			f.Fatal(err)
		}
		f.Add(e.Payload)
	}
	f.Add(mustEncode(payload{Network: network, Sequence: 1, Kind: KindCancelRecovery, Operation: mustEncode(CancelRecovery{}), Account: bob.Account()}))
	f.Fuzz(func(t *testing.T, b []byte) {
		tx, err := OpenTransaction(network, b)
		if err == nil && (tx.id == (Hash{}) || tx.Operation == nil) {
			t.Errorf("%x opened as %+v", b, tx)
		}
		if r, ok := errors.AsType[*Rejection](err); err != nil && (!ok || r == nil) {
			t.Errorf("%x: not a rejection: %v", b, err)
		}
		// The same bytes as the payload of a transaction signed rightly.
		signed, err := alice.Seal(domain, typeTransaction, b)
		if err != nil || len(signed) > MaxTransaction {
			return
		}
		tx, err = OpenTransaction(network, signed)
		if err != nil {
			return
		}
		again, err := Transaction{Account: tx.Account, Network: tx.Network, Sequence: tx.Sequence, ValidUntil: tx.ValidUntil, Operation: tx.Operation}.Sign(alice)
		if err != nil || !bytes.Equal(again, signed) {
			t.Errorf("%x has a second encoding %x, %v", signed, again, err)
		}
	})
}
