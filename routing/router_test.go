package routing

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	recpb "github.com/libp2p/go-libp2p-record/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
	"scn.alt/scn/routing/record"
)

// grant returns a change that grants a node.
func grant(node identity.NodeID, priority uint16) func(record.ServiceRecord, uint64) record.ServiceRecord {
	return func(r record.ServiceRecord, sequence uint64) record.ServiceRecord {
		return r.Grant(record.Grant{Node: node, Priority: priority, Weight: 1}, sequence)
	}
}

// resolveFirst returns the first answer with addresses.
func resolveFirst(t *testing.T, n *testNode, service identity.ServiceID) []record.Candidate {
	t.Helper()
	for candidates, err := range n.Resolve(t.Context(), service) {
		if err != nil {
			t.Fatalf("resolve: %v", err)
		}
		if slices.ContainsFunc(candidates, func(c record.Candidate) bool { return len(c.Locators) > 0 }) {
			return candidates
		}
	}
	t.Fatal("resolve ended without an address")
	return nil
}

func TestPublishAndResolve(t *testing.T) {
	w := newNetwork(t, 6, nil)
	provider, client := w.nodes[2], w.nodes[5]
	key := testKey("service")
	rec, receipt, err := provider.UpdateService(t.Context(), key, grant(provider.self, 0))
	if err != nil {
		t.Fatal(err)
	}
	if receipt.Stored < 3 || receipt.Tried < receipt.Stored {
		t.Errorf("receipt %+v: a record should be stored by most of 5 peers", receipt)
	}
	if _, ok := rec.Granted(provider.self); !ok {
		t.Error("the grant is missing from the record returned")
	}
	start := time.Now()
	got := resolveFirst(t, client, key.Service())
	t.Logf("first resolution with an address after %v", time.Since(start))
	if len(got) != 1 || got[0].Node != provider.self || !slices.Equal(got[0].Locators, provider.addresses()) {
		t.Errorf("candidates %+v", got)
	}
	if again := resolveFirst(t, client, key.Service()); again[0].Sequence != got[0].Sequence {
		t.Errorf("cached candidates %+v", again)
	}
	if m := client.Metrics(); m.LookupsFound == 0 {
		t.Errorf("metrics %+v", m)
	}
	if own := resolveFirst(t, provider, key.Service()); own[0].Source != record.FromSelf {
		t.Errorf("the provider resolves itself as %+v", own)
	}
	// A node's own service needs no ServiceRecord.
	if own := resolveFirst(t, client, identity.ServiceOf(w.nodes[0].self)); own[0].Node != w.nodes[0].self {
		t.Errorf("control service of the authority: %+v", own)
	}
	for _, err := range client.Resolve(t.Context(), testKey("nobody").Service()) {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("unknown service: error %v", err)
		}
	}
}

func TestNames(t *testing.T) {
	w := newNetwork(t, 5, nil)
	authority, reader := w.nodes[0], w.nodes[4]
	n := name.Name("files")
	rec := name.Record{
		Name: n, Service: testKey("files").Service(), Owner: testKey("owner").Account(),
		Sequence: 1, Height: 10, NotAfter: time.Now().Add(name.Validity).Unix(),
	}
	raw, err := rec.Seal(authority.cfg.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authority.PublishName(t.Context(), n, raw); err != nil {
		t.Fatal(err)
	}
	got, gotRaw, err := reader.LookupName(t.Context(), n)
	if err != nil || got.Service != rec.Service || !slices.Equal(gotRaw, raw) {
		t.Fatalf("lookup: %+v, %v", got, err)
	}
	if _, _, err := reader.LookupName(t.Context(), "nothing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown name: error %v", err)
	}
	forged, err := rec.Seal(testKey("node", 3))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.nodes[3].PublishName(t.Context(), n, forged); !errors.Is(err, name.ErrAuthority) {
		t.Errorf("a name signed by no authority: error %v", err)
	}
	// An older height never takes the place of the newer one; it is the keeper who
	// learns of the newer.
	older := rec
	older.Height, older.Service = 9, testKey("other").Service()
	raw, err = older.Seal(authority.cfg.Key)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.nodes[3].PublishName(t.Context(), n, raw)
	if got, _, err := w.nodes[2].LookupName(t.Context(), n); err != nil || got.Height != 10 {
		t.Errorf("after an older put: height %d, %v", got.Height, err)
	}
	// The authority is gone, the name is not.
	authority.stop()
	fresh := w.add(Config{
		Key: testKey("late"), Network: w.file, AllowLoopback: true, retry: 100 * time.Millisecond,
		Listen: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t)),
	})
	eventually(t, "a name resolves with the authority down", func() bool {
		got, _, err := fresh.LookupName(t.Context(), n)
		return err == nil && got.Height == 10
	})
}

