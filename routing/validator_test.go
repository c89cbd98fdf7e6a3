package routing

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
	"scn.alt/scn/routing/record"
)

// testTime is now in the tests of pure parts.
var testTime = time.Unix(1_800_000_000, 0)

// bench is a validator with a clock and a network of its own.
type bench struct {
	*validator
	now  time.Time
	file network.File
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{now: testTime}
	var err error
	b.file, err = network.File{
		Name: "test", Sequence: 3, Zone: "top", Admission: network.Open,
		Authorities: []identity.NodeID{testKey("authority").Node()},
	}.Sign(testKey("founder"))
	if err != nil {
		t.Fatal(err)
	}
	b.validator, err = newValidator(func() time.Time { return b.now }, func() network.File { return b.file })
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sealNode(t testing.TB, key identity.PrivateKey, sequence uint64, notAfter time.Time) []byte {
	t.Helper()
	raw, err := record.NodeRecord{
		Node: key.Node(), Sequence: sequence, NotAfter: notAfter.Unix(),
		Locators: []record.Locator{{AddrPort: netip.MustParseAddrPort("192.0.2.1:4000")}},
	}.Seal(key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func sealService(t testing.TB, key identity.PrivateKey, sequence uint64, notAfter time.Time) []byte {
	t.Helper()
	r := record.ServiceRecord{Service: key.Service(), NotAfter: notAfter.Unix()}
	raw, err := r.Grant(record.Grant{Node: testKey("provider").Node()}, sequence).Seal(key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func sealName(t testing.TB, authority identity.PrivateKey, n name.Name, height uint64, notAfter time.Time) []byte {
	t.Helper()
	raw, err := name.Record{
		Name: n, Service: testKey("service").Service(), Owner: testKey("owner").Account(),
		Sequence: 1, Height: height, NotAfter: notAfter.Unix(),
	}.Seal(authority)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func sealFile(t testing.TB, founder identity.PrivateKey, sequence uint64) []byte {
	t.Helper()
	f, err := network.File{Name: "test", Sequence: sequence, Zone: "top", Admission: network.Open}.Sign(founder)
	if err != nil {
		t.Fatal(err)
	}
	return f.Bytes()
}

func TestValidate(t *testing.T) {
	b := newBench(t)
	node, service, authority := testKey("node"), testKey("service"), testKey("authority")
	later := testTime.Add(10 * time.Minute)
	altered := func(raw []byte) []byte {
		raw = append([]byte(nil), raw...)
		raw[len(raw)/2] ^= 1
		return raw
	}
	goodNode, goodService := sealNode(t, node, 1, later), sealService(t, service, 1, later)
	goodName, goodFile := sealName(t, authority, "files", 1, later), sealFile(t, testKey("founder"), 4)
	for _, c := range []struct {
		what  string
		key   string
		value []byte
		want  error // nil: accepted; errAny: refused, whatever the error
	}{
		{"a node's record", nodeKey(node.Node()), goodNode, nil},
		{"a service's record", serviceKey(service.Service()), goodService, nil},
		{"a name's record", nameKey("files"), goodName, nil},
		{"the network file", networkKey(b.file.ID), goodFile, nil},

		{"a node's record under another node's key", nodeKey(service.Node()), goodNode, record.ErrKey},
		{"a service's record under another's key", serviceKey(node.Service()), goodService, record.ErrKey},
		{"a name's record under another name", nameKey("other"), goodName, name.ErrOther},
		{"the network file under another network", networkKey(node.Network()), goodFile, network.ErrOther},
		{"a node's record under a service's key", serviceKey(node.Service()), goodNode, identity.ErrType},
		{"a service's record under a node's key", nodeKey(service.Node()), goodService, identity.ErrType},
		{"a name signed by no authority", nameKey("files"), sealName(t, node, "files", 1, later), name.ErrAuthority},
		{"a file signed by no founder", networkKey(b.file.ID), sealFile(t, node, 4), network.ErrSignature},

		{"an altered node's record", nodeKey(node.Node()), altered(goodNode), errAny},
		{"an altered service's record", serviceKey(service.Service()), altered(goodService), errAny},
		{"an altered name's record", nameKey("files"), altered(goodName), errAny},
		{"an altered network file", networkKey(b.file.ID), altered(goodFile), network.ErrSignature},

		{"an expired node's record", nodeKey(node.Node()), sealNode(t, node, 1, testTime.Add(-time.Second)), record.ErrExpired},
		{"an expired service's record", serviceKey(service.Service()), sealService(t, service, 1, testTime.Add(-time.Second)), record.ErrExpired},
		{"an expired name's record", nameKey("files"), sealName(t, authority, "files", 1, testTime.Add(-time.Second)), name.ErrExpired},
		{"a node's record for a day", nodeKey(node.Node()), sealNode(t, node, 1, testTime.Add(24*time.Hour)), errFuture},
		{"a service's record for a year", serviceKey(service.Service()), sealService(t, service, 1, testTime.Add(365*24*time.Hour)), errFuture},
		{"a name's record for a year", nameKey("files"), sealName(t, authority, "files", 1, testTime.Add(365*24*time.Hour)), errFuture},

		{"too many bytes", nodeKey(node.Node()), make([]byte, record.MaxSize+1), record.ErrLimit},
		{"too many bytes of a name", nameKey("files"), make([]byte, name.MaxSize+1), identity.ErrSize},
		{"too many bytes of a file", networkKey(b.file.ID), make([]byte, network.MaxSize+1), identity.ErrSize},
		{"nothing", nodeKey(node.Node()), nil, errAny},
		{"an unknown namespace", "/pk/x", goodNode, errKey},
		{"an unknown kind", "/scn/other/x", goodNode, errKey},
	} {
		for range 2 { // the second time from memory
			err := b.Validate(c.key, c.value)
			if (c.want != nil) != (err != nil) || !errors.Is(c.want, errAny) && !errors.Is(err, c.want) {
				t.Errorf("%s: error %v, want %v", c.what, err, c.want)
			}
		}
	}
	refused := b.refusals()
	for _, reason := range []string{"key", "signer", "signature", "size", "expired", "future", "malformed"} {
		if refused[reason] == 0 {
			t.Errorf("nothing counted as refused for %q: %v", reason, refused)
		}
	}
	// What was verified before is judged by the time anew.
	b.now = later.Add(time.Second)
	if err := b.Validate(nodeKey(node.Node()), goodNode); !errors.Is(err, record.ErrExpired) {
		t.Errorf("a record that expired meanwhile: %v", err)
	}
}

var errAny = errors.New("any")

func TestSelect(t *testing.T) {
	b := newBench(t)
	node, authority := testKey("node"), testKey("authority")
	later := testTime.Add(10 * time.Minute)
	old, young := sealNode(t, node, 1, later), sealNode(t, node, 2, later)
	expired := sealNode(t, node, 9, testTime.Add(-time.Minute))
	key := nodeKey(node.Node())
	twin := sealNode(t, node, 2, later.Add(time.Second)) // the same sequence, other bytes
	greater := 0
	if string(twin) > string(young) {
		greater = 1
	}
	for _, c := range []struct {
		what   string
		key    string
		values [][]byte
		want   int
	}{
		{"the newer first", key, [][]byte{young, old}, 0},
		{"the newer last", key, [][]byte{old, young}, 1},
		{"equal values", key, [][]byte{young, young}, 0},
		{"the same number", key, [][]byte{young, twin}, greater},
		{"the same number, turned round", key, [][]byte{twin, young}, 1 - greater},
		{"an expired one of a higher number", key, [][]byte{expired, old}, 1},
		{"garbage first", key, [][]byte{{1, 2, 3}, nil, old}, 2},
		{"names by height", nameKey("files"), [][]byte{
			sealName(t, authority, "files", 5, later.Add(time.Hour)), sealName(t, authority, "files", 6, later),
		}, 1},
		{"names of one height by validity", nameKey("files"), [][]byte{
			sealName(t, authority, "files", 5, later.Add(time.Hour)), sealName(t, authority, "files", 5, later),
		}, 0},
		{"network files", networkKey(b.file.ID), [][]byte{sealFile(t, testKey("founder"), 4), sealFile(t, testKey("founder"), 5)}, 1},
	} {
		got, err := b.Select(c.key, c.values)
		if err != nil || got != c.want {
			t.Errorf("%s: %d, %v, want %d", c.what, got, err, c.want)
		}
	}
	if _, err := b.Select(key, [][]byte{expired, nil}); err == nil {
		t.Error("selected from nothing valid")
	}
}

// What an authority signed counts no more once it is none.
func TestAuthorityChange(t *testing.T) {
	b := newBench(t)
	raw := sealName(t, testKey("authority"), "files", 1, testTime.Add(time.Hour))
	if err := b.Validate(nameKey("files"), raw); err != nil {
		t.Fatal(err)
	}
	b.file.Authorities = []identity.NodeID{testKey("another").Node()}
	b.purge()
	if err := b.Validate(nameKey("files"), raw); !errors.Is(err, name.ErrAuthority) {
		t.Errorf("error %v", err)
	}
}

func FuzzValidate(f *testing.F) {
	b := newBench(f)
	later := testTime.Add(10 * time.Minute)
	node := testKey("node")
	f.Add(nodeKey(node.Node()), sealNode(f, node, 1, later))
	f.Add(serviceKey(node.Service()), sealService(f, node, 1, later))
	f.Add(nameKey("files"), sealName(f, testKey("authority"), "files", 1, later))
	f.Add(networkKey(b.file.ID), b.file.Bytes())
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if b.Validate(key, value) != nil {
			return
		}
		parsed, err := parseKey(key)
		if err != nil {
			t.Fatalf("a value is valid under %q, which is no key", key)
		}
		if i, err := b.Select(key, [][]byte{nil, value}); i != 1 || err != nil {
			t.Fatalf("%+v: valid, but not selected: %d, %v", parsed, i, err)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	id := testKey("x")
	for _, key := range []string{
		nodeKey(id.Node()), serviceKey(id.Service()), nameKey("files"), networkKey(id.Network()), "/scn/", "/scn/name/XN--A",
	} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		p, err := parseKey(key)
		if err != nil {
			return
		}
		again := map[kind]string{
			nodeKind: nodeKey(p.id), serviceKind: serviceKey(p.id), nameKind: nameKey(p.name), networkKind: networkKey(p.id),
		}[p.kind]
		if again != key {
			t.Fatalf("%q is a second spelling of %q", key, again)
		}
	})
}

func FuzzParseRecent(f *testing.F) {
	good, err := identity.Marshal([]acquaintance{{
		Node: testKey("x").Node(), Addresses: []record.Locator{{AddrPort: netip.MustParseAddrPort("192.0.2.1:4000")}},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		peers, err := parseRecent(b)
		if err == nil && len(peers) > maxAcquaintances {
			t.Fatalf("%d peers", len(peers))
		}
		p := &recentPeers{peers: peers}
		_ = p.infos()
	})
}
