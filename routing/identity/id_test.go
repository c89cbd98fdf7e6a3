package identity

import (
	"crypto/rand"
	textenc "encoding"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testKey(n byte) PrivateKey { return NewKeyFromSeed([32]byte{n}) }

func TestTextForms(t *testing.T) {
	key := testKey(1)
	for _, tt := range []struct {
		kind  string
		id    textenc.TextMarshaler
		parse func(string) (any, error)
		want  string
	}{
		{
			"node", key.Node(), func(s string) (any, error) { return ParseNodeID(s) },
			"z3gbkb64dxoxffmvdquqrchqsww3sbcndnz5nfxg34df22b32t6huzyb",
		},
		{
			"service", key.Service(), func(s string) (any, error) { return ParseServiceID(s) },
			"z3gbkb64dxoxffmvdquqrchqsww3sbcndnz5nfxg34df22b32t6omsic",
		},
		{
			"account", key.Account(), func(s string) (any, error) { return ParseAccountID(s) },
			"z3gbkb64dxoxffmvdquqrchqsww3sbcndnz5nfxg34df22b32t6ipmyd",
		},
		{
			"network", key.Network(), func(s string) (any, error) { return ParseNetworkID(s) },
			"z3gbkb64dxoxffmvdquqrchqsww3sbcndnz5nfxg34df22b32t6f3mqe",
		},
		{
			"group", key.Group(), func(s string) (any, error) { return ParseGroupID(s) },
			"z3gbkb64dxoxffmvdquqrchqsww3sbcndnz5nfxg34df22b32t6daiif",
		},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			text, err := tt.id.MarshalText()
			if err != nil || string(text) != tt.want {
				t.Fatalf("text %q, %v, want %q", text, err, tt.want)
			}
			for _, s := range []string{tt.want, strings.ToUpper(tt.want)} {
				if got, err := tt.parse(s); err != nil || got != tt.id {
					t.Errorf("parse %q: %v, %v", s, got, err)
				}
			}
			for _, other := range []string{
				key.Node().String(), key.Service().String(), key.Account().String(), key.Network().String(),
				key.Group().String(),
			} {
				if _, err := tt.parse(other); other != tt.want && !errors.Is(err, ErrKind) {
					t.Errorf("parse %q as %s: %v, want ErrKind", other, tt.kind, err)
				}
			}
		})
	}
}

// Every single mistyped character, and every two neighbours exchanged, is noticed.
func TestMistypedID(t *testing.T) {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	text := testKey(2).Node().String()
	missed := 0
	for i := range text {
		for _, c := range []byte(alphabet) {
			if c == text[i] {
				continue
			}
			if _, err := ParseNodeID(text[:i] + string(c) + text[i+1:]); err == nil {
				missed++
			}
		}
		if i > 0 && text[i] != text[i-1] {
			if _, err := ParseNodeID(text[:i-1] + string(text[i]) + string(text[i-1]) + text[i+1:]); err == nil {
				missed++
			}
		}
	}
	if missed != 0 { // 1791 tries against 16 bits; this key's are fixed, so is the outcome
		t.Errorf("%d mistyped IDs passed", missed)
	}
}

func TestParseRefuses(t *testing.T) {
	good := testKey(3).Node().String()
	for _, tt := range []struct {
		name, text string
		want       error
	}{
		{"empty", "", ErrLength},
		{"short", good[:55], ErrLength},
		{"long", good + "a", ErrLength},
		{"very long", strings.Repeat("a", 1<<16), ErrLength},
		{"digit outside base32", "1" + good[1:], ErrAlphabet},
		{"hyphen", "-" + good[1:], ErrAlphabet},
		{"padding", good[:55] + "=", ErrAlphabet},
		{"line breaks, which base32 skips", good[:48] + "\n\n\n\n\r\r\r\r", ErrAlphabet},
		{"Kelvin signs, which lower to k", good[:50] + "\u212a\u212a", ErrAlphabet},
		{"NUL", good[:55] + "\x00", ErrAlphabet},
		{"checksum", strings.Repeat("a", 56), ErrChecksum},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if id, err := ParseNodeID(tt.text); !errors.Is(err, tt.want) || !id.IsZero() {
				t.Errorf("got %v, %v, want %v", id, err, tt.want)
			}
			if LooksLikeID(tt.text) != errors.Is(tt.want, ErrChecksum) {
				t.Errorf("LooksLikeID = %v", LooksLikeID(tt.text))
			}
		})
	}
}

