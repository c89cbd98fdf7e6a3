package name

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scn.alt/scn/routing/identity"
)

var (
	authority   = identity.NewKeyFromSeed([32]byte{1})
	authorities = []identity.NodeID{authority.Node()}
	now         = time.Unix(1_800_000_000, 0)
)

func good() Record {
	return Record{
		Name: "files", Service: identity.ServiceID{2}, Owner: identity.AccountID{3},
		Sequence: 5, Height: 6, NotAfter: now.Unix(), Transaction: []byte("signed"),
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ in, want, why string }{
		{"files", "files", ""},
		{"FILES", "files", ""},
		{"a-b", "a-b", ""},
		{"a--b", "a--b", ""},
		{"123", "123", ""},
		{"xn-a", "xn-a", ""},
		{"abc", "abc", ""},
		{strings.Repeat("a", 40), strings.Repeat("a", 40), ""},
		{"", "", "3 to 40"},
		{"ab", "", "3 to 40"},
		{strings.Repeat("a", 41), "", "3 to 40"},
		{strings.Repeat("a", 56), "", "3 to 40"},
		{strings.Repeat("a", 1<<16), "", "3 to 40"},
		{"-ab", "", "hyphen at the start or end"},
		{"ab-", "", "hyphen at the start or end"},
		{"---", "", "hyphen at the start or end"},
		{"xn--bcher-kva", "", "xn--"},
		{"XN--bcher-kva", "", "xn--"},
		{"a.b", "", "only letters"},
		{"a_b", "", "only letters"},
		{"a b", "", "only letters"},
		{"abc\n", "", "only letters"},
		{"abc\x00", "", "only letters"},
		{"bücher", "", "only letters"},
		{"ban\u212a", "", "only letters"}, // the Kelvin sign, whose lower case is k
		{"\xff\xfe\xfd", "", "only letters"},
	} {
		got, err := Parse(tt.in)
		if string(got) != tt.want || (err == nil) != (tt.why == "") {
			t.Errorf("Parse(%.50q) = %q, %v", tt.in, got, err)
		}
		if err != nil && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.why) || len(err.Error()) > 200) {
			t.Errorf("Parse(%.50q): %v, want %q", tt.in, err, tt.why)
		}
	}
}

func TestNameText(t *testing.T) {
	var n Name
	if err := n.UnmarshalText([]byte("Files")); err != nil || n != "files" || n.String() != "files" {
		t.Errorf("%q, %v", n, err)
	}
	if text, err := n.MarshalText(); err != nil || string(text) != "files" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := n.AppendText([]byte("x ")); err != nil || string(text) != "x files" {
		t.Errorf("%q, %v", text, err)
	}
	if n.UnmarshalText([]byte("a")) == nil || n != "" {
		t.Errorf("a short name was read as %q", n)
	}
}

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

func TestGoldenRecord(t *testing.T) {
	b, err := good().Seal(authority)
	if err != nil {
		t.Fatal(err)
	}
	want := unhex(t, `
		a4                          # envelope, a map of 4
		01 58 20                    # 1: signer, the authority
		   cecc1507dc1ddd7295951c290888f095adb9044d1b73d696e6df065d683bd4fc
		02 64 6e 61 6d 65           # 2: type "name"
		03 58 60                    # 3: payload, 96 bytes
		   a7                       # a map of 7
		   01 65 66 69 6c 65 73     # 1: name "files"
		   02 58 20                 # 2: service
		      0200000000000000000000000000000000000000000000000000000000000000
		   03 58 20                 # 3: owner
		      0300000000000000000000000000000000000000000000000000000000000000
		   04 05                    # 4: sequence 5
		   05 06                    # 5: height 6
		   06 1a 6b49d200           # 6: not after 1800000000
		   08 46 7369676e6564       # 8: transaction, 6 bytes; 7, released, is left out
		04 58 40                    # 4: signature
		   5a5201872399176e04f82a387ca24a386acfdf1c51841aa090db20042a66696d
		   0091a50639b584e643943d539cd77254cfb618ee2cdec6780fbb88298a2b010c
	`)
	if !bytes.Equal(b, want) {
		t.Fatalf("name record\n%x, want\n%x", b, want)
	}
}

