package voucher

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"scn.alt/scn/routing/identity"
)

var testNetwork = testKey(1).Network()

func testKey(n byte) identity.PrivateKey { return identity.NewKeyFromSeed([32]byte{n}) }

func testAsk() Ask {
	return Ask{
		Service: testKey(2).Service(), Node: testKey(3).Node(), Account: testKey(4).Account(),
		Price: Price{500_000, 20_000}, LossAllowance: 30_000, MaxWindow: 1 << 20,
		ValidFrom: 1_000, ValidTo: 2_000, Sequence: 7,
	}
}

func testVoucher() Voucher {
	v := Voucher{
		Channel: ChannelID{0xc0, 0xde}, Sequence: 3, Amount: 1_500_000, Bytes: 1 << 31,
		Milliseconds: 90_000, Binding: [32]byte{0xb1},
	}
	v.Sign(testKey(5), testNetwork)
	return v
}

func testReceipt() Receipt {
	r := Receipt{
		Service: testKey(2).Service(), Nonce: [32]byte{0x17}, Sequence: 9, Sent: 200_000_000,
		Received: 4_096, Duration: 61_000, Final: true,
	}
	r.Sign(testKey(3), testNetwork)
	return r
}

func testGrant() Grant {
	g := Grant{Node: testKey(3).Node(), Account: testKey(4).Account(), NotAfter: 9_000}
	g.Sign(testKey(2), testNetwork)
	return g
}

// values are one of each kind: its encoding, how it is read, and whether what was
// read has a good signature.
func values() map[string]struct {
	b     []byte
	parse func([]byte) (again []byte, good bool, err error)
} {
	ask, askSignature := testAsk(), testAsk().Sign(testKey(3), testNetwork)
	return map[string]struct {
		b     []byte
		parse func([]byte) ([]byte, bool, error)
	}{
		"ask": {ask.Append(nil), func(b []byte) ([]byte, bool, error) {
			a, err := ParseAsk(b)
			return a.Append(nil), a.Verify(testNetwork, askSignature), err
		}},
		"grant": {testGrant().Append(nil), func(b []byte) ([]byte, bool, error) {
			g, err := ParseGrant(b)
			return g.Append(nil), g.Verify(testNetwork), err
		}},
		"voucher": {testVoucher().Append(nil), func(b []byte) ([]byte, bool, error) {
			v, err := ParseVoucher(b)
			return v.Append(nil), v.Verify(SessionKey(testKey(5).Public()), testNetwork), err
		}},
		"signed voucher": {Signed{SessionKey(testKey(5).Public()), testVoucher()}.Append(nil), func(b []byte) ([]byte, bool, error) {
			s, err := ParseSigned(b)
			return s.Append(nil), s.Verify(testNetwork), err
		}},
		"receipt": {testReceipt().Append(nil), func(b []byte) ([]byte, bool, error) {
			r, err := ParseReceipt(b)
			return r.Append(nil), r.Verify(testNetwork), err
		}},
	}
}

func TestEncodings(t *testing.T) {
	for name, v := range values() {
		again, good, err := v.parse(v.b)
		if err != nil || !good || !bytes.Equal(again, v.b) {
			t.Errorf("%s: %v, signature %v, encoded again %x", name, err, good, again)
		}
		for n := range v.b {
			if _, _, err := v.parse(v.b[:n]); !errors.Is(err, ErrLength) || errors.Is(err, ErrTrailing) {
				t.Errorf("%s: first %d bytes: %v", name, n, err)
			}
		}
		if _, _, err := v.parse(append(slices.Clone(v.b), 0)); !errors.Is(err, ErrTrailing) {
			t.Errorf("%s: a byte more: %v", name, err)
		}
		// Whatever bit changes, what is read is refused or has no good signature.
		for bit := range 8 * len(v.b) {
			bad := slices.Clone(v.b)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, good, err := v.parse(bad); err == nil && good {
				t.Fatalf("%s: with bit %d changed it is still good", name, bit)
			}
		}
	}
}

