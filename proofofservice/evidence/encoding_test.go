package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// codec is one encoding with its decoder.
type codec struct {
	name   string
	parse  func(b []byte) (again []byte, err error)
	sample []byte
}

func codecs(t testing.TB) []codec {
	t.Helper()
	r := rand.New(rand.NewPCG(9, 9))
	rules := Rules{}.WithDefaults()
	var view View
	for i := range 250 {
		view.Add(&rules, Fixed, Kind(i%Kinds), randomOutcome(r, Kind(i%Kinds)), uint64(i))
	}
	receipt := voucher.Receipt{Service: identity.ServiceID{1}, Nonce: [32]byte{2}, Sequence: 3, Sent: 4, Received: 5, Duration: 6, Final: true}
	receipt.Sign(identity.NewKeyFromSeed([32]byte{3}), identity.NetworkID{4})
	detail := Detail{Row: 7, Key: RowKey{8}, Start: 9, End: 10, Receipt: receipt, HasReceipt: true}
	bare := Detail{Row: 7, Key: RowKey{8}}
	reveal := Reveal{Epoch: 11, Proof: VRFProof{12}, Salt: [32]byte{13}, Root: Hash{14}, Outcomes: []Outcome{{Verdict: Pass, Latency: 5}, {Verdict: Void, Reason: Uplink}}}
	empty := Reveal{Epoch: 1}
	answer := Answer{Epoch: 15, Inspector: identity.AccountID{16}, Path: []Hash{{17}, {18}}, Detail: detail}
	admission := Admission{Account: identity.AccountID{19}, Key: VRFKeyOf(identity.NewKeyFromSeed([32]byte{20})), Operator: "acme", Network: "as64500"}
	return []codec{
		{"outcome", again(ParseOutcome), Outcome{Verdict: Pass, KiB: 1, Latency: 2, Rate: 3, Gap: 4}.Append(nil)},
		{"provider", again(ParseProvider), Provider{Service: identity.ServiceID{1}, Node: identity.NodeID{2}, Class: Mobile, Kinds: AllKinds, Rate: 3, Revenue: 4}.Append(nil)},
		{"admission", again(ParseAdmission), admission.Append(nil)},
		{"reveal", againPointer(ParseReveal), reveal.Append(nil)},
		{"reveal of nothing", againPointer(ParseReveal), empty.Append(nil)},
		{"detail", againPointer(ParseDetail), detail.Append(nil)},
		{"detail without receipt", againPointer(ParseDetail), bare.Append(nil)},
		{"challenge", again(ParseChallenge), Challenge{Epoch: 1, Inspector: identity.AccountID{2}, Row: 3}.Append(nil)},
		{"answer", againPointer(ParseAnswer), answer.Append(nil)},
		{"canary", again(ParseCanary), Canary{Service: identity.ServiceID{1}, From: 2, To: 3, Alive: true, Salt: [32]byte{4}}.Append(nil)},
		{"view", againPointer(ParseView), view.Append(nil)},
		{"view of nothing", againPointer(ParseView), new(View).Append(nil)},
		{"standing", again(ParseStanding), Standing{Since: 1, Until: 2, Alarm: 3, Last: 4, Level: 5, Wrong: true, Score: 6, Failures: 7, Sample: 8, Operators: 9, Checks: 10, Latency50: 11, Latency90: 12, Rate: 13, Gap: 14}.Append(nil)},
		{"conduct", again(ParseConduct), Conduct{Faults: Omits | Dissents, Omission: 1, Invention: 2, Until: 3, Planned: 5, Done: 4}.Append(nil)},
	}
}

func again[T interface{ Append(b []byte) []byte }](parse func(b []byte) (T, error)) func(b []byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		v, err := parse(b)
		if err != nil {
			return nil, err
		}
		return v.Append(nil), nil
	}
}

func againPointer[T any, P interface {
	*T
	Append(b []byte) []byte
}](parse func(b []byte) (T, error)) func(b []byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		v, err := parse(b)
		if err != nil {
			return nil, err
		}
		return P(&v).Append(nil), nil
	}
}