func TestOpen(t *testing.T) {
	b, err := good().Seal(authority)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Open("files", b, authorities, now)
	if diff := cmp.Diff(good(), got); err != nil || diff != "" {
		t.Fatalf("%v %s", err, diff)
	}
	if got, err := Open("files", b, authorities, now.Add(time.Second)); !errors.Is(err, ErrExpired) || got.Name != "files" {
		t.Errorf("expired: %+v, %v", got, err)
	}
	if _, err := Open("mails", b, authorities, now); !errors.Is(err, ErrOther) {
		t.Errorf("another name: %v", err)
	}
	for _, list := range [][]identity.NodeID{nil, {{9}}} {
		if _, err := Open("files", b, list, now); !errors.Is(err, ErrAuthority) {
			t.Errorf("authorities %v: %v", list, err)
		}
	}
	if _, err := Open("files", b, append([]identity.NodeID{{9}}, authorities...), now); err != nil {
		t.Errorf("second of two authorities: %v", err)
	}
	if _, err := Open("files", make([]byte, MaxSize+1), authorities, now); !errors.Is(err, identity.ErrSize) {
		t.Errorf("too large: %v", err)
	}
	for i := range b {
		if _, err := Open("files", b[:i], authorities, now); !errors.Is(err, identity.ErrMalformed) {
			t.Errorf("cut at %d: %v", i, err)
		}
		flipped := bytes.Clone(b)
		flipped[i] ^= 1 << (i % 8)
		if _, err := Open("files", flipped, authorities, now); err == nil {
			t.Errorf("byte %d flipped, and nobody noticed", i)
		}
	}
	forged, err := authority.Seal(domain, recordType, append(mustMarshal(t, good()), 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open("files", forged, authorities, now); !errors.Is(err, identity.ErrMalformed) {
		t.Errorf("a byte after the payload: %v", err)
	}
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := identity.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The largest transaction the ledger takes must leave room for the rest.
func TestSealBounds(t *testing.T) {
	r := good()
	r.Name = Name(strings.Repeat("a", MaxLength))
	r.Transaction = make([]byte, 2<<10)
	if b, err := r.Seal(authority); err != nil || len(b) > MaxSize {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	r.Transaction = make([]byte, MaxSize)
	if _, err := r.Seal(authority); err == nil {
		t.Error("a record above MaxSize was sealed")
	}
}

func TestNewer(t *testing.T) {
	older := good()
	for _, tt := range []struct {
		name   string
		change func(*Record)
	}{
		{"height", func(r *Record) { r.Height++; r.NotAfter -= 100; r.Sequence = 0 }},
		{"validity", func(r *Record) { r.NotAfter++ }},
	} {
		newer := good()
		tt.change(&newer)
		if !Newer(newer, nil, older, nil) || Newer(older, nil, newer, nil) {
			t.Errorf("%s: wrong order", tt.name)
		}
	}
	if !Newer(older, []byte("b"), older, []byte("a")) || Newer(older, []byte("a"), older, []byte("b")) || Newer(older, []byte("a"), older, []byte("a")) {
		t.Error("of equal ones, the bytes decide, and nothing replaces itself")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"files", "XN--a", "-a-", "ban\u212a", strings.Repeat("a", 41)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := Parse(s)
		var text Name
		if (text.UnmarshalText([]byte(s)) == nil) != (err == nil) || text != n {
			t.Errorf("UnmarshalText(%q) = %q, Parse %q", s, text, n)
		}
		if err != nil {
			if n != "" {
				t.Errorf("Parse(%q) = %q with %v", s, n, err)
			}
			return
		}
		if again, err := Parse(string(n)); err != nil || again != n || !strings.EqualFold(s, string(n)) || len(s) != len(n) {
			t.Errorf("Parse(%q) = %q, and that %q, %v", s, n, again, err)
		}
		if identity.LooksLikeID(string(n)) {
			t.Errorf("%q is a name and an ID", n)
		}
	})
}

func FuzzOpen(f *testing.F) {
	b, err := good().Seal(authority)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := Open("files", b, authorities, now); err == nil && r.Name != "files" {
			t.Errorf("%x is read as of files", b)
		}
		var r Record
		if identity.Unmarshal(b, &r) == nil {
			if _, err := r.Seal(authority); err != nil && len(b) < MaxSize/2 {
				t.Errorf("%x cannot be sealed: %v", b, err)
			}
		}
	})
}