func TestRestartKeepsSequence(t *testing.T) {
	dir := t.TempDir()
	w := newNetwork(t, 5, func(i int, cfg *Config) {
		if i == 4 {
			cfg.StateDir = dir
		}
	})
	node := w.nodes[4]
	key := testKey("service")
	rec, _, err := node.UpdateService(t.Context(), key, grant(node.self, 0))
	if err != nil {
		t.Fatal(err)
	}
	before := node.Status().Sequence
	node.stop()
	// The clock went back, but not so far that records would be refused.
	cfg := node.cfg
	cfg.Clock = func() time.Time { return time.Now().Add(-3 * time.Minute) }
	again := w.add(cfg)
	if raw, ok := again.current(serviceKey(key.Service())); !ok || sequenceOf(raw.opened) != rec.Sequence {
		t.Error("the service's record was not kept over the restart")
	}
	eventually(t, "the node is back", func() bool { return again.Status().Peers > 0 })
	again.publish(t)
	if after := again.Status().Sequence; after <= before {
		t.Errorf("sequence %d after %d", after, before)
	}
}

// A storing node refuses what is older than what it holds, and what is not signed
// by whom it must be.
func TestStoringNodesRefuse(t *testing.T) {
	w := newNetwork(t, 3, nil)
	owner, other := w.nodes[1], w.nodes[2]
	at, err := peerOf(w.nodes[0].self)
	if err != nil {
		t.Fatal(err)
	}
	key := nodeKey(owner.self)
	put := func(value []byte) bool {
		return other.putTo(t.Context(), at, &recpb.Record{Key: []byte(key), Value: value})
	}
	sequence := owner.Status().Sequence
	later := time.Now().Add(time.Minute)
	young := sealNode(t, owner.cfg.Key, sequence+1_000_000, later)
	for _, c := range []struct {
		what  string
		value []byte
		want  bool
	}{
		{"a newer record", young, true},
		{"the same again", young, true},
		{"an older record", sealNode(t, owner.cfg.Key, sequence-1, later), false},
		{"somebody else's", sealNode(t, other.cfg.Key, sequence+2_000_000, later), false},
		{"an expired record", sealNode(t, owner.cfg.Key, sequence+3_000_000, time.Now().Add(-time.Minute)), false},
		{"far too much", make([]byte, 100_000), false},
	} {
		if got := put(c.value); got != c.want {
			t.Errorf("%s: stored %t", c.what, got)
		}
	}
}