func TestEncodingVersion(t *testing.T) {
	for name, v := range values() {
		at := 0
		if name == "signed voucher" {
			at = identity.Size
		}
		b := slices.Clone(v.b)
		b[at] = 2
		if _, _, err := v.parse(b); !errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The bytes of a voucher, so that no change of them goes unnoticed: they are signed,
// and lie in ledgers.
func TestGoldenVoucher(t *testing.T) {
	want := strings.Join([]string{
		"01",                              // version
		"c0de" + strings.Repeat("00", 30), // channel
		"0000000000000003",                // sequence
		"000000000016e360",                // amount: 1.5 credits
		"0000000080000000",                // bytes
		"0000000000015f90",                // milliseconds
		"b1" + strings.Repeat("00", 31),   // binding
	}, "")
	v := testVoucher()
	if got := hex.EncodeToString(v.appendBody(nil)); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := len(v.Append(nil)); got != VoucherSize {
		t.Errorf("%d bytes", got)
	}
	if len(testReceipt().Append(nil)) != ReceiptSize || len(testAsk().Append(nil)) != AskSize || len(testGrant().Append(nil)) != GrantSize {
		t.Error("a size is not what is written")
	}
}

func TestVoucherOfAnotherNetworkOrKey(t *testing.T) {
	v, session := testVoucher(), SessionKey(testKey(5).Public())
	if v.Verify(session, testKey(9).Network()) {
		t.Error("a voucher is good on another network")
	}
	if v.Verify(SessionKey(testKey(6).Public()), testNetwork) {
		t.Error("a voucher is good under another key")
	}
	if r := testReceipt(); r.Verify(testKey(9).Network()) {
		t.Error("a receipt is good on another network")
	}
	if g := testGrant(); g.Verify(testKey(9).Network()) || !g.Covers(testAsk()) {
		t.Error("a grant is good on another network, or covers nothing")
	}
	a := testAsk()
	a.Account = testKey(8).Account()
	if testGrant().Covers(a) {
		t.Error("a grant covers an ask that pays somebody else")
	}
}

func TestVerifyAll(t *testing.T) {
	var vouchers []Signed
	for i := range 70 {
		session := testKey(byte(i))
		v := Voucher{Channel: ChannelID{byte(i)}, Sequence: 1, Amount: Amount(i)}
		v.Sign(session, testNetwork)
		vouchers = append(vouchers, Signed{SessionKey(session.Public()), v})
	}
	if all, _ := VerifyAll(testNetwork, vouchers); !all {
		t.Error("good vouchers are refused together")
	}
	if all, _ := VerifyAll(testNetwork, nil); !all {
		t.Error("no vouchers are refused")
	}
	vouchers[17].Voucher.Amount++
	all, each := VerifyAll(testNetwork, vouchers)
	if all || len(each) != len(vouchers) {
		t.Fatal("a changed voucher goes through")
	}
	for i, good := range each {
		if good != (i != 17) || good != vouchers[i].Verify(testNetwork) {
			t.Errorf("voucher %d: %v", i, good)
		}
	}
}

func TestAskValidate(t *testing.T) {
	if err := testAsk().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Ask){
		"no service":         func(a *Ask) { a.Service = identity.ServiceID{} },
		"no node":            func(a *Ask) { a.Node = identity.NodeID{} },
		"no account":         func(a *Ask) { a.Account = identity.AccountID{} },
		"loss beyond all":    func(a *Ask) { a.LossAllowance = MaxLossAllowance + 1 },
		"tiny window":        func(a *Ask) { a.MaxWindow = 1 },
		"ends before begins": func(a *Ask) { a.ValidTo = a.ValidFrom - 1 },
		"never ends":         func(a *Ask) { a.ValidTo = 0 },
		"begins before time": func(a *Ask) { a.ValidFrom = -1 },
		"no sequence":        func(a *Ask) { a.Sequence = 0 },
	} {
		a := testAsk()
		change(&a)
		if err := a.Validate(); !errors.Is(err, ErrValue) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ParseAsk(a.Append(nil)); !errors.Is(err, ErrValue) {
			t.Errorf("%s, encoded: %v", name, err)
		}
		if a.ID() == testAsk().ID() {
			t.Errorf("%s: another ask of the same ID", name)
		}
	}
}

func TestChannelID(t *testing.T) {
	o := Opening{
		testNetwork, testKey(6).Account(), testKey(4).Account(), testKey(3).Node(), testKey(2).Service(),
		SessionKey(testKey(5).Public()),
		TransferID{1},
	}
	id := o.ID()
	for name, change := range map[string]func(*Opening){
		"network": func(o *Opening) { o.Network[0]++ }, "client": func(o *Opening) { o.Client[0]++ },
		"provider": func(o *Opening) { o.Provider[0]++ }, "node": func(o *Opening) { o.Node[0]++ },
		"service": func(o *Opening) { o.Service[0]++ }, "session": func(o *Opening) { o.Session[0]++ },
		"nonce":             func(o *Opening) { o.Nonce[0]++ },
		"parties exchanged": func(o *Opening) { o.Client, o.Provider = o.Provider, o.Client },
	} {
		other := o
		change(&other)
		if other.ID() == id {
			t.Errorf("another %s, and the same ID", name)
		}
	}
	var back ChannelID
	if err := back.UnmarshalText([]byte(id.String())); err != nil || back != id || id.IsZero() || !strings.HasPrefix(id.String(), id.Short()) {
		t.Errorf("%s, %v", back, err)
	}
	for _, text := range []string{"", "00", strings.ToUpper("a" + id.String()[1:]), id.String() + "0", strings.Repeat("g", 64)} {
		if _, err := ParseChannelID(text); !errors.Is(err, ErrChannelID) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestVoucherAllocations(t *testing.T) {
	v, b := testVoucher(), make([]byte, 0, VoucherSize)
	if n := testing.AllocsPerRun(100, func() {
		again, err := ParseVoucher(v.Append(b[:0]))
		if err != nil || again != v {
			t.Error("not what was written")
		}
	}); n != 0 {
		t.Errorf("%v allocations to write and read a voucher", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range values() {
		f.Add(v.b)
		f.Add(v.b[:len(v.b)-1])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, v := range values() {
			if again, _, err := v.parse(b); err == nil && !bytes.Equal(again, b) {
				t.Errorf("%s: %x became %x", name, b, again)
			}
		}
	})
}

func FuzzParseChannelID(f *testing.F) {
	f.Add(strings.Repeat("0a", 32))
	f.Add("0a")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseChannelID(s); err == nil && id.String() != s {
			t.Errorf("%q became %s", s, id)
		}
	})
}
