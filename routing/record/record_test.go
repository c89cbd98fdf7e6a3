package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"scn.alt/scn/routing/identity"
)

var (
	testKey = identity.NewKeyFromSeed([32]byte{1})
	now     = time.Unix(1_800_000_000, 0)
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

func locators(texts ...string) (out []Locator) {
	for _, s := range texts {
		out = append(out, Locator{netip.MustParseAddrPort(s)})
	}
	return out
}

func node(n uint8) identity.NodeID { return identity.NodeID{n} }

func goodNode() NodeRecord {
	return NodeRecord{
		Node: testKey.Node(), Sequence: 7, NotAfter: now.Unix(),
		Locators: locators("192.0.2.1:4600", "[2001:db8::1]:4600"), Region: "eu", Load: 9,
	}
}

func goodService() ServiceRecord {
	return ServiceRecord{
		Service: testKey.Service(), Sequence: 7, NotAfter: now.Unix(),
		Grants:     []Grant{{node(1), 5, 10, 1}, {node(3), 7, 0, 0}},
		Tombstones: []Tombstone{{node(2), 6}},
		Ports:      []Port{{53, UDP}, {80, TCP}},
	}
}

func TestGoldenNodeRecord(t *testing.T) {
	r := goodNode()
	b, err := r.Seal(testKey)
	if err != nil {
		t.Fatal(err)
	}
	want := unhex(t, `
		a4                          # envelope, a map of 4
		01 58 20                    # 1: signer
		   cecc1507dc1ddd7295951c290888f095adb9044d1b73d696e6df065d683bd4fc
		02 64 6e 6f 64 65           # 2: type "node"
		03 58 4e                    # 3: payload, 78 bytes
		   a6                       # a map of 6
		   01 58 20                 # 1: node
		      cecc1507dc1ddd7295951c290888f095adb9044d1b73d696e6df065d683bd4fc
		   02 07                    # 2: sequence 7
		   03 1a 6b49d200           # 3: not after 1800000000
		   04 82                    # 4: locators, 2
		      46 c0000201 11f8      #    192.0.2.1, port 4600
		      52 20010db8000000000000000000000001 11f8
		   05 62 65 75              # 5: region "eu"
		   06 09                    # 6: load 9
		04 58 40                    # 4: signature
		   aef38f2547c327e5de2db8ee93331d9bd249dea4f573326cb93f5831908a8dc5
		   5d926795bd76c861a083a1105cbdbeeed60cda71cafa99045b61db10152d1706
	`)
	if !bytes.Equal(b, want) {
		t.Fatalf("node record\n%x, want\n%x", b, want)
	}
	got, err := OpenNode(r.Node, b, now)
	if diff := cmp.Diff(r, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if a := got.Addresses(); !slices.Equal(a, []netip.AddrPort{r.Locators[0].AddrPort, r.Locators[1].AddrPort}) {
		t.Errorf("addresses %v", a)
	}
}

func TestGoldenServiceRecord(t *testing.T) {
	r := goodService()
	b, err := r.Seal(testKey)
	if err != nil {
		t.Fatal(err)
	}
	want := unhex(t, `
		a4                          # envelope, a map of 4
		01 58 20                    # 1: signer
		   cecc1507dc1ddd7295951c290888f095adb9044d1b73d696e6df065d683bd4fc
		02 67 73 65 72 76 69 63 65  # 2: type "service"
		03 58 b8                    # 3: payload, 184 bytes
		   a6                       # a map of 6
		   01 58 20                 # 1: service
		      cecc1507dc1ddd7295951c290888f095adb9044d1b73d696e6df065d683bd4fc
		   02 07                    # 2: sequence 7
		   03 1a 6b49d200           # 3: not after 1800000000
		   04 82                    # 4: grants, 2
		      a4                    #    a grant:
		      01 58 20              #    1: node
		         0100000000000000000000000000000000000000000000000000000000000000
		      02 05 03 0a 04 01     #    2: since 5, 3: priority 10, 4: weight 1
		      a4
		      01 58 20
		         0300000000000000000000000000000000000000000000000000000000000000
		      02 07 03 00 04 00
		   05 81                    # 5: tombstones, 1
		      a2
		      01 58 20              #    1: node
		         0200000000000000000000000000000000000000000000000000000000000000
		      02 06                 #    2: since 6
		   06 82                    # 6: ports, 2
		      a2 01 18 35 02 11     #    1: number 53, 2: protocol 17, UDP
		      a2 01 18 50 02 06     #    80, TCP
		04 58 40                    # 4: signature
		   939b763434768bd2210748b6c8354791fdac73893e2798ff8042b1d9da7d3f15
		   3e86cf2e2e154fffbe9de2b7d0b9c553d1102ccaaaa04137242082d3fba09c09
	`)
	if !bytes.Equal(b, want) {
		t.Fatalf("service record\n%x, want\n%x", b, want)
	}
	got, err := OpenService(r.Service, b, now)
	if diff := cmp.Diff(r, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

// Every cut and every flipped bit is an error.
func TestRecordsDamaged(t *testing.T) {
	n, err := goodNode().Seal(testKey)
	if err != nil {
		t.Fatal(err)
	}
	s, err := goodService().Seal(testKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		good []byte
		open func([]byte) error
	}{
		{"node", n, func(b []byte) error { _, err := OpenNode(testKey.Node(), b, now); return err }},
		{"service", s, func(b []byte) error { _, err := OpenService(testKey.Service(), b, now); return err }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.open(tt.good); err != nil {
				t.Fatal(err)
			}
			for i := range tt.good {
				if err := tt.open(tt.good[:i]); !errors.Is(err, identity.ErrMalformed) {
					t.Errorf("cut at %d: %v", i, err)
				}
				flipped := bytes.Clone(tt.good)
				flipped[i] ^= 1 << (i % 8)
				if tt.open(flipped) == nil {
					t.Errorf("byte %d flipped, and nobody noticed", i)
				}
			}
			if err := tt.open(append(bytes.Clone(tt.good), 0)); err == nil {
				t.Error("a trailing byte")
			}
			if err := tt.open(make([]byte, MaxSize+1)); !errors.Is(err, ErrLimit) {
				t.Errorf("too large: %v", err)
			}
		})
	}
	if _, err := OpenNode(testKey.Node(), s, now); !errors.Is(err, identity.ErrType) {
		t.Errorf("a service record as a node record: %v", err)
	}
}

// forge signs a payload no Seal would sign.
func forge(t *testing.T, typ string, v any) []byte {
	t.Helper()
	b, err := seal(testKey, typ, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOpenNodeRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*NodeRecord)
		want   error
	}{
		{"another node's record", func(r *NodeRecord) { r.Node = node(9) }, ErrKey},
		{"expired", func(r *NodeRecord) { r.NotAfter-- }, ErrExpired},
		{"negative time", func(r *NodeRecord) { r.NotAfter = -1 }, ErrInvalid},
		{"long region", func(r *NodeRecord) { r.Region = strings.Repeat("x", MaxRegion+1) }, ErrLimit},
		{"many relays", func(r *NodeRecord) { r.Relays = make([]identity.NodeID, 5) }, ErrLimit},
		{"many locators", func(r *NodeRecord) { r.Locators = slices.Repeat(r.Locators[:1], MaxLocators+1) }, ErrLimit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := goodNode()
			tt.change(&r)
			got, err := OpenNode(testKey.Node(), forge(t, nodeType, r), now)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if usable := errors.Is(err, ErrExpired); usable != (got.Node == r.Node) {
				t.Errorf("record %+v with %v", got, err)
			}
			if _, err := r.Seal(testKey); !errors.Is(tt.want, ErrExpired) && !errors.Is(err, tt.want) {
				t.Errorf("seal: %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := OpenNode(node(9), forge(t, nodeType, goodNode()), now); !errors.Is(err, ErrKey) {
		t.Errorf("under another key: %v", err)
	}
	if _, err := goodNode().Seal(identity.NewKeyFromSeed([32]byte{2})); !errors.Is(err, ErrKey) {
		t.Errorf("sealed with another key: %v", err)
	}
}

func TestOpenServiceRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*ServiceRecord)
		want   error
	}{
		{"another service's record", func(r *ServiceRecord) { r.Service = identity.ServiceID{9} }, ErrKey},
		{"expired", func(r *ServiceRecord) { r.NotAfter-- }, ErrExpired},
		{"negative time", func(r *ServiceRecord) { r.NotAfter = -1 }, ErrInvalid},
		{"grants out of order", func(r *ServiceRecord) { slices.Reverse(r.Grants) }, ErrInvalid},
		{"node granted twice", func(r *ServiceRecord) { r.Grants[1].Node = r.Grants[0].Node }, ErrInvalid},
		{"grant from the future", func(r *ServiceRecord) { r.Grants[0].Since = 8 }, ErrInvalid},
		{"tombstone from the future", func(r *ServiceRecord) { r.Tombstones[0].Since = 8 }, ErrInvalid},
		{"granted and revoked", func(r *ServiceRecord) { r.Tombstones[0].Node = node(3) }, ErrInvalid},
		{"ports out of order", func(r *ServiceRecord) { slices.Reverse(r.Ports) }, ErrInvalid},
		{"port 0", func(r *ServiceRecord) { r.Ports[0].Number = 0 }, ErrInvalid},
		{"unknown protocol", func(r *ServiceRecord) { r.Ports[0].Protocol = 1 }, ErrInvalid},
		{"many ports", func(r *ServiceRecord) {
			r.Ports = nil
			for i := range uint16(MaxPorts + 1) {
				r.Ports = append(r.Ports, Port{i + 1, TCP})
			}
		}, ErrLimit},
		{"many grants", func(r *ServiceRecord) {
			r.Grants = nil
			for i := range uint8(MaxGrants + 1) {
				r.Grants = append(r.Grants, Grant{Node: node(i + 10)})
			}
		}, ErrLimit},
		{"many tombstones", func(r *ServiceRecord) {
			r.Tombstones = nil
			for i := range uint8(MaxTombstones + 1) {
				r.Tombstones = append(r.Tombstones, Tombstone{Node: node(i + 10)})
			}
		}, ErrLimit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := goodService()
			tt.change(&r)
			if _, err := OpenService(testKey.Service(), forge(t, serviceType, r), now); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestGrantAndRevoke(t *testing.T) {
	before := goodService()
	kept := goodService()
	r := before.Grant(Grant{Node: node(2), Priority: 1}, 8)
	if g, ok := r.Granted(node(2)); !ok || g.Since != 8 || len(r.Tombstones) != 0 || r.Sequence != 8 {
		t.Errorf("granted: %+v", r)
	}
	r = r.Revoke(node(2), 9)
	if _, ok := r.Granted(node(2)); ok || !cmp.Equal(r.Tombstones, []Tombstone{{node(2), 9}}) || r.Sequence != 9 {
		t.Errorf("revoked: %+v", r)
	}
	if diff := cmp.Diff(kept, before); diff != "" {
		t.Errorf("the record it came from changed: %s", diff)
	}
	if _, err := r.Seal(testKey); err != nil {
		t.Error(err)
	}
}

// A full record fits 4 KiB; what gives way is the oldest tombstones.
func TestFullServiceRecordFits(t *testing.T) {
	const late = math.MaxUint64 // the widest numbers
	r := ServiceRecord{Service: testKey.Service(), Sequence: late, NotAfter: math.MaxInt64}
	for i := range uint8(MaxGrants) {
		r.Grants = append(r.Grants, Grant{node(i + 1), late, math.MaxUint16, math.MaxUint16})
		r.Tombstones = append(r.Tombstones, Tombstone{node(i + 101), late - uint64(i)})
	}
	for i := range uint16(MaxPorts) {
		r.Ports = append(r.Ports, Port{60000 + i, UDP})
	}
	slices.Reverse(r.Grants) // Seal sorts
	b, err := r.Seal(testKey)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > MaxSize {
		t.Errorf("%d bytes", len(b))
	}
	got, err := OpenService(r.Service, b, now)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Grants) != MaxGrants || len(got.Ports) != MaxPorts {
		t.Errorf("%d grants and %d ports are left", len(got.Grants), len(got.Ports))
	}
	for i, tomb := range got.Tombstones {
		if tomb != r.Tombstones[i] {
			t.Errorf("tombstone %d is %v: not the newest are left", i, tomb)
		}
	}
	t.Logf("%d bytes, %d tombstones left", len(b), len(got.Tombstones))
	if r.Grants[0].Node != node(MaxGrants) || len(r.Tombstones) != MaxTombstones {
		t.Error("Seal changed the caller's lists")
	}
}

func TestMergeOfTooManyGrants(t *testing.T) {
	a, b := goodService(), goodService()
	a.Grants, b.Grants, a.Tombstones, b.Tombstones = nil, nil, nil, nil
	for i := range uint8(MaxGrants) {
		a.Grants = append(a.Grants, Grant{Node: node(i + 1), Since: 1})
		b.Grants = append(b.Grants, Grant{Node: node(i + 101), Since: 2})
	}
	if got := Merge(a, b); !cmp.Equal(got.Grants, b.Grants) {
		t.Errorf("not the latest grants are left: %v", got.Grants)
	}
}

func TestLocators(t *testing.T) {
	for _, s := range []string{"192.0.2.1:1", "[2001:db8::1]:65535", "127.0.0.1:4600", "[::1]:1"} {
		l := locators(s)[0]
		b, err := l.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var got Locator
		if err := got.UnmarshalBinary(b); err != nil || got != l {
			t.Errorf("%s: %v, %v", s, got, err)
		}
		for i := range b {
			if new(Locator).UnmarshalBinary(b[:i]) == nil && i != 6 {
				t.Errorf("%s cut at %d was read", s, i)
			}
		}
	}
	for _, s := range []string{"192.0.2.1:0", "0.0.0.0:1", "[::]:1", "224.0.0.1:1", "[ff02::1]:1"} {
		if b, err := locators(s)[0].MarshalBinary(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s was written as %x", s, b)
		}
	}
	for _, h := range []string{
		"c00002010000", "000000000001", "e00000010001",
		"00000000000000000000ffffc00002010001", // IPv4 mapped to IPv6 has a spelling of its own
		"ff0200000000000000000000000000010001", "",
	} {
		var l Locator
		if err := l.UnmarshalBinary(unhex(t, h)); !errors.Is(err, ErrInvalid) || l.IsValid() {
			t.Errorf("%s was read as %v, %v", h, l, err)
		}
	}
	mapped := Locator{netip.MustParseAddrPort("[::ffff:192.0.2.1]:80")}
	if b, err := mapped.MarshalBinary(); err != nil || len(b) != 6 {
		t.Errorf("mapped: %x, %v", b, err)
	}
}

func TestProtocolText(t *testing.T) {
	for _, p := range []Protocol{TCP, UDP} {
		text, _ := p.MarshalText()
		var got Protocol
		if err := got.UnmarshalText(text); err != nil || got != p {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	if new(Protocol).UnmarshalText([]byte("icmp")) == nil || Protocol(1).String() != "protocol-1" {
		t.Error("icmp")
	}
}

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		a    uint64
		x    string
		b    uint64
		y    string
		want int
	}{{1, "z", 2, "a", -1}, {2, "a", 1, "z", 1}, {1, "a", 1, "b", -1}, {1, "b", 1, "a", 1}, {1, "a", 1, "a", 0}} {
		if got := Compare(tt.a, []byte(tt.x), tt.b, []byte(tt.y)); got != tt.want {
			t.Errorf("Compare(%d %s, %d %s) = %d", tt.a, tt.x, tt.b, tt.y, got)
		}
	}
}

func TestNextSequence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		last := rapid.Uint64().Draw(t, "last")
		at := time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "seconds"), 0)
		next := NextSequence(last, at)
		if next < last || next == last && last != math.MaxUint64 {
			t.Fatalf("after %d comes %d", last, next)
		}
		if at.Unix() >= 0 && next < uint64(at.UnixMicro()) {
			t.Fatalf("%d is before the time", next)
		}
	})
}