func TestSequenceLearnedFromDHT(t *testing.T) {
	w := newNetwork(t, 5, nil)
	node := w.nodes[4]
	// An earlier life, whose disk is lost, was far ahead.
	ahead := uint64(time.Now().Add(24 * time.Hour).UnixMicro())
	n := record.NodeRecord{
		Node: node.self, Sequence: ahead, NotAfter: time.Now().Add(10 * time.Minute).Unix(),
		Locators: []record.Locator{{AddrPort: netip.MustParseAddrPort("127.0.0.77:4000")}},
	}
	raw, err := n.Seal(node.cfg.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.nodes[1].put(t.Context(), nodeKey(node.self), raw); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node goes on above it", func() bool { return node.Status().Sequence > ahead })
	reader := w.nodes[2]
	eventually(t, "and is found where it is", func() bool {
		for c, err := range reader.ResolveNode(t.Context(), node.self) {
			if err == nil && slices.Equal(c.Locators, node.addresses()) {
				return true
			}
		}
		return false
	})
}

func TestConcurrentGrantsMerge(t *testing.T) {
	w := newNetwork(t, 5, nil)
	key := testKey("service")
	a, b := w.nodes[3], w.nodes[4]
	// Two holders of the key sign without having seen one another.
	base := record.ServiceRecord{Service: key.Service()}
	sign := func(n *testNode, sequence uint64) {
		value, o, err := n.sealService(key, base.Grant(record.Grant{Node: n.self, Weight: 1}, sequence))
		if err != nil {
			t.Fatal(err)
		}
		n.hold(serviceKey(key.Service()), value, o, key, time.Now())
	}
	now := uint64(time.Now().UnixMicro())
	sign(a, now)
	sign(b, now)
	eventually(t, "both grants are in the DHT", func() bool {
		e, ok, _ := w.nodes[1].newest(t.Context(), serviceKey(key.Service()), 5*time.Second)
		if !ok {
			return false
		}
		rec := e.opened.decoded.(record.ServiceRecord)
		_, one := rec.Granted(a.self)
		_, two := rec.Granted(b.self)
		return one && two
	})
	if a.Metrics().ServicesMerged+b.Metrics().ServicesMerged == 0 {
		t.Error("nobody merged")
	}
	// Revoking sticks.
	rec, _, err := a.UpdateService(t.Context(), key, func(r record.ServiceRecord, s uint64) record.ServiceRecord {
		return r.Revoke(b.self, s)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, granted := rec.Granted(b.self); granted || len(rec.Tombstones) != 1 {
		t.Errorf("after revoking: %+v", rec)
	}
}

func TestMobileNodesAreClients(t *testing.T) {
	w := newNetwork(t, 6, func(i int, cfg *Config) { cfg.Mobile = i == 5 })
	mobile := w.nodes[5]
	mobile.publish(t)
	id, err := peerOf(mobile.self)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range w.nodes[:5] {
		if n.dht.RoutingTable().Find(id) != "" {
			t.Errorf("node %d has the mobile node in its routing table", i)
		}
	}
	found := false
	for c, err := range w.nodes[2].ResolveNode(t.Context(), mobile.self) {
		found = found || err == nil && slices.Equal(c.Locators, mobile.addresses())
	}
	if !found {
		t.Error("the mobile node is not found")
	}
	if s := mobile.Status(); s.Mode != "client" || s.Receipt.Stored == 0 {
		t.Errorf("status %+v", s)
	}
}

func TestAdmissionList(t *testing.T) {
	told := make(chan network.File, 1)
	w := newNetwork(t, 3, func(i int, cfg *Config) {
		if i == 1 {
			cfg.NetworkChanged = func(f network.File) { told <- f }
		}
	})
	f := w.file
	f.Sequence, f.Admission = 2, network.List
	f.Members = []identity.NodeID{w.nodes[2].self}
	closed, err := f.Sign(w.founder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.nodes[0].PublishNetwork(t.Context(), closed); err != nil {
		t.Fatal(err)
	}
	for _, n := range w.nodes {
		eventually(t, "the newer network file is adopted", func() bool {
			_, _ = n.LookupNetwork(t.Context())
			return n.Network().Sequence == 2
		})
	}
	if got := <-told; got.Sequence != 2 {
		t.Errorf("told of network file %d", got.Sequence)
	}
	stranger := w.add(Config{
		Key: testKey("stranger"), Network: w.file, AllowLoopback: true, retry: 50 * time.Millisecond,
		Listen: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t)),
	})
	eventually(t, "the stranger was refused", func() bool {
		return w.nodes[0].Metrics().DialsRefused+w.nodes[1].Metrics().DialsRefused > 0
	})
	if p := stranger.Status().Peers; p != 0 {
		t.Errorf("the stranger has %d peers", p)
	}
	if _, err := w.nodes[0].PublishNetwork(t.Context(), w.file); !errors.Is(err, network.ErrOlder) {
		t.Errorf("an older network file: error %v", err)
	}
}

// A fifth of the nodes dies without a word. The first answer comes as before; only
// who waits for a record to be put everywhere waits for the dead.
func TestSilentDeath(t *testing.T) {
	size := 20
	if raceEnabled {
		size = 10
	}
	w := newNetwork(t, size, nil)
	key := testKey("service")
	provider, client := w.nodes[size/2], w.nodes[size-1]
	if _, _, err := provider.UpdateService(t.Context(), key, grant(provider.self, 0)); err != nil {
		t.Fatal(err)
	}
	for i := range size / 5 {
		w.nodes[2+i].silent.Store(true)
	}
	start := time.Now()
	got := resolveFirst(t, client, key.Service())
	first := time.Since(start)
	t.Logf("with a fifth of %d nodes silently dead the first answer came after %v", size, first)
	if got[0].Node != provider.self || !raceEnabled && first > 2*time.Second {
		t.Errorf("first answer %+v after %v", got, first)
	}
	start = time.Now()
	receipt, err := provider.PublishNode(t.Context(), provider.addresses())
	t.Logf("a record was put by %+v after %v", receipt, time.Since(start))
	if err != nil || receipt.Stored < size/2 || receipt.Stored == receipt.Tried {
		t.Errorf("receipt %+v, %v", receipt, err)
	}
}

func TestStaleIsServedWhileRefreshing(t *testing.T) {
	w := newNetwork(t, 5, nil)
	provider, client := w.nodes[2], w.nodes[4]
	key := testKey("service")
	if _, _, err := provider.UpdateService(t.Context(), key, grant(provider.self, 0)); err != nil {
		t.Fatal(err)
	}
	resolveFirst(t, client, key.Service())
	// The client remembers; everybody else is gone from its sight.
	client.silent.Store(true)
	age := func(k string) {
		client.cache.mu.Lock()
		defer client.cache.mu.Unlock()
		e, _ := client.cache.entries.Get(k)
		e.checked = time.Now().Add(-time.Hour)
		client.cache.entries.Add(k, e)
	}
	age(serviceKey(key.Service()))
	age(nodeKey(provider.self))
	start := time.Now()
	got := resolveFirst(t, client, key.Service())
	if d := time.Since(start); d > time.Second {
		t.Errorf("a stale answer took %v", d)
	}
	if got[0].Source != record.FromCache || len(got[0].Locators) == 0 {
		t.Errorf("stale answer %+v", got)
	}
}

func TestLonelyNode(t *testing.T) {
	w := newNetwork(t, 1, nil)
	node := w.nodes[0]
	if _, err := node.PublishNode(t.Context(), node.addresses()); !errors.Is(err, ErrNoPeers) {
		t.Errorf("publish alone: error %v", err)
	}
	key := testKey("service")
	if _, _, err := node.UpdateService(t.Context(), key, grant(node.self, 0)); !errors.Is(err, ErrNoPeers) {
		t.Errorf("update alone: error %v", err)
	}
	if got := resolveFirst(t, node, key.Service()); got[0].Source != record.FromSelf {
		t.Errorf("resolve alone: %+v", got)
	}
	if _, _, err := node.LookupName(t.Context(), "nothing"); !errors.Is(err, ErrNoPeers) {
		t.Errorf("lookup alone: error %v", err)
	}
	listed := testKey("node", 0).Node()
	// The first peer that comes gets it all.
	second := w.add(Config{
		Key: testKey("second"), Network: w.file, AllowLoopback: true, retry: 100 * time.Millisecond,
		Listen: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t)),
	})
	eventually(t, "the newcomer resolves", func() bool {
		for c, err := range second.Resolve(t.Context(), key.Service()) {
			if err == nil && len(c) == 1 && len(c[0].Locators) == 1 && c[0].Expires.After(time.Now()) {
				return true
			}
		}
		return false
	})
	second.cache.purge()
	for c, err := range second.ResolveNode(t.Context(), listed) {
		if err != nil || c.Source != record.FromNetwork || !slices.Equal(c.Locators, node.addresses()) {
			t.Errorf("a bootstrap node is first sought where the network file says: %+v, %v", c, err)
		}
		break
	}
}

