package address

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
)

func service(n int) (id identity.ServiceID) {
	binary.BigEndian.PutUint32(id[:], uint32(n)+1)
	return id
}

var network = identity.NetworkID{1, 2, 3}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *clock) Add(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

func open(t *testing.T, cfg Config) *Pool {
	t.Helper()
	cfg.Network = network
	p, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestAssignIsStableAndUnique(t *testing.T) {
	file := filepath.Join(t.TempDir(), "addresses")
	p := open(t, Config{File: file})
	seen := make(map[netip.Addr]int)
	first := make(map[int][2]netip.Addr)
	for n := range 500 {
		v4, v6, err := p.Assign(service(n))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range []netip.Addr{v4, v6} {
			if other, ok := seen[a]; ok {
				t.Fatalf("services %d and %d share %s", other, n, a)
			}
			seen[a] = n
			if got, ok := p.Service(a); !ok || got != service(n) {
				t.Fatalf("Service(%s) = %v, %v", a, got, ok)
			}
		}
		if !p.Prefix4().Contains(v4) || !p.Prefix6().Contains(v6) {
			t.Fatalf("%s or %s is outside the prefixes", v4, v6)
		}
		first[n] = [2]netip.Addr{v4, v6}
	}
	// Not closed: as after kill -9.
	q := open(t, Config{File: file})
	for n := range 500 {
		if v4, v6, err := q.Assign(service(n)); err != nil || v4 != first[n][0] || v6 != first[n][1] {
			t.Fatalf("service %d was %v, is now %s %s (%v)", n, first[n], v4, v6, err)
		}
	}
}

func TestFullPoolAndRest(t *testing.T) {
	c := &clock{now: time.Unix(1_700_000_000, 0)}
	small := netip.MustParsePrefix("10.9.8.0/27")
	file := filepath.Join(t.TempDir(), "addresses")
	p := open(t, Config{Prefix: small, Clock: c.Now, File: file})
	_, capacity := p.Len()
	if capacity != 32-Reserved-1 {
		t.Fatalf("capacity %d", capacity)
	}
	for n := range capacity {
		if _, _, err := p.Assign(service(n)); err != nil {
			t.Fatalf("service %d: %v", n, err)
		}
		c.Add(time.Second)
	}
	late := service(1000)
	v4, v6, err := p.Assign(late)
	if !errors.Is(err, ErrFull) || v4.IsValid() || !v6.IsValid() {
		t.Fatalf("full pool gave %s %s %v", v4, v6, err)
	}
	if got, ok := p.Service(v6); !ok || got != late {
		t.Fatal("the IPv6 address of a service without IPv4 is not known")
	}
	c.Add(Rest - time.Hour)
	if _, _, err := p.Assign(service(0)); err != nil { // used again: 1 is the oldest now
		t.Fatal(err)
	}
	if _, _, err := p.Assign(late); !errors.Is(err, ErrFull) {
		t.Fatalf("an address was given away before its rest was over: %v", err)
	}
	old, _, _ := p.Lookup(service(1))
	c.Add(3 * time.Hour)
	v4, again, err := p.Assign(late)
	if err != nil || v4 != old || again != v6 {
		t.Fatalf("got %s %s %v, want the oldest, %s", v4, again, err, old)
	}
	if _, _, ok := p.Lookup(service(1)); ok {
		t.Fatal("the former holder still has addresses")
	}
	q := open(t, Config{Prefix: small, Clock: c.Now, File: file})
	if got, ok := q.Service(v4); !ok || got != late {
		t.Fatal("the takeover did not survive")
	}
}

func TestTouchSurvivesKill(t *testing.T) {
	c := &clock{now: time.Unix(1_700_000_000, 0)}
	file := filepath.Join(t.TempDir(), "addresses")
	p := open(t, Config{Clock: c.Now, File: file})
	if _, _, err := p.Assign(service(1)); err != nil {
		t.Fatal(err)
	}
	c.Add(2 * time.Hour)
	if err := p.Touch(service(1)); err != nil {
		t.Fatal(err)
	}
	q := open(t, Config{Clock: c.Now, File: file})
	if got := q.services[service(1)].used; got != c.Now().Unix() {
		t.Fatalf("last use is %d, want %d", got, c.Now().Unix())
	}
}

func TestJournalTornAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "addresses")
	p := open(t, Config{File: file})
	for n := range 3 {
		if _, _, err := p.Assign(service(n)); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		name := filepath.Join(dir, fmt.Sprint("cut", cut))
		if err := os.WriteFile(name, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		q := open(t, Config{File: name})
		if got, want := len(q.services), bytes.Count(whole[:cut], []byte("\n")); got != want {
			t.Fatalf("cut at %d: %d services, want %d", cut, got, want)
		}
		if _, _, err := q.Assign(service(77)); err != nil { // the torn end must not spoil what follows
			t.Fatal(err)
		}
		if r := open(t, Config{File: name}); r.services[service(77)] == nil {
			t.Fatalf("cut at %d: lost a later line", cut)
		}
	}
	damaged := bytes.Clone(whole)
	damaged[12] ^= 1
	if err := os.WriteFile(file, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Network: network, File: file}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), file) {
		t.Fatalf("damaged journal: %v", err)
	}
}

