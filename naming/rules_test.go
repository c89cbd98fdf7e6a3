package naming

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// TestFallThrough is the table of the package comment, asked over the wire.
func TestFallThrough(t *testing.T) {
	id := service("some").String()
	flip := map[byte]byte{'a': 'b'}
	mistyped := []byte(id)
	if mistyped[10] = flip[mistyped[10]]; mistyped[10] == 0 {
		mistyped[10] = 'a'
	}
	node := identity.NodeID(service("node")).String()
	const up = "192.0.2.1"
	for _, tt := range []struct {
		name     string
		host     string
		down     bool // the authority, after "seen" was seen
		strict   bool
		rcode    int
		upstream bool
		ede      string // in the text of the extended error
	}{
		{name: "registered", host: "seen.top"},
		{name: "registered, below", host: "any.thing.seen.top"},
		{name: "registered, alt", host: "seen.scn.alt"},
		{name: "petname", host: "pet.top"},
		{name: "petname over a registered name", host: "both.top"},
		{name: "id", host: id + ".top"},
		{name: "id in capitals", host: strings.ToUpper(id) + ".TOP"},
		{name: "below an id", host: "www." + id + ".top"},
		{name: "id, alt", host: id + ".scn.alt"},
		{name: "id, authority down", host: id + ".top", down: true},
		{name: "petname, authority down", host: "pet.top", down: true},
		{name: "mistyped id", host: string(mistyped) + ".top", rcode: dns.RcodeNameError, ede: "checksum"},
		{name: "below a mistyped id", host: "a." + string(mistyped) + ".top", rcode: dns.RcodeNameError, ede: "checksum"},
		{name: "mistyped id, alt", host: string(mistyped) + ".scn.alt", rcode: dns.RcodeNameError, ede: "checksum"},
		{name: "id with a digit no ID has", host: id[:55] + "0.top", rcode: dns.RcodeNameError, ede: "a-z and 2-7"},
		{name: "id of a node", host: node + ".top", rcode: dns.RcodeNameError, ede: "node ID"},
		{name: "not registered", host: "free.top", upstream: true},
		{name: "below not registered", host: "www.free.top", upstream: true},
		{name: "not registered, nor there", host: "missing.top", upstream: true, rcode: dns.RcodeNameError},
		{name: "not registered, strict", host: "free.top", strict: true, upstream: true},
		{name: "not registered, alt", host: "free.scn.alt", rcode: dns.RcodeNameError, ede: "not registered"},
		{name: "no name by the grammar", host: "xn--nxasmq6b.top", upstream: true},
		{name: "too short for a name", host: "ab.top", upstream: true},
		{name: "57 characters", host: "a" + id + ".top", upstream: true},
		{name: "no name by the grammar, alt", host: "xn--nxasmq6b.scn.alt", rcode: dns.RcodeNameError, ede: "xn--"},
		{name: "a subdomain that is no name", host: "under_score.x.seen.top"},
		{name: "never seen, authority down", host: "free.top", down: true, upstream: true},
		{name: "never seen, authority down, strict", host: "free.top", down: true, strict: true, rcode: dns.RcodeServerFailure, ede: "authority down"},
		{name: "never seen, authority down, alt", host: "free.scn.alt", down: true, rcode: dns.RcodeServerFailure, ede: "authority down"},
		{name: "once seen, authority down", host: "seen.top", down: true, rcode: dns.RcodeServerFailure, ede: "seen here before"},
		{name: "below once seen, authority down", host: "www.seen.top", down: true, rcode: dns.RcodeServerFailure, ede: "seen here before"},
		{name: "once seen, authority down, alt", host: "seen.scn.alt", down: true, rcode: dns.RcodeServerFailure, ede: "seen here before"},
		{name: "elsewhere", host: "www.example.com", upstream: true},
		{name: "elsewhere, like the zone", host: "nontop", upstream: true},
		{name: "elsewhere, .alt of others", host: "other.alt", upstream: true},
		{name: "elsewhere, zone inside", host: "seen.top.example.com", upstream: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "seen")
			if tt.down { // an earlier run has seen the name
				memory, err := openSeen(file, 100)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(memory.Add("seen"), memory.Close()); err != nil {
					t.Fatal(err)
				}
			}
			r := newRig(t, func(n *NamesConfig, _ *Config) {
				n.SeenFile = file
				n.Petnames = map[name.Name]identity.ServiceID{"pet": service("pet"), "both": service("pet")}
				if tt.strict {
					n.WhenUnknown = Fail
				}
			})
			for _, n := range []name.Name{"seen", "both"} {
				r.registry.set(n, service(string(n)))
			}
			r.registry.setDown(tt.down)
			for range 2 { // the second from what is known
				a := r.ask(t, tt.host, dns.TypeAAAA)
				if tt.upstream {
					a = r.ask(t, tt.host, dns.TypeA)
				}
				if a.Rcode != tt.rcode {
					t.Errorf("%s, want %s: %s", dns.RcodeToString[a.Rcode], dns.RcodeToString[tt.rcode], ede(a))
				}
				if text := ede(a); !strings.Contains(text, tt.ede) || tt.ede == "" && text != "" {
					t.Errorf("extended error %q, want %q", text, tt.ede)
				}
				if asked := r.up.count(dns.CanonicalName(tt.host)) > 0; asked != tt.upstream {
					t.Errorf("went upstream: %v, want %v", asked, tt.upstream)
				}
				switch {
				case tt.rcode != 0:
				case len(a.Answer) != 1:
					t.Errorf("%d records", len(a.Answer))
				case tt.upstream:
					if got := a.Answer[0].(*dns.A).A.String(); got != up {
						t.Errorf("address %s", got)
					}
				}
				if a.Rcode == dns.RcodeNameError && !tt.upstream && (len(a.Ns) != 1 || a.Ns[0].Header().Rrtype != dns.TypeSOA) {
					t.Errorf("NXDOMAIN without SOA: %v", a.Ns)
				}
			}
		})
	}
}