func TestIDMethods(t *testing.T) {
	a, b := NodeID{1}, NodeID{2}
	if a.Compare(b) >= 0 || b.Compare(a) <= 0 || a.Compare(a) != 0 {
		t.Error("Compare is no order")
	}
	if !(NodeID{}).IsZero() || a.IsZero() || !(ServiceID{}).IsZero() || !(AccountID{}).IsZero() || !(NetworkID{}).IsZero() {
		t.Error("IsZero")
	}
	if a.Short() != a.String()[:10] || ServiceOf(a).Short() != ServiceOf(a).String()[:10] {
		t.Error("Short")
	}
	var n NodeID
	var s ServiceID
	var c AccountID
	var w NetworkID
	for _, pair := range []struct {
		in  textenc.TextMarshaler
		out textenc.TextUnmarshaler
		get func() any
	}{
		{NodeID{9}, &n, func() any { return n }},
		{ServiceID{9}, &s, func() any { return s }},
		{AccountID{9}, &c, func() any { return c }},
		{NetworkID{9}, &w, func() any { return w }},
	} {
		text, err := pair.in.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if err := pair.out.UnmarshalText(text); err != nil || pair.get() != pair.in {
			t.Errorf("%T: %v, %v", pair.in, pair.get(), err)
		}
		if err := pair.out.UnmarshalText(text[1:]); err == nil {
			t.Errorf("%T: a short text was read", pair.in)
		}
	}
}

func TestKeyFile(t *testing.T) {
	k, err := GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := k.MarshalPEM()
	got, err := ParseKey(text)
	if err != nil || got.Public() != k.Public() {
		t.Fatalf("%v, %v", got, err)
	}
	if _, err := ParseKey(append([]byte("a note\n"), text...)); err != nil {
		t.Errorf("a note before the key: %v", err)
	}
	for i := range len(text) - 1 { // the last byte is a line break
		if _, err := ParseKey(text[:i]); !errors.Is(err, ErrKeyFile) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if _, err := ParseKey(append(text, text...)); !errors.Is(err, ErrKeyFile) {
		t.Errorf("two keys: %v", err)
	}
	if !(PrivateKey{}).IsZero() || k.IsZero() {
		t.Error("IsZero")
	}
	if s := k.String() + k.GoString(); strings.Contains(s, k.Node().String()) || !strings.Contains(s, "hidden") {
		t.Errorf("a key prints as %q", s)
	}
	if _, err := GenerateKey(strings.NewReader("too short")); err == nil {
		t.Error("a key from nine bytes of randomness")
	}
	if diff := cmp.Diff(k.Public(), [Size]byte(k.Ed25519()[Size:])); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseNodeID(f *testing.F) {
	f.Add(testKey(1).Node().String())
	f.Add(testKey(1).Service().String())
	f.Add(strings.Repeat("a", 50) + "\u212a\u212a")
	f.Add(strings.Repeat("a", 40) + strings.Repeat("\n", 16))
	f.Fuzz(func(t *testing.T, s string) {
		for _, id := range []interface {
			textenc.TextMarshaler
			textenc.TextUnmarshaler
		}{new(NodeID), new(ServiceID), new(AccountID), new(NetworkID), new(GroupID)} {
			if id.UnmarshalText([]byte(s)) != nil {
				continue
			}
			if text, err := id.MarshalText(); err != nil || !strings.EqualFold(string(text), s) {
				t.Errorf("%q was read as %q, %v", s, text, err)
			}
		}
		for _, parse := range []func(string) (string, error){
			func(s string) (string, error) { id, err := ParseNodeID(s); return id.String(), err },
			func(s string) (string, error) { id, err := ParseServiceID(s); return id.String(), err },
			func(s string) (string, error) { id, err := ParseAccountID(s); return id.String(), err },
			func(s string) (string, error) { id, err := ParseNetworkID(s); return id.String(), err },
			func(s string) (string, error) { id, err := ParseGroupID(s); return id.String(), err },
		} {
			if text, err := parse(s); err == nil && (!strings.EqualFold(text, s) || !LooksLikeID(s)) {
				t.Errorf("%q was read as %q", s, text)
			}
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(testKey(1).MarshalPEM())
	f.Add([]byte("-----BEGIN SCN PRIVATE KEY-----\n-----END SCN PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := ParseKey(b); err == nil {
			if again, err := ParseKey(k.MarshalPEM()); err != nil || again.Public() != k.Public() {
				t.Errorf("a key read from %q does not survive: %v", b, err)
			}
		}
	})
}