func FuzzOpenNode(f *testing.F) {
	b, err := goodNode().Seal(testKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = OpenNode(testKey.Node(), b, now)
		// The payload, as if its signature were good.
		var r NodeRecord
		if identity.Unmarshal(b, &r) == nil && r.validate() == nil {
			if again, err := identity.Marshal(r); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%x has a second encoding", b)
			}
		}
	})
}

func FuzzOpenService(f *testing.F) {
	b, err := goodService().Seal(testKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	p, err := identity.Marshal(goodService())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = OpenService(testKey.Service(), b, now)
		var r ServiceRecord
		if identity.Unmarshal(b, &r) != nil || r.validate() != nil {
			return
		}
		r.Service = testKey.Service()
		if _, err := r.Seal(testKey); err != nil && !errors.Is(err, ErrLimit) {
			t.Errorf("a valid record cannot be sealed: %v", err)
		}
		if m := Merge(r, r); !slices.Equal(m.Grants, r.Grants) {
			t.Errorf("merged with itself: %v, was %v", m.Grants, r.Grants)
		}
	})
}

func FuzzLocator(f *testing.F) {
	f.Add([]byte{192, 0, 2, 1, 0x11, 0xf8})
	f.Add(make([]byte, 18))
	f.Fuzz(func(t *testing.T, b []byte) {
		var l Locator
		if l.UnmarshalBinary(b) != nil {
			return
		}
		if again, err := l.MarshalBinary(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x came back as %x, %v", b, again, err)
		}
	})
}

func FuzzProtocol(f *testing.F) {
	f.Add("tcp")
	f.Add("icmp")
	f.Fuzz(func(t *testing.T, s string) {
		var p Protocol
		if p.UnmarshalText([]byte(s)) == nil && p.String() != s {
			t.Errorf("%q was read as %s", s, p)
		}
	})
}
