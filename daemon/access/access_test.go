package access

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

func testKey(i byte) identity.PrivateKey { return identity.NewKeyFromSeed([32]byte{i}) }

var testTime = time.Unix(1_800_000_000, 0)

func TestRuleText(t *testing.T) {
	node, account := testKey(1).Node().String(), testKey(1).Account().String()
	for text, want := range map[string]string{
		"allow all":                           "",
		"  deny   all  ":                      "deny all",
		"allow " + node:                       "allow node:" + node,
		"ask " + account + " udp":             "ask account:" + account + " udp",
		"allow group:staff 443/tcp,8000-8100": "",
		"allow group:a-1 tcp # the office":    "",
		"deny node:" + node + " 5-5/udp#x":    "deny node:" + node + " 5/udp # x",
		"allow all 1-65535":                   "",
	} {
		r, err := ParseRule(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if want == "" {
			want = text
		}
		if got := r.String(); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestRuleFaults(t *testing.T) {
	for _, text := range []string{
		"", "allow", "permit all", "allow nobody", "allow all 0", "allow all 65536", "allow all 100-50", "allow all icmp",
		"allow all 80/icmp", "allow all 80 443", "allow all 80,", "allow group:", "allow group:Staff", "allow group:1a",
		"allow group:" + strings.Repeat("a", 33), "allow node:abc", "allow " + testKey(1).Service().String(),
		"allow all # " + strings.Repeat("n", 201), "allow all # a\x00b", "allow all " + strings.Repeat("1,", 16) + "1",
		"allow all #" + strings.Repeat(" ", 2000),
	} {
		if r, err := ParseRule(text); err == nil {
			t.Errorf("%q was read as %q", text, r)
		}
	}
}

func rulesOf(t testing.TB, texts ...string) Rules {
	t.Helper()
	rs, err := ParseRules(texts)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func TestContradictions(t *testing.T) {
	node := testKey(1).Node().String()
	for _, c := range []struct {
		name  string
		rules []string
		want  int
	}{
		{"none", []string{"allow all", "deny " + node}, 0},
		{"denied in part", []string{"allow all 80", "deny all 80/udp"}, 0},
		{"repeated", []string{"allow all", "allow all # again"}, 1},
		{"same who", []string{"allow " + node, "deny " + node}, 1},
		{"deny all", []string{"deny all", "allow " + node, "ask group:a"}, 2},
		{"wider ports", []string{"allow " + node + " 80/tcp,443", "deny " + node + " 1-1000"}, 1},
		{"one port left", []string{"allow " + node + " 80,2000", "deny " + node + " 1-1000"}, 0},
		{"ask before allow", []string{"ask all", "allow " + node}, 1},
		{"allow before ask", []string{"allow " + node, "ask all"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseRules(c.rules)
			got := 0
			if err != nil {
				got = strings.Count(err.Error(), ErrContradiction.Error())
			}
			if got != c.want {
				t.Errorf("%d contradictions, want %d: %v", got, c.want, err)
			}
		})
	}
}

func TestPolicyReportsEveryFault(t *testing.T) {
	_, err := ParsePolicy([]byte(`
[groups]
Staff = "nonsense"
[services]
a = ["allow nobody", "allow all 0"]
b = ["allow group:none", "deny all"]
`))
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, want := range []string{"groups.Staff", "services.a: rule 1", "services.a: rule 2", "services.b: rule 1: access: no such group", "services.b: access: rules contradict"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing from:\n%v", want, err)
		}
	}
	if _, err := ParsePolicy([]byte("[service]\nx = []\n")); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("unknown table: %v", err)
	}
}

func TestPolicyText(t *testing.T) {
	p := Policy{
		Groups:   map[string]identity.GroupID{"staff": testKey(3).Group()},
		Services: map[string]Rules{"files": rulesOf(t, "allow group:staff 443/tcp # \"quoted\" \\ naïve", "deny all udp"), "none": {}},
	}
	again, err := ParsePolicy(p.Text())
	if err != nil {
		t.Fatalf("%v in\n%s", err, p.Text())
	}
	if diff := cmp.Diff(p, again); diff != "" {
		t.Errorf("changed by writing and reading (-before +after):\n%s", diff)
	}
}

func sealed(t testing.TB, g Group, key identity.PrivateKey) []byte {
	t.Helper()
	b, err := g.Seal(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testGroup() Group {
	return Group{
		ID: testKey(3).Group(), Sequence: 7, NotAfter: testTime.Add(time.Hour).Unix(),
		Nodes: []identity.NodeID{testKey(1).Node()}, Accounts: []identity.AccountID{testKey(4).Account()},
	}
}

func TestGroupFile(t *testing.T) {
	g := testGroup()
	file := sealed(t, g, testKey(3))
	got, err := OpenGroup(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(g, got); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
	if _, err := g.Seal(testKey(5)); !errors.Is(err, ErrGroupAltered) {
		t.Errorf("sealed with another key: %v", err)
	}
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 1
		if got, err := OpenGroup(bad); err == nil && !cmp.Equal(got, g) {
			t.Fatalf("byte %d altered, and believed as %+v", i, got)
		}
		if _, err := OpenGroup(file[:i]); err == nil && len(bytes.TrimSpace(file[i:])) > 0 {
			t.Fatalf("cut at byte %d, and believed", i)
		}
	}
}

func TestGroupCheck(t *testing.T) {
	g := testGroup()
	for name, c := range map[string]struct {
		want  identity.GroupID
		known uint64
		now   time.Time
		err   error
	}{
		"fine":        {g.ID, 7, testTime, nil},
		"older":       {g.ID, 8, testTime, ErrGroupOld},
		"expired":     {g.ID, 7, testTime.Add(2 * time.Hour), ErrGroupExpired},
		"another key": {testKey(9).Group(), 0, testTime, ErrGroupAltered},
	} {
		if err := g.Check(c.want, c.known, c.now); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
	}
}

func TestGroupWith(t *testing.T) {
	n := func(i byte) Who { return Who{Kind: OneNode, Node: testKey(i).Node()} }
	g, err := testGroup().With([]Who{n(5), n(6), n(5)}, []Who{n(1)})
	if err != nil || len(g.Nodes) != 2 || len(g.Accounts) != 1 {
		t.Fatalf("%+v, %v", g, err)
	}
	if _, err := g.With([]Who{{Kind: Everybody}}, []Who{n(1)}); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("faults: %v, want two", err)
	}
	var many []Who
	for i := range MaxMembers + 1 {
		many = append(many, Who{Kind: OneNode, Node: identity.NodeID{byte(i), byte(i >> 8), 1}})
	}
	if _, err := g.With(many, nil); !errors.Is(err, ErrGroupLimit) {
		t.Errorf("too many: %v", err)
	}
	if g, err = (Group{ID: testKey(3).Group()}).With(many[:MaxMembers], nil); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenGroup(sealed(t, g, testKey(3))); err != nil {
		t.Errorf("the largest group cannot be read back: %v", err)
	}
}

func TestHello(t *testing.T) {
	node, account := testKey(1).Node(), testKey(2)
	b, err := Hello(account, node)
	if err != nil {
		t.Fatal(err)
	}
	later := append([]byte{99, 0, 2, 1, 2}, b...) // a part of a later version first
	for _, hello := range [][]byte{b, later} {
		if got, err := ParseHello(hello, node); err != nil || got != account.Account() {
			t.Errorf("got %v, %v", got, err)
		}
	}
	if _, err := ParseHello(b, testKey(9).Node()); !errors.Is(err, ErrBinding) {
		t.Errorf("another node's binding: %v", err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := ParseHello(bad, node); !errors.Is(err, ErrBinding) {
			t.Fatalf("byte %d altered: %v", i, err)
		}
		if _, err := ParseHello(b[:i], node); !errors.Is(err, ErrBinding) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

// TestDecideOrder: deny wins wherever it stands, and the first that matches is named.
func TestDecideOrder(t *testing.T) {
	node := testKey(1).Node()
	q := Request{Caller: Caller{Node: node}, Port: 80, Protocol: record.TCP}
	for _, c := range []struct {
		rules  []string
		action Action
		rule   int
	}{
		{nil, Deny, Default},
		{[]string{"allow all", "allow " + node.String()}, Allow, 0},
		{[]string{"allow all", "deny " + node.String()}, Deny, 1},
		{[]string{"deny all 80", "deny " + node.String(), "allow all"}, Deny, 0},
		{[]string{"allow " + node.String() + " udp", "ask all"}, Ask, 1},
		{[]string{"allow all 81-90", "deny all 79"}, Deny, Default},
	} {
		book := Book{Services: map[string]Rules{"s": rulesOf(t, c.rules...)}}
		action, rule := book.Decide("s", q, testTime)
		if action != c.action || rule != c.rule {
			t.Errorf("%q: %s by rule %d, want %s by %d", c.rules, action, rule, c.action, c.rule)
		}
		if d := book.Explain("s", q, testTime); d.Action != action || d.Rule != rule || d.Reason == "" {
			t.Errorf("%q: explained as %+v", c.rules, d)
		}
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	book := Book{
		Services: map[string]Rules{"s": rulesOf(t, "allow group:g", "deny all 22", "allow "+testKey(2).Account().String())},
		Roster:   Roster{"g": {Group: testGroup()}},
	}
	q := Request{Caller: Caller{Node: testKey(1).Node()}, Port: 80, Protocol: record.TCP}
	if n := testing.AllocsPerRun(100, func() { book.Decide("s", q, testTime) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte("[groups]\nstaff = \"x\"\n[services]\nfiles = [\"allow all 80/tcp # n\", \"deny group:staff 1-2\"]\n"))
	f.Add([]byte("services = 3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePolicy(b)
		if err != nil {
			return
		}
		again, err := ParsePolicy(p.Text())
		if err != nil || !bytes.Equal(again.Text(), p.Text()) {
			t.Errorf("%q: not stable: %v\n%s", b, err, p.Text())
		}
	})
}

func FuzzParseRule(f *testing.F) {
	f.Add("allow all 80,443-500/tcp # note")
	f.Add("deny account:" + testKey(1).Account().String() + " udp")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRule(text)
		if err != nil {
			return
		}
		if again, err := ParseRule(r.String()); err != nil || again.String() != r.String() {
			t.Errorf("%q: %q: %v", text, r, err)
		}
	})
}

func FuzzOpenGroup(f *testing.F) {
	f.Add(sealed(f, testGroup(), testKey(3)))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = OpenGroup(b) })
}

func FuzzParseHello(f *testing.F) {
	b, _ := Hello(testKey(2), testKey(1).Node())
	f.Add(b)
	f.Add([]byte{1, 255, 255})
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = ParseHello(b, testKey(1).Node()) })
}
