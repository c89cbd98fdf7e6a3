package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/daemon/access"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal"
	"scn.alt/scn/sal/saltest"
)

// site is one provider with a service on several ports, and callers that reach it
// by sessions of their own.
type site struct {
	*running
	address  netip.AddrPort
	service  identity.ServiceID
	resolver *saltest.Resolver
	callers  map[string]*sal.Node
	accounts map[string]identity.PrivateKey
	groupKey identity.PrivateKey
}

const (
	siteName   = name.Name("files")
	sitePort   = 80
	otherPort  = 443
	packetPort = 53
)

// newSite starts a provider that serves 80/tcp, 443/tcp and 53/udp, and callers:
//
//	plain    shows no account
//	member   shows its account
//	liar     shows the binding of another node
func newSite(t testing.TB, change ...func(*node.Config)) *site {
	t.Helper()
	dir, address := initNode(t, nil)
	s := &site{running: start(t, dir, address, change...), address: address, resolver: &saltest.Resolver{}}
	s.callers, s.accounts = map[string]*sal.Node{}, map[string]identity.PrivateKey{}
	s.groupKey = saltest.Key(500)
	stream, packets := echoTargets(t)
	served, err := s.Serve(within(t, 30*time.Second), node.Service{
		Name: siteName, Allow: []string{"all"}, Weight: 100,
		Targets: []string{
			fmt.Sprintf("%d=tcp://%s", sitePort, stream), fmt.Sprintf("%d=tcp://%s", otherPort, stream),
			fmt.Sprintf("%d=udp://%s", packetPort, packets),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.service = served.ID
	s.resolver.SetNode(s.ID(), address)
	s.resolver.SetService(s.service, record.Candidate{Node: s.ID(), Weight: 1})
	other, err := access.Hello(saltest.Key(402), saltest.Key(999).Node())
	if err != nil {
		t.Fatal(err)
	}
	s.addCaller(t, "plain", 301, nil)
	s.addMember(t, "member", 302)
	s.addCaller(t, "liar", 303, other)
	return s
}

// addMember adds a caller that shows its account.
func (s *site) addMember(t testing.TB, name string, i int) {
	t.Helper()
	account := saltest.Key(i + 100)
	hello, err := access.Hello(account, saltest.Key(i).Node())
	if err != nil {
		t.Fatal(err)
	}
	s.accounts[name] = account
	s.addCaller(t, name, i, hello)
}

func (s *site) addCaller(t testing.TB, name string, i int, hello []byte) {
	t.Helper()
	c, err := sal.Open(sal.Config{
		Key: saltest.Key(i), Network: s.Network().ID, Resolver: s.resolver, AllowLoopback: true, Hello: hello, OpenTimeout: time.Minute,
		IgnoreInterface: func(name string) bool { return name != "lo" },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	s.callers[name] = c
}

// echoTargets serves streams and datagrams that come back as they are.
func echoTargets(t testing.TB) (stream, packets net.Addr) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with its connection
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	go func() { // ends with the socket
		b := make([]byte, 2000)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = p.WriteTo(b[:n], from)
		}
	}()
	return l.Addr(), p.LocalAddr()
}

// open opens a session and uses it; the error is that of the dial, or of its use.
func (s *site) open(ctx context.Context, caller string, port uint16, protocol record.Protocol) (net.Conn, error) {
	var c net.Conn
	if protocol == record.UDP {
		p, err := s.callers[caller].DialPacket(ctx, s.service, port)
		if err != nil {
			return nil, err
		}
		c = p
	} else {
		p, err := s.callers[caller].Dial(ctx, s.service, port)
		if err != nil {
			return nil, err
		}
		c = p
	}
	return c, use(c)
}

// use sends a word and waits for its echo; a datagram may be lost.
func use(c net.Conn) error {
	var err error
	for range 10 {
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err = io.WriteString(c, "word"); err != nil {
			return err
		}
		b := make([]byte, 4)
		if _, err = io.ReadFull(c, b); err == nil && string(b) == "word" {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return err
}

func (s *site) setRules(t testing.TB, texts ...string) {
	t.Helper()
	rules, err := access.ParseRules(texts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Rules().SetRules(siteName, func(access.Rules) (access.Rules, error) { return rules, nil }); err != nil {
		t.Fatal(err)
	}
}

// putGroup writes a group's list as its owner would have signed it, or as somebody
// else has spoilt it, and loads it.
func (s *site) putGroup(t testing.TB, g access.Group, spoil func([]byte) []byte) {
	t.Helper()
	g.ID = s.groupKey.Group()
	list, err := g.Seal(s.groupKey)
	if err != nil {
		t.Fatal(err)
	}
	if spoil != nil {
		list = spoil(list)
	}
	path := filepath.Join(s.dir, "groups", "staff.group")
	if list == nil {
		if err = os.Remove(path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	} else {
		err = os.WriteFile(path, list, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Rules().Reload(); err != nil {
		t.Fatal(err)
	}
}

// TestAccessCases opens real sessions in 42 situations: what happens is what the
// rules mean, and what explain says.
func TestAccessCases(t *testing.T) {
	s := newSite(t)
	// A first list, so that rules may name the group at all.
	first, err := access.Group{ID: s.groupKey.Group(), Sequence: 1, NotAfter: time.Now().Add(time.Hour).Unix()}.Seal(s.groupKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Rules().ImportGroup("staff", first, s.groupKey.Group()); err != nil {
		t.Fatal(err)
	}
	node := func(caller string) string { return s.callers[caller].ID().String() }
	account := func(caller string) string { return "account:" + s.accounts[caller].Account().String() }
	claimed := "account:" + saltest.Key(402).Account().String() // the member's, which the liar shows too
	another := "account:" + saltest.Key(450).Account().String()
	stranger := saltest.Key(77).Node().String()
	later, past := time.Now().Add(time.Hour).Unix(), time.Now().Add(-time.Hour).Unix()
	nodes := func(callers ...string) (g access.Group) {
		g.NotAfter = later
		for _, c := range callers {
			g.Nodes = append(g.Nodes, s.callers[c].ID())
		}
		return g
	}
	ofAccounts := access.Group{NotAfter: later, Accounts: []identity.AccountID{s.accounts["member"].Account()}}
	expired := nodes("plain")
	expired.NotAfter = past
	altered := func(b []byte) []byte { b[60] ^= 3; return b }
	gone := func([]byte) []byte { return nil }

	const tcp, udp = record.TCP, record.UDP
	cases := []struct {
		name     string
		rules    []string
		group    *access.Group
		spoil    func([]byte) []byte
		old      bool // an older list than known is put
		caller   string
		port     uint16
		protocol record.Protocol
		allowed  bool
		rule     int // that decides, from 1; 0 is the default
	}{
		{name: "no rules", caller: "plain", port: sitePort, protocol: tcp},
		{name: "allow all", rules: []string{"allow all"}, caller: "plain", port: sitePort, protocol: tcp, allowed: true, rule: 1},
		{name: "allow all, datagrams", rules: []string{"allow all"}, caller: "plain", port: packetPort, protocol: udp, allowed: true, rule: 1},
		{name: "allow this node", rules: []string{"allow " + node("plain")}, caller: "plain", port: sitePort, protocol: tcp, allowed: true, rule: 1},
		{name: "allow another node", rules: []string{"allow " + stranger}, caller: "plain", port: sitePort, protocol: tcp},
		{name: "deny this node", rules: []string{"deny " + node("plain")}, caller: "plain", port: sitePort, protocol: tcp, rule: 1},
		{name: "deny after allow wins", rules: []string{"allow all", "deny " + node("plain")}, caller: "plain", port: sitePort, protocol: tcp, rule: 2},
		{name: "deny before allow wins", rules: []string{"deny " + node("plain"), "allow all"}, caller: "plain", port: sitePort, protocol: tcp, rule: 1},
		{name: "deny of another does not", rules: []string{"deny " + stranger, "allow all"}, caller: "plain", port: sitePort, protocol: tcp, allowed: true, rule: 2},
		{name: "the first deny is named", rules: []string{"allow all", "deny " + node("plain") + " 80", "deny " + node("plain")}, caller: "plain", port: sitePort, protocol: tcp, rule: 2},
		{name: "the first allow is named", rules: []string{"allow " + stranger, "allow " + node("plain"), "allow all"}, caller: "plain", port: sitePort, protocol: tcp, allowed: true, rule: 2},
		{name: "port allowed", rules: []string{"allow all 80"}, caller: "plain", port: sitePort, protocol: tcp, allowed: true, rule: 1},
		{name: "port not allowed", rules: []string{"allow all 80"}, caller: "plain", port: otherPort, protocol: tcp},
		{name: "range", rules: []string{"allow all 400-500"}, caller: "plain", port: otherPort, protocol: tcp, allowed: true, rule: 1},
		{name: "beyond the range", rules: []string{"allow all 400-442"}, caller: "plain", port: otherPort, protocol: tcp},
		{name: "one of several", rules: []string{"allow all 22,443/tcp"}, caller: "plain", port: otherPort, protocol: tcp, allowed: true, rule: 1},
		{name: "protocol allowed", rules: []string{"allow all udp"}, caller: "plain", port: packetPort, protocol: udp, allowed: true, rule: 1},
		{name: "protocol not allowed", rules: []string{"allow all udp"}, caller: "plain", port: sitePort, protocol: tcp},
		{name: "port of the other protocol", rules: []string{"allow all 53/tcp"}, caller: "plain", port: packetPort, protocol: udp},
		{name: "one port denied", rules: []string{"allow all", "deny all 443"}, caller: "plain", port: otherPort, protocol: tcp, rule: 2},
		{name: "the other port stays", rules: []string{"allow all", "deny all 443"}, caller: "plain", port: sitePort, protocol: tcp, allowed: true, rule: 1},
		{name: "account allowed", rules: []string{"allow " + account("member")}, caller: "member", port: sitePort, protocol: tcp, allowed: true, rule: 1},
		{name: "account allowed, node shows none", rules: []string{"allow " + account("member")}, caller: "plain", port: sitePort, protocol: tcp},
		{name: "account allowed, binding of another node", rules: []string{"allow " + claimed}, caller: "liar", port: sitePort, protocol: tcp},
		{name: "account denied", rules: []string{"allow all", "deny " + account("member")}, caller: "member", port: sitePort, protocol: tcp, rule: 2},
		{name: "account denied, node shows none", rules: []string{"allow all", "deny " + account("member")}, caller: "plain", port: sitePort, protocol: tcp, rule: 2},
		{name: "another account denied", rules: []string{"allow all", "deny " + another}, caller: "member", port: sitePort, protocol: tcp, allowed: true, rule: 1},
		{name: "node of an account denied elsewhere", rules: []string{"allow all", "deny " + account("member") + " 443"}, caller: "member", port: sitePort, protocol: tcp, allowed: true, rule: 1},
		{name: "group lists the node", rules: []string{"allow group:staff"}, group: ref(nodes("plain")), caller: "plain", port: sitePort, protocol: tcp, allowed: true, rule: 1},
		{name: "group lists another", rules: []string{"allow group:staff"}, group: ref(nodes("member")), caller: "plain", port: sitePort, protocol: tcp},
		{name: "group lists the account", rules: []string{"allow group:staff"}, group: &ofAccounts, caller: "member", port: sitePort, protocol: tcp, allowed: true, rule: 1},
		{name: "group lists an account, node shows none", rules: []string{"allow group:staff"}, group: &ofAccounts, caller: "plain", port: sitePort, protocol: tcp},
		{name: "group denied", rules: []string{"allow all", "deny group:staff"}, group: ref(nodes("plain")), caller: "plain", port: sitePort, protocol: tcp, rule: 2},
		{name: "group denied, another", rules: []string{"allow all", "deny group:staff"}, group: ref(nodes("plain")), caller: "member", port: sitePort, protocol: tcp, allowed: true, rule: 1},
		{name: "group of accounts denied, node shows none", rules: []string{"allow all", "deny group:staff"}, group: &ofAccounts, caller: "plain", port: sitePort, protocol: tcp, rule: 2},
		{name: "expired group allows nobody", rules: []string{"allow group:staff"}, group: &expired, caller: "plain", port: sitePort, protocol: tcp},
		{name: "expired group denies everybody", rules: []string{"allow all", "deny group:staff"}, group: &expired, caller: "member", port: sitePort, protocol: tcp, rule: 2},
		{name: "altered group allows nobody", rules: []string{"allow group:staff"}, group: ref(nodes("plain")), spoil: altered, caller: "plain", port: sitePort, protocol: tcp},
		{name: "altered group denies everybody", rules: []string{"allow all", "deny group:staff"}, group: ref(nodes("plain")), spoil: altered, caller: "member", port: sitePort, protocol: tcp, rule: 2},
		{name: "older group allows nobody", rules: []string{"allow group:staff"}, group: ref(nodes("plain")), old: true, caller: "plain", port: sitePort, protocol: tcp},
		{name: "missing group allows nobody", rules: []string{"allow group:staff"}, group: ref(nodes("plain")), spoil: gone, caller: "plain", port: sitePort, protocol: tcp},
		{name: "missing group denies its ports only", rules: []string{"allow all", "deny group:staff 443"}, group: ref(nodes("plain")), spoil: gone, caller: "plain", port: sitePort, protocol: tcp, allowed: true, rule: 1},
	}
	if len(cases) < 40 {
		t.Fatalf("%d cases", len(cases))
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.group != nil {
				c.group.Sequence = uint64(i) + 2
				if c.old {
					c.group.Sequence = 1
				}
				s.putGroup(t, *c.group, c.spoil)
			}
			s.setRules(t, c.rules...)
			conn, err := s.open(within(t, 20*time.Second), c.caller, c.port, c.protocol)
			if conn != nil {
				defer conn.Close()
			}
			switch {
			case c.allowed && err != nil:
				t.Errorf("refused: %v", err)
			case !c.allowed && err == nil:
				t.Error("let through")
			case !c.allowed && !errors.Is(err, syscall.EACCES):
				t.Errorf("failed otherwise than by a refusal: %v", err)
			}
			caller := access.Caller{Node: s.callers[c.caller].ID()}
			caller.Account, _ = s.AccountOf(caller.Node)
			said, err := s.Rules().Explain(siteName, caller, c.port, c.protocol)
			if err != nil || len(said) != 1 {
				t.Fatalf("explain: %+v, %v", said, err)
			}
			if d := said[0]; (d.Action == access.Allow) != c.allowed || d.Rule+1 != c.rule {
				t.Errorf("explained as %s by rule %d, want allowed %v by rule %d: %s", d.Action, d.Rule+1, c.allowed, c.rule, d.Reason)
			}
		})
	}
}

func ref(g access.Group) *access.Group { return &g }

// TestRulesEndForbiddenSessions: those that the new rules allow notice nothing.
func TestRulesEndForbiddenSessions(t *testing.T) {
	s := newSite(t)
	ctx := within(t, 30*time.Second)
	out, err := s.open(ctx, "plain", sitePort, record.TCP)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	stays, err := s.open(ctx, "member", sitePort, record.TCP)
	if err != nil {
		t.Fatal(err)
	}
	defer stays.Close()
	packets, err := s.open(ctx, "plain", packetPort, record.UDP)
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	s.setRules(t, "allow all", "deny "+s.callers["plain"].ID().String()+" tcp")
	_ = out.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := out.Read(make([]byte, 1)); !errors.Is(err, syscall.EACCES) {
		t.Errorf("the forbidden session reads %v, want EACCES", err)
	}
	if m := s.AccessMetrics(); m.Ended != 1 || m.Allowed != 3 || m.Denied != 0 {
		t.Errorf("metrics %+v", m)
	}
	for name, c := range map[string]net.Conn{"another node's": stays, "another protocol's": packets} {
		if err := use(c); err != nil {
			t.Errorf("%s session broke: %v", name, err)
		}
	}
	// A rules file that is edited by hand counts after a reload, and a faulty one not.
	path := filepath.Join(s.dir, "access.toml")
	if err := os.WriteFile(path, []byte("[services]\nfiles = [\"allow nobody\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Rules().Reload(); err == nil {
		t.Error("a faulty rules file was taken")
	}
	if err := use(stays); err != nil {
		t.Errorf("a faulty rules file ended a session: %v", err)
	}
	if err := os.WriteFile(path, []byte("[services]\nfiles = []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Rules().Reload(); err != nil {
		t.Fatal(err)
	}
	_ = stays.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := stays.Read(make([]byte, 1)); !errors.Is(err, syscall.EACCES) {
		t.Errorf("after the last rule went: %v, want EACCES", err)
	}
}

// TestServeKeepsDenyRules: serving anew sets who is allowed and opens no door that
// was shut; without --allow the rules stay.
func TestServeKeepsDenyRules(t *testing.T) {
	s := newSite(t)
	plain := s.callers["plain"].ID().String()
	s.setRules(t, "allow all 80", "deny "+plain)
	service := node.Service{Name: siteName, Targets: []string{"80=tcp://127.0.0.1:9"}, Weight: 100}
	want := "[allow all 80 deny node:" + plain + "]"
	for _, allow := range [][]string{nil, {"all"}} {
		service.Allow = allow
		if _, err := s.Serve(within(t, 20*time.Second), service); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(s.Rules().Policy().Services[string(siteName)].Texts()); got != want {
			t.Errorf("rules %s, want %s", got, want)
		}
		want = "[deny node:" + plain + " allow all]"
	}
	service.Name = "other"
	service.Allow = nil
	if _, err := s.Serve(within(t, 20*time.Second), service); !errors.Is(err, node.ErrRequest) {
		t.Errorf("served without a word on who may use it: %v", err)
	}
	service.Allow = []string{"group:none", "nonsense"}
	if _, err := s.Serve(within(t, 20*time.Second), service); !errors.Is(err, node.ErrRequest) || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("served for nobody: %v", err)
	}
}

// TestOlderServicesFile: who was allowed before there were rules becomes rules, once.
func TestOlderServicesFile(t *testing.T) {
	s := newSite(t)
	s.stop()
	if err := os.Remove(filepath.Join(s.dir, "access.toml")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, "services.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "allow") {
		t.Errorf("the services file still says who is allowed:\n%s", b)
	}
	old := strings.Replace(string(b), `"targets"`, `"allow": ["all"], "targets"`, 1)
	if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	again := start(t, s.dir, s.address)
	if got := fmt.Sprint(again.Rules().Policy().Services[string(siteName)].Texts()); got != "[allow all]" {
		t.Errorf("rules %s", got)
	}
	if b, err = os.ReadFile(path); err != nil || strings.Contains(string(b), "allow") {
		t.Errorf("%v: the services file would open the door again:\n%s", err, b)
	}
}

// TestExpiringGroupEndsSessions: a member's session ends when the list is not believed
// any more, without anybody doing anything.
func TestExpiringGroupEndsSessions(t *testing.T) {
	s := newSite(t)
	plain := access.Who{Kind: access.OneNode, Node: s.callers["plain"].ID()}
	if _, err := s.Rules().CreateGroup("staff", []access.Who{plain}, time.Hour); err != nil {
		t.Fatal(err)
	}
	s.setRules(t, "allow group:staff")
	c, err := s.open(within(t, 20*time.Second), "plain", sitePort, record.TCP)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The list is signed anew, for a few seconds only.
	g, err := s.Rules().Group("staff")
	if err != nil || !g.Mine {
		t.Fatalf("%+v, %v", g, err)
	}
	b, err := os.ReadFile(filepath.Join(s.dir, "groups", "staff.key"))
	if err != nil {
		t.Fatal(err)
	}
	if s.groupKey, err = identity.ParseKey(b); err != nil {
		t.Fatal(err)
	}
	g.Sequence++
	g.NotAfter = time.Now().Add(3 * time.Second).Unix()
	s.putGroup(t, g.Group, nil)
	if err := use(c); err != nil {
		t.Fatalf("ended too early: %v", err)
	}
	_ = c.SetReadDeadline(time.Now().Add(90 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.EACCES) {
		t.Errorf("after its last second: %v, want EACCES", err)
	}
}
