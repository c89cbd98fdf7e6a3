package network

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"scn.alt/scn/routing/identity"
)

func testKey(name string) identity.PrivateKey {
	return identity.NewKeyFromSeed(sha256.Sum256([]byte(name)))
}

func testFile() File {
	return File{
		Name: "home \"sweet\" home", Sequence: 7, Zone: "top", Admission: List,
		Members:     []identity.NodeID{testKey("member").Node()},
		Authorities: []identity.NodeID{testKey("a").Node(), testKey("b").Node()},
		Bootstrap: []Peer{
			{Node: testKey("a").Node(), Addresses: []netip.AddrPort{
				netip.MustParseAddrPort("192.0.2.1:4600"), netip.MustParseAddrPort("[2001:db8::1]:4600"),
			}},
			{Node: testKey("c").Node(), Addresses: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.3:4600")}},
		},
		Parameters: map[string]any{"real_top_proof": true, "grace_days": int64(30), "motto": "hic \\ \"sunt\""},
		Header:     []string{"The network of our house.", "", "Ask Ada for a place in it."},
	}
}

func TestSignAndParse(t *testing.T) {
	want := testFile()
	signed, err := want.Sign(testKey("founder"))
	if err != nil {
		t.Fatal(err)
	}
	want.ID = testKey("founder").Network()
	for name, parse := range map[string]func() (File, error){
		"Parse":                  func() (File, error) { return Parse(signed.Bytes()) },
		"Parse, trailing spaces": func() (File, error) { return Parse(append(signed.Bytes(), " \r\n\n"...)) },
		"ParseOf":                func() (File, error) { return ParseOf(want.ID, signed.Bytes()) },
	} {
		got, err := parse()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(File{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if !bytes.Equal(got.Bytes(), signed.Bytes()) {
			t.Errorf("%s: other bytes than signed:\n%s", name, got.Bytes())
		}
	}
	if !signed.Bool("real_top_proof", false) || signed.Int("grace_days", 0) != 30 || signed.Text("missing", "x") != "x" || signed.Bool("motto", true) != true {
		t.Error("parameters are not read as they are")
	}
}

// Editing by hand keeps the comments, since the bytes are what is signed.
func TestSignTextKeepsComments(t *testing.T) {
	signed, err := testFile().Sign(testKey("founder"))
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(signed.Bytes()), "sequence = 7", "sequence = 8 # after the flood", 1)
	if _, err := Parse([]byte(edited)); !errors.Is(err, ErrSignature) {
		t.Errorf("an altered file: error %v", err)
	}
	again, err := SignText([]byte(edited), testKey("founder"))
	if err != nil {
		t.Fatal(err)
	}
	if again.Sequence != 8 || !bytes.Contains(again.Bytes(), []byte("# after the flood")) {
		t.Errorf("signed again:\n%s", again.Bytes())
	}
	if got, err := ParseOf(again.ID, again.Bytes()); err != nil || got.Sequence != 8 {
		t.Errorf("parse: %d, %v", got.Sequence, err)
	}
	if _, err := SignText([]byte(edited), testKey("other")); !errors.Is(err, ErrOther) {
		t.Errorf("signed by another founder: error %v", err)
	}
}

func TestEveryAlteredByteIsRefused(t *testing.T) {
	signed, err := testFile().Sign(testKey("founder"))
	if err != nil {
		t.Fatal(err)
	}
	text := signed.Bytes()
	for i := range text[:len(text)-1] {
		altered := bytes.Clone(text)
		altered[i] ^= 1
		if _, err := Parse(altered); err == nil {
			t.Fatalf("byte %d altered and accepted", i)
		}
		if _, err := ParseOf(signed.ID, altered); err == nil {
			t.Fatalf("byte %d altered and accepted from a stranger", i)
		}
		if _, err := Parse(text[:i]); err == nil {
			t.Fatalf("cut at byte %d and accepted", i)
		}
	}
	if _, err := ParseOf(signed.ID, append(bytes.Clone(text), '\n')); !errors.Is(err, ErrSyntax) {
		t.Errorf("a second spelling from a stranger: error %v", err)
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	text := `
network = "` + testKey("founder").Network().String() + `"
name = ""
zone = "top."
admission = "all"
colour = "red"
members = ["x"]
bootstrap = [ { node = "` + testKey("a").Node().String() + `", addresses = ["localhost:1", "0.0.0.0:5"], speed = 3 } ]
[parameters]
Loud = true
list = [1]
`
	_, err := Parse([]byte(text))
	if !errors.Is(err, ErrSignature) || !errors.Is(err, ErrSyntax) || !errors.Is(err, ErrInvalid) {
		t.Errorf("kinds of faults: %v", err)
	}
	for _, part := range []string{
		"last line must be signature", `unknown key "colour"`, `unknown key "speed"`, "sequence must be", "name must have", `zone "top."`,
		`admission "all"`, "members:", `"localhost:1" is not IP:PORT`, "0.0.0.0:5", `parameter "Loud"`, `parameter "list"`,
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not among the faults:\n%v", part, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	f := testFile()
	f.Bootstrap[1].Node = f.Bootstrap[0].Node
	if _, err := f.Sign(testKey("founder")); !errors.Is(err, ErrInvalid) {
		t.Errorf("a node listed twice: %v", err)
	}
	f = testFile()
	f.Members = make([]identity.NodeID, MaxMembers+1)
	if _, err := f.Sign(testKey("founder")); !errors.Is(err, ErrInvalid) {
		t.Errorf("too many members: %v", err)
	}
	if _, err := Parse(make([]byte, MaxSize+1)); !errors.Is(err, ErrSize) {
		t.Errorf("too large: %v", err)
	}
	if _, err := ParseOf(testKey("founder").Network(), make([]byte, MaxSize+1)); !errors.Is(err, ErrSize) {
		t.Errorf("too large from a stranger: %v", err)
	}
	if _, err := SignText(make([]byte, MaxSize+1), testKey("founder")); !errors.Is(err, ErrSize) {
		t.Errorf("too large to sign: %v", err)
	}
	if _, err := Parse([]byte("network = \n")); !errors.Is(err, ErrSyntax) {
		t.Errorf("no TOML: %v", err)
	}
}

// The largest file the limits allow fits.
func TestLargestFile(t *testing.T) {
	f := File{Name: strings.Repeat("n", MaxName), Sequence: 1, Zone: "top", Admission: List}
	node := func(kind string, i int) identity.NodeID {
		return testKey(kind + string(rune('a'+i%26)) + strings.Repeat("x", i/26)).Node()
	}
	for i := range MaxMembers {
		f.Members = append(f.Members, node("m", i))
	}
	for i := range MaxBootstrap {
		p := Peer{Node: node("b", i)}
		for j := range MaxAddresses / 4 {
			p.Addresses = append(p.Addresses, netip.AddrPortFrom(netip.MustParseAddr("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"), uint16(60000+j)))
		}
		f.Bootstrap = append(f.Bootstrap, p)
	}
	signed, err := f.Sign(testKey("founder"))
	if err != nil {
		t.Fatal(err)
	}
	if len(signed.Bytes()) > MaxSize {
		t.Errorf("%d bytes", len(signed.Bytes()))
	}
}

func TestCheckUpdate(t *testing.T) {
	sign := func(founder string, sequence uint64, name string) File {
		f := testFile()
		f.Sequence, f.Name = sequence, name
		signed, err := f.Sign(testKey(founder))
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	known := sign("founder", 5, "x")
	for name, c := range map[string]struct {
		next File
		want error
	}{
		"newer":           {sign("founder", 6, "x"), nil},
		"the same":        {sign("founder", 5, "x"), nil},
		"older":           {sign("founder", 4, "x"), ErrOlder},
		"forked":          {sign("founder", 5, "y"), ErrFork},
		"another network": {sign("other", 6, "x"), ErrOther},
	} {
		if err := CheckUpdate(known, c.next); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
	}
	var older *OlderError
	if err := CheckUpdate(known, sign("founder", 4, "x")); !errors.As(err, &older) || older.Known != 5 || older.Offered != 4 {
		t.Errorf("the error of an older file tells %+v", older)
	}
	if Compare(known, sign("founder", 6, "x")) >= 0 || Compare(known, known) != 0 || Compare(known, sign("founder", 5, "y")) == 0 {
		t.Error("files are not ordered by sequence, then bytes")
	}
}

func TestAdmits(t *testing.T) {
	f := testFile()
	for node, want := range map[string]bool{"member": true, "a": true, "c": true, "stranger": false} {
		if got := f.Admits(testKey(node).Node()); got != want {
			t.Errorf("list admits %s: %t", node, got)
		}
	}
	f.Admission = Open
	if !f.Admits(testKey("stranger").Node()) {
		t.Error("open does not admit a stranger")
	}
	if len(f.Addresses(testKey("a").Node())) != 2 || f.Addresses(testKey("b").Node()) != nil {
		t.Error("addresses are not those of the bootstrap nodes")
	}
}

func FuzzParse(f *testing.F) {
	founder := testKey("founder")
	signed, err := testFile().Sign(founder)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed.Bytes())
	f.Add([]byte("network = \"x\"\nsignature = \"y\"\n"))
	f.Add([]byte("[parameters]\na = {b = [[[]]]}\nsignature = \""))
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, err := Parse(text); err == nil {
			if again, err := ParseOf(got.ID, got.Bytes()); err != nil || Compare(got, again) != 0 {
				t.Fatalf("parsed, but not from its own bytes: %v", err)
			}
		}
		_, _ = ParseOf(founder.Network(), text)
		// What the founder signs, everybody can read.
		if got, err := SignText(text, founder); err == nil {
			if _, err := Parse(got.Bytes()); err != nil {
				t.Fatalf("signed and unreadable: %v\n%s", err, got.Bytes())
			}
		}
	})
}