func TestEncodings(t *testing.T) {
	for _, c := range codecs(t) {
		t.Run(c.name, func(t *testing.T) {
			if b, err := c.parse(c.sample); err != nil || !bytes.Equal(b, c.sample) {
				t.Fatalf("%x became %x, %v", c.sample, b, err)
			}
			for n := range c.sample {
				if _, err := c.parse(c.sample[:n]); err == nil {
					t.Fatalf("%d of %d bytes are enough", n, len(c.sample))
				}
			}
			if _, err := c.parse(append(bytes.Clone(c.sample), 0)); !errors.Is(err, ErrTrailing) {
				t.Errorf("a byte more: %v", err)
			}
			if c.name == "outcome" || c.name == "provider" {
				return // parts of other encodings have no version
			}
			if _, err := c.parse(append([]byte{2}, c.sample[1:]...)); !errors.Is(err, ErrVersion) {
				t.Errorf("version 2: %v", err)
			}
		})
	}
}

// What was written down once is read for ever.
func TestGoldenEncodings(t *testing.T) {
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{
			"outcome", Outcome{Verdict: Pass, KiB: 1, Latency: 2, Rate: 3, Gap: 4}.Append(nil),
			"02" + "00" + "0001" + "00000002" + "00000003" + "00000004",
		},
		{
			"challenge", Challenge{Epoch: 1, Inspector: identity.AccountID{2}, Row: 3}.Append(nil),
			"01" + "0000000000000001" + "02" + fmt.Sprintf("%062d", 0) + "0003",
		},
		{
			"conduct", Conduct{Faults: Invents, Omission: 1, Invention: 2, Until: 3, Planned: 5, Done: 4}.Append(nil),
			"01" + "02" + "0001" + "0002" + "0000000000000003" + "0000000000000005" + "0000000000000004",
		},
		{
			"view", new(View).Append(nil),
			"01" + "0000" + "00" + "00" + "0000000000000000" + "00000000" + "0000" + "0000" + "0000" + "0000",
		},
	} {
		if want := unhex2(c.want); !bytes.Equal(c.got, want) {
			t.Errorf("%s: %x, want %x", c.name, c.got, want)
		}
	}
}

