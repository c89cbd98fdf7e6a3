package routing

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// through is a delegate that asks another node directly, without a session.
type through struct {
	node atomic.Pointer[Router] // nil: out of reach
	gets atomic.Int64
	lies func(key string) []byte // what is answered instead, when set
}

var errOutOfReach = errors.New("out of reach")

func (d *through) Get(ctx context.Context, key string) iter.Seq2[[]byte, error] {
	d.gets.Add(1)
	if d.lies != nil {
		return func(yield func([]byte, error) bool) { yield(d.lies(key), nil) }
	}
	if r := d.node.Load(); r != nil {
		return r.Find(ctx, key)
	}
	return func(yield func([]byte, error) bool) { yield(nil, errOutOfReach) }
}

func (d *through) Put(ctx context.Context, key string, value []byte) error {
	if r := d.node.Load(); r != nil {
		return r.Store(ctx, key, value)
	}
	return errOutOfReach
}

// addDeaf adds a node all of whose UDP is lost.
func (w *testNetwork) addDeaf(d *through) *testNode {
	w.t.Helper()
	node := w.add(Config{
		Key: testKey("deaf"), Network: w.file, AllowLoopback: true, retry: 100 * time.Millisecond, Delegate: d,
		Listen:         netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(w.t)),
		RequestTimeout: time.Second, LookupTimeout: 8 * time.Second,
	})
	node.silent.Store(true)
	return node
}

func TestDelegateFindsAndPublishes(t *testing.T) {
	w := newNetwork(t, 3, nil)
	d := &through{}
	d.node.Store(w.nodes[1].Router)
	deaf := w.addDeaf(d)

	key := testKey("service")
	if _, _, err := w.nodes[2].UpdateService(t.Context(), key, grant(w.nodes[2].self, 0)); err != nil {
		t.Fatal(err)
	}
	got := resolveFirst(t, deaf, key.Service())
	if len(got) != 1 || got[0].Node != w.nodes[2].self {
		t.Fatalf("the service was found at %+v", got)
	}
	eventually(t, "the node's record is found", func() bool {
		for c, err := range deaf.ResolveNode(t.Context(), w.nodes[2].self) {
			return err == nil && c.Sequence > 0 && slices.Equal(c.Locators, w.nodes[2].addresses())
		}
		return false
	})

	// What it publishes, all others find.
	deaf.Observe(deaf.addresses())
	own := testKey("deaf's service")
	_, receipt, err := deaf.UpdateService(t.Context(), own, grant(deaf.self, 0))
	if err != nil || receipt.Stored != 1 {
		t.Errorf("published: %+v, %v", receipt, err)
	}
	eventually(t, "others find it", func() bool {
		for c, err := range w.nodes[0].Resolve(t.Context(), own.Service()) {
			if err == nil && len(c) == 1 && len(c[0].Locators) == 1 {
				return true
			}
		}
		return false
	})

	// That a record does not exist is an answer.
	if _, _, err := deaf.LookupName(t.Context(), "nothing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such name: %v", err)
	}
	m, theirs := deaf.Metrics(), w.nodes[1].Metrics()
	if m.DelegatedLookups == 0 || m.DelegatedFound == 0 || m.DelegatedPuts == 0 || theirs.ServedLookups == 0 || theirs.ServedPuts == 0 {
		t.Errorf("counted %+v and %+v", m, theirs)
	}
}

// A node whose DHT answers leaves the delegate alone.
func TestDelegateIsNotAskedInVain(t *testing.T) {
	d := &through{}
	w := newNetwork(t, 3, func(i int, cfg *Config) {
		if i == 2 {
			cfg.Delegate = d
		}
	})
	key := testKey("service")
	if _, _, err := w.nodes[0].UpdateService(t.Context(), key, grant(w.nodes[0].self, 0)); err != nil {
		t.Fatal(err)
	}
	d.gets.Store(0)
	began := time.Now()
	if _, _, err := w.nodes[2].LookupService(t.Context(), key.Service()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.nodes[2].LookupName(t.Context(), "nothing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such name: %v", err)
	}
	if n := d.gets.Load(); n != 0 && time.Since(began) < delegateAfter {
		t.Errorf("the delegate was asked %d times", n)
	}
}

func TestDelegateIsNotBelieved(t *testing.T) {
	w := newNetwork(t, 2, nil)
	key, other := testKey("service"), testKey("other")
	if _, _, err := w.nodes[0].UpdateService(t.Context(), other, grant(w.nodes[0].self, 0)); err != nil {
		t.Fatal(err)
	}
	_, foreign, err := w.nodes[0].LookupService(t.Context(), other.Service())
	if err != nil {
		t.Fatal(err)
	}
	for name, lie := range map[string][]byte{"garbage": []byte("garbage"), "another's record": foreign, "nothing": {}} {
		t.Run(name, func(t *testing.T) {
			d := &through{lies: func(string) []byte { return lie }}
			deaf := w.addDeaf(d)
			defer deaf.stop()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			if rec, _, err := deaf.LookupService(ctx, key.Service()); err == nil {
				t.Errorf("believed %+v", rec)
			}
			if d.gets.Load() == 0 {
				t.Error("the delegate was not asked")
			}
		})
	}
}

func TestFindAndStoreRefuse(t *testing.T) {
	w := newNetwork(t, 1, nil)
	node := w.nodes[0]
	for _, key := range []string{"", "/scn/svc/x", "/pk/x", serviceKey(testKey("service").Service()) + " "} {
		for _, err := range node.Find(t.Context(), key) {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("find %q: %v", key, err)
			}
		}
	}
	key := serviceKey(testKey("service").Service())
	if err := node.Store(t.Context(), key, []byte("garbage")); !errors.Is(err, ErrInvalid) {
		t.Errorf("store garbage: %v", err)
	}
	if value := node.atHand(t.Context(), key); value != nil {
		t.Errorf("stored %q", value)
	}
}

// The one node of a network that others can speak to holds records for all.
func TestLoneAnswererIsTheNetwork(t *testing.T) {
	w := newNetwork(t, 1, nil)
	d := &through{}
	d.node.Store(w.nodes[0].Router)
	writer := w.addDeaf(d)
	own := testKey("service")
	if _, receipt, err := writer.UpdateService(t.Context(), own, grant(writer.self, 0)); err != nil || receipt.Stored != 1 {
		t.Errorf("published: %+v, %v", receipt, err)
	}
	var found int
	for value, err := range w.nodes[0].Find(t.Context(), serviceKey(own.Service())) {
		if err != nil || len(value) == 0 {
			t.Errorf("%d bytes, %v", len(value), err)
		}
		found++
	}
	if found != 1 {
		t.Errorf("found %d times", found)
	}
}

// Two nodes without anybody else, each the other's delegate, do not ask in circles.
func TestDelegatesAskNoCircles(t *testing.T) {
	w := newNetwork(t, 1, nil)
	a, b := &through{}, &through{}
	first := w.addDeaf(a)
	second := w.add(Config{
		Key: testKey("deaf too"), Network: w.file, AllowLoopback: true, Delegate: b, retry: 100 * time.Millisecond,
		Listen: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t)),
	})
	second.silent.Store(true)
	a.node.Store(second.Router)
	b.node.Store(first.Router)
	if _, _, err := first.LookupName(t.Context(), "nothing"); err == nil {
		t.Error("found a name nobody has")
	}
	if n := b.gets.Load(); n != 0 {
		t.Errorf("the second asked back %d times", n)
	}
}