// A name resolved stays resolved while the authority is down, until its record
// ends; then it fails, and never goes upstream.
func TestAuthorityGoesDown(t *testing.T) {
	clock := newClock()
	r := newRig(t, func(n *NamesConfig, c *Config) { n.Clock, c.Clock = clock.now, clock.now })
	r.registry.set("chat", service("chat"))
	r.registry.mu.Lock()
	r.registry.expires["chat"] = clock.now().Add(time.Hour)
	r.registry.mu.Unlock()
	if a := r.ask(t, "chat.top", dns.TypeA); len(a.Answer) != 1 {
		t.Fatalf("%v", a)
	}
	r.registry.setDown(true)
	clock.add(50 * time.Minute) // long past every cache
	a := r.ask(t, "chat.top", dns.TypeA)
	if len(a.Answer) != 1 || !strings.Contains(ede(a), "could not be asked") {
		t.Errorf("%v", a)
	}
	clock.add(11 * time.Minute)
	a = r.ask(t, "chat.top", dns.TypeA)
	if a.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v", a)
	}
	if n := r.up.count("chat.top"); n != 0 {
		t.Errorf("went upstream %d times", n)
	}
	r.registry.setDown(false)
	r.registry.mu.Lock()
	delete(r.registry.expires, "chat")
	r.registry.expires["chat"] = clock.now().Add(time.Hour)
	r.registry.mu.Unlock()
	clock.add(10 * time.Second)
	eventually(t, "resolved again", func() bool { return len(r.ask(t, "chat.top", dns.TypeA).Answer) == 1 })
}

// A name released goes upstream once that is authenticated, and is forgotten.
func TestReleased(t *testing.T) {
	r := newRig(t, nil)
	r.registry.set("chat", service("chat"))
	r.ask(t, "chat.top", dns.TypeA)
	r.registry.release("chat")
	r.names.Forget("chat")
	if a := r.ask(t, "chat.top", dns.TypeA); len(a.Answer) != 1 || r.up.count("chat.top") != 1 {
		t.Errorf("%v", a)
	}
	if r.names.seen.Has("chat") {
		t.Error("still counted as ours")
	}
	r.registry.set("chat", service("other"))
	r.names.Forget("chat")
	v4, _, _ := r.addresses.Assign(t.Context(), service("other"))
	if a := r.ask(t, "chat.top", dns.TypeA); len(a.Answer) != 1 || a.Answer[0].(*dns.A).A.String() != v4.String() {
		t.Errorf("%v; want the new service's %s", a, v4)
	}
}

func TestServiceWithoutRecord(t *testing.T) {
	r := newRig(t, nil)
	r.registry.set("quiet", service("quiet"))
	r.registry.set("lost", service("lost"))
	r.services.setFail(service("quiet"), fmt.Errorf("lookup: %w", ErrNoService))
	r.services.setFail(service("lost"), errDown)
	a := r.ask(t, "quiet.top", dns.TypeA)
	if a.Rcode != dns.RcodeSuccess || len(a.Answer) != 0 || len(a.Ns) != 1 || !strings.Contains(ede(a), "no record") {
		t.Errorf("no record: %v", a)
	}
	if a := r.ask(t, "lost.top", dns.TypeA); a.Rcode != dns.RcodeServerFailure {
		t.Errorf("search failed: %v", a)
	}
	r.addresses.mu.Lock()
	assigned := len(r.addresses.back)
	r.addresses.mu.Unlock()
	if assigned != 0 {
		t.Error("an address was given out before a record was found")
	}
	if a := r.ask(t, "quiet.top", dns.TypeTXT); len(a.Answer) != 1 {
		t.Errorf("TXT: %v", a)
	}
	r.services.setFail(service("quiet"), nil)
	eventually(t, "an address once there is a record", func() bool { return len(r.ask(t, "quiet.top", dns.TypeA).Answer) == 1 })
}