func TestDecodersRefuseValues(t *testing.T) {
	reveal := (&Reveal{}).Append(nil)
	tooMany := bytes.Clone(reveal)
	tooMany[len(tooMany)-2], tooMany[len(tooMany)-1] = 0xff, 0xff
	ring := new(View).Append(nil)
	for _, c := range []struct {
		name  string
		parse func() error
		want  error
	}{
		{"verdict", func() error { _, err := ParseOutcome(append([]byte{7}, make([]byte, 15)...)); return err }, ErrValue},
		{"reason", func() error { _, err := ParseOutcome(append([]byte{1, 99}, make([]byte, 14)...)); return err }, ErrValue},
		{"rows of a reveal", func() error { _, err := ParseReveal(tooMany); return err }, ErrSize},
		{"row of a challenge", func() error { _, err := ParseChallenge(Challenge{Row: MaxRows}.Append(nil)); return err }, ErrValue},
		{"path", func() error {
			_, err := ParseAnswer((&Answer{Path: make([]Hash, maxRowPath+1)}).Append(nil))
			return err
		}, ErrSize},
		{"label", func() error {
			_, err := ParseAdmission(Admission{Operator: "A", Network: "b"}.Append(nil))
			return err
		}, ErrLabel},
		{"VRF key", func() error {
			_, err := ParseAdmission(Admission{Operator: "a", Network: "b"}.Append(nil))
			return err
		}, ErrVRFKey},
		{"canary", func() error { _, err := ParseCanary(Canary{From: 2, To: 1}.Append(nil)); return err }, ErrValue},
		{"next of a ring", func() error {
			b := bytes.Clone(ring)
			b[len(b)-1] = 1
			_, err := ParseView(b)
			return err
		}, ErrValue},
		{"class", func() error { _, err := ParseProvider(Provider{Class: 9}.Append(nil)); return err }, ErrValue},
		{"kinds", func() error { _, err := ParseProvider(Provider{Kinds: 0xff}.Append(nil)); return err }, ErrValue},
		{"conduct", func() error { _, err := ParseConduct(Conduct{Done: 1}.Append(nil)); return err }, ErrValue},
		{"score", func() error { _, err := ParseStanding(Standing{Score: million + 1}.Append(nil)); return err }, ErrValue},
	} {
		if err := c.parse(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestLabels(t *testing.T) {
	for _, s := range []string{"a", "as64500", "acme-1.top", "0123456789abcdef0123456789abcdef"} {
		if l, err := ParseLabel(s); err != nil || string(l) != s {
			t.Errorf("%q: %q, %v", s, l, err)
		}
	}
	for _, s := range []string{"", "A", "a b", "a\x00", "ü", "0123456789abcdef0123456789abcdef0"} {
		if _, err := ParseLabel(s); !errors.Is(err, ErrLabel) {
			t.Errorf("%q: %v", s, err)
		}
	}
	a := Admission{Operator: "a", Network: "x"}
	for _, b := range []Admission{a, {Operator: "a", Network: "y"}, {Operator: "b", Network: "x"}} {
		if a.Independent(b) {
			t.Errorf("%v and %v are independent", a, b)
		}
	}
	if !a.Independent(Admission{Operator: "b", Network: "y"}) {
		t.Error("nobody is independent")
	}
}

func TestNames(t *testing.T) {
	for k := range Kind(Kinds) {
		if k.String() == "unknown" || !AllKinds.Has(k) {
			t.Errorf("kind %d has no name", k)
		}
	}
	for v := range verdicts {
		if v.String() == "unknown" || v.Failed() != (v > Pass) {
			t.Errorf("verdict %d", v)
		}
	}
	if got := KindsOf(Reach, Price).String(); got != "reach,price" {
		t.Error(got)
	}
	for _, s := range []string{Kind(Kinds).String(), verdicts.String(), reasons.String(), classes.String()} {
		if s != "unknown" {
			t.Errorf("%q", s)
		}
	}
}

// FuzzDecoders gives every decoder the same bytes: it accepts nothing that it does
// not write again byte by byte.
func FuzzDecoders(f *testing.F) {
	list := codecs(f)
	for i, c := range list {
		f.Add(uint8(i), c.sample)
		f.Add(uint8(i), c.sample[:len(c.sample)/2])
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		c := list[int(which)%len(list)]
		again, err := c.parse(b)
		if err == nil && !bytes.Equal(again, b) {
			t.Errorf("%s: %x became %x", c.name, b, again)
		}
		if err != nil && again != nil {
			t.Errorf("%s: a value beside an error", c.name)
		}
	})
}

func FuzzParseLabel(f *testing.F) {
	f.Add("acme")
	f.Add("")
	f.Add("Ä")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLabel(s)
		if err == nil && (string(l) != s || len(s) > MaxLabel) || err != nil && l != "" {
			t.Errorf("%q: %q, %v", s, l, err)
		}
		var k VRFKey
		if err := k.UnmarshalText([]byte(s)); err == nil && len(s) != 64 {
			t.Errorf("%q is a key", s)
		}
	})
}

// Values that are parsed equal values that were made.
func TestViewsSurviveStorage(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	rules := Rules{}.WithDefaults()
	var view View
	for i := range 1000 {
		kind := Kind(r.UintN(Kinds))
		view.Add(&rules, Class(r.UintN(2)), kind, randomOutcome(r, kind), uint64(i))
		stored, err := ParseView(view.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if stored != view {
			t.Fatalf("after %d checks: %+v became %+v", i, view, stored)
		}
	}
	if n := len(view.Append(nil)); n > 220 {
		t.Errorf("a full view takes %d bytes", n)
	}
	if !reflect.DeepEqual(view, view) {
		t.Error("views are not comparable")
	}
}

// randomOutcome returns one that Check accepts for a row of 64 KiB.
func randomOutcome(r *rand.Rand, kind Kind) Outcome {
	switch r.UintN(10) {
	case 0:
		return Outcome{Verdict: Absent}
	case 1:
		return Outcome{Verdict: Void, Reason: 1 + Reason(r.UintN(uint(reasons-1)))}
	case 2:
		if kind == Correctness {
			return Outcome{Verdict: Wrong, KiB: 4, Latency: 1 + r.Uint32N(1000)}
		}
		return Outcome{Verdict: Broken, KiB: 1, Latency: 1 + r.Uint32N(1000)}
	}
	o := Outcome{Verdict: Pass, KiB: 8, Latency: 1 + r.Uint32N(2_000_000)}
	if kind == Throughput {
		o.KiB, o.Rate = 64, 1+r.Uint32N(100_000)
	}
	if kind == Mobility {
		o.Gap = r.Uint32N(3000)
	}
	return o
}

func unhex2(s string) []byte {
	var b []byte
	if _, err := fmt.Sscanf(s, "%x", &b); err != nil {
		panic(err)
	}
	return b
}