func TestIPv6(t *testing.T) {
	if c, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback}); err != nil {
		t.Skipf("no IPv6 here: %v", err)
	} else if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	w := newNetwork(t, 3, func(_ int, cfg *Config) {
		cfg.Listen = netip.AddrPortFrom(netip.IPv6Unspecified(), cfg.Listen.Port())
	})
	for _, n := range w.nodes {
		n.Observe([]netip.AddrPort{netip.AddrPortFrom(netip.IPv6Loopback(), n.cfg.Listen.Port())})
	}
	reader, node := w.nodes[0], w.nodes[2]
	want := []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Loopback(), node.cfg.Listen.Port())}
	eventually(t, "an IPv6 address is found", func() bool {
		for c, err := range reader.ResolveNode(t.Context(), node.self) {
			if err == nil && slices.Equal(c.Locators, want) {
				return true
			}
		}
		return false
	})
	id, err := peerOf(node.self)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "and dialled", func() bool {
		_ = reader.host.Network().ClosePeer(id)
		reader.host.Peerstore().ClearAddrs(id)
		return reader.dial(t.Context(), []peer.AddrInfo{{ID: id, Addrs: dhtAddrs(want)}})
	})
}

func TestPortInUse(t *testing.T) {
	taken, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	port := taken.LocalAddr().(*net.UDPAddr).AddrPort().Port() - 1
	file, err := network.File{Name: "test", Sequence: 1, Zone: "top", Admission: network.Open}.Sign(testKey("founder"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(Config{Key: testKey("x"), Network: file, Listen: netip.AddrPortFrom(netip.IPv4Unspecified(), port)})
	if op := (*net.OpError)(nil); !errors.Is(err, syscall.EADDRINUSE) || !errors.As(err, &op) {
		t.Errorf("error %v", err)
	}
}

func TestConfigFaultsAtOnce(t *testing.T) {
	_, err := Open(Config{NodeValidity: time.Second, RefreshInterval: time.Millisecond, CacheSize: -1, Region: strings.Repeat("x", 33)})
	for _, part := range []string{"no node key", "no signed network file", "listen address", "region", "node validity", "refresh interval", "cache size"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not among the faults: %v", part, err)
		}
	}
}

func TestClose(t *testing.T) {
	w := newNetwork(t, 3, nil)
	node := w.nodes[2]
	node.stop()
	if err := node.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, _, err := node.LookupName(t.Context(), "nothing"); !errors.Is(err, ErrClosed) {
		t.Errorf("lookup after close: %v", err)
	}
	if _, err := node.PublishNode(t.Context(), node.addresses()); !errors.Is(err, ErrClosed) {
		t.Errorf("publish after close: %v", err)
	}
	for _, err := range node.ResolveNode(t.Context(), testKey("x").Node()) {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("resolve after close: %v", err)
		}
	}
	node.Observe(nil)
}