func TestResolve(t *testing.T) {
	registry := newRegistry()
	registry.set("chat", service("chat"))
	n, err := OpenNames(registry, NamesConfig{Zone: "Scn.Example."})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for host, want := range map[string]error{
		"chat.scn.example": nil, "A.CHAT.SCN.EXAMPLE.": nil, "chat.scn.alt": nil,
		"chat.top": ErrOutside, "": ErrOutside, ".": ErrOutside, "scn.example": ErrNotFound, "nobody.scn.example": ErrNotRegistered,
		"..scn.example": ErrNotFound, "a..scn.alt": ErrNotFound,
	} {
		r, err := n.Resolve(t.Context(), host)
		if !errors.Is(err, want) {
			if errors.Is(want, ErrNotFound) && errors.Is(err, ErrOutside) {
				continue // an empty label is no name
			}
			t.Errorf("%q: %v, want %v", host, err, want)
		}
		if want == nil && (r.Service != service("chat") || r.Name != "chat" || r.Source != FromRegistry) {
			t.Errorf("%q: %+v", host, r)
		}
	}
	if m := n.Metrics(); m.Found != 3 || m.Seen != 1 {
		t.Errorf("%+v", m)
	}
}

// An answer for another name than asked for is nobody's word.
func TestRegistryAnswersWrongName(t *testing.T) {
	n, err := OpenNames(registryFunc(func(context.Context, name.Name) (Answer, error) {
		return Answer{State: Registered, Record: name.Record{Name: "other", NotAfter: time.Now().Unix() + 100}}, nil
	}), NamesConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if _, err := n.Resolve(t.Context(), "chat.scn.alt"); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

type registryFunc func(context.Context, name.Name) (Answer, error)

func (f registryFunc) Lookup(ctx context.Context, n name.Name) (Answer, error) { return f(ctx, n) }

func TestSlowRegistry(t *testing.T) {
	r := newRig(t, func(n *NamesConfig, _ *Config) { n.Timeout = 100 * time.Millisecond })
	r.registry.mu.Lock()
	r.registry.delay = time.Hour
	r.registry.mu.Unlock()
	start := time.Now()
	if a := r.ask(t, "slow.scn.alt", dns.TypeA); a.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v", a)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seen")
	s, err := openSeen(path, 16)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if err := s.Add(name.Name(fmt.Sprintf("name%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Remove("name39"), s.Remove("name39"), s.Add("name24")); err != nil {
		t.Fatal(err)
	}
	// Killed: the file as it is, its last line cut short.
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(b, "+na"...), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := openSeen(path, 16)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for n, want := range map[name.Name]bool{"name39": false, "name38": true, "name25": true, "name23": false, "name0": false} {
		if got := again.Has(n); got != want {
			t.Errorf("%s: %v", n, got)
		}
	}
	if again.Len() != 15 {
		t.Errorf("%d names", again.Len())
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	// The log does not grow without bound.
	for i := range 5000 {
		n := name.Name(fmt.Sprintf("again%d", i%20))
		if err := errors.Join(again.Add(n), again.Remove(n)); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 64<<10 {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
}

func FuzzSeen(f *testing.F) {
	f.Add([]byte("+chat\n-chat\n+mail\n"))
	f.Add([]byte("+\n\n-\n+a b\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "seen")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openSeen(path, 16)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if s.Len() > 16 {
			t.Errorf("%d names", s.Len())
		}
	})
}

func TestParsePetnames(t *testing.T) {
	id := service("x")
	got, err := ParsePetnames(map[string]string{"Nas": id.String(), "printer": id.String()})
	if err != nil || len(got) != 2 || got["nas"] != id {
		t.Errorf("%v, %v", got, err)
	}
	_, err = ParsePetnames(map[string]string{"x": id.String(), "nas": "short", "NAS": id.String(), "Nas": id.String()})
	for _, want := range []string{"3 to 40", "56 characters", "twice"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
}

func TestReverseZones(t *testing.T) {
	for prefix, want := range map[string]string{
		"198.18.0.0/15":  "18.198.in-addr.arpa 19.198.in-addr.arpa",
		"10.0.0.0/8":     "10.in-addr.arpa",
		"192.0.2.128/26": "",
		"fd53:434e::/32": "e.4.3.4.3.5.d.f.ip6.arpa",
		"fd53:434e::/31": "e.4.3.4.3.5.d.f.ip6.arpa f.4.3.4.3.5.d.f.ip6.arpa",
	} {
		p := prefixOf(prefix)
		got := ReverseZones(p)
		if want == "" {
			if len(got) != 64 || got[0] != "128.2.0.192.in-addr.arpa" {
				t.Errorf("%s: %v", prefix, got)
			}
			continue
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", prefix, got, want)
		}
		addr, bits, ok := parseReverse(reverseLabels(p.Addr().Next(), p.Addr().BitLen()))
		if !ok || addr != p.Addr().Next() || bits != addr.BitLen() {
			t.Errorf("%s: %s/%d, %v", prefix, addr, bits, ok)
		}
	}
}