func TestJournalStaysSmall(t *testing.T) {
	c := &clock{now: time.Unix(1_700_000_000, 0)}
	file := filepath.Join(t.TempDir(), "addresses")
	p := open(t, Config{Clock: c.Now, File: file})
	for n := range 200 {
		if _, _, err := p.Assign(service(n % 20)); err != nil {
			t.Fatal(err)
		}
		c.Add(2 * time.Hour)
		if err := p.Touch(service(n % 20)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 10 {
		if _, _, err := p.Assign(service(100 + n)); err != nil {
			t.Fatal(err)
		}
	}
	if p.journal.lines > 64+2*40 {
		t.Fatalf("journal has %d lines for 30 services", p.journal.lines)
	}
}

func TestAnotherPoolKeepsNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "addresses")
	p := open(t, Config{File: file})
	if _, _, err := p.Assign(service(1)); err != nil {
		t.Fatal(err)
	}
	q := open(t, Config{File: file, Prefix: netip.MustParsePrefix("10.0.0.0/16")})
	if n, _ := q.Len(); n != 0 {
		t.Fatalf("%d services from another pool", n)
	}
	if v4, _, err := q.Assign(service(1)); err != nil || !q.Prefix4().Contains(v4) {
		t.Fatal(v4, err)
	}
}

func TestConcurrentAssign(t *testing.T) {
	p := open(t, Config{File: filepath.Join(t.TempDir(), "addresses")})
	var wg sync.WaitGroup
	got := make([]netip.Addr, 16)
	for i := range got {
		wg.Go(func() {
			v4, _, err := p.Assign(service(i % 2))
			if err != nil {
				t.Error(err)
			}
			got[i] = v4
		})
	}
	wg.Wait()
	for i := range got {
		if got[i] != got[i%2] {
			t.Fatalf("one service has %s and %s", got[i], got[i%2])
		}
	}
}

func TestValidatePool(t *testing.T) {
	for _, s := range []string{"10.0.0.0/8", "198.18.0.0/15", "192.168.1.0/27"} {
		if err := ValidatePool(netip.MustParsePrefix(s)); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"10.0.0.0/7", "10.0.0.0/28", "10.0.0.1/16", "fd00::/16", "127.0.0.0/8", "224.0.0.0/8", "0.0.0.0/8", "169.254.0.0/16"} {
		if err := ValidatePool(netip.MustParsePrefix(s)); !errors.Is(err, ErrPool) {
			t.Errorf("%s: %v", s, err)
		}
	}
	if err := ValidatePool(netip.Prefix{}); !errors.Is(err, ErrPool) {
		t.Error(err)
	}
}

func TestOwnAddressesAreNoService(t *testing.T) {
	prefix := Prefix(network)
	if prefix != prefix.Masked() || prefix.Bits() != 48 || prefix.Addr().As16()[0] != 0xfd {
		t.Fatalf("prefix %s", prefix)
	}
	for n := range 1000 {
		if a := IPv6(network, service(n)); !prefix.Contains(a) || a.As16()[6]&0x80 == 0 {
			t.Fatalf("address %s", a)
		}
	}
	if got := Own(prefix, 1).As16(); got[15] != 1 || got[6] != 0 {
		t.Fatal(got)
	}
}

func FuzzParseLine(f *testing.F) {
	good := line{used: 1_700_000_000, v4: netip.MustParseAddr("198.18.0.16"), service: service(1)}
	f.Add(strings.TrimSuffix(string(good.append(nil)), "\n"))
	f.Add(strings.TrimSuffix(string(line{service: service(2)}.append(nil)), "\n"))
	f.Add("")
	f.Add("00000000 1 - x")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := parseLine(s)
		if err != nil {
			return
		}
		if got := string(l.append(nil)); got != s+"\n" {
			t.Fatalf("%q comes back as %q", s, got)
		}
	})
}
